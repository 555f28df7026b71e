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

vm_journey dir

mkdir small
mount -t tmpfs -o size=256k tmpfs small
printf 'store {\n url = "dir:%s/small"\n}\n' "$stage" >small.conf
refuse "a full disk" store-check small.conf round_trips >said 2>&1
grep -q 'No space left on device' said || failed "a full disk is told as: $(cat said)"
act "a full disk: $(head -c 200 said)"
