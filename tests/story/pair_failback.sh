#!/usr/bin/env bash
# A VM goes to the edge that it prefers, by itself: when it is made elsewhere, and when that edge was killed under load and has
# come back. Its initiator sees no error, and nothing is lost. Who hands it over by command is not overruled. All VMs of an edge go
# to the other on command, and when it has been stopped and is back, those that prefer it come again. pair status tells.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
needs jq

pair_failback=yes
pair_failback_after=2s
pair_lease=$((3 * ${SLOWNESS:-1}))s # calm is what it is about
sectors=16384
verify-load prepare one.img "$sectors"
disk_make two.img 8
pair_up disk1 "file:$stage/one.img" disk2 "file:$stage/two.img"
both_up

# vm_at a|b VM: what that edge's pair status says of it: "OWNER PREFERS MIRRORED"
vm_at() { ctl_at "$1" --json pair status | jq -r --arg vm "$2" '.vms[] | select(.name == $vm) | "\(.owner) \(.prefers) \(.mirrored)"'; }
is_at() { [ "$(vm_at "$1" "$2")" = "$3" ]; }
why_at() { ctl_at "$1" --json pair status | jq -r --arg vm "$2" '.vms[] | select(.name == $vm) | .why'; }
says_at() { why_at "$1" "$2" | grep -q "$3"; }
acknowledged() { od -An -tu4 -j4 -N4 state | tr -d ' '; }
goes_on() { [ "$(acknowledged)" -gt "$1" ]; }
unharmed() {
    expect "the initiator to be logged in still" alive load
    refuse "the initiator to have been refused anything" logged load refused
    wait_for 30 "more writes to be acknowledged" goes_on "$(acknowledged)"
}
done_at() { curl -fsS --max-time 5 "http://${edge_address[$1]}:7262/metrics" | awk '/^isthmus_failback_total{result="done"}/ { print $2 }'; }
none_astray() { curl -fsS --max-time 5 "http://${edge_address[$1]}:7262/metrics" | grep "^isthmus_failback_away.* 0$" >/dev/null; }
is_counted() { [ "$(done_at "$1")" = "$2" ]; }

act "a VM that is made at edge a and prefers edge b goes there"
ctl_at a vm create vm1 --disk dc1:disk1
refuse "an edge of another pair to be preferred" ctl_at a vm create vm2 --disk dc1:disk2 --prefer edge-x
ctl_at a vm create vm2 --disk dc1:disk2 --prefer edge-b
wait_for 30 "edge b to own vm2" owns b vm2
wait_for 10 "both to show that, at edge a" is_at a vm2 "edge-b edge-b true"
wait_for 10 "both to show that, at edge b" is_at b vm2 "edge-b edge-b true"
expect "vm1 to be where it was made" is_at b vm1 "edge-a edge-a true"
ctl_at a pair status

act "edge a is killed under load: edge b serves both"
start load verify-load run "$(url_at b vm1)" "$stage/state" "$sectors" "$RANDOM"
wait_log load "^loading" 60
crash edge-a
wait_role b sole
wait_for 30 "edge b to own vm1" owns b vm1
expect "edge b to show that it is not where it should be" is_at b vm1 "edge-b edge-a false"
expect "and why (not: $(why_at b vm1))" says_at b vm1 "the pair is not whole"
ctl_at b pair status
unharmed

act "edge a comes back, and so does its VM"
rm -f edge-a.log
edge_up a
whole
wait_for 60 "edge a to own vm1 again" owns a vm1
wait_for 10 "both to show that" is_at b vm1 "edge-a edge-a true"
unharmed
wait_for 10 "it to be counted" is_counted b 1
expect "vm2 to have stayed" is_at a vm2 "edge-b edge-b true"

act "what is handed over by command stays there"
wait_for 60 "edge a to hand vm1 over" ctl_at a vm hand-over vm1
wait_for 10 "edge b to say so" says_at b vm1 "by command"
wait_for 10 "it to be edge b's, and mirrored" is_at b vm1 "edge-b edge-a true"
refuse "edge a to be told what a VM of edge b's prefers" ctl_at a vm prefer vm1 edge-a
refuse "a VM to prefer an edge of another pair" ctl_at b vm prefer vm1 edge-x
ctl_at b vm prefer vm1 edge-b
wait_for 10 "edge a to know that it prefers edge b" is_at a vm1 "edge-b edge-b true"
wait_for 10 "edge b to have seen that" none_astray b
expect "nothing to be wrong with that (not: $(why_at b vm1))" test -z "$(why_at b vm1)"

act "until it shall be at edge a again"
ctl_at b vm prefer vm1 edge-a
wait_for 60 "edge a to own it" owns a vm1
unharmed

act "edge a gives all that it has, and is stopped"
ctl_at a pair fail-over
expect "edge b to own vm1" owns b vm1
expect "edge a to say that all go" test "$(ctl_at a --json pair status | jq -r '"\(.failing_over) \(.vms_here)"')" = "true 0"
unharmed
stop edge-a
refuse "VMs to be given to nobody" ctl_at b pair fail-over
wait_role b sole
unharmed
rm -f edge-a.log
edge_up a
whole
wait_for 60 "edge a to own vm1, which prefers it" owns a vm1
unharmed
ctl_at b pair fail-over
expect "edge a to own both (not: $(vm_at a vm2))" owns a vm2
ctl_at b pair fail-over --cancel
expect "vm2 to stay there for now (not: $(vm_at b vm2))" is_at b vm2 "edge-a edge-b true"
load_dies
verified() { verify-load check "$(url_at "$1" vm1)" "$stage/state" "$sectors"; }
expect "nothing lost, by edge a" verified a
expect "nor by edge b" verified b
stop edge-b
stop edge-a
stop onprem
