#!/usr/bin/env bash
# A datastore that fails for a while: the error is named with LUN and cause, the guest gets it as a medium error
# or waits, other disks are unharmed, and when the datastore is well again so is the guest.
. "$(dirname "$0")/../lib/story.sh"
needs nbdkit

disk_make source.img 16
disk_make good.img 8
start nbdkit nbdkit -f -U "$stage/nbd.sock" --filter=error file source.img error=EIO error-pread-rate=100% error-file="$stage/broken"
wait_for 10 "nbdkit's socket" test -S nbd.sock
onprem_conf bad "nbd+unix:///?socket=$stage/nbd.sock" good "file:$stage/good.img"
edge_start
onprem_start
vm_create vm1 bad
vm_create vm2 good

lun-io read "$(url vm1)" 0 64 | cmp - <(head -c 32768 source.img)
touch broken
start reader lun-io read "$(url vm1)" 20480 64
wait_log onprem 'disk bad.*(cannot read|failed).*'
expect "the other disk" lun-io read "$(url vm2)" 8192 64 >/dev/null
rm broken
ended reader 60
lun-io read "$(url vm1)" 20480 64 | cmp - <(tail -c +$((20480 * 512 + 1)) source.img | head -c 32768)
expect "the edge unharmed" edge_healthy
stop onprem
stop edge
