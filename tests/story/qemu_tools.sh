#!/usr/bin/env bash
# QEMU's own tools and libiscsi's work on a disk over iSCSI, with CHAP too: images go in and out unchanged, holes
# stay holes, a disk is benchmarked, discarded and inquired.
. "$(dirname "$0")/../lib/story.sh"
needs qemu-img qemu-io iscsi-ls iscsi-inq iscsi-readcapacity16 iscsi-swp iscsi-perf
qemu-img --help | grep -q '^Supported formats:.* iscsi' || { say "needs qemu-img with iscsi (qemu-block-extra)"; exit 77; }

mib=64
bytes=$((mib * 1048576))
# 24 MiB of content, 40 MiB of holes.
disk_make content $mib
truncate -s ${mib}M source.img
dd if=content of=source.img bs=1M count=16 conv=notrunc status=none
dd if=content of=source.img bs=1M count=8 skip=40 seek=40 conv=notrunc status=none
cp --sparse=always source.img source.copy
truncate -s ${mib}M empty.img
onprem_conf disk1 "file:$stage/source.img" empty "file:$stage/empty.img"
edge_start
onprem_start
vm_create vm1 disk1
(umask 077 && printf 'correct-horse-battery' >secret && printf 'staple-not-in-store' >mutual)
vm_create vm2 empty --chap-user alice --chap-secret-file "$stage/secret"
vm_create vm3 empty --chap-user alice --chap-secret-file "$stage/secret" --mutual-user edge --mutual-secret-file "$stage/mutual"
one=$(url vm1)
portal=iscsi://alice%correct-horse-battery@127.0.0.1:3260
two=$portal/$iqn:vm2/0
# (QEMU asks for no proof of the target; libiscsi's tools do)
mutual() { LIBISCSI_CHAP_TARGET_USERNAME=edge LIBISCSI_CHAP_TARGET_PASSWORD=$1 iscsi-inq "$portal/$iqn:vm3/0"; }

# said "what" REGEX: in the last command's answer, which is in the file said.
said() { grep -qE -- "$2" said || failed "expected $1: $(cat said)"; }
# tell command...: its answer goes to said; it must succeed.
tell() { "$@" >said 2>&1 || failed "$* ended with $?: $(cat said)"; }
# io URL COMMANDS: qemu-io's answers, of which none may be an error.
io() {
    local url=$1 args=()
    shift
    for command in "$@"; do args+=(-c "$command"); done
    tell qemu-io -f raw -t none "${args[@]}" "$url"
    ! grep -qE 'failed|error|Pattern verification' said || failed "qemu-io $*: $(cat said)"
}

act "qemu-img: what the disk is, and out of it"
tell qemu-img info --output=json "$one"
expect "its size" test "$(jq '."virtual-size"' said)" = $bytes
tell qemu-img compare -f raw -F raw source.copy "$one"
said "the same" 'Images are identical'
qemu-img convert -f raw -O qcow2 -m 8 -W "$one" out.qcow2
tell qemu-img compare -f qcow2 -F raw out.qcow2 source.copy
expect "holes that are not stored" test "$(stat -c %s out.qcow2)" -lt $((30 * 1048576))
qemu-img convert -f raw -O raw "$one" out.img
cmp out.img source.copy

act "qemu-img: into a disk, with CHAP"
qemu-img convert -n -f qcow2 -O raw -t none -W out.qcow2 "$two"
tell qemu-img compare -f raw -F raw "$two" source.copy
said "the same" 'Images are identical'
lun-io read "$two" 0 $((bytes / 512)) | cmp - source.copy
tell qemu-img map --output=json -f raw "$two"
expect "the map to cover the disk" test "$(jq 'map(.length) | add' said)" = $bytes
expect "the map to know the content" test "$(jq '[.[] | select(.data and .start < 16777216) | .length] | add' said)" = 16777216
expect "holes in the map" test "$(jq '[.[] | select(.zero) | .length] | add' said)" -ge $((8 * 1048576))
refuse "a wrong secret" qemu-img info "iscsi://alice%wrong-horse-battery@127.0.0.1:3260/$iqn:vm2/0" 2>/dev/null
expect "the edge known by its secret" mutual staple-not-in-store >/dev/null
refuse "an edge that does not know ours" mutual some-other-secret >/dev/null 2>&1

act "qemu-io: patterns, zeros, discards, FUA, off the blocks"
io "$two" "write -P 0x5a 0 4M" "write -f -P 0xa5 4M 64k" "flush" "read -P 0x5a 0 4M" "read -P 0xa5 4M 64k"
io "$two" "write -P 0x11 5632 512" "read -P 0x5a 0 5632" "read -P 0x11 5632 512" "read -P 0x5a 6144 512"
io "$two" "write -z 1M 512k" "read -P 0 1M 512k" "write -zu 2M 1M" "read -P 0 2M 1M" "read -P 0x5a 3M 1M"
io "$two" "discard 0 1M" "read -P 0 0 1M" "discard 3M 512" "read -P 0 3M 512" "read -P 0x5a 3146240 512"
io "$two" "write -P 0x77 $((bytes - 512)) 512" "read -P 0x77 $((bytes - 512)) 512"
io "$two" "aio_write -P 1 8M 1M" "aio_write -P 2 9M 1M" "aio_write -P 3 10M 1M" "aio_flush" "read -P 1 8M 1M" \
    "read -P 2 9M 1M" "read -P 3 10M 1M"
refuse "a read past the end" qemu-io -f raw -c "read $bytes 512" "$two" >/dev/null 2>&1
io "$two" "write -z 0 ${mib}M" "read -P 0 0 ${mib}M"

act "qemu-img bench"
tell qemu-img bench -f raw -t none -c 4000 -d 32 -s 4096 "$one"
tell qemu-img bench -f raw -t none -c 300 -d 8 -s 65536 -w --flush-interval=50 --pattern=0x42 "$one"
expect "what it has written" lun-io read "$one" 0 38400 >written
head -c $((300 * 65536)) /dev/zero | tr '\0' '\102' | cmp - written
expect "the source as it was" cmp source.img source.copy

act "libiscsi's tools"
tell iscsi-ls iscsi://127.0.0.1:3260
for vm in vm1 vm2 vm3; do said "the target of $vm" "^Target:$iqn:$vm Portal:127.0.0.1:3260,1$"; done
# (with -s it logs in to each)
ctl vm delete vm2
ctl vm delete vm3
tell iscsi-ls -s iscsi://127.0.0.1:3260
said "vm1's disk" 'Lun:0 +Type:DIRECT_ACCESS.*[0-9]+[MG]'
tell iscsi-inq "$one"
said "a disk" 'Peripheral Device Type:DIRECT_ACCESS'
said "our name" 'Vendor:ISTHMUS'
for page in 0x00 0x80 0x83 0xb0 0xb1 0xb2; do
    tell iscsi-inq -e 1 -c $page "$one"
    ! grep -qiE 'invalid|failed' said || failed "page $page: $(cat said)"
done
tell iscsi-readcapacity16 "$one"
said "blocks of 512" 'LENGTH IN BYTES:512'
said "thin" 'LBPME:1 LBPRZ:1'
said "its size" "Total size:$bytes$"
tell iscsi-swp "$one"
said "no write protection" '^SWP:0$'
tell iscsi-perf -m 16 -b 8 -t 2 -r "$one"
stop edge
stop onprem
