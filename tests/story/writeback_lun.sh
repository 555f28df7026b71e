#!/usr/bin/env bash
# The source disk is a LUN: on-prem reserves it while its VM runs in the cloud, so that nobody starts it twice, brings every
# cut to it, and lets go of it when the VM goes home. Who takes the LUN by force gets an alarm and not one byte more. A file
# has no reservation: there it is its mark that tells.
. "$(dirname "$0")/../lib/story.sh"
needs jq tgtd tgtadm

sectors=16384
edge_store="commit_age = 1"
disk_make lun.img 8
disk_make file.img 8
disk_make some.img 1
tgt_start "$stage/lun.img"
onprem_conf lun "$(tgt_url)" file "file:$stage/file.img"
edge_start
onprem_start
state() { ctl vm show "$1" --json | jq -r "$2"; }
disk() { lun-io read "$(url "$1")" 0 "$sectors"; }
alarm() { [ "$(state "$1" .onprem.alarm)" = true ]; }
held() { wait_log onprem "LUN 1 of .* is reserved"; }
# The hypervisor that would start the source VM.
hypervisor() { INITIATOR=iqn.2026-11.org.isthmus.test:hypervisor lun-io "$@"; }
starts() { hypervisor read "$(tgt_url)" 0 8 >/dev/null && hypervisor write "$(tgt_url)" 0 <some.img; }
vm_create vm1 lun --storage write-back
held

# kept_from_others: the source VM cannot be started.
kept_from_others() {
    refuse "somebody else's read of the LUN" hypervisor read "$(tgt_url)" 0 8 >/dev/null 2>&1
    refuse "somebody else's write to the LUN" hypervisor write "$(tgt_url)" 0 <some.img 2>said
    grep -q "RESERVATION CONFLICT" said || failed "the write is refused with: $(cat said)"
}
act "what the VM writes is on the LUN, and it is kept from others"
lun-io write "$(url vm1)" 1000 <some.img
lun-io zero "$(url vm1)" 5000 500
lun-io write "$(url vm1)" 9001 flush <some.img
ctl vm flush vm1 --on-prem
disk vm1 >expected.img
cmp lun.img expected.img
kept_from_others

act "the same after a crash of on-prem, and while it is away"
crash onprem
: >onprem.log
kept_from_others
onprem_start
held
kept_from_others
lun-io write "$(url vm1)" 3 flush <some.img
ctl vm flush vm1 --on-prem
disk vm1 >expected.img
cmp lun.img expected.img

# untouched: what comes from the cloud is refused, and not one byte of it is on the disk.
untouched() {
    refuse "to write back" ctl vm flush "$1" --on-prem 2>said
    grep -q "$2" said || failed "the refusal says: $(cat said)"
    cmp "$3" before.img
}
act "somebody takes the LUN by force: an alarm, and not one byte more"
cp lun.img before.img
: >onprem.log
hypervisor steal "$(tgt_url)"
lun-io write "$(url vm1)" 12000 flush <some.img
untouched vm1 "reserv" lun.img
wait_for 5 "an alarm" alarm vm1

act "given back, still nothing is written, until somebody says whose history counts"
hypervisor free "$(tgt_url)"
untouched vm1 "reserv" lun.img
ctl vm clear-alarm vm1
held
ctl vm flush vm1 --on-prem
disk vm1 | cmp - lun.img
kept_from_others

act "home, the LUN is free and the source VM starts"
lun-io write "$(url vm1)" 77 flush <some.img
disk vm1 >expected.img
ctl run-on-prem vm1
cmp lun.img expected.img
expect "the source VM to start" starts

act "a file: somebody else's write between two cuts is noticed by its mark"
vm_create vm2 file --storage write-back
lun-io write "$(url vm2)" 100 flush <some.img
ctl vm flush vm2 --on-prem
disk vm2 | cmp - file.img
dd if=some.img of=file.img bs=512 seek=14000 count=1 conv=notrunc status=none
cp file.img before.img
lun-io write "$(url vm2)" 3000 flush <some.img
untouched vm2 "written" file.img
wait_for 5 "an alarm" alarm vm2
untouched vm2 "written" file.img
ctl vm clear-alarm vm2
ctl vm flush vm2 --on-prem
disk vm2 >expected.img
expect "what the cloud wrote" cmp -n $((14000 * 512)) file.img expected.img
stop edge
stop onprem
