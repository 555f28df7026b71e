#!/usr/bin/env bash
# An edge that is lost with its disks while it deletes a VM, or makes one, leaves no source disk with a VM that is no more:
# the VM's entry in the store says that it is being deleted until on-prem has let go, and who recovers goes on with that.
. "$(dirname "$0")/../lib/story.sh"
needs jq

store=$stage/bucket
mkdir "$store"
edge_store="url = \"dir:$store\" commit_age = 1"
disk_make source.img 8
usual_cast "$stage/source.img"
tool() { isthmusctl store "$@" --config "$stage/edge.conf"; }
attached() { [ "$(ctl --json vm show "$1" | jq -r .onprem.attached)" = true ]; }
entries() { find "$store" -path '*/vms/*/vm' | wc -l; }
objects() { find "$store" -path '*/vms/*' -type f | wc -l; }
none_left() { [ "$(objects)" = 0 ]; }
wiped() {
    rm -rf edge-data
    edge_start
}

act "deleted while on-prem is away, for who asked it is gone at once"
wait_for 20 "on-prem to hold the source disk" attached vm1
echo hello | lun-io write "$(url vm1)" 5 flush
ctl vm flush vm1
stop onprem
ctl vm delete vm1
refuse "a VM that was deleted" ctl vm show vm1 2>/dev/null
expect "nothing but its entry in the store" test "$(objects)-$(entries)" = 1-1
tool list | grep -q "^vm1 .*is being deleted" || failed "the list says: $(tool list)"
expect "the same in JSON" test "$(tool list --json | jq -c '[.vms[] | [.name, .deleting]]')" = '[["vm1",true]]'
expect "that to be sound" tool verify >/dev/null
refuse "an image of it" tool export vm1 image 2>said
grep -q "VM vm1 is being deleted" said || failed "it says: $(cat said)"

act "the edge is lost with its disks: an empty one does nothing before it is asked to recover"
crash edge
wiped
onprem_start
refuse "a VM on a disk that on-prem keeps for another" vm_create vm2 disk1 2>said
grep -q "disk disk1 belongs to VM vm1, which is attached" said || failed "the refusal says: $(cat said)"
expect "the entry to be there still" test "$(entries)" = 1
ctl vm recover '*' >said
grep -q "VM vm1 is not recovered: it was being deleted, and that goes on; dc1 is told to let go of its disks" said ||
    failed "it says: $(cat said)"
grep -q "^0 VM(s) recovered" said || failed "it says: $(cat said)"
wait_log edge "dc1 does not hold the disks of this VM, which was deleted"
wait_log onprem "is detached at cut"
wait_for 10 "the store to have nothing left of it" none_left

act "an edge that is set back to before does not serve it"
vm_create vm1 disk1
wait_for 20 "on-prem to hold the source disk" attached vm1
crash edge
cp -a edge-data before
edge_start
stop onprem
ctl vm delete vm1
crash edge
rm -rf edge-data
mv before edge-data
edge_start
wait_log edge "ctx=vm1 msg=.its entry in the object store says that it is being deleted: it is not served"
refuse "a login" lun-io size "$(url vm1)" 2>/dev/null
ctl vm delete vm1
expect "its entry to be there still" test "$(entries)" = 1
crash edge

act "asked to by its name, with on-prem away"
wiped
ctl vm recover vm1 | grep -q "it was being deleted" || failed "nothing is said of a deletion that goes on"
refuse "a VM that was deleted" ctl vm show vm1 2>/dev/null
refuse "to begin with that twice" ctl vm recover vm1 2>said
grep -q "knows no VM vm1 that is not here" said || failed "the refusal says: $(cat said)"
crash edge
edge_start
onprem_start
wait_for 10 "the store to have nothing left of it" none_left
vm_create vm1 disk1
lun-io read "$(url vm1)" 0 16384 | cmp - source.img
wait_for 20 "on-prem to hold the source disk" attached vm1
ctl vm delete vm1
wait_for 10 "nothing to be left in the store of one that on-prem has let go of" none_left

# made_until STEP: a VM is being made when the edge dies.
made_until() {
    stop edge
    start edge isthmus-edge --config "$stage/edge.conf" --crash-at "$1"
    wait_for 30 "the edge to answer" edge_answers
    refuse "the edge to survive $1" vm_create vm3 disk1 2>/dev/null
    crash edge
    expect "its entry in the store" test "$(entries)" = 1
}
act "killed while it makes a VM that on-prem does not know yet, the edge itself goes on"
made_until create.entry
edge_start
wait_for 10 "the store to have nothing left of it" none_left

act "lost when on-prem has attached a new VM that nobody had an answer of"
made_until create.hold
wiped
ctl vm recover '*' | grep -q "^0 VM(s) recovered" || failed "a VM was recovered that was never made"
wait_for 10 "the store to have nothing left of it" none_left
vm_create vm4 disk1
stop edge
stop onprem
