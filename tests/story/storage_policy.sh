#!/usr/bin/env bash
# Another storage policy of a VM that runs counts at once for what the object store does with dead space, too: of a
# write-back VM it goes as cuts reach the source disks, of a cloud-persist one what lives beside it is moved.
. "$(dirname "$0")/../lib/story.sh"

edge_store="commit_age = 30" # cuts are made when the story says so
disk_make source.img 8
disk_make noise.img 6
usual_cast "$stage/source.img"
ctl vm storage vm1 write-back
ctl vm pause-writeback vm1
moved() { metric edge isthmus_commit_moved_bytes_total 'vm="vm1"'; }
put() { lun-io write "$(url vm1)" "$1" flush && ctl vm flush vm1; }

act "two fifths of what is in the store are dead"
put 0 <source.img
put 0 <noise.img
head -c 4096 noise.img | put 0
expect "nothing to be moved of a write-back VM" test "$(moved)" = 0

act "cloud-persist, what lives beside them is moved"
ctl vm storage vm1 cloud-persist
head -c 4096 noise.img | put 8
expect "something to be moved" test "$(moved)" -gt 0

stop edge
stop onprem
