#!/usr/bin/env bash
# Two clients at once: each sees the other's writes at once on one VM, and never those of another VM.
. "$(dirname "$0")/../lib/story.sh"

disk_make source.img 16
usual_cast "$stage/source.img"
vm_create vm2 disk1
head -c 40000 /dev/urandom >ours
INITIATOR=iqn.2026-11.test:one lun-io write "$(url vm1)" 1001 <ours
INITIATOR=iqn.2026-11.test:two lun-io read "$(url vm1)" 1001 79 | head -c 40000 | cmp - ours
lun-io read "$(url vm2)" 0 32768 | cmp - source.img

act "both load at once, on disks of their own"
verify-load prepare load.img 8192
onprem_conf disk1 "file:$stage/source.img" load "file:$stage/load.img"
stop onprem
onprem_start
vm_create vm3 load
vm_create vm4 load
start three verify-load run "$(url vm3)" "$stage/state3" 8192 3
start four verify-load run "$(url vm4)" "$stage/state4" 8192 4
wait_log three loading
wait_log four loading
sleep 3
crash edge
ended three 30
ended four 30
edge_start
verify-load check "$(url vm3)" "$stage/state3" 8192
verify-load check "$(url vm4)" "$stage/state4" 8192
stop edge
stop onprem
