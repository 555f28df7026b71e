#!/usr/bin/env bash
# Both edges of a pair export every VM, the owner and the other, which forwards: one identity, ALUA from both, one truth, one
# set of reservations. When the owner is killed the sessions at the other edge go on: no error, none is dropped.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
needs jq iscsi-ls

verify-load prepare source.img "$sectors"
disk_make second.img 8
pair_up disk1 "file:$stage/source.img" disk2 "file:$stage/second.img"
both_up
ctl_at a vm create vm1 --disk dc1:disk1 --disk dc1:disk2
a=$(url_at a vm1) b=$(url_at b vm1)
a2=${a%0}1 b2=${b%0}1 # its second disk
# a's group is 1, b's 32769.
exported() { iscsi-ls "iscsi://${edge_address[$1]}:3260" >"ls.$1" 2>&1 && grep -q "$iqn:vm1 .*$2" "ls.$1"; }

act "discovery at both names both portals"
wait_for 10 "edge b to export edge a's VM" exported b 10.210.0.2:3260,32769
wait_for 10 "edge b to name edge a's portal" exported b 10.210.0.1:3260,1
wait_for 10 "edge a to name its own" exported a 10.210.0.1:3260,1
wait_for 10 "edge a to name edge b's portal" exported a 10.210.0.2:3260,32769

act "one disk by both"
two-ports "$a2" "$b2" "1 identity" "2 identity" "1 port" "2 port" "1 groups" "2 groups" "1 read" "2 read" "1 write" "2 write" >out
expect "one identity (not: $(cat out))" test "$(grep '^identity' out | sort -u | wc -l)" = 1
expect "each path knows its port (not: $(cat out))" test "$(grep '^port' out | tr '\n' ' ')" = "port 1 port 32769 "
expect "ALUA from both (not: $(cat out))" test "$(grep -c '^groups 1=optimized 32769=non-optimized$' out)" = 2

act "what is written by one is read by the other"
served_by a
load_at b
sleep 1
load_dies
expect "the same at the owner" served_by a
expect "and where it was written" served_by b

act "a reservation that came by one holds on the other"
two-ports "$a2" "$b2" "2 register 0 0xb" "2 reserve 0xb 3" "1 conflicts read" "1 conflicts write" "2 write" "1 full" \
    "1 register 0 0xa" "1 preempt 0xa 0xb 3" "2 told 0x2a05" "2 conflicts read" "1 write" "1 register 0xa 0" "2 read" >out
expect "the registration has its port (not: $(cat out))" grep -qx 'registered 0xb@32769\*' out

act "the same port reserves by the other edge's portal; and nothing of it outlives a restart"
two-ports "$a2" "$b2" "1 register 0 0xa brief" "2 register 0 0xb brief" "2 reserve 0xb 6" >out
# at PORTAL STEP...: by one portal, where each login takes the place of the one before.
at() { two-ports "$1" "$1" "${@:2}" >out; }
fenced() { INITIATOR=iqn.2026-11.org.isthmus.test:another two-ports "$1" "$1" "2 conflicts read" "2 conflicts write"; }
expect "another initiator to be kept out" fenced "$a2"

act "the owner is killed: the session at the other edge goes on"
serves_it() { logged edge-b "its initiators here go on: this edge serves it now"; }
# stall -> how long the longest time without an acknowledged write was, in ms, until edge b serves it and one is acknowledged
stall() {
    local end=$((SECONDS + 60 * slowness)) now last=0 seen longest=0 since served=""
    since=$(date +%s%3N)
    while [ "$SECONDS" -le "$end" ]; do
        now=$(date +%s%3N) seen=$(acknowledged load)
        if [ "$seen" != "$last" ]; then
            [ $((now - since)) -le "$longest" ] || longest=$((now - since))
            since=$now last=$seen
            [ -z "$served" ] || break
        fi
        [ -n "$served" ] || ! serves_it || served=1
        sleep 0.02
    done
    echo "$longest"
}
load_at b
crash edge-a
longest=$(stall)
act "the longest stall was $longest ms"
expect "edge b to say so" serves_it
unharmed load
load_dies_at b
expect "nothing lost" served_by b

act "the reservations are there: it holds, another is kept out, and the fallen edge's port is registered still"
at "$b2" "2 full" "2 write"
expect "the holder, and the other port (not: $(cat out))" grep -qx 'registered 0xa@1 0xb@32769\*' out
expect "another initiator to be kept out" fenced "$b2"

act "edge a is back: now it forwards"
edge_up a
whole
wait_for 10 "edge a to export edge b's VM" exported a 10.210.0.1:3260,1
two-ports "$a2" "$b2" "1 groups" "2 groups" "1 write" >out
expect "ALUA the other way round (not: $(cat out))" test "$(grep -c '^groups 1=non-optimized 32769=optimized$' out)" = 2
expect "the same by both" served_by a
for name in a b; do
    curl -fsS "http://${edge_address[$name]}:7262/boot/vm1.ipxe" >boot.ipxe
    expect "edge $name's boot script to name both, the owner's first" grep "^sanboot --keep iscsi:${edge_address[b]}::3260:0:$iqn:vm1 iscsi:${edge_address[a]}::3260:0:$iqn:vm1 " boot.ipxe
done

act "its port counts again; what changes now is to outlive restarts"
two-ports "$a2" "$b2" "1 register 0xa 0xaa" >out
crash edge-b
wait_role a sole
wait_for 30 "edge a to own it" owns a vm1
at "$a2" "2 full" "2 write"
expect "the newer key, and the holder (not: $(cat out))" grep -qx 'registered 0xaa@1 0xb@32769\*' out
expect "another initiator to be kept out" fenced "$a2"
at "$a2" "2 preempt 0xaa 0xb 6"
stop edge-a
edge_up a
wait_role a sole
at "$a2" "2 full" "2 write"
expect "the holder (not: $(cat out))" grep -qx 'registered 0xaa@1\*' out
stop edge-a
stop onprem
