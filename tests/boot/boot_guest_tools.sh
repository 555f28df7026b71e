#!/usr/bin/env bash
# A guest that booted from the edge by iPXE uses a second VM's disks as Linux does: open-iscsi with mutual CHAP and
# digests by two portals in two target port groups, dm-multipath through the loss of one path and of both while fio
# verifies, file systems with discard, and all of sg3_utils. guest_tools.sh runs in the guest; its answers are shown
# when anything fails.
. "$(dirname "$0")/../lib/story.sh"
needs qemu-system-x86_64

image_copy source.img tools
truncate -s 512M data1.img
truncate -s 256M data2.img
# The guest reaches these through QEMU. Its root comes by the third, which stays; its firmware knows no group but 1.
for n in 1 2 3; do ip address add "10.201.0.$n/32" dev lo; done
edge_iscsi='10.201.0.1:3260", "10.201.0.2:3260,2", "10.201.0.3:3260'
onprem_conf root "file:$stage/source.img" data1 "file:$stage/data1.img" data2 "file:$stage/data2.img"
edge_start
onprem_start
vm_create vm1 root
(umask 077 && printf 'correct-horse-battery' >secret && printf 'staple-not-in-store' >mutual)
vm_create data data1 --disk dc1:data2 --chap-user guest --chap-secret-file "$stage/secret" \
    --mutual-user edge --mutual-secret-file "$stage/mutual"

guest_script guest guest_tools.sh
SCRIPT=$stage/guest.sh vm_boot guest script chain http://10.201.0.3:7262/boot/vm1.ipxe
# From here until its own iscsid runs nobody in the guest would log in again.
wait_serial guest 'systemd\[1\]' 300
act "the kernel is up, its iscsid is not: the guest is paused for 40 s"
kill -STOP "${pids[guest]}"
sleep 40
kill -CONT "${pids[guest]}"
wait_serial guest BOOT-DONE 900
act "up; the guest logs in"
wait_serial guest 'SIGNAL CUT-TWO' 300
act "the second path is cut, under load"
ip address delete 10.201.0.2/32 dev lo
wait_serial guest 'SIGNAL CUT-ONE' 300
act "it went on by the first; that one is cut too"
ip address delete 10.201.0.1/32 dev lo
wait_serial guest 'SIGNAL HEAL' 300
ip address add 10.201.0.1/32 dev lo
ip address add 10.201.0.2/32 dev lo
act "both are back"
wait_serial guest 'SCRIPT-DONE' 600
said=$(tr -d '\r' <guest/serial.log | grep -a '^CHECKED') || failed "the guest's script broke off"
act "$said"
expect "nothing to be wrong: $(grep -a '^FAILED' guest/serial.log)" serial_has guest 'SCRIPT-DONE status=0'
read -r _ checked _ <<<"$said"
expect "all to be checked, not $checked" test "$checked" -ge 250
ended guest 180
stop edge
stop onprem
