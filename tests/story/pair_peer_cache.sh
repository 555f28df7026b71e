#!/usr/bin/env bash
# A VM that is handed to the other edge of a pair finds there what its old owner has in memory: what it read before does not
# come over the WAN, nor out of the store, a second time. What is written at the new owner, whose memory is small, is never
# as it was, nor is it when the VM has gone back, or home.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
needs jq

pair_lease=16s # no edge shall be lost here, however slow this machine is
megabytes=8
sectors=$((megabytes * 2048))
disk_make source.img "$megabytes"
cp source.img now.img
yes isthmus | head -c 72M >filler.img || true # yes is told to end
disk_make third.img 4
pair_up disk1 "file:$stage/source.img" disk2 "file:$stage/filler.img" disk3 "file:$stage/third.img"
# Nor an answer that is late; and edge b's memory is less than its second disk.
sed -i 's/^pair {/&\n    peer_wait = "1s"/' edge-a.conf edge-b.conf
sed -i 's/^loops = 2/loops = 1/' edge-a.conf edge-b.conf
sed -i 's/ram = "128M"/ram = "64M"/' edge-b.conf
both_up
ctl_at a vm create vm1 --disk dc1:disk1 --disk dc1:disk2

wan() { metric "$1" isthmus_onprem_reply_bytes_total; }
# prompt a|b what command...: expected, unless the machine was so slow that answers came late, or a link was taken for dead.
prompt() {
    local late
    late=$(metric "$1" isthmus_peer_cache_late_total)
    if [ "$late" = 0 ] && ! logged "edge-$1" "edge-. .* ended: "; then
        expect "${@:2}"
    else
        act "not looked at, for $late answer(s) came late: $2"
    fi
}
# disk_is_now a|b
disk_is_now() { lun-io read "$(url_at "$1" vm1)" 0 "$sectors" | cmp - now.img; }
# scribble a|b: 12 places of 4 KiB and 512 bytes
scribble() {
    local i at n
    for ((i = 0; i < 12; i++)); do
        at=$((RANDOM % (sectors - 8))) n=$((i % 2 ? 8 : 1))
        head -c $((n * 512)) /dev/urandom >piece
        lun-io write "$(url_at "$1" vm1)" "$at" <piece
        dd if=piece of=now.img bs=512 seek="$at" conv=notrunc status=none
    done
}

act "it reads its disk at edge a, and writes to it"
expect "its disk" disk_is_now a
scribble a
cold=$(wan a)
expect "that came over the WAN: $cold bytes" test "$cold" -gt $((megabytes << 19))
expect "nobody asked another edge" test "$(metric a isthmus_peer_cache_asked_total)" = 0

serves() { [ "$(metric "$1" isthmus_pair_blocked)" = 0 ]; }
wait_for 30 "edge b to have a lease" serves b

act "handed to edge b it finds there what edge a has"
hand_over a vm1
expect "edge b to own it" owns b vm1
expect "its disk as it is" disk_is_now b
warm=$(wan b) hits=$(metric b isthmus_peer_cache_hits_total)
act "over the WAN $cold bytes before, $warm now; $hits blocks came from edge a"
prompt b "next to nothing over the WAN: $warm bytes" test "$warm" -lt $((cold / 20))
prompt b "edge a to have given it: $hits blocks" test "$hits" -gt $((megabytes * 256 * 19 / 20))

act "what is written at edge b is what is read there, though it forgets"
scribble b
ctl_at b vm flush vm1
lun-io read "iscsi://${edge_address[b]}:3260/$iqn:vm1/1" 0 $((72 * 2048)) | cmp - filler.img
hits=$(metric b isthmus_peer_cache_hits_total)
expect "its disk as it is" disk_is_now b
prompt b "it to have asked again" test "$(metric b isthmus_peer_cache_hits_total)" -gt $((hits + megabytes * 64))

act "it goes back: what edge b has left, it finds at edge a"
hand_over b vm1
expect "edge a to own it" owns a vm1
expect "its disk as it is" disk_is_now a
prompt a "edge b to have given some" test "$(metric a isthmus_peer_cache_hits_total)" -gt 0
scribble a
expect "its disk as it is" disk_is_now a
act "one that was only read is changed on-prem, and comes back to the edge that it was handed to"
ctl_at a vm create vm2 --disk dc1:disk3 --storage write-back
third_is_now() { lun-io read "$(url_at "$1" vm2)" 0 8192 | cmp - third.img; }
expect "its disk" third_is_now a
hand_over a vm2
expect "its disk at edge b" third_is_now b
ctl_at b run-on-prem vm2
LC_ALL=C tr '\000-\377' '\001-\377\000' <third.img >changed.img
dd if=changed.img of=third.img conv=notrunc status=none
ctl_at b run-in-cloud vm2
expect "what it is now" third_is_now b
stop edge-a
stop edge-b
stop onprem
