#!/usr/bin/env bash
# A cloud-persist VM never writes its source disk. What it wrote can be thrown away: then its disk is the source's
# again, at once, after a restart, after a crash at any moment, and after a recovery from the object store alone; or
# on the way home. At home nobody can log in; back in the cloud the VM sees what was changed on-prem meanwhile.
. "$(dirname "$0")/../lib/story.sh"
needs jq

mkdir bucket
edge_store="url = \"dir:$stage/bucket\" commit_age = 1"
disk_make source.img 16
usual_cast "$stage/source.img"
sum=$(sha256sum <source.img)
untouched() { [ "$(sha256sum <source.img)" = "$sum" ] || failed "the source disk was written"; }
state() { ctl vm show vm1 --json | jq -r "$1"; }
# The VM's disk holds what file FILE holds.
disk_is() { lun-io read "$(url vm1)" 0 32768 | cmp - "$1"; }
logged_in() { [ "$(state '.sessions | length')" = 1 ]; }
task_waits() { ctl task list | grep -q waiting; }
disk_make other.img 8
scribble() { lun-io write "$(url vm1)" 100 flush <other.img; }
expect "cloud-persist by default" test "$(state .storage)" = cloud-persist

act "flush: everything is in the object store at once"
scribble
ctl vm flush vm1
expect "nothing pending" test "$(state .log.committed)" -ge 1
untouched

act "discard: its disk is the source's again"
refuse "a discard that nobody is sure about" ctl vm discard vm1 2>said
grep -q -- "--yes" said || failed "the refusal says: $(cat said)"
refuse "run-on-prem with what was written" ctl run-on-prem vm1 2>said
grep -q -- "--discard" said || failed "the refusal says: $(cat said)"
scribble
ctl vm discard vm1 --yes
expect "the source's content" disk_is source.img
expect "nothing in the store" test -z "$(find bucket -path '*/log/*' -type f)"
stop edge
edge_start
expect "the source's content after a restart" disk_is source.img

act "what is written afterwards counts, also for a recovery from the store alone"
scribble
lun-io read "$(url vm1)" 0 32768 >after.img
ctl vm flush vm1
crash edge
rm -rf edge-data
edge_start
ctl vm recover vm1
expect "what was written after the discard" disk_is after.img
ctl vm discard vm1 --yes
crash edge
rm -rf edge-data
edge_start
ctl vm recover vm1
expect "nothing of what was discarded" disk_is source.img

act "commit: it goes home after all, once"
scribble
ctl vm commit vm1
expect "what was written, on-prem" disk_is source.img
sum=$(sha256sum <source.img)
expect "cloud-persist as before" test "$(state .storage)" = cloud-persist
lun-io zero "$(url vm1)" 0 64
lun-io read "$(url vm1)" 0 32768 >after.img
ctl vm storage vm1 write-back
ctl vm storage vm1 cloud-persist
untouched
scribble

act "an initiator that stays keeps a task waiting; cancelled, it leaves all as it was"
scribble
start soak lun-io soak "$(url vm1)" 0 32768 200
wait_for 20 "a session" logged_in
kill -STOP "${pids[soak]}"
refuse "a discard under a session" ctl vm discard vm1 --yes 2>/dev/null
ctl run-on-prem vm1 --discard --no-wait
wait_for 10 "the task to wait" task_waits
refuse "a login meanwhile" lun-io size "$(url vm1)" 2>/dev/null
refuse "another verb" ctl vm flush vm1 2>said
grep -q "run-on-prem" said || failed "the refusal says: $(cat said)"
id=$(ctl task list --json | jq -r '.tasks[0].id')
ctl task cancel "$id"
refuse "a task that was cancelled" ctl task wait "$id" 2>said
grep -q "was cancelled" said || failed "it ends with: $(cat said)"
expect "what was written" disk_is after.img

act "with force it is dropped; what the store has already is discarded, too"
ctl vm flush vm1
ctl vm discard vm1 --yes --force
expect "the source's content" disk_is source.img
crash soak

act "killed while it waits, the edge goes on with it"
scribble
start soak lun-io soak "$(url vm1)" 0 32768 200
wait_for 20 "a session" logged_in
kill -STOP "${pids[soak]}"
ctl run-on-prem vm1 --discard --no-wait >/dev/null
wait_for 10 "the task to wait" task_waits
id=$(ctl task list --json | jq -r '.tasks[0].id')
crash edge
edge_start
ctl task wait "$id"
crash soak
expect "home" test "$(state .home)" = true
refuse "a login to a VM that is home" lun-io size "$(url vm1)" 2>/dev/null
expect_log edge "the VM runs on-prem"
ctl run-on-prem vm1 --discard
refuse "a flush of a VM that is home" ctl vm flush vm1 2>/dev/null
stop edge
edge_start
expect "home after a restart" test "$(state .home)" = true
untouched

act "back in the cloud it sees what was changed on-prem, and that the disk has grown"
disk_make bigger.img 20
tail -c 4M bigger.img >grown.img
cat other.img other.img grown.img >source.img
stop onprem
onprem_start
sum=$(sha256sum <source.img)
ctl run-in-cloud vm1 --storage cloud-persist
expect "the new size" test "$(lun-io size "$(url vm1)" | cut -d' ' -f2)" = 40960
lun-io read "$(url vm1)" 0 40960 | cmp - source.img
scribble
untouched
stop edge
stop onprem
