#!/usr/bin/env bash
# The WAN goes away for 40 seconds while a client reads what only on-prem has: it waits, and goes on without an error.
. "$(dirname "$0")/../lib/story.sh"
cut=${CUT_SECONDS:-40}

disk_make source.img 64
wan_up 20 100
usual_cast "$stage/source.img"
start_in a soak lun-io soak "$(url vm1)" 0 131072 20
some_reads() { [ "$(metric edge isthmus_tier_bytes_total 'tier="onprem"')" -gt 4000000 ]; }
wait_for 20 "some reads" some_reads
wan_cut
act "the WAN is cut for $cut s"
sleep "$cut"
expect "the client still waits" alive soak
expect "the edge answers" edge_healthy
expect_log edge 'dc1'
wan_heal
act "healed"
ended soak 120
expect "no error: $(cat soak.log)" grep -q 'errors 0' soak.log
expect "a read that waited through it: $(cat soak.log)" test "$(sed 's/.*longest_ms //' soak.log)" -gt $((cut * 1000 - 15000))
in_ns a lun-io read "$(url vm1)" 0 131072 | cmp - source.img
stop edge
stop onprem
