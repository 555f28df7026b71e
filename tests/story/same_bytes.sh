#!/usr/bin/env bash
# What a client reads is what is on the source disk - compressible, random and zero alike - with its own writes
# laid over it, through a small cache, and after a restart; the source is never written.
. "$(dirname "$0")/../lib/story.sh"

disk_make source.img 96
head -c 8M /dev/zero | dd of=source.img bs=1M seek=8 conv=notrunc status=none
yes "a line that compresses well" | head -c 8M | dd of=source.img bs=1M seek=20 conv=notrunc status=none || true
cp source.img expected.img
checksum=$(sha256sum <source.img)
edge_loops=1
edge_ram=64M
usual_cast "$stage/source.img"
lun-io read "$(url vm1)" 0 196608 | cmp - expected.img

# write LBA BYTES: at the target and in the copy.
write() {
    head -c "$2" /dev/urandom >piece
    lun-io write "$(url vm1)" "$1" flush <piece
    truncate -s $((($2 + 511) / 512 * 512)) piece
    dd if=piece of=expected.img bs=512 seek="$1" conv=notrunc status=none
}
write 0 512
write 7 1024
write 8191 65536
write 16385 3000000
lun-io zero "$(url vm1)" 40001 777
dd if=/dev/zero of=expected.img bs=512 seek=40001 count=777 conv=notrunc status=none
write 40100 512
lun-io read "$(url vm1)" 0 196608 | cmp - expected.img
act "after a restart, and with the on-prem side gone for what the edge holds itself"
stop edge
edge_start
lun-io read "$(url vm1)" 0 196608 | cmp - expected.img
stop onprem
# (whole 4 KiB blocks: the cache's unit)
lun-io read "$(url vm1)" 16392 5848 | cmp - <(dd if=expected.img bs=512 skip=16392 count=5848 status=none)
expect "the source unchanged" test "$checksum" = "$(sha256sum <source.img)"
stop edge
