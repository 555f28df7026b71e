#!/usr/bin/env bash
# Several portals, IPv4 and IPv6: each leads to the VM and names the others; discovery wants its own secret; an
# initiator's address gets only so many connections.
. "$(dirname "$0")/../lib/story.sh"
needs iscsi-ls

disk_make source.img 8
(umask 077 && echo finders-secret-1 >finder && echo secret-of-edge-1 >proof && echo short >short)
edge_conf
# with KEY=VALUE...: edge.conf's section iscsi has these too.
cp edge.conf plain.conf
with() {
    local key
    cp plain.conf edge.conf
    for key in "$@"; do
        sed -i "s|^iscsi {|iscsi {\n    ${key%%=*} = ${key#*=}|" edge.conf
    done
}
sed -i 's|listen = {"[^}]*}|listen = {"127.0.0.1:3260", "[::1]:3261", "[::]:3262"}|' plain.conf
with portal_group=5 max_connections_per_address=2 discovery_user=finder "discovery_secret_file=$stage/finder" \
    discovery_mutual_user=edge "discovery_mutual_secret_file=$stage/proof"
usual_cast "$stage/source.img"

act "a login by each"
for portal in 127.0.0.1:3260 '[::1]:3261' '[::1]:3262'; do
    expect "the disk at $portal" test "$(lun-io size "iscsi://$portal/$iqn:vm1/0")" = "sectors 16384 block_bytes 512"
done
# One that has just gone is counted until the edge sees it go.
nobody() { [ "$(metric edge isthmus_iscsi_connections)" = 0 ]; }
act "discovery"
refuse "no secret" iscsi-ls "iscsi://127.0.0.1:3260" >out 2>&1
refuse "another secret" iscsi-ls "iscsi://finder%another-secret@127.0.0.1:3260" >out 2>&1
wait_for 10 "their connections to be gone" nobody
expect "the right one" iscsi-ls "iscsi://finder%finders-secret-1@127.0.0.1:3260" >out
expect "the first portal" grep -q "$iqn:vm1 .*127.0.0.1:3260,5" out
expect "the second" grep -qF '[::1]:3261,5' out
expect "the address that was come to" grep -qF '[::1]:3262,5' <(iscsi-ls "iscsi://finder%finders-secret-1@[::1]:3262")

act "one address, two connections"
wait_for 10 "no connection to be left" nobody
for i in 1 2; do
    INITIATOR=iqn.2026-11.org.isthmus.test:i$i start "reader$i" lun-io soak "$(url vm1)" 0 16384 1000
done
two() { [ "$(metric edge isthmus_iscsi_sessions)" = 2 ]; }
wait_for 10 "both to be logged in" two
refuse "a third" timeout 5 lun-io size "$(url vm1)" >out 2>&1
wait_log edge '2 of that address are open'
expect "it is counted" test "$(metric edge isthmus_iscsi_refused_connections_total 'limit="address"')" -ge 1
expect "another address gets in" lun-io size "iscsi://[::1]:3261/$iqn:vm1/0"
crash reader1
wait_for 10 "room for another" lun-io size "$(url vm1)"
crash reader2
stop edge

act "limits that make no sense"
for bad in portal_group=0 max_connections=0 queue_depth=5000 login_timeout=0s first_burst=100 max_burst=16M \
    session_memory=1G discovery_user=finder "discovery_user=f discovery_secret_file=$stage/short"; do
    # shellcheck disable=SC2086
    with $bad
    refuse "$bad" isthmus-edge --config "$stage/edge.conf" >out 2>&1
    expect "one sentence about $bad (not: $(cat out))" test "$(grep -c 'level=error' out)" = 1
done
stop onprem
