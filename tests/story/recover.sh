#!/usr/bin/env bash
# An edge whose disks are gone is replaced by an empty one: given the object store and the key it takes the VM over at its
# newest cut, all disks at the same one; what is lost is what was not committed. The old edge, should it come back,
# is refused by the store and stops serving.
. "$(dirname "$0")/../lib/story.sh"

sectors=16384
store=$stage/bucket
mkdir "$store"
edge_store="url = \"dir:$store\" commit_age = 1"
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

act "the edge of round 2 comes back with its old disks"
stop edge
mv edge-data edge-data-now
mv edge-data-2 edge-data
edge_start
lun-io write "$(url vm1)" 0 flush <source.img >/dev/null 2>&1 || true
wait_log edge "another edge writes this VM's log" 30
refuse "a login to a VM that is another edge's" lun-io read "$(url vm1)" 0 8
stop edge
rm -rf edge-data
mv edge-data-now edge-data
edge_start
expect "nothing lost" verify-load check "$(url vm1)" "$stage/state" "$sectors"

act "with another key the store's VMs are refused"
crash edge
rm -rf edge-data
cp at-rest.key right.key
isthmusctl key new other.key >/dev/null
cp other.key at-rest.key
edge_start
refuse "another key" ctl vm recover vm1 2>refusal
grep -q "altered, or sealed with another key" refusal || failed "the refusal says: $(cat refusal)"
stop edge
