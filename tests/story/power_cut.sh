#!/usr/bin/env bash
# An initiator loses its power while it holds a reservation: the next one is let in soon. With such connections half open the
# edge still stops within 5 seconds, and starts again on the same port.
. "$(dirname "$0")/../lib/story.sh"

truncate -s 1G source.img
wan_up 2 0
onprem_conf disk1 "file:$stage/source.img"
edge_start
edge_link_address=127.0.0.1:7260
onprem_ns=a
onprem_conf disk1 "file:$stage/source.img"
onprem_start
vm_create vm1 disk1
sessions() { [ "$(metric edge isthmus_iscsi_sessions)" = "$1" ]; }
reads_wait() { [ "$(metric edge isthmus_link_calls_in_flight)" -gt 8 ]; }
at=10.200.0.1:3260
start_in b holder practice holds_reservation $at "$iqn:vm1"
wait_log holder ready
in_ns a ss -Htno state established sport = :3260 >sockets
expect "keep-alive on the initiator's connection" grep -q 'timer:(\(keepalive\|on\),' sockets
start_in b load load-gen "iscsi://$at/$iqn:vm1/0" read random --seconds 60 --depth 32
wan_cut
act "power cut"
in_ns a practice wants_reservation 127.0.0.1:3260 "$iqn:vm1"
crash holder
crash load
wan_heal

act "half-open connections, reads in a backend that does not answer, and the edge is to stop"
kill -STOP "${pids[onprem]}"
start_in b load load-gen "iscsi://$at/$iqn:vm1/0" read random --bytes 65536 --seconds 60 --depth 32
start_in b soak lun-io soak "iscsi://$at/$iqn:vm1/0" 1000000 800000 0
start_in a stuck lun-io read "$(url vm1)" 1900000 8
wait_for 10 "three sessions" sessions 3
wait_for 10 "their reads" reads_wait
wan_cut
stopped=$(now)
stop edge
took=$(since "$stopped")
act "stopped after $took s"
expect "that in 5 seconds, not $took" awk -v t="$took" -v s="$slowness" 'BEGIN { exit t > 5 * s }'
crash load
crash soak
crash stuck
kill -CONT "${pids[onprem]}"
edge_start
in_ns a lun-io read "$(url vm1)" 0 8 >/dev/null
stop edge
stop onprem
