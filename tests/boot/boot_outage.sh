#!/usr/bin/env bash
# A guest reads what only on-prem has while the WAN is cut for 3 minutes, then the datastore's target dies and comes
# back, then the edge does: the guest sees no I/O error and goes on each time.
. "$(dirname "$0")/../lib/story.sh"
needs qemu-system-x86_64 tgtd
cut=${CUT_SECONDS:-180}

image_copy source.img
# Something on the disk that no boot has read and that is not zeros.
disk_make filler 800
dd if=filler of=source.img bs=1M seek=3000 conv=notrunc status=none
rm filler
wan_up 50 100
tgt_start "$stage/source.img"
onprem_conf vm1-root "$(tgt_url)"
edge_start
onprem_start
vm_create vm1 vm1-root

# How far the guest is, in MiB.
progress() { grep -aoE 'SOAK [0-9]+' guest/serial.log | tail -n 1 | cut -d' ' -f2; }
further() { [ "$(progress)" -gt "$1" ]; }
# goes_on SECONDS: it gets further.
goes_on() { wait_for "$1" "the guest to read on" further "$(progress)"; }

vm_boot guest soak-3000-3800 chain http://10.0.2.2:7262/boot/vm1.ipxe
wait_serial guest BOOT-DONE 900
wait_serial guest PATIENCE 300
expect "a guest with patience" serial_has guest 'PATIENCE command=3600 session=86400'
wait_serial guest 'SOAK 3[0-9]*' 300
act "the guest reads what nobody has cached ($(progress) MiB): the WAN is cut for $cut s"
wan_cut
sleep "$cut"
expect "a guest that waits" alive guest
wan_heal
goes_on 120
act "it goes on; now the datastore's target dies for 20 s"
crash tgt
sleep 20
tgt_start "$stage/source.img"
goes_on 120
act "it goes on; now the edge dies and is started again"
crash edge
edge_start
goes_on 120
wait_serial guest SOAK-DONE 900
expect "no error: $(grep -a SOAK-DONE guest/serial.log)" serial_has guest 'SOAK-DONE errors=0 kernel=0'
ended guest 180
stop onprem
stop edge
