#!/usr/bin/env bash
# Two portal groups: an initiator port that is logged in by both has two sessions, each with registrations of its
# own, which a restart of the edge keeps apart.
. "$(dirname "$0")/../lib/story.sh"
needs iscsi-ls

disk_make source.img 8
edge_conf
cp edge.conf plain.conf
listen() { sed "s|listen = {\"[^}]*}|listen = {$1}|" plain.conf >edge.conf; }

act "groups that make no sense"
for bad in '"127.0.0.1:3260,0"' '"127.0.0.1:3260,65536"' '"127.0.0.1:3260,"' '127.0.0.1:3260,2'; do
    listen "$bad"
    refuse "$bad" isthmus-edge --config "$stage/edge.conf" --check-config >out 2>&1
    expect "one sentence about $bad (not: $(cat out))" grep -q "'listen' is an address" out
done

listen '"127.0.0.1:3260", "127.0.0.1:3261,7"'
usual_cast "$stage/source.img"
one=$(url vm1) two=${one/3260/3261}

act "discovery names both, each with its group"
iscsi-ls iscsi://127.0.0.1:3261 >out
expect "the first" grep -q "$iqn:vm1 .*127.0.0.1:3260,1" out
expect "the second" grep -q "$iqn:vm1 .*127.0.0.1:3261,7" out

act "one initiator port by both"
two-ports "$one" "$two" "1 read" "2 write" "1 port" "2 port" "1 groups" "2 groups" >out
expect "each path knows its port (not: $(cat out))" test "$(sed -n 1,2p out | tr '\n' ' ')" = "port 1 port 7 "
expect "both groups by both (not: $(cat out))" test "$(grep -c '^groups 1=optimized 7=optimized$' out)" = 2

act "a new login by one ends only what was there"
sessions() { [ "$(metric edge isthmus_iscsi_sessions)" = "$1" ]; }
wait_for 10 "no session to be left" sessions 0
two-ports "$one" "$two" "1 read" "2 login" "1 read" "2 read"

act "a registration is that of one port"
two-ports "$one" "$two" "1 register 0 0xa" "1 reserve 0xa 6" "1 write" "2 conflicts read" "2 conflicts reserve 0xa 6" \
    "1 full" >out
expect "by the first only (not: $(cat out))" grep -qx 'registered 0xa@1\*' out
crash edge
edge_start
two-ports "$one" "$two" "1 write" "2 conflicts read" "1 register 0xa 0" "2 read"

act "or of all, when that is asked"
two-ports "$one" "$two" "2 register 0 0xb all" "1 reserve 0xb 5" "2 write" "2 full" >out
expect "by both (not: $(cat out))" grep -qx 'registered 0xb@1\* 0xb@7' out
two-ports "$one" "$two" "1 register 0xb 0" "2 told 0x2a04" "1 write" "2 full" >out
expect "and one leaves without the other (not: $(cat out))" grep -qx 'registered 0xb@7' out
stop edge
stop onprem
