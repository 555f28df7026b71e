#!/usr/bin/env bash
# A VM is never a mix of two histories: what an edge recovers from the store is served only when on-prem has said that the
# source disks are not behind that; an edge whose disks and store were both set back serves nothing.
. "$(dirname "$0")/../lib/story.sh"
needs jq

sectors=16384
store=$stage/bucket
mkdir "$store"
edge_store="url = \"dir:$store\" commit_age = 1"
verify-load prepare source.img "$sectors"
onprem_conf disk1 "file:$stage/source.img"
edge_start
onprem_start
vm_create vm1 disk1 --storage write-back
disk_make some.img 1
state() { ctl --json vm show vm1 | jq -r "$1"; }
disk() { lun-io read "$(url vm1)" 0 "$sectors"; }
attached() { [ "$(state .onprem.attached)" = true ]; }
alarmed() { [ "$(state .onprem.alarm)" = true ]; }
objects() { find "$store" -type f -exec sha256sum {} + | sort; }
wait_for 20 "on-prem to hold the source disk" attached

act "two cuts are in the store, and the source disk is at the second"
ctl vm pause-writeback vm1
lun-io write "$(url vm1)" 1000 flush <some.img
ctl vm flush vm1
first=$(state .log.committed)
lun-io write "$(url vm1)" 2000 flush <some.img
ctl vm flush vm1 --on-prem
disk >expected.img
cmp source.img expected.img

act "an empty edge cannot go back to the first"
crash edge
rm -r edge-data
edge_start
objects >before
refuse "a cut that the source disk has left behind" ctl vm recover vm1 --cut "$first" 2>said
grep -q "source disks are at record .* already.* record $first\|record $first: its source disks are at record" said ||
    failed "the refusal says: $(cat said)"
objects | cmp - before || failed "the store was touched"
refuse "a VM that was not recovered" ctl vm show vm1 2>/dev/null

act "with on-prem away it takes the newest, and initiators wait until on-prem has answered"
crash onprem
ctl vm recover vm1
crash edge
edge_start
# shellcheck disable=SC2016
start early bash -c 'until lun-io read "$1" 2000 8 >early.part && [ -s early.part ]; do sleep 0.02; done; mv early.part early.out' early "$(url vm1)"
wait_log edge "login of .* to vm1 from .* waits for on-prem to say at which cut"
expect "its state to be shown" test "$(state .ownership)" = unknown
expect "nothing to be read yet" test ! -e early.out
onprem_start
ended early 60
expect "its state to be shown" test "$(state .ownership)" = ours
disk | cmp - expected.img

act "known once, it is served with on-prem away"
lun-io write "$(url vm1)" 4000 flush <some.img
stop onprem
stop edge
edge_start
lun-io read "$(url vm1)" 4000 2048 | cmp - some.img
onprem_start

act "the edge's disks and the store are set back behind the source disk: nothing is mixed"
stop edge
cp -a edge-data edge-data-before
cp -a bucket bucket-before
edge_start
ctl vm resume-writeback vm1
for at in 5000 6000 7000; do
    lun-io write "$(url vm1)" "$at" flush <some.img
    ctl vm flush vm1 --on-prem
done
stop edge
rm -r edge-data bucket
mv edge-data-before edge-data
mv bucket-before bucket
edge_start
wait_log edge "ALARM: the source disks are at record .* they are another history" 30
refuse "a login to a mix of two histories" lun-io read "$(url vm1)" 0 8 2>/dev/null
expect_log edge "the source disks are at another history"
wait_for 10 "an alarm" alarmed
crash edge
crash onprem
edge_start
# shellcheck disable=SC2016
start early bash -c 'lun-io read "$1" 0 8 >early.part; :' early "$(url vm1)"
wait_log edge "login of .* to vm1 from .* waits for on-prem to say at which cut"
crash early
