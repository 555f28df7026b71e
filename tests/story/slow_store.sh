#!/usr/bin/env bash
# A guest that writes faster than the object store takes it is slowed down in time: the store never is 30 s behind, and
# what waits for it stays some seconds' worth. The store answers each request after a second: it takes 24 MiB in that.
. "$(dirname "$0")/../lib/story.sh"

disk_make source.img 512
edge_journal=3G
edge_store="layers = \"delay:1s\" commit_age = 2"
usual_cast "$stage/source.img"
paced=""
# writes -> the most that waited for the store meanwhile, and for how long, in $pending and $lag
writes() {
    local now
    pending=0 lag=0
    rm -f load.log
    start load load-gen "$(url vm1)" write random --bytes 65536 --depth 16 --span-mib 512 --seconds 25
    while alive load; do
        now=$(metric edge isthmus_store_pending_bytes) && [ "$now" -le "$pending" ] || pending=$now
        now=$(metric edge isthmus_store_lag_seconds) && [ "$now" -le "$lag" ] || lag=$now
        now=$(metric edge isthmus_store_pace_bytes) && [ "$now" = 0 ] || paced=1
        sleep 0.2
    done
    ended load 30
    expect "the load to end well: $(cat load.log)" test "$ended_status" = 0
    act "$(sed 's/.*"mib_s": \([^,]*\).*/\1/' load.log) MiB/s were written; at most $((pending >> 20)) MiB waited for the store, for $lag s"
}
all_there() { [ "$(metric edge isthmus_store_pending_bytes)" = 0 ]; }
writes
# An edge that does not get the processor for so long is behind for once; one that does not slow its guest down is so each time.
for again in 1 2; do
    [ "$lag" -gt 30 ] || break
    wait_for 120 "the store to have everything" all_there
    act "once more ($again)"
    writes
done
[ -n "$paced" ] || { say "this machine does not write faster than such a store takes it"; exit 77; }
expect "at most 640 MiB to wait" test "$pending" -lt $((640 << 20))
expect "the store at most 30 s behind" test "$lag" -le 30
