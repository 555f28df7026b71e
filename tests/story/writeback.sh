#!/usr/bin/env bash
# What a VM writes in the cloud comes home: under an unbroken load the source disk is brought from cut to cut, although
# the edge, the on-prem daemon and the WAN between them go away in the middle of it. At the end it is what the VM wrote,
# block for block, and the object store has let go of it.
. "$(dirname "$0")/../lib/story.sh"

sectors=16384
store=$stage/bucket
mkdir "$store"
edge_store="url = \"dir:$store\" commit_age = 1"
edge_writeback='interval = "1s"'
verify-load prepare source.img "$sectors"
wan_up 20 200
onprem_conf disk1 "file:$stage/source.img"
edge_start
onprem_start
vm_create vm1 disk1 --storage write-back

applied() { metric edge isthmus_writeback_applied_record; }
load_begin() {
    start_in "$edge_ns" load verify-load run "$(url vm1)" "$stage/state" "$sectors" "$RANDOM"
    wait_log load "^loading" 60
}
# The load ends with its target, and has seen everything that was acknowledged before.
load_end() {
    crash edge
    ended load 60
    [ "$ended_status" = 0 ] || failed "what was acknowledged is not there: $(tail -n 2 load.log)"
    rm -f load.log
    edge_start
}
goes_on() { [ "$(applied)" -gt "$1" ]; }
# Two more cuts come home.
progress() {
    wait_for 60 "$1" goes_on "$(applied)"
    wait_for 60 "$1" goes_on "$(applied)"
}
is_home() {
    [ "$(applied)" -gt 0 ] && [ "$(metric edge isthmus_writeback_pending_bytes)" = 0 ] &&
        [ "$(metric edge isthmus_writeback_lag_seconds)" = 0 ]
}
expect_home() {
    wait_for 90 "everything to be on the source disk" is_home
    in_ns "$edge_ns" lun-io read "$(url vm1)" 0 "$sectors" >vm.img
    cmp vm.img source.img || failed "the source disk is not what the VM wrote"
    expect "nothing lost" in_ns "$edge_ns" verify-load check "$(url vm1)" "$stage/state" "$sectors"
    [ "$(metric edge isthmus_writeback_alarm)" = 0 ] || failed "there is an alarm"
}

act "cut by cut, under load; the edge dies in the middle of it"
for _ in 1 2; do
    load_begin
    progress "cuts to come home"
    load_end
done
expect_home

act "the on-prem daemon dies in the middle of it"
load_begin
for _ in 1 2; do
    wait_for 60 "a cut to come home" goes_on "$(applied)"
    crash onprem
    onprem_start
done
progress "cuts to come home again"
load_end
expect_home

act "the WAN is cut in the middle of it"
load_begin
progress "cuts to come home"
wan_cut
sleep 2
wan_heal
progress "cuts to come home again"
load_end
expect_home

act "what came home leaves the object store"
few_objects() { [ "$(find "$store" -path '*/log/*' -type f | wc -l)" -le 8 ]; }
some_more() {
    head -c 512 vm.img | in_ns "$edge_ns" lun-io write "$(url vm1)" 0 flush
    few_objects
}
wait_for 60 "the objects to be removed" some_more
refuse_log edge "ALARM"
refuse_log onprem "level=error"
printf 'data %s known %s sent %s\n' "$(metric edge isthmus_writeback_data_bytes_total)" \
    "$(metric edge isthmus_writeback_known_bytes_total)" "$(metric edge isthmus_writeback_sent_bytes_total)"
