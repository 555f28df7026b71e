#!/usr/bin/env bash
# Whatever instruction the edge is killed at, every write it acknowledged is there when it is started again.
# ROUNDS says how often (25). Commits to the object store go on all the time.
. "$(dirname "$0")/../lib/story.sh"
rounds=${ROUNDS:-25}
sectors=16384
lost=0
acknowledged=0

# One round: verify what earlier rounds acknowledged, load, die at a random moment.
play_round() {
    start load verify-load run "$(url vm1)" "$stage/state" "$sectors" "$((RANDOM * 32768 + round))"
    wait_log load "^loading" 60
    sleep "$(printf '0.%03d' $((RANDOM % 600)))"
    crash edge
    ended load 60
    acknowledged=$((acknowledged + $(sed -n 's/.* acknowledged //p' load.log)))
    [ "$ended_status" = 0 ] || lost=$((lost + 1))
    [ "$ended_status" = 0 ] || sed -n '/^verify-load/p' load.log
    rm -f load.log
    edge_start
}

edge_store="commit_age = 1 commit_bytes = 1M"
verify-load prepare source.img "$sectors"
checksum=$(sha256sum <source.img)
usual_cast "$stage/source.img"
for ((round = 1; round <= rounds; round++)); do
    play_round
    [ $((round % 25)) != 0 ] || act "rounds $round lost $lost (writes acknowledged so far: $acknowledged)"
done
verify-load check "$(url vm1)" "$stage/state" "$sectors" || lost=$((lost + 1))
expect "writes acknowledged in every round" test "$acknowledged" -gt "$rounds"
expect "the source disk unchanged" test "$checksum" = "$(sha256sum <source.img)"
say "rounds $rounds lost $lost"
[ "$lost" = 0 ]
