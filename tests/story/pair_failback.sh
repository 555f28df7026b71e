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
disk_make two.img 8
more_disks=(disk2 "file:$stage/two.img")
vm1_up

# vm_at a|b VM: what that edge's pair status says of it: "OWNER PREFERS MIRRORED"
vm_at() { pair_vm "$1" "$2" '"\(.owner) \(.prefers) \(.mirrored)"'; }
is_at() { [ "$(vm_at "$1" "$2")" = "$3" ]; }
why_at() { pair_vm "$1" "$2" .why; }
says_at() { why_at "$1" "$2" | grep -q "$3"; }
none_astray() { [ "$(metric "$1" isthmus_failback_away)" = 0 ]; }
is_counted() { [ "$(metric "$1" isthmus_failback_total 'result="done"')" = "$2" ]; }

act "a VM that is made at edge a and prefers edge b goes there"
refuse "an edge of another pair to be preferred" ctl_at a vm create vm2 --disk dc1:disk2 --prefer edge-x
ctl_at a vm create vm2 --disk dc1:disk2 --prefer edge-b
wait_for 30 "edge b to own vm2" owns b vm2
wait_for 10 "both to show that, at edge a" is_at a vm2 "edge-b edge-b true"
wait_for 10 "both to show that, at edge b" is_at b vm2 "edge-b edge-b true"
expect "vm1 to be where it was made" is_at b vm1 "edge-a edge-a true"
ctl_at a pair status

act "edge a is killed under load: edge b serves both"
load_at b
crash edge-a
wait_role b sole
wait_for 30 "edge b to own vm1" owns b vm1
expect "edge b to show that it is not where it should be" is_at b vm1 "edge-b edge-a false"
wait_for 10 "and why (not: $(why_at b vm1))" says_at b vm1 "the pair is not whole"
ctl_at b pair status
unharmed load 30

act "edge a comes back, and so does its VM"
rm -f edge-a.log
edge_up a
whole
wait_for 60 "edge a to own vm1 again" owns a vm1
wait_for 10 "both to show that" is_at b vm1 "edge-a edge-a true"
unharmed load 30
wait_for 10 "it to be counted" is_counted b 1
wait_for 10 "vm2 to have stayed, and to be mirrored" is_at a vm2 "edge-b edge-b true"

act "what is handed over by command stays there"
hand_over a vm1
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
unharmed load 30

act "edge a gives all that it has, and is stopped"
ctl_at a pair fail-over
expect "edge b to own vm1" owns b vm1
expect "edge a to say that all go" test "$(pair_status a '"\(.failing_over) \(.vms_here)"')" = "true 0"
unharmed load 30
stop edge-a
refuse "VMs to be given to nobody" ctl_at b pair fail-over
wait_role b sole
unharmed load 30
rm -f edge-a.log
edge_up a
whole
wait_for 60 "edge a to own vm1, which prefers it" owns a vm1
unharmed load 30
ctl_at b pair fail-over
expect "edge a to own both (not: $(vm_at a vm2))" owns a vm2
ctl_at b pair fail-over --cancel
expect "vm2 to stay there for now (not: $(vm_at b vm2))" is_at b vm2 "edge-a edge-b true"
load_dies
expect "nothing lost, by edge a" served_by a
expect "nor by edge b" served_by b
stop edge-b
stop edge-a
stop onprem
