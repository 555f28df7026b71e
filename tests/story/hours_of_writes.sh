#!/usr/bin/env bash
# However long a VM has written in the cloud, going home sends only what the last interval wrote: write-back has seen to
# the rest, and the source disk is then, block for block, what the VM had.
#
# WRITE_SECONDS says how long it writes (30), MIB_S how much of it, INTERVAL the seconds between write-backs (5).
. "$(dirname "$0")/../lib/story.sh"
needs jq
seconds=${WRITE_SECONDS:-30} rate=${MIB_S:-1} interval=${INTERVAL:-5}

sectors=$((1 << 21)) # 1 GiB
truncate -s 1G source.img model.img
edge_store="commit_age = 1"
edge_writeback="interval = \"${interval}s\""
onprem_conf disk1 "file:$stage/source.img"
edge_start
onprem_start
vm_create vm1 disk1 --storage write-back
pending() { metric edge isthmus_writeback_pending_bytes; }

disk_make some.img 64
written=0 most=0
writes() {
    local end=$((SECONDS + seconds)) i lba now
    most=0
    act "for $seconds s it writes $rate MiB a second"
    while [ "$SECONDS" -lt "$end" ]; do
        for ((i = 0; i < 4 * rate; i++)); do
            lba=$(((RANDOM * 32768 + RANDOM) % (sectors - 512) / 8 * 8))
            dd if=some.img of=piece bs=64k skip=$((RANDOM % 1000)) count=4 status=none
            lun-io write "$(url vm1)" "$lba" <piece
            dd if=piece of=model.img bs=4k seek=$((lba / 8)) conv=notrunc status=none
        done
        written=$((written + rate))
        now=$(pending)
        [ "$now" -le "$most" ] || most=$now
        sleep 0.9 # the rate
    done
    act "$written MiB are written, at most $((most >> 20)) MiB were not on-prem"
}
writes
# A busy machine may have held write-back up just now; what never comes home is more and more.
for ((again = 0; again < 2 && most >= written << 19; again++)); do writes; done
[ "$most" -lt $((written << 19)) ] || failed "more than half of it was never written back on the way"
left=$(($(pending) >> 20)) start=$(now)
ctl run-on-prem vm1
act "home after $(since "$start") s, with $left MiB to send"
expect "the source disk as the VM had it" cmp source.img model.img
stop onprem
stop edge
