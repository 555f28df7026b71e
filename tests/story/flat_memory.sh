#!/usr/bin/env bash
# The edge's memory stays what it is, however many logins, reads and writes there have been. LOGINS and IOS say
# how many (12,000 and 300,000).
. "$(dirname "$0")/../lib/story.sh"
needs soak
# Freed memory goes back to the system at once: what is left is in use. (As deployed, glibc keeps tens of MiB of
# what RocksDB's threads have freed, now more, now less.)
export MALLOC_ARENA_MAX=1 MALLOC_MMAP_THRESHOLD_=65536 MALLOC_TRIM_THRESHOLD_=65536
ios=${IOS:-300000} logins=${LOGINS:-12000}

disk_make source.img 64
edge_loops=1 edge_ram=64M
usual_cast "$stage/source.img"

# soaked logins|reads|writes N
soaked() { soak "$1" "$2" "$(url vm1)" "${pids[edge]}"; }
# growth logins|reads|writes N -> in $growth, in KiB: the least it has in the last quarter above the least in the first half
# (what RocksDB writes and compacts makes memory come and go; a leak never goes).
growth() {
    local percent=0 count kib last=0 before=0 after=0
    while read -r percent count kib; do
        last=$percent
        [ "$percent" -gt 50 ] || { [ "$before" -gt 0 ] && [ "$kib" -ge "$before" ]; } || before=$kib
        [ "$percent" -le 75 ] || { [ "$after" -gt 0 ] && [ "$kib" -ge "$after" ]; } || after=$kib
        [ $((percent % 10)) != 0 ] || act "$(printf '%3d %%: %9d %s, RSS %5d.%d MiB' "$percent" "$count" "$1" \
            $((kib / 1024)) $((kib % 1024 * 10 / 1024)))"
    done < <(soaked "$1" "$2")
    [ "$last" = 100 ] || failed "$1 ended early"
    growth=$((after - before))
}
# flat logins|reads|writes N KIB: it grows by at most KIB. Something may take its place for good in the midst of it, as a
# thread's stack does that was never so deep; the next time it has it already, while a leak grows each time.
flat() {
    local grown=()
    while [ ${#grown[@]} -lt 3 ]; do
        growth "$1" "$2"
        # (the sanitizers' allocators keep what is freed; there LeakSanitizer tells at the end)
        [ -z "${ASAN_OPTIONS:-}${TSAN_OPTIONS:-}" ] || return 0
        [ "$growth" -gt "$3" ] || return 0
        grown+=("$growth")
        act "$2 $1 made it grow by $growth KiB, more than $3: a leak would do so again"
    done
    failed "$2 $1 made the edge's memory grow each time: by ${grown[*]} KiB"
}

act "warming up: what has a bound fills"
warm=$((ios < 300000 ? ios : 300000))
soaked writes $warm >/dev/null
soaked reads $warm >/dev/null
soaked logins 200 >/dev/null
flat logins "$logins" 512
flat reads $((ios / 2)) 1024
flat writes $((ios / 2)) 16384
stop edge
stop onprem
