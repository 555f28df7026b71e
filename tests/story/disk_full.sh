#!/usr/bin/env bash
# The disk under the journal fills up: writes wait, nothing acknowledged is lost, reads go on; with space back so do
# the writes.
. "$(dirname "$0")/../lib/story.sh"

disk_make source.img 128
mkdir small
mount -t tmpfs -o size=96m tmpfs small
edge_data=$stage/small/data
mkdir -p "$edge_data"
usual_cast "$stage/source.img"
head -c 1048576 /dev/urandom >pattern
lun-io write "$(url vm1)" 0 flush <pattern

act "somebody else fills the disk"
head -c 200M /dev/zero >small/ballast 2>/dev/null || true
start writer lun-io write "$(url vm1)" 65536 flush
head -c 16M /dev/urandom >big
crash writer
start writer bash -c "exec lun-io write '$(url vm1)' 65536 flush <'$stage/big'"
wait_log edge 'disk.*(full|No space|writes wait)' 30
expect "the writer waits" alive writer
expect "reads go on" cmp <(lun-io read "$(url vm1)" 0 2048) pattern

act "space again"
rm small/ballast
ended writer 60
expect "the write went through" test "$ended_status" = 0
expect "all of it" cmp <(lun-io read "$(url vm1)" 65536 32768) big
stop edge
