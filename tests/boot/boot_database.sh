#!/usr/bin/env bash
# A guest with a database (SQLite on one disk, synchronous=FULL; fio on the other, fsynced and verified) loses its edge
# with everything on it, and itself, at a random moment. It comes back twice. At home, with all of the cloud gone: the
# on-prem daemon, which dies too, finishes the cut that was staged, and the guest boots from a copy of the source disks,
# served by tgt. And in the cloud: an empty edge takes the VM over from the object store alone. Each time its file
# systems and the database are whole, and what is missing is the end of what was committed: at home at most the interval
# of write-backs, in the cloud 30 s. The disks are at one instant: whatever fio had fsynced before the newest row that is
# there, is there.
#
# DATABASE_ROUNDS says how often (1). Each check in the cloud goes on as the next round's load.
. "$(dirname "$0")/../lib/story.sh"
needs qemu-system-x86_64 mkfs.ext4 tune2fs tgtd
rounds=${DATABASE_ROUNDS:-1}
interval=20 # seconds between write-backs

# told GUEST WORD: its whole lines of that kind, as SEQ TIME REST.
told() { { grep -aoE "$2 [0-9]+ [0-9.]+ ([0-9A-F]+ )?END" "$1/serial.log" || true; } | sed -E "s/^$2 //; s/ END\$//"; }

# guest_boot NAME ASSIGNMENT...: boots it with what it has to do, from $boot_from.
boot_from=(chain http://10.0.2.2:7262/boot/vm1.ipxe)
guest_boot() {
    local name=$1
    shift
    guest_script "$name" guest_database.sh "$@"
    show_whole=("$stage/$name/serial.log")
    SCRIPT=$stage/$name.sh vm_boot "$name" script "${boot_from[@]}"
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

# judge LOADED CHECKED SECONDS: what the second guest found of what the first had told, and that no more than that is lost.
judge() {
    local found at chain last_row last_at lost
    wait_serial "$2" 'CHECKED [0-9]+ FAILURES [0-9]+ END' 900
    expect "nothing to be wrong: $(grep -a '^FAILED' "$2/serial.log")" serial_has "$2" 'CHECKED [0-9]+ FAILURES 0 END'
    read -r found at chain < <(told "$2" FOUND) || failed "$2 has found no row"
    read -r last_row last_at _ < <(told "$1" ROW | tail -n 1)
    [ "$found" -le $((last_row + 1)) ] || failed "row $found is there, the last one committed was $last_row"
    if [ "$found" -le "$last_row" ]; then
        expect "row $found as it was committed" test "$(told "$1" '(ROW|FOUND)' | awk -v id="$found" '$1 == id { print $3 }')" = "$chain"
    fi
    lost=$(awk -v a="$last_at" -v b="$at" 'BEGIN { printf "%.1f", (a > b ? a - b : 0) }')
    act "$last_row rows were committed, $found are there: $lost s are lost"
    expect "at most $3 s lost, not $lost" awk -v lost="$lost" -v most="$3" 'BEGIN { exit !(lost <= most) }'
}

# What it says of the disks it has, last.
onprem_says() { grep -oE 'cut [0-9]+ of .* (is staged|and will be applied)|disks are at cut [0-9]+ of [^"]*' onprem.log | tail -n 1; }
onprem_is_done() { onprem_says | grep -q '^disks are at'; }
# at_home LOADED NAME
at_home() {
    local boot_from=(target 10.0.2.2 3261 iqn.2026-11.org.isthmus.test:ds 1)
    crash onprem
    mv onprem.log onprem-before.log
    onprem_start
    wait_for 120 "the staged cut to be applied" onprem_is_done
    act "all of the cloud is gone; on-prem says: $(onprem_says)"
    stop onprem
    cp --sparse=always root.img home-root.img
    cp --sparse=always data.img home-data.img
    tgt_start "$stage/home-root.img"
    tgtadm_ --op new --mode logicalunit --tid 1 --lun 2 -b "$stage/home-data.img"
    guest_boot "$2" check=1 "told='$(told "$1" FIO)'"
    judge "$1" "$2" "$interval"
    ended "$2" 180
    crash tgt
    rm home-root.img home-data.img
    onprem_start
}
newest_row() { told "$1" '(ROW|FOUND)' | tail -n 1 | cut -d' ' -f1; }
rows_beyond() { [ "$(newest_row "$1")" -gt "$2" ]; }
# A cut came home that was taken while it was loading.
home_is_recent() { [ "$(metric onprem isthmus_onprem_applied_instant_seconds)" -gt "$1" ]; }

image_copy root.img tools
tune2fs -c 1 "$stage/root.img?offset=1048576" >/dev/null # its boot checks the root whole, each time
truncate -s 512M data.img
mkfs.ext4 -q -L data data.img
mkdir bucket
edge_store="url = \"dir:$stage/bucket\""
edge_writeback="interval = \"${interval}s\""
onprem_conf root "file:$stage/root.img" data "file:$stage/data.img"
edge_start
onprem_start
vm_create vm1 root --disk dc1:data --storage write-back

guest_boot guest0 load=1
for ((round = 1; round <= rounds; round++)); do
    loaded=guest$((round - 1)) next=guest$round load=$([ "$round" = "$rounds" ] || echo 1)
    wait_serial "$loaded" LOADING 600
    wait_serial "$loaded" 'FIO [0-9]+ [0-9.]+ END' 300
    # The next row but one was begun after that.
    wait_for 120 "rows after fio's first file" rows_beyond "$loaded" $(($(newest_row "$loaded") + 1))
    wait_for 120 "a cut of the load to come home" home_is_recent "$(date +%s)"
    watch "$((RANDOM % 20)).$((RANDOM % 1000))"
    act "round $round: the store was at most $(printf %.1f "$lag") s behind; edge and guest die, with the edge's disks"
    kill -KILL "${pids[edge]}" "${pids[$loaded]}"
    crash edge
    crash "$loaded"
    rm -rf edge-data
    at_home "$loaded" "home$round"
    act "the same from the object store alone"
    edge_start
    ctl vm recover vm1
    guest_boot "$next" check=1 "load=$load" "number=$((round * 1000))" "journal=$([ $((round % 2)) = 0 ] && echo wal || echo delete)" \
        "told='$(told "$loaded" FIO)'"
    judge "$loaded" "$next" 30
done
ended "guest$rounds" 180
expect "the store at most 30 s behind, not $lag" awk -v lag="$lag" 'BEGIN { exit !(lag <= 30) }'
stop edge
stop onprem
