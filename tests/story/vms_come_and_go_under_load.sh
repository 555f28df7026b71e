#!/usr/bin/env bash
# VMs are made and deleted while others work: who works on one that goes is told, and nobody else notices.
. "$(dirname "$0")/../lib/story.sh"

disk_make source.img 64
truncate -s 1G empty.img
onprem_conf disk1 "file:$stage/source.img" empty "file:$stage/empty.img"
edge_start
onprem_start
vm_create vm1 disk1
start load load-gen "$(url vm1)" write random --seconds 300 --depth 32 --bytes 16384 --span-mib 32
for ((i = 0; i < 3; i++)); do
    vm_create "guest$i" empty >/dev/null
    expect "guest$i among the targets" grep -q "guest$i\$" <(iscsi-ls iscsi://127.0.0.1:3260 | awk '{ print $1 }' | cut -d: -f2-)
    lun-io read "$(url "guest$i")" 0 8 >/dev/null
    play_vm=guest$i
    start going practice removed 127.0.0.1:3260 "$iqn:guest$i" --backend "${pids[onprem]}" --at 64
    wait_log going ready
    ctl vm delete "guest$i" --force >/dev/null
    ended going 20
    cat going.log
    expect "its initiator to be told" test "$ended_status" = 0
    : >going.log
    expect "the load to go on" alive load
done
crash load
lun-io read "$(url vm1)" 0 8 >/dev/null
stop edge
stop onprem
