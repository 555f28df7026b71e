#!/usr/bin/env bash
# Disks of a VM come and go while it works: the others' I/O goes on, who works on one that goes is told, and what was
# written to it never turns up in the disk that comes next under its LUN: not now, not after a crash, not on
# another edge that has the object store alone.
. "$(dirname "$0")/../lib/story.sh"

sectors=16384
verify-load prepare source.img "$sectors"
disk_make data.img 48
openssl rand 16777216 >next.img
edge_store="commit_age = 1"
onprem_conf disk1 "file:$stage/source.img" data "file:$stage/data.img" next "file:$stage/next.img"
edge_start
onprem_start
vm_create vm1 disk1
lun_url() { printf 'iscsi://127.0.0.1:3260/%s:vm1/%s\n' "$iqn" "$1"; }
luns() { ctl vm show vm1 --json | jq -r '[.disks[] | "\(.lun)=\(.source)"] | join(" ")'; }
naa() { ctl vm show vm1 --json | jq -r ".disks[] | select(.lun == $1) | .naa"; }
written() { metric edge isthmus_journal_written_bytes_total; }
content() { cmp -s -n 16777216 <(lun-io read "$(lun_url "$1")" 0 32768) "$2"; }
goes_on() {
    local before
    before=$(written)
    wait_for 10 "the writes of LUN 0 to go on" more_than "$before"
}
sessions_are() { [ "$(metric edge isthmus_iscsi_sessions)" = "$1" ]; }
more_than() { alive load && [ "$(written)" -gt "$1" ]; }
# marks LUN: what must not come back
marks() { openssl rand 1048576 | tee marks.img | lun-io write "$(lun_url "$1")" 512 flush; }

start load verify-load run "$(lun_url 0)" "$stage/state" "$sectors" 1
wait_log load "^loading" 30
ids=()
for round in 1 2 3; do
    expect "a disk more" ctl vm add-disk vm1 --disk dc1:data
    [ "$(luns)" = "0=dc1:disk1 1=dc1:data" ] || failed "the VM has $(luns)"
    ids+=("$(naa 1)")
    expect "it to be listed" grep -q "Lun:1 " <(iscsi-ls -s iscsi://127.0.0.1:3260)
    expect "the source's content, and nothing else" content 1 data.img
    marks 1
    goes_on
    refuse "to be taken away under an initiator without force" ctl vm remove-disk vm1 1 2>refusal
    grep -q "session" refusal || failed "the refusal says: $(cat refusal)"
    start busy load-gen "$(lun_url 1)" read random --seconds 60 --depth 32 --bytes 16384
    wait_for 10 "reads of LUN 1" sessions_are 2
    if [ "$round" = 2 ]; then # on-prem does not answer: what waits for it is given up
        kill -STOP "${pids[onprem]}"
        start waits lun-io read "$(lun_url 1)" 80000 2000
        wait_for 10 "a read that waits" sessions_are 3
    fi
    expect "a disk less" ctl vm remove-disk vm1 1 --force
    ended busy 20
    expect_log busy "SCSI status 02"
    if [ "$round" = 2 ]; then
        ended waits 20
        expect_log waits "LOGICAL_UNIT_NOT_SUPPORTED"
        kill -CONT "${pids[onprem]}"
    fi
    rm -f busy.log waits.log
    goes_on
    [ "$(luns)" = "0=dc1:disk1" ] || failed "the VM has $(luns)"
    refuse "a read of what is gone" lun-io read "$(lun_url 1)" 0 8 2>refusal
    grep -q "LOGICAL_UNIT_NOT_SUPPORTED" refusal || failed "the refusal says: $(cat refusal)"
    refuse "a gap to be listed" grep -q "Lun:1 " <(iscsi-ls -s iscsi://127.0.0.1:3260)
done
[ "$(printf '%s\n' "${ids[@]}" | sort -u | wc -l)" = 3 ] || failed "two disks have had one identity: ${ids[*]}"

act "one with a number of its own, one in the gap; then a crash"
expect "a disk as LUN 5" ctl vm add-disk vm1 --disk dc1:data --lun 5
marks 5
expect "a disk in the gap" ctl vm add-disk vm1 --disk dc1:next
[ "$(luns)" = "0=dc1:disk1 1=dc1:next 5=dc1:data" ] || failed "the VM has $(luns)"
refuse "a LUN that is taken" ctl vm add-disk vm1 --disk dc1:next --lun 5
refuse "a disk that is not there" ctl vm add-disk vm1 --disk dc1:none
refuse "a LUN that is not there" ctl vm remove-disk vm1 7 --force
expect "another content in the gap" content 1 next.img
expect "LUN 5 away" ctl vm remove-disk vm1 5 --force
crash edge
ended load 60
[ "$ended_status" = 0 ] || failed "LUN 0 did not go on: $(tail -n 3 load.log)"
edge_start
[ "$(luns)" = "0=dc1:disk1 1=dc1:next" ] || failed "the VM has $(luns) after the crash"
expect "nothing of another disk after the crash" content 1 next.img
expect "what was acknowledged" verify-load check "$(lun_url 0)" "$stage/state" "$sectors"

act "the store alone"
committed() { [ "$(metric edge isthmus_store_pending_bytes)" = 0 ]; }
wait_for 30 "everything to be in the store" committed
crash edge
mv edge-data/store store
rm -rf edge-data
mkdir edge-data
mv store edge-data/
edge_start
ctl vm recover vm1
[ "$(luns)" = "0=dc1:disk1 1=dc1:next" ] || failed "the VM has $(luns) after its recovery"
expect "nothing of another disk out of the store" content 1 next.img
expect "what was acknowledged" verify-load check "$(lun_url 0)" "$stage/state" "$sectors"
expect "a disk more after that" ctl vm add-disk vm1 --disk dc1:data
expect "the source's content" content 2 data.img
expect "the first disk away" ctl vm remove-disk vm1 0
refuse "the last but one, and the last" eval 'ctl vm remove-disk vm1 1 && ctl vm remove-disk vm1 2'
stop edge
edge_start
[ "$(luns)" = "2=dc1:data" ] || failed "the VM has $(luns) after a start"
expect "the source's content" content 2 data.img
stop edge
stop onprem
