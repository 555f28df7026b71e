#!/usr/bin/env bash
# Disks of other kinds than the usual one: 4Kn, larger than 2 TiB, and one that grows while its guest is there.
. "$(dirname "$0")/../lib/story.sh"

disk_make source.img 8
truncate -s 5T large.img
truncate -s 8389120 odd.img # not a multiple of 4 KiB
onprem_conf disk1 "file:$stage/source.img" large "file:$stage/large.img" odd "file:$stage/odd.img"
edge_start
onprem_start

act "4Kn"
vm_create vm4k disk1 --block-bytes 4096
expect "blocks of 4096" test "$(lun-io size "$(url vm4k)")" = "sectors 2048 block_bytes 4096"
BLOCK=4096 lun-io read "$(url vm4k)" 0 2048 | cmp - source.img
head -c 12288 /dev/urandom >written
BLOCK=4096 lun-io write "$(url vm4k)" 5 flush <written
BLOCK=4096 lun-io read "$(url vm4k)" 5 3 | cmp - written
refuse "blocks that do not fill it" vm_create vm2 odd --block-bytes 4096 2>out
expect "a sentence" grep -q 'odd is not a whole number of blocks of 4096 bytes' out
refuse "blocks of 1 KiB" vm_create vm2 disk1 --block-bytes 1024 2>out
expect "a sentence" grep -q '512 or 4096' out

act "5 TiB"
vm_create big large
last=$((5 * 1024 ** 4 / 512 - 8))
expect "its size" test "$(lun-io size "$(url big)")" = "sectors $((last + 8)) block_bytes 512"
head -c 4096 written | lun-io write "$(url big)" "$last" flush
lun-io read "$(url big)" "$last" 8 | cmp - <(head -c 4096 written)
refuse "what is beyond" lun-io read "$(url big)" "$last" 9 >out 2>/dev/null

act "a disk that grows"
vm_create vm1 disk1
expect "as it was" test "$(lun-io size "$(url vm1)")" = "sectors 16384 block_bytes 512"
head -c 1M /dev/urandom >>source.img
grown() { [ "$(lun-io size "$(url vm1)")" = "sectors 18432 block_bytes 512" ]; }
wait_for 30 "the disk to be larger" grown
lun-io read "$(url vm1)" 16384 2048 | cmp - <(tail -c 1M source.img)
expect "the 4Kn one too" test "$(lun-io size "$(url vm4k)")" = "sectors 2304 block_bytes 4096"
act "and it stays so"
stop edge
edge_start
grown || failed "the size is not in the catalog"
BLOCK=4096 lun-io read "$(url vm4k)" 5 3 | cmp - written
stop edge
stop onprem
