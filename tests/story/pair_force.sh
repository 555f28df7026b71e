#!/usr/bin/env bash
# The only member of a pair is lost for good with its disks, and the other edge is out: it serves nothing until an operator
# says that what is lost is lost. Never while the member lives, be it that only the store can tell; and when that comes back
# after all it answers nothing, and is taken in.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
needs jq
pair_lease=3s # who is left waits for several of them, for one that is gone

vm1_up

# written_to a|b: vm1, for a moment.
written_to() {
    load_at "$1"
    sleep 1
    load_dies_at "$1"
}
pair_says() { pair_status "$1" -e "$2" >/dev/null; }

act "edge b dies; edge a goes on alone, and writes"
crash edge-b
wait_role a sole
written_to a
ctl_at a vm flush vm1
cut=$(ctl_at a --json vm show vm1 | jq .log.committed)

act "the cable is pulled, edge b comes: it is out, and says what would be lost"
peer_cut
edge_up b
wait_role b out
epoch=$(pair_status b .epoch)
refuse "to do it without being told so" ctl_at b pair force >said 2>refusal
grep -q "nothing was done: --accept-loss does it" refusal || failed "the refusal says: $(cat refusal)"
grep -qE "^VM vm1: the object store holds it up to record $cut, which came there at 20.* ago; all that edge-a acknowledged after that is LOST" said ||
    failed "what would be lost: $(cat said)"
refuse "to do it without being asked" ctl_at b pair force --accept-loss >said 2>refusal </dev/null
grep -q "nothing was done: this needs --yes" refusal || failed "the refusal says: $(cat refusal)"
expect "nothing to have changed" pair_says a ".epoch == $epoch and .role == \"sole\""
refuse "the only member to be forced" ctl_at a pair force --accept-loss --yes 2>refusal
grep -q "only one that is 'out'" refusal || failed "the refusal says: $(cat refusal)"

act "edge a lives, and sees the store: refused"
refuse "edge b to take its place" ctl_at b pair force --accept-loss --yes >said 2>refusal
grep -q "edge-a has answered in the pair's record" refusal || failed "the refusal says: $(cat refusal)"
expect "edge a to be the only member" edge_is a 3
expect "edge b to be out" edge_is b 2
expect "edge a to serve" served_by a

act "edge a is gone: edge b takes its place, and what the store held is served"
written_to a
ctl_at a vm flush vm1
kill -STOP "${pids[edge-a]}"
start_in b force isthmusctl --server http://127.0.0.1:7261 --token-file "$stage/token" pair force --accept-loss --yes
ended edge-b 60
[ "$ended_status" = 75 ] || failed "edge b ended with status $ended_status"
expect_log edge-b "part=pair ctx=vm1 msg=\"the store holds it up to record [0-9]+, put at 20.*: what edge-a acknowledged"
edge_up b
wait_role b sole
ended force 60
[ "$ended_status" = 0 ] || failed "the command ended with status $ended_status: $(cat force.log)"
grep -q "edge-b is the only member" force.log || failed "the command said: $(cat force.log)"
expect "nothing lost that the store had" wait_for 30 "edge b to serve vm1" served_by b
expect "it to be written down" pair_says b '.forced.edge == "edge-b" and .forced.at > 1700000000 and .forced.epoch > 1'
written_to b

act "edge a goes on after all: it finds out, and ends; with its old disks it is out, and is taken in"
kill -CONT "${pids[edge-a]}"
ended edge-a 30
[ "$ended_status" = 75 ] || failed "edge a ended with status $ended_status"
edge_up a
wait_role a out
expect_log edge-a "ctx=vm1 msg=\"the other edge of the pair serves it, or will: nobody may log in here"
expect "edge a to know that vm1 is not its own" pair_says a '.vms[0].owner == "edge-b"'
expect "edge a to keep initiators out" eval "ctl_at a --json vm show vm1 | jq -e '.ownership == \"lost\"' >/dev/null"
peer_heal
whole
expect "nothing lost at edge b" served_by b
expect "nothing lost by edge a's portal" served_by a
