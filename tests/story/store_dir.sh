#!/usr/bin/env bash
# A directory as a store: every promise, also when one request in ten fails, loses its answer or breaks off;
# whoever is killed while putting leaves whole objects only; a full disk is said.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/stores.sh
. "$root/tests/lib/stores.sh"

printf 'store {\n url = "dir:%s/objects"\n part = 5M\n}\n' "$stage" >dir.conf
expect "every promise" store-check dir.conf all >check.out
act "every promise"

trouble="fail:p=0.05,seed=1,error=EAGAIN fail:p=0.05,seed=2,how=lost fail:p=0.05,seed=3,how=half,error=EBADMSG delay:1ms"
printf 'store {\n url = "dir:%s/objects"\n layers = "%s"\n}\n' "$stage" "$trouble" >trouble.conf
expect "every promise through trouble" store-check trouble.conf \
    round_trips vectors absent ranges conditions races odd_keys probes short_lists >check.out
act "every promise through trouble"

for round in 1 2 3 4 5; do
    start "writer$round" store-check dir.conf outage
    wait_log "writer$round" 'outage may begin'
    crash "writer$round"
    expect "whole objects only" store-check dir.conf verify >check.out
    act "killed while putting: $(grep objects check.out)"
done

# 503, 500, no answer, an answer that is lost, half a body, wrong bytes, a wrong etag.
rough="fail:p=0.04,seed=3,error=EAGAIN fail:p=0.04,seed=4,error=EIO fail:p=0.02,seed=5,error=ETIMEDOUT"
rough+=" fail:p=0.05,seed=6,op=put,how=lost fail:p=0.04,seed=7,how=half,error=EBADMSG"
rough+=" fail:p=0.05,seed=8,key=log/,how=flip fail:p=0.2,seed=9,key=log/,how=etag"
vm_journey dir layers="$rough"

act "the store's disk is full"
mkdir bucket.small
mount -t tmpfs -o size=3m tmpfs bucket.small
edge_on dir url="dir:$stage/bucket.small"
rm -rf edge-data onprem-data
edge_start
onprem_start
vm_create vm2 disk1
cp source.img expected.img
head -c 6M /dev/urandom >much
journey_vm=vm2
journey_write 1000 much
failing() { [ "$(metric edge isthmus_commit_failures_total)" -gt 0 ] && [ "$(metric edge isthmus_store_lag_seconds)" -ge 2 ]; }
wait_for 60 "the lag to tell" failing
expect_log edge "no space|No space left on device"
expect "the journal to hold what the store does not" test "$(metric edge isthmus_journal_bytes)" -gt 6000000
head -c 1M /dev/urandom >piece
journey_write 20000 piece
crash edge
# Not a byte goes into it any more: it can be read, and so the VM is served.
head -c 8M /dev/zero >bucket.small/filler 2>/dev/null || true
edge_start
wait_log edge "the object store can be read, but not written to: .*[Nn]o space"
expect "nothing lost" journey_same
journey_write 24000 piece
expect "the new write" journey_same
refuse "a new VM" vm_create vm3 disk1 >refusal 2>&1
grep -q "the object store is waited for" refusal || failed "the refusal says: $(cat refusal)"
rm bucket.small/filler
wait_log edge "the object store has answered" 60
mount -o remount,size=64m bucket.small
wait_for 60 "everything to be in the store" journey_committed
stop edge
edge_start
expect "the same from the store" journey_same
expect "it to be sound" isthmusctl store verify --config "$stage/edge.conf" >verified
stop edge

mkdir small
mount -t tmpfs -o size=256k tmpfs small
printf 'store {\n url = "dir:%s/small"\n}\n' "$stage" >small.conf
refuse "a full disk" store-check small.conf round_trips >said 2>&1
grep -q 'No space left on device' said || failed "a full disk is told as: $(cat said)"
act "a full disk: $(head -c 200 said)"
