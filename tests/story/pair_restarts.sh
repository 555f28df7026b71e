#!/usr/bin/env bash
# The edges of a pair die and come back, with their disks: the owner at once, both together, both and one of them never.
# What was acknowledged is there, served by one edge, and the pair is whole again by itself.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
needs jq

vm1_up
owner=a

served() {
    local edge
    for edge in a b; do
        if owns "$edge" vm1 && served_by "$edge"; then owner=$edge && return 0; fi
    done
    return 1
}
# load_until command...: an unbroken load at the owner, until the command has killed it.
load_until() {
    load_at "$owner"
    sleep 1
    "$@"
    load_lost
}
both_die() {
    crash edge-a
    crash edge-b
}

act "the owner dies and is back at once"
load_until crash edge-a
edge_up a
wait_log edge-b "this edge is the only member" 30 # which it is only until edge a is taken in
expect "nothing lost" wait_for 30 "edge b to serve vm1" served_by b
owner=b
whole
refuse "a VM that is edge b's to be made again at edge a" ctl_at a vm create vm1 --disk dc1:disk1 2>refusal
grep -q "the other edge of the pair has a VM vm1 already" refusal || failed "the refusal says: $(cat refusal)"

act "both die and come back"
load_until both_die
edge_up a
edge_up b
whole
expect "nothing lost" wait_for 30 "vm1 to be served" served
act "edge $owner serves"

act "both die; the owner and its disks never come back"
other=b
[ "$owner" = a ] || other=a
load_until both_die
rm -rf "data-$owner"
edge_up "$other"
wait_role "$other" sole
expect "nothing lost" wait_for 30 "edge $other to serve vm1" served_by "$other"
edge_up "$owner"
whole
