#!/usr/bin/env bash
# A guest with a database (SQLite on one disk, synchronous=FULL; fio on the other, fsynced and verified) loses its edge
# with everything on it, and itself, at a random moment. An empty edge takes the VM over from the object store alone; it boots, its
# file systems and the database are whole, what is missing is the end of what was committed: 30 s of it at most. The disks
# are at one instant: whatever fio had fsynced before the newest row that is there, is there.
#
# DATABASE_ROUNDS says how often (1). Each check goes on as the next round's load.
. "$(dirname "$0")/../lib/story.sh"
needs qemu-system-x86_64 mkfs.ext4 tune2fs
rounds=${DATABASE_ROUNDS:-1}

# told GUEST WORD: its whole lines of that kind, as SEQ TIME REST.
told() { { grep -aoE "$2 [0-9]+ [0-9.]+ ([0-9A-F]+ )?END" "$1/serial.log" || true; } | sed -E "s/^$2 //; s/ END\$//"; }

# guest_boot NAME ASSIGNMENT...: boots it with what it has to do.
guest_boot() {
    local name=$1
    shift
    { printf '%s\n' "$@" && cat "$root/tests/boot/guest_database.sh"; } >"$stage/$name.sh"
    show_whole=("$stage/$name/serial.log")
    SCRIPT=$stage/$name.sh vm_boot "$name" script chain http://10.0.2.2:7262/boot/vm1.ipxe
}

# watch SECONDS: lets time pass; lag becomes the age of the oldest write that was not in the store, at most.
lag=0
watch() {
    local end now
    end=$(awk -v a="$(now)" -v b="$1" 'BEGIN { printf "%.0f", (a + b) * 1000 }')
    while now=$(now) && [ "${now/./}" -lt "$end" ]; do
        lag=$(edge_get /metrics | awk -v lag="$lag" '/^isthmus_store_lag_seconds\{/ && $NF > lag { lag = $NF } END { print lag }')
        sleep 0.2
    done
}

# judge LOADED CHECKED: what the second guest found of what the first had told.
judge() {
    local found at chain last_row last_at
    read -r found at chain < <(told "$2" FOUND) || failed "$2 has found no row"
    read -r last_row last_at _ < <(told "$1" ROW | tail -n 1)
    [ "$found" -le $((last_row + 1)) ] || failed "row $found is there, the last one committed was $last_row"
    if [ "$found" -le "$last_row" ]; then
        expect "row $found as it was committed" test "$(told "$1" '(ROW|FOUND)' | awk -v id="$found" '$1 == id { print $3 }')" = "$chain"
    fi
    lost=$(awk -v a="$last_at" -v b="$at" 'BEGIN { printf "%.1f", (a > b ? a - b : 0) }')
    act "$last_row rows were committed, $found are there: $lost s are lost"
    expect "at most 30 s lost, not $lost" awk -v lost="$lost" 'BEGIN { exit !(lost <= 30) }'
}

image_copy root.img tools
tune2fs -c 1 "$stage/root.img?offset=1048576" >/dev/null # its boot checks the root whole, each time
truncate -s 512M data.img
mkfs.ext4 -q -L data data.img
checksum=$(sha256sum root.img data.img)
mkdir bucket
edge_store="url = \"dir:$stage/bucket\""
onprem_conf root "file:$stage/root.img" data "file:$stage/data.img"
edge_start
onprem_start
vm_create vm1 root --disk dc1:data

guest_boot guest0 load=1
for ((round = 1; round <= rounds; round++)); do
    wait_serial "guest$((round - 1))" LOADING 600
    wait_serial "guest$((round - 1))" 'FIO [0-9]+ [0-9.]+ END' 120
    watch "$((15 + RANDOM % 20)).$((RANDOM % 1000))"
    act "round $round: the store was at most $(printf %.1f "$lag") s behind; edge and guest die, with the edge's disks"
    kill -KILL "${pids[edge]}" "${pids[guest$((round - 1))]}"
    crash edge
    crash "guest$((round - 1))"
    rm -rf edge-data
    edge_start
    ctl vm recover vm1
    load=$([ "$round" = "$rounds" ] || echo 1)
    guest_boot "guest$round" check=1 "load=$load" "number=$((round * 1000))" "journal=$([ $((round % 2)) = 0 ] && echo wal || echo delete)" \
        "told='$(told "guest$((round - 1))" FIO)'"
    wait_serial "guest$round" 'CHECKED FAILURES [0-9]+ END' 600
    judge "guest$((round - 1))" "guest$round"
    expect "nothing to be wrong: $(grep -a '^FAILED' "guest$round/serial.log")" serial_has "guest$round" 'CHECKED FAILURES 0 END'
done
ended "guest$rounds" 60
expect "the store at most 30 s behind, not $lag" awk -v lag="$lag" 'BEGIN { exit !(lag <= 30) }'
expect "the source disks unchanged" test "$checksum" = "$(sha256sum root.img data.img)"
stop edge
stop onprem
