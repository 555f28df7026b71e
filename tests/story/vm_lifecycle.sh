#!/usr/bin/env bash
# VMs are created, listed, shown and deleted by isthmusctl; they outlive a restart; what is deleted is gone.
. "$(dirname "$0")/../lib/story.sh"
needs jq

disk_make source.img 8
usual_cast "$stage/source.img"
expect "vm1 in the list" grep -q vm1 <(ctl vm list)
expect "vm1 in JSON" test "$(ctl vm show vm1 --json | jq -r .name)" = vm1
refuse "a second vm1" vm_create vm1 disk1 2>out
expect "a sentence" grep -q "there is a VM vm1 already" out
refuse "a name that is none" vm_create '../vm' disk1 2>/dev/null
refuse "write-back to two daemons" vm_create two disk1 --disk dc2:disk1 --storage write-back 2>out
expect "why" grep -q "more than one on-prem daemon: it can only be cloud-persist" out
refuse "a wrong token" isthmusctl --server http://127.0.0.1:7261 --token-file /proc/version vm list 2>/dev/null
echo hello | lun-io write "$(url vm1)" 5 flush
stop edge
edge_start
expect "vm1 after a restart" grep -q vm1 <(ctl vm list)
expect "its data too" grep -q hello <(lun-io read "$(url vm1)" 5 1)
attached() { [ "$(ctl --json vm show vm1 | jq -r .onprem.attached)" = true ]; }
wait_for 20 "on-prem to hold the source disk" attached
ctl vm delete vm1
wait_log edge "detached: dc1 has let go of the source disks"
refuse "vm1 in the list" grep -q vm1 <(ctl vm list)
refuse "a login to it" lun-io size "$(url vm1)" 2>/dev/null
act "a new vm1 on the same disk starts from the source"
vm_create vm1 disk1
lun-io read "$(url vm1)" 0 16384 | cmp - source.img
wait_for 20 "on-prem to hold the source disk for it" attached
act "deleted while on-prem does not answer, the disks stay held until it does"
stop onprem
ctl vm delete vm1
wait_log edge "dc1 still has VM vm1 attached"
onprem_start
wait_log edge "dc1 does not hold the disks of this VM, which was deleted"
wait_log onprem "is detached at cut"
act "also if the edge was killed meanwhile"
vm_create vm2 disk1
attached2() { [ "$(ctl --json vm show vm2 | jq -r .onprem.attached)" = true ]; }
wait_for 20 "on-prem to hold the source disk for vm2" attached2
stop onprem
ctl vm delete vm2
crash edge
rm edge.log onprem.log
edge_start
onprem_start
wait_log edge "ctx=vm2 msg=.dc1 does not hold the disks of this VM, which was deleted"
wait_log onprem "is detached at cut"
stop edge
rm edge.log
edge_start
refuse_log edge "was deleted"
stop edge
stop onprem
