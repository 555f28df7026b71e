#!/usr/bin/env bash
# A dead initiator is found by a ping and closed, even with reads in the backend; a slow one and one that knows no ping are not.
. "$(dirname "$0")/../lib/story.sh"

truncate -s 1G source.img
edge_loops=1
edge_ping_timeout=10s
usual_cast "$stage/source.img"
vm_create vm2 disk1
vm_create vm3 disk1
play new_isid
play_vm=vm play hoarders
play_vm=vm1
start silent practice silent_with_io 127.0.0.1:3260 "$iqn:vm1" --backend "${pids[onprem]}" --at 64
start slow practice slow_sender 127.0.0.1:3260 "$iqn:vm2"
start deaf practice deaf_to_pings 127.0.0.1:3260 "$iqn:vm3"
for name in silent slow deaf; do
    ended "$name" 40
    cat "$name.log"
    expect "$name to end well" test "$ended_status" = 0
done
stop edge
stop onprem
