#!/usr/bin/env bash
# Two edges in two zones: what one has acknowledged the other has, too. The owner of a VM is killed and its disks are wiped:
# the other edge serves the VM, with every acknowledged write, until the first comes back and is taken in again; then it
# goes the other way round.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
needs jq

act "the first edge is alone, the second is taken in"
vm1_up
ctl_at a pair status
expect "the pair's state to be shown" test "$(pair_status b '"\(.role) \(.epoch) \(.degraded)"')" = "both 2 false"

act "what edge a serves nobody recovers at edge b"
refuse "a VM of the other edge" ctl_at b vm recover vm1 2>said
grep -q "it is the other edge" said || failed "the refusal says: $(cat said)"
expect "none to be recovered" eval "ctl_at b vm recover '*' | grep -q '^0 VM(s) recovered'"
expect "edge a to be the owner" owns a vm1
ctl_at a run-on-prem vm1 --discard
refuse "a VM of the name of one that is home" ctl_at b vm create vm1 --disk dc1:disk1 2>said
grep -q "the other edge of the pair has a VM vm1 already" said || failed "the refusal says: $(cat said)"
ctl_at a run-in-cloud vm1
wait_role b both

at=a other=b
for round in 1 2; do
    act "round $round: edge $at dies under load, and its disks with it"
    load_at "$at"
    sleep 2
    crash "edge-$at"
    load_lost
    rm -rf "data-$at"
    began=$(now)
    wait_role "$other" sole
    expect "degradation to be shown" test "$(pair_status "$other" '"\(.role) \(.degraded)"')" = "sole true"
    expect "nothing lost at edge $other" wait_for 30 "edge $other to serve vm1" served_by "$other"
    act "edge $other serves after $(since "$began") s"
    expect "the edges to say so" logged "edge-$other" "VM\(s\) of the other edge taken over"
    act "edge $at comes back, with nothing, while edge $other is written to"
    load_at "$other"
    edge_up "$at"
    whole
    load_dies
    expect "nothing lost" served_by "$other"
    refuse "edge $at to be the owner, too" owns "$at" vm1
    expect "the same by edge $at, which forwards" served_by "$at"
    [ "$at" = a ] && at=b other=a || at=a other=b
done

act "while nothing is written nobody asks the store for anything"
# requests -> of both edges, since they started
requests() { echo $(($(metric a isthmus_store_requests_total) + $(metric b isthmus_store_requests_total))); }
count=-1
settled() { # three seconds without one
    local before=$count
    count=$(requests)
    [ "$count" = "$before" ] || { sleep 3 && false; }
}
# An edge that the machine does not run for so long that the other doubts it asks once; who asks without a reason does so in any 10 s.
few_requests() {
    local now
    wait_for 60 "the store to be let alone" settled
    sleep 10
    now=$(requests)
    act "$((now - count)) requests in 10 s"
    [ $(((now - count) * 8640)) -le 5000 ]
}
ctl_at "$at" vm flush vm1
expect "a day's worth of them to be below 5,000" eval "few_requests || few_requests || few_requests"
