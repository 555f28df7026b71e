#!/usr/bin/env bash
# Two edges that are no pair, with one store and one on-prem daemon: a VM that the second takes over is served
# by it alone; what the first one still does with it, even to delete it, touches nothing of it.
. "$(dirname "$0")/../lib/story.sh"
needs jq

sectors=16384
store=$stage/bucket
mkdir "$store"
edge_store="url = \"dir:$store\" commit_age = 1"
disk_make source.img 8
onprem_conf disk1 "file:$stage/source.img"
edge_conf
isthmusctl pki issue pki --role edge --name edge-b >/dev/null
sed 's|edge-data|edge-b-data|; s|pki/edge-a|pki/edge-b|; s|:3260|:3270|; s|:7260|:7270|; s|:7261|:7271|; s|:7262|:7272|' edge.conf >edge-b.conf
printf 'edge "edge-b" {\n    address = "127.0.0.1:7270"\n}\n' >>onprem.conf
ctl_b() { isthmusctl --server http://127.0.0.1:7271 --token-file token "$@"; }
url_b() { printf 'iscsi://127.0.0.1:3270/%s:%s/0\n' "$iqn" "$1"; }
b_healthy() { curl -fsS --max-time 5 http://127.0.0.1:7272/healthz; }
b_start() {
    start edge_b isthmus-edge --config edge-b.conf
    wait_for 30 "edge b to answer" b_healthy
}
attached() { [ "$(ctl --json vm show "$1" | jq -r .onprem.attached)" = true ]; }

mkdir edge-b-data
edge_start
b_start
onprem_start

vm_create vm1 disk1 --storage write-back
wait_for 20 "on-prem to hold the source disk" attached vm1

act "taken over by the second, the first is shut out, and its delete touches nothing"
disk_make some.img 1
lun-io write "$(url vm1)" 1000 flush <some.img
ctl vm flush vm1
ctl_b vm recover vm1
lun-io read "$(url_b vm1)" 1000 2048 | cmp - some.img
ctl vm delete vm1 --force
lun-io write "$(url_b vm1)" 4000 flush <some.img
ctl_b vm flush vm1
crash edge_b
b_start
lun-io read "$(url_b vm1)" 1000 2048 | cmp - some.img
lun-io read "$(url_b vm1)" 4000 2048 | cmp - some.img

stop edge
stop edge_b
stop onprem
