#!/usr/bin/env bash
# run-on-prem: the source disk gets everything that was written in the cloud, block for block, and nobody can log in any
# more; run-in-cloud: the VM sees what was changed on-prem meanwhile. Cancelled, the VM goes on in the cloud; killed in
# the middle, the edge goes on; under load and with force, no acknowledged write is missing on-prem.
. "$(dirname "$0")/../lib/story.sh"
needs jq

sectors=16384
edge_store="url = \"dir:$stage/bucket\" commit_age = 1"
verify-load prepare source.img "$sectors"
onprem_conf disk1 "file:$stage/source.img"
edge_start
onprem_start
vm_create vm1 disk1 --storage write-back
state() { ctl vm show vm1 --json | jq -r "$1"; }
disk() { lun-io read "$(url vm1)" 0 "$sectors"; }
task_of() { ctl task list --json | jq -r "[.tasks[] | select(.kind == \"$1\")][0].id"; }
alarm() { [ "$(state .onprem.alarm)" = true ]; }
times_let_go() { grep -c "is detached at cut" "$stage/onprem.log"; }
task_lets_go() { ctl task list | grep -q "lets go of the source disks"; }
task_waits() { ctl task list | grep -q waiting; }
attached() { [ "$(state .onprem.attached)" = true ]; }
wait_for 20 "on-prem to hold the source disk" attached

act "everything goes home"
disk_make some.img 2
lun-io write "$(url vm1)" 1000 <some.img
lun-io zero "$(url vm1)" 3000 500
lun-io write "$(url vm1)" 9001 flush <some.img
disk >expected.img
ctl run-on-prem vm1
cmp source.img expected.img
expect "home" test "$(state .home)" = true
refuse "a login to a VM that is home" lun-io size "$(url vm1)" 2>/dev/null
ctl run-on-prem vm1
stop edge
edge_start
refuse "a login after a restart" lun-io size "$(url vm1)" 2>/dev/null

act "changed on-prem, it comes back"
dd if=some.img of=source.img bs=512 seek=5000 conv=notrunc status=none
cp source.img expected.img
ctl run-in-cloud vm1
disk | cmp - expected.img
expect "write-back as before" test "$(state .storage)" = write-back
expect "held by on-prem" attached

act "changed on-prem, it comes back to an edge that knows it from the object store alone"
lun-io write "$(url vm1)" 5000 flush <some.img
ctl run-on-prem vm1
LC_ALL=C tr '\000-\377' '\001-\377\000' <some.img >other.img
dd if=other.img of=source.img bs=512 seek=5000 conv=notrunc status=none
cp source.img expected.img
stop edge
mv edge-data edge-data-1
edge_start
ctl vm recover vm1
ctl run-in-cloud vm1
disk | cmp - expected.img
lun-io write "$(url vm1)" 100 flush <some.img
ctl vm flush vm1 --on-prem
disk | cmp - source.img
dd if=source.img bs=512 skip=5000 count=4096 status=none | cmp - other.img
cp source.img expected.img

act "called off while on-prem may hold the source disk already, it stays home once that is let go of"
ctl run-on-prem vm1
cmp source.img expected.img
for edge in stays starts_again; do
    stop onprem
    start onprem isthmus-onprem --config "$stage/onprem.conf" --crash-at onprem.vm.attach:1
    before=$(times_let_go)
    ctl run-in-cloud vm1 --no-wait >/dev/null
    id=$(task_of run-in-cloud)
    ended onprem 60
    if [ "$edge" = starts_again ]; then
        crash edge
        edge_start
    fi
    ctl task cancel "$id"
    wait_for 10 "the task to wait for on-prem" task_lets_go
    onprem_start
    refuse "a task that was cancelled" ctl task wait "$id" 2>said
    grep -q "was cancelled" said || failed "it ends with: $(cat said)"
    expect "on-prem to have let go of the disk" test "$(times_let_go)" = $((before + 1))
    expect "still home" test "$(state .home)" = true
done

act "the edge is lost when on-prem holds the source disk: run-on-prem at the next one lets go of it"
stop edge
start edge isthmus-edge --config "$stage/edge.conf" --crash-at verb.attach:1
wait_for 20 "the edge" edge_answers
before=$(times_let_go)
ctl run-in-cloud vm1 --no-wait >/dev/null
ended edge 60
mv edge-data edge-data-lost
edge_start
ctl vm recover vm1
expect "home" test "$(state .home)" = true
ctl run-on-prem vm1
expect "on-prem to have let go of the disk" test "$(times_let_go)" = $((before + 1))
ctl run-in-cloud vm1
disk | cmp - expected.img

act "called off while on-prem does not answer, it stays in the cloud"
lun-io write "$(url vm1)" 7 flush <some.img
disk >expected.img
kill -STOP "${pids[onprem]}"
ctl run-on-prem vm1 --no-wait >/dev/null
refuse "a login while it goes home" lun-io size "$(url vm1)" 2>/dev/null
id=$(task_of run-on-prem)
ctl task cancel "$id"
refuse "a task that was cancelled" ctl task wait "$id" 2>said
grep -q "was cancelled" said || failed "it ends with: $(cat said)"
kill -CONT "${pids[onprem]}"
disk | cmp - expected.img
expect "still in the cloud" test "$(state .home)" = false

act "killed in the middle, the edge goes on with it"
kill -STOP "${pids[onprem]}"
ctl run-on-prem vm1 --no-wait >/dev/null
id=$(task_of run-on-prem)
crash edge
edge_start
refuse "a login after the crash" lun-io size "$(url vm1)" 2>/dev/null
kill -CONT "${pids[onprem]}"
ctl task wait "$id"
cmp source.img expected.img

act "paused, nothing goes home, unless somebody asks for it"
ctl run-in-cloud vm1
ctl vm pause-writeback vm1
lun-io write "$(url vm1)" 12000 flush <some.img
ctl vm flush vm1
cmp source.img expected.img
expect "paused" test "$(state .paused)" = true
ctl vm resume-writeback vm1
ctl vm flush vm1 --on-prem
disk >expected.img
cmp source.img expected.img

act "cloud-persist is said once on-prem has nothing left that it would still write"
stop onprem
start onprem isthmus-onprem --config "$stage/onprem.conf" --crash-at onprem.stage.staged:1
lun-io write "$(url vm1)" 4000 flush <some.img
disk >expected.img
ctl vm commit vm1 --no-wait >/dev/null
ended onprem 60
ctl task cancel "$(task_of commit)"
refuse "a task that was cancelled" ctl task wait "$(task_of commit)" 2>/dev/null
refuse "the source disk to have it already" cmp -s source.img expected.img
ctl vm storage vm1 cloud-persist --no-wait >/dev/null
wait_for 10 "the task to wait" task_waits
onprem_start
ctl task wait "$(task_of storage)"
cmp source.img expected.img
lun-io write "$(url vm1)" 6000 flush <some.img
ctl vm flush vm1
cmp source.img expected.img
ctl vm storage vm1 write-back
ctl vm commit vm1
disk >expected.img
cmp source.img expected.img

act "somebody else writes to the source disk: nothing is mixed, until somebody says whose history counts"
lun-io write "$(url vm1)" 2000 flush <some.img
disk >expected.img
dd if=some.img of=source.img bs=512 seek=14000 count=1 conv=notrunc status=none
refuse "to write back over it" ctl run-on-prem vm1 2>said
grep -q "written" said || failed "the refusal says: $(cat said)"
disk | cmp - expected.img
wait_for 5 "an alarm" alarm
ctl vm clear-alarm vm1
expect "no alarm" test "$(state .onprem.alarm)" = false
ctl vm commit vm1
expect "what the cloud wrote" cmp -n $((14000 * 512)) source.img expected.img

act "discarded, what was not written back is gone; what was, stays"
lun-io write "$(url vm1)" 5 flush <some.img
ctl vm discard vm1 --yes
disk | cmp - source.img
expect "write-back as before" test "$(state .storage)" = write-back

act "under load and with force: no acknowledged write is missing"
verify-load prepare fresh.img "$sectors"
lun-io write "$(url vm1)" 0 flush <fresh.img
start load verify-load run "$(url vm1)" "$stage/state" "$sectors" 7
wait_log load "^loading" 60
sleep 1
ctl run-on-prem vm1 --force
ended load 60
ctl run-in-cloud vm1 --storage cloud-persist
expect "nothing lost" verify-load check "$(url vm1)" "$stage/state" "$sectors"
disk | cmp - source.img
stop edge
stop onprem
