#!/usr/bin/env bash
# 500 VMs: SendTargets in segments of 512 bytes names each of them once, and all log in at once without waiting for each other.
. "$(dirname "$0")/../lib/story.sh"

truncate -s 64M source.img
ulimit -Sn 400 # as low as a shell may start it: the edge takes what it may have
edge_conf
sed -i 's|^iscsi {|&\n    max_connections_per_address = 2000|' edge.conf
usual_cast "$stage/source.img"
make() {
    curl -fsS -H @auth -H 'Content-Type: application/json' -d "{\"name\": \"many$1\", \"disks\": [\"dc1:disk1\"]}" http://127.0.0.1:7261/v1/vms
}
printf 'Authorization: Bearer %s\n' "$(cat token)" >auth
act "499 more VMs"
for ((i = 1; i < 500; i++)); do
    make "$i"
done >made
act "made"
play all_targets --count 500
play_vm=many play logins_at_once --count 499 --backend "${pids[onprem]}"
play_vm=many play too_many_connections
stop edge
stop onprem
