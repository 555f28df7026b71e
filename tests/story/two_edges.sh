#!/usr/bin/env bash
# Two edges that are no pair, with one store and one on-prem daemon: a source disk that one's VM has is not given to the
# other; a VM that the other takes over is served by it alone, and the first one's "delete" touches nothing of it.
. "$(dirname "$0")/../lib/story.sh"
needs jq

sectors=16384
store=$stage/bucket
mkdir "$store"
edge_store="url = \"dir:$store\" commit_age = 1"
disk_make source.img 8
truncate -s 8M other.img third.img
onprem_conf disk1 "file:$stage/source.img" other "file:$stage/other.img" third "file:$stage/third.img"
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

act "the second edge does not get a disk that the first one's VM has"
vm_create vm1 disk1 --storage write-back
wait_for 20 "it to be attached" attached vm1
for storage in write-back cloud-persist; do
    refuse "a second VM on that disk" ctl_b vm create vm2 --disk dc1:disk1 --storage "$storage" 2>said
    grep -q "disk disk1 belongs to VM vm1, which is attached" said || failed "the refusal says: $(cat said)"
done
refuse "a VM that was refused" ctl_b vm show vm2 2>/dev/null
expect "nothing of it in the store" test "$(find "$store/vms" -name vm | wc -l)" = 1
refuse "a VM on one that is free and one that is not" ctl_b vm create vm2 --disk dc1:other --disk dc1:disk1 2>/dev/null
wait_for 10 "the free one to be free again" ctl_b vm create vm2 --disk dc1:other

act "on one edge a second VM may share it if nothing is written back to it"
refuse "a VM on a disk that another writes back to" vm_create vm3 disk1 2>said
grep -q "disk disk1 belongs to VM vm1, which is attached" said || failed "the refusal says: $(cat said)"
ctl_b vm create vm3 --disk dc1:other
refuse "write-back to a disk that another reads" ctl_b vm create vm5 --disk dc1:other --storage write-back 2>/dev/null
for verb in "vm storage vm2 write-back" "vm commit vm2" "run-on-prem vm2 --discard" "run-on-prem vm2 --commit"; do
    # shellcheck disable=SC2086
    refuse "$verb, under another's reads" ctl_b $verb 2>said
    grep -q "VM vm3 has a source disk of VM vm2, too" said || failed "$verb: the refusal says: $(cat said)"
done
ctl_b vm delete vm3
ctl_b vm storage vm2 write-back

act "taken over by the second, a VM is served by it alone"
vm_create vm4 third
disk_make some.img 1
lun-io write "$(url vm1)" 1000 flush <some.img
lun-io write "$(url vm4)" 1000 flush <some.img
ctl vm flush vm1
ctl vm flush vm4
ctl_b vm recover vm4
lun-io zero "$(url vm4)" 0 8 2>/dev/null || true
lost() { [ "$(ctl --json vm show vm4 | jq -r .ownership)" = lost ]; }
wait_for 30 "the first edge to notice" lost
refuse "a login at the first edge" lun-io read "$(url vm4)" 0 8 >/dev/null 2>&1
lun-io read "$(url_b vm4)" 1000 2048 | cmp - some.img

act "what the first one has not noticed yet it cannot delete"
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
