#!/usr/bin/env bash
# The edge's memory stays what it is, however many logins, reads and writes there have been. LOGINS and IOS say
# how many (3,000 and 300,000).
. "$(dirname "$0")/../lib/story.sh"
needs soak
# (freed memory that AddressSanitizer keeps is no leak)
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=1
ios=${IOS:-300000} logins=${LOGINS:-3000}

disk_make source.img 64
edge_loops=1 edge_ram=64M
usual_cast "$stage/source.img"

# soaked logins|reads|writes N
soaked() { soak "$1" "$2" "$(url vm1)" "${pids[edge]}"; }
# flat logins|reads|writes N MIB: it never goes below MIB more than ever before half of it in the last quarter
# (RocksDB's compactions make memory come and go; a leak never goes).
flat() {
    local percent count kib last=0 most=0 least=0 growth
    while read -r percent count kib; do
        last=$percent
        [ "$percent" -gt 50 ] || [ "$kib" -le "$most" ] || most=$kib
        [ "$percent" -le 75 ] || { [ "$least" -gt 0 ] && [ "$kib" -ge "$least" ]; } || least=$kib
        [ $((percent % 10)) != 0 ] || act "$(printf '%3d %%: %9d %s, RSS %5d.%d MiB' "$percent" "$count" "$1" \
            $((kib / 1024)) $((kib % 1024 * 10 / 1024)))"
    done < <(soaked "$1" "$2")
    [ "$last" = 100 ] || failed "$1 ended early"
    growth=$((least - most))
    [ "$growth" -le $(($3 * 1024)) ] || failed "$2 $1 made the edge's memory grow by $growth KiB"
}

act "warming up: what has a bound fills"
soaked writes 200000 >/dev/null
soaked reads 50000 >/dev/null
soaked logins 200 >/dev/null
flat logins "$logins" 1
flat reads $((ios / 2)) 1
flat writes $((ios / 2)) 8
stop edge
stop onprem
