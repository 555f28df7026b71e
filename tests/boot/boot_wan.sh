#!/usr/bin/env bash
# A Debian VM boots over 50 ms / 100 Mbit/s from a datastore nobody copied, writes, loses its edge, finds its data.
. "$(dirname "$0")/../lib/story.sh"
needs qemu-system-x86_64 tgtd

act "the datastore: tgt, on the far side of the WAN"
image_copy source.img
wan_up 50 100
tgt_start "$stage/source.img"
onprem_conf vm1-root "$(tgt_url)"
edge_start
onprem_start
vm_create vm1 vm1-root
script=http://10.0.2.2:7262/boot/vm1.ipxe

act "first boot: everything comes over the WAN"
vm_boot first write-hello chain "$script"
wait_serial first BOOT-DONE 900
act "up; $(($(wan_bytes) / 1000000)) MB over the WAN"
wait_serial first WRITE-DONE 300

act "the guest has flushed its file: the edge and the guest die now"
crash edge
crash first
edge_start

act "second boot"
vm_boot second verify-hello chain "$script"
wait_serial second 'VERIFY-' 900
expect "the file of the first boot" serial_has second VERIFY-OK
refuse "I/O errors in the guest" serial_has second 'I/O error'
ended second 180

act "nothing was written to the datastore"
stop edge
stop onprem
crash tgt
expect "the source disk unchanged" cmp source.img "$(image_path)"
