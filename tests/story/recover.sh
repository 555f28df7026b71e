#!/usr/bin/env bash
# An edge whose disks are gone is replaced by an empty one: given the object store and the key it takes the VM over at its
# newest cut, all disks at the same one; what is lost is what was not committed. The old edge, should it come back,
# serves not one read: it asks the store first, and waits for as long as that is away.
. "$(dirname "$0")/../lib/story.sh"

sectors=16384
store=$stage/bucket
mkdir "$store"
edge_store="url = \"dir:$store\" commit_age = 1 layers = \"fail:p=1,file=$stage/away,error=ENOTCONN\""
verify-load prepare source.img "$sectors"
usual_cast "$stage/source.img"
metric() { edge_get /metrics | awk -v name="$1" 'index($1, name "{") == 1 { sum += $2; n++ } END { if (!n) exit 1; printf "%d\n", sum }'; }
committed() { [ "$(metric isthmus_store_pending_bytes)" = 0 ]; }

# load SECONDS: an unbroken load, then the edge dies.
load() {
    start load verify-load run "$(url vm1)" "$stage/state" "$sectors" "$RANDOM"
    wait_log load "^loading" 60
    sleep "$1"
    crash edge
    ended load 60
    [ "$ended_status" = 0 ] || failed "what was acknowledged is not there: $(tail -n 2 load.log)"
    rm -f load.log
}
for round in 1 2 3; do
    load 2.5
    edge_start
    act "round $round: everything acknowledged reaches the store, then the edge loses its disks"
    wait_for 30 "everything to be in the store" committed
    expect "nothing lost" verify-load check "$(url vm1)" "$stage/state" "$sectors"
    crash edge
    mv edge-data "edge-data-$round"
    edge_start
    refuse "a VM that nobody recovered" ctl vm show vm1
    ctl vm recover vm1
    expect "nothing lost" verify-load check "$(url vm1)" "$stage/state" "$sectors"
done
refuse "to be recovered twice" ctl vm recover vm1
wait_for 30 "everything to be in the store" committed

# An initiator that takes every chance to read, from before the edge is there until it has read something.
read_early() {
    rm -f early.out
    # shellcheck disable=SC2016
    start early bash -c 'until lun-io read "$1" 0 8 >early.part && [ -s early.part ]; do sleep 0.02; done; mv early.part early.out' early "$(url vm1)"
}
# refused_from_the_start: the edge with the old disks says so, and nothing was read.
refused_from_the_start() {
    wait_log edge "another edge writes this VM's log" 30
    refuse "a login to a VM that is another edge's" lun-io read "$(url vm1)" 0 8 >/dev/null
    expect "its state to be shown" test "$(ctl --json vm show vm1 | jq -r .ownership)" = lost
    expect "not one read to be served" test ! -e early.out
    refuse_log edge "login of .* to vm1 from [0-9.:]*$"
    crash early
    rm -f edge.log
}

act "the edge of round 2 comes back with its old disks"
stop edge
mv edge-data edge-data-now
mv edge-data-2 edge-data
rm -f edge.log
read_early
edge_start
refused_from_the_start
stop edge

act "the same while the store is away: it waits and says so, and then it is refused"
touch away
read_early
start edge isthmus-edge --config "$stage/edge.conf"
wait_log edge "no VM is served before the object store has said whose it is" 30
wait_log edge "login of .* to vm1 from .* waits for the object store"
refuse "to be healthy" edge_healthy
expect "its state to be shown" test "$(ctl --json vm show vm1 | jq -r .ownership)" = unknown
refuse "a VM made meanwhile" ctl vm create vm2 --disk dc1:disk1 2>refusal
grep -q "the object store is waited for" refusal || failed "the refusal says: $(cat refusal)"
rm away
refused_from_the_start
stop edge

act "the edge that has the VM starts while the store is away: its initiators wait"
rm -rf edge-data
mv edge-data-now edge-data
touch away
read_early
start edge isthmus-edge --config "$stage/edge.conf"
wait_log edge "login of .* to vm1 from .* waits for the object store" 30
expect "nothing to be read yet" test ! -e early.out
rm away
ended early 30
expect "one login only" test "$(grep -c "waits for the object store" edge.log)" = 1
expect "nothing lost" verify-load check "$(url vm1)" "$stage/state" "$sectors"

act "with another key the store is refused, and nothing of it is touched"
crash edge
find bucket -type f -exec sha256sum {} + | sort >before
rm -rf edge-data
isthmusctl key new other.key >/dev/null
cp other.key at-rest.key
start edge isthmus-edge --config "$stage/edge.conf"
ended edge 30
expect "status 1" test "$ended_status" = 1
expect_log edge "the object store .* belongs to another deployment \(deployment: it was sealed with another key, or altered\)"
find bucket -type f -exec sha256sum {} + | sort | cmp - before || failed "the store was touched"
