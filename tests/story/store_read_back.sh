#!/usr/bin/env bash
# What a client wrote goes from the journal to the object store, and is read back from there: compressible, random,
# zeroed, in pieces, rewritten while it is committed. The store holds nothing readable; the source is not written.
. "$(dirname "$0")/../lib/story.sh"

edge_store="commit_age = 1"
edge_loops=1
edge_ram=64M
disk_make source.img 64
cp source.img expected.img
checksum=$(sha256sum <source.img)
usual_cast "$stage/source.img"

metric() { edge_get /metrics | awk -v name="$1" 'index($1, name "{") == 1 || $1 == name { sum += $2; n++ } END { if (!n) exit 1; printf "%d\n", sum }'; }
committed() { [ "$(metric isthmus_store_pending_bytes)" = 0 ] && [ "$(metric isthmus_journal_bytes)" = 0 ]; }
same() { lun-io read "$(url vm1)" 0 131072 | cmp - expected.img; }

# write LBA FILE: at the target and in the copy.
write() {
    lun-io write "$(url vm1)" "$1" flush <"$2"
    dd if="$2" of=expected.img bs=512 seek="$1" conv=notrunc status=none
}
yes "a secret line that compresses well" | head -c 2M >text || true
head -c 3000320 /dev/urandom >noise
write 777 text
write 20001 noise
head -c 4096 /dev/urandom >piece
for lba in 800 803 20000 25000 131064; do write "$lba" piece; done
lun-io zero "$(url vm1)" 22001 1777
dd if=/dev/zero of=expected.img bs=512 seek=22001 count=1777 conv=notrunc status=none
expect "the same from the journal" same
# status LBA: is it mapped, and how far
status() { lun-io status "$(url vm1)" "$1"; }
wait_for 20 "everything to be in the store" committed
act "committed: $(metric isthmus_commit_objects_total) object(s)"
expect "the same from memory" same
expect "whole blocks unmapped, from the map" test "$(status 22008), $(status 23776)" = "unmapped 1768, mapped 107296"
stop edge
edge_start
expect "them still to be so" test "$(status 22008), $(status 21990)" = "unmapped 1768, mapped 18"
expect "the same from the store" same
expect "reads from the store" test "$(metric isthmus_store_read_bytes_total)" -gt 2000000

act "rewritten while commits go on"
for round in 1 2 3 4 5 6; do
    head -c $((4096 * round)) /dev/urandom >piece
    for lba in 100 777 5003 20480 40000; do write $((lba * round % 131000 / 8 * 8)) piece; done
    sleep 0.4
done
expect "the same" same
wait_for 20 "everything to be in the store" committed
crash edge
edge_start
expect "the same from the store after a crash" same
act "with the on-prem side gone: whole blocks of 4 KiB, though reading ahead asks for more"
stop onprem
crash edge
edge_start
there() { timeout $((60 * slowness)) lun-io read "$(url vm1)" 20008 5848 | cmp - <(dd if=expected.img bs=512 skip=20008 count=5848 status=none); }
expect "what the store holds" there
refuse "anything readable in the store" grep -rqa "secret line" "$stage/edge-data/store"
expect "the source unchanged" test "$checksum" = "$(sha256sum <source.img)"
stop edge
