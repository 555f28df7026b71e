#!/usr/bin/env bash
# An edge of a pair is lost with its disks while on-prem, which is away, has still to hear of a VM that it deleted: the other
# edge goes on with that by itself, and takes no VM over.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
needs jq

disk_make source.img 8
pair_up disk1 "file:$stage/source.img"
both_up
attached() { [ "$(ctl_at a --json vm show "$1" | jq -r .onprem.attached)" = true ]; }
objects() { find "$pair_store" -path '*/vms/*' -type f | wc -l; }
none_left() { [ "$(objects)" = 0 ]; }

ctl_at a vm create vm1 --disk dc1:disk1
wait_for 20 "on-prem to hold the source disk" attached vm1
echo hello | lun-io write "$(url_at a vm1)" 5 flush
stop onprem
ctl_at a vm delete vm1
expect "nothing but its entry in the store" test "$(objects)" = 1
crash edge-a
rm -rf data-a
wait_role b sole
wait_log edge-b "ctx=vm1 .*it was being deleted, or made, when its edge was lost"
refuse "a VM that was deleted" ctl_at b vm show vm1 2>/dev/null

act "the edge that is left dies, too, before on-prem is back"
crash edge-b
edge_up b
wait_role b sole
expect "its entry to be there still" test "$(objects)" = 1
onprem_start
wait_log edge-b "dc1 does not hold the disks of this VM, which was deleted" 30
wait_for 10 "the store to have nothing left of it" none_left
wait_for 60 "edge b to know that it has no VM of that name to take over" ctl_at b vm create vm1 --disk dc1:disk1
lun-io read "$(url_at b vm1)" 0 16384 | cmp - source.img
edge_up a
whole
