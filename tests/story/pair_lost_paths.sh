#!/usr/bin/env bash
# An edge of a pair that has lost forwards until it knows that: the sessions that it has at the owner, which goes on alone,
# end with it. Nothing holds the VM that has no initiator any more.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"

verify-load prepare source.img "$sectors"
pair_up disk1 "file:$stage/source.img"
mkdir data-a
mount -t tmpfs -o size=900m tmpfs data-a # a disk of its own, which can be full
both_up
ctl_at b vm create vm1 --disk dc1:disk1
sessions_at_b() { [ "$(metric b isthmus_iscsi_sessions)" = "$1" ]; }

act "the disk of the edge that forwards is full: the owner goes on alone, and it ends"
load_at a
goes_on load
dd if=/dev/zero of=data-a/filler bs=1M status=none 2>/dev/null || true
ended edge-a 30
[ "$ended_status" = 75 ] || failed "edge a ended with status $ended_status"
rm data-a/filler
load_lost
wait_for 10 "its sessions at edge b to end" sessions_at_b 0

act "it comes back, and the VM can be deleted"
edge_up a
whole
expect "no session to be in the way" ctl_at b vm delete vm1
