#!/usr/bin/env bash
# Whatever step the edge dies at, every write that it acknowledged is there when it is started again; if its
# disks are lost, too, the store gives back one cut of all disks, with everything that was flushed to it.
#
# ROUNDS says how many rounds (100), SEED which ones, LANES how many at once (2). The steps are those that
# the daemons print (--steps), each equally often; the other rounds are random moments and a store that is
# full (tests/lib/crash_lane.sh). REPLAY="KIND STEP N SEED" plays one, or several, a line each. What failed is
# kept in crash/ of the build folder.
set -euo pipefail
# shellcheck source=../../deploy/lib.sh
. "$(dirname "$0")/../../deploy/lib.sh"
[ "$(id -u)" = 0 ] || { say "needs root"; exit 77; }

bin=${ISTHMUS_BIN:-$root/build/bin}
rounds=${ROUNDS:-100} lanes=${LANES:-2} seed=${SEED:-$RANDOM}
export CRASH_KEPT=${CRASH_KEPT:-${bin%/bin}/crash}
rm -rf "$CRASH_KEPT"
work=$(mktemp -d)
trap 'undo_all; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# How often a step is reached while a load goes on, about.
times_of() {
    case $1 in
    journal.write | journal.index) echo 200 ;;
    journal.sync) echo 15 ;;
    commit.whole) echo 1 ;;
    commit.* | dir.*) echo 4 ;;
    journal.*) echo 2 ;;
    *) echo 1 ;;
    esac
}
kind_of() {
    case $1 in
    onprem.stage.given_up) echo power ;;
    onprem.*) [ $((RANDOM % 2)) = 0 ] && echo alone || echo home ;;
    wb.*) echo home ;;
    verb.* | task.*) echo verb ;;
    recover.*) echo recover ;;
    replay.* | commit.adopt) echo start ;;
    commit.whole) echo edge ;;
    checkpoint.* | commit.* | dir.*) [ $((RANDOM % 2)) = 0 ] && echo wipe || echo edge ;;
    *) echo edge ;;
    esac
}

# A round a line: the steps in turn, and random moments.
plan() {
    local steps step n=0 round
    RANDOM=$seed
    mapfile -t steps < <({ "$bin/isthmus-edge" --steps && "$bin/isthmus-onprem" --steps; } | cut -f 1 |
        grep -v '^hand\.' | # of two edges: tests/sim
        shuf --random-source=<(yes "$seed"))
    for ((round = 0; round < rounds; round++)); do
        case $((round % 16)) in
        5) echo "edge - 1 $RANDOM" ;;
        10) echo "wipe - 1 $RANDOM" ;;
        13) echo "home - 1 $RANDOM" ;;
        15) echo "store - 1 $RANDOM" ;;
        *)
            step=${steps[n++ % ${#steps[@]}]}
            echo "$(kind_of "$step") $step $((1 + RANDOM % $(times_of "$step"))) $RANDOM"
            ;;
        esac
    done
}
if [ -n "${REPLAY:-}" ]; then
    printf '%s\n' "$REPLAY" >"$work/plan"
    rounds=$(wc -l <"$work/plan") lanes=1
else
    plan >"$work/plan"
fi

# What needs write-back is for the odd lanes, the rest goes where the least is to be done.
share() {
    awk -v lanes="$lanes" -v work="$work" '{
        best = -1
        for (lane = 0; lane < lanes; lane++)
            if ((!($1 ~ /^(home|alone|power)$/) || lane % 2 || lanes == 1) && (best < 0 || cost[lane] < cost[best])) best = lane
        cost[best] += $1 ~ /^(home|alone|power|verb)$/ ? 2 : 1
        print >(work "/plan." best)
    }' "$work/plan"
}

say "$rounds rounds, SEED=$seed"
for ((lane = 0; lane < lanes; lane++)); do
    : >"$work/plan.$lane"
done
share
for ((lane = 0; lane < lanes; lane++)); do
    : >"$work/out.$lane"
    storage=cloud-persist
    if [ $((lane % 2)) = 1 ] || [ "$lanes" = 1 ]; then storage=write-back; fi
    STORAGE=$storage ISTHMUS_BIN=$bin bash "$root/tests/lib/crash_lane.sh" "$lane" "$work/plan.$lane" >"$work/out.$lane" 2>"$work/errors.$lane" &
    undo "kill -KILL $! 2>/dev/null" # its namespaces go with it; it hears nothing else
done

summary() {
    awk -v planned="$rounds" -v ended="$1" '
        /^round / {
            rounds++
            sub(",", "", $0)
            lost += $(NF - 2) > 0
            torn += $NF > 0
            if ($3 == "-") next
            played[$3]++
            if (/: reached/) reached[$3]++
            else missed++
        }
        END {
            if (!ended) {
                printf "%d of %d rounds, lost %d torn %d\n", rounds, planned, lost, torn
                exit
            }
            for (step in played) if (!reached[step]) printf "never reached: %s (%d rounds)\n", step, played[step]
            if (missed) printf "rounds that did not reach their step in time: %d\n", missed
            if (rounds < planned) printf "%d rounds were planned\n", planned
            printf "rounds %d lost %d torn %d\n", rounds, lost, torn
            exit lost + torn > 0 || rounds < planned
        }' "$work"/out.*
}
while [ -n "$(jobs -r)" ]; do
    for ((i = 0; i < 150 && $(jobs -r | wc -l) > 0; i++)); do sleep 0.2; done
    [ -z "$(jobs -r)" ] || say "$(summary "")"
done
# What failed; and why a lane ended before its time.
awk '/^  / && !/ done$/ || /^round .*(lost|torn) [1-9]/' "$work"/out.*
for ((lane = 0; lane < lanes; lane++)); do
    [ "$(grep -c '^round' "$work/out.$lane")" -lt "$(wc -l <"$work/plan.$lane")" ] || continue
    grep -v '^round' "$work/out.$lane" | tail -n 200 || true
    grep -v ' Killed ' "$work/errors.$lane" | tail -n 60 || true
done
summary 1
