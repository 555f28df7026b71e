#!/usr/bin/env bash
# What becomes of a VM's writes on their way through the journal into the object store, and back on-prem.
#
#   --quick      1 minute of steady writes instead of 10, 20 s of SQLite instead of 60
#   --minutes N  of steady writes
#   --dir DIR    where the edge's data, the object store and the disks are: a new folder there, removed at the end (/var/tmp)
#   --no-guest   without the workloads of a guest under QEMU
#   --json       one JSON object on stdout
#
# Three workloads: "os" is a Debian guest that boots and has dpkg unpack packages over themselves as an upgrade does;
# "sqlite" its small transactions, synchronous=FULL; "random" are 4 KiB writes, 32 in flight, all over a disk of 1 GiB, of
# content that does not compress, for 10 minutes: the steady test. Of each: guest_mb that the journal took (10^6 bytes);
# object_bytes_per_guest_byte, what log objects had of it when everything was committed; writeback_bytes_per_guest_byte,
# what was sent on-prem until everything was on the source disks, a cut a minute. The steady test is cloud-persist; what
# is written back of "random" is another minute of it.
#
# The steady test's journal may hold 10 times the cache's memory. iops_quarters: over the run's quarters, flat when the
# last is as good as the first. store_lag_max_s: the greatest age of a write that the store lacked. rss_mb: the edge's
# memory after the first quarter, and the most. rocksdb_write_amp: bytes that RocksDB wrote to its files per byte put into
# it; journal_write_amp: bytes written to the journal's disk in all (segments, and RocksDB) per byte of the guest.
bench_help=$(sed -n '2,21s/^# \{0,1\}//p' "$0")
. "$(dirname "$0")/../lib/story.sh"

minutes=10 sqlite_seconds=60 dir=/var/tmp guest=1 json=""
while [ $# -gt 0 ]; do
    case $1 in
    --minutes | --dir)
        [ $# -ge 2 ] || die "$1 wants a value"
        case $1 in --minutes) minutes=$2 ;; --dir) dir=$2 ;; esac
        shift
        ;;
    --quick) minutes=1 sqlite_seconds=20 ;;
    --no-guest) guest="" ;;
    --json) json=1 ;;
    --help) say "$bench_help"; exit 0 ;;
    *) die "unknown option $1" ;;
    esac
    shift
done
[[ $minutes =~ ^[1-9][0-9]*$ ]] || die "--minutes wants a number, not '$minutes'"
needs jq load-gen
[ -z "$guest" ] || needs qemu-system-x86_64 floor-target
tell() { act "$*" >&2; }

folder=$(mktemp -d "$dir/isthmus-bench.XXXXXX")
bench_end() {
    story_end
    rm -rf "$folder"
}
trap bench_end EXIT

# --- what is counted ---

ram_mb=128 journal_mb=1280 span_mib=1024
# sample -> the edge's metrics that we tell of, summed up: "name value" lines
sample() {
    edge_get /metrics | awk '/^isthmus_(journal|commit|store|writeback)_/ { name = $1; sub(/\{.*/, "", name); sum[name] += $NF }
        END { for (name in sum) printf "%s %.3f\n", name, sum[name] }'
}
of() { awk -v name="isthmus_$2" '$1 == name { print $2; found = 1 } END { if (!found) print 0 }' "$1"; }
settled() { [ "$(metric edge isthmus_store_pending_bytes)" = 0 ]; }
# came_home VM SECONDS: its source disks hold everything that was written until then.
came_home() {
    local label="vm=\"$1\""
    [ "$(metric edge isthmus_writeback_applied_instant_seconds "$label")" -gt "$2" ] ||
        { [ "$(metric edge isthmus_store_pending_bytes "$label")" = 0 ] && [ "$(metric edge isthmus_writeback_pending_bytes "$label")" = 0 ]; }
}

# told NAME BEFORE AFTER [BEFORE AFTER]: one workload's figures; the second pair for write-back, or "" for none
told() {
    local part values=()
    for part in journal_written_bytes_total commit_object_bytes_total; do
        values+=("$(between "$2" "$3" "$part")")
    done
    for part in journal_written_bytes_total writeback_sent_bytes_total; do
        values+=("$(between "${4-$2}" "${5-$3}" "$part")")
    done
    jq -n --arg name "$1" --argjson guest "${values[0]}" --argjson objects "${values[1]}" --argjson sent_guest "${values[2]}" \
        --argjson sent "${values[3]}" 'def ratio(a; b): if b > 0 then a / b * 1000 | round / 1000 else null end;
        {($name): {guest_mb: ($guest / 1e5 | round / 10), object_bytes_per_guest_byte: ratio($objects; $guest),
            writeback_bytes_per_guest_byte: ratio($sent; $sent_guest)}}' >>workloads
    tell "$(jq -c . workloads | tail -n 1)"
}
between() { awk -v a="$(of "$1" "$3")" -v b="$(of "$2" "$3")" 'BEGIN { printf "%.0f", b - a }'; }

edge_data=$folder/edge-data edge_ram=${ram_mb}M edge_journal=${journal_mb}M
edge_store="url = \"dir:$folder/store\"" edge_writeback='interval = "1m"'
mkdir "$folder/store"
truncate -s "${span_mib}M" "$folder/random.img"
disks=(random "file:$folder/random.img")
if [ -n "$guest" ]; then
    image_copy "$folder/root.img" tools
    disks+=(root "file:$folder/root.img")
fi
onprem_conf "${disks[@]}"
edge_start
onprem_start

# --- the guest's workloads ---

# phase NAME: the guest has done it, and all of it has come home.
phase() {
    wait_serial guest "PHASE $1" 1500
    wait_for 900 "all of it to come home" came_home vm1 "$(date +%s)"
    sample >"after-$1"
}
# The guest may go on.
gate() {
    start gate floor-target 127.0.0.1 7999 1
    wait_log gate ready 30
    sleep 3
    crash gate
}
: >workloads
if [ -n "$guest" ]; then
    vm_create vm1 root --storage write-back >&2
    { echo "seconds=$sqlite_seconds" && cat "$root/tests/lib/guest_workloads.sh"; } >guest.sh
    show_whole+=("$stage/guest/serial.log")
    sample >before
    tell "a guest boots"
    SCRIPT=$stage/guest.sh vm_boot guest script chain http://10.0.2.2:7262/boot/vm1.ipxe
    phase upgrade
    tell "$(grep -aoE 'UPGRADE [0-9]+ MiB of packages' guest/serial.log)"
    told os before after-upgrade
    gate
    phase sqlite
    told sqlite after-upgrade after-sqlite
    crash guest
fi

# --- steady random writes ---

vm_create random random --storage cloud-persist >&2
load-gen fill "$(url random)" --span-mib "$span_mib" >/dev/null
sample >before-random
seconds=$((minutes * 60))
tell "4 KiB random writes for $minutes min"
random_writes=("$(url random)" write random --bytes 4096 --depth 32 --span-mib "$span_mib")
start load load-gen "${random_writes[@]}" --seconds "$seconds" --process "/proc/${pids[edge]}"
# Seconds, bytes that the guest wrote by then, lag, bytes in the journal, KiB of memory.
: >course
while alive load; do
    sample >now.sample
    printf '%s %s %s %s %s\n' "$(now)" "$(of now.sample journal_written_bytes_total)" "$(of now.sample store_lag_seconds)" \
        "$(of now.sample journal_bytes)" "$(awk '/^VmRSS/ { print $2 }' "/proc/${pids[edge]}/status")" >>course
    sleep 1
done
ended load 30
[ "$ended_status" = 0 ] || failed "the load: $(tail -n 3 load.log)"
wait_for 300 "the store to have all of it" settled
sample >after-random
tell "the same for a minute, written back"
ctl vm storage random write-back >&2
wait_for 1800 "all of it to come home" came_home random "$(date +%s)"
sample >before-home
load-gen "${random_writes[@]}" --seconds 60 >/dev/null
wait_for 1800 "all of it to come home" came_home random "$(date +%s)"
sample >after-home
told random before-random after-random before-home after-home

# --- what is told ---

course=$(awk '{ t[NR] = $1; b[NR] = $2; if ($3 > lag) lag = $3; if ($4 > held) held = $4; r[NR] = $5; if ($5 > rss) rss = $5 }
    END { for (q = 0; q < 4; q++) { from = int(1 + q * (NR - 1) / 4); to = int(1 + (q + 1) * (NR - 1) / 4)
            all = all sprintf("%s%.0f", q ? ", " : "", (b[to] - b[from]) / 4096 / (t[to] - t[from])) }
        printf "{\"iops_quarters\": [%s], \"store_lag_max_s\": %.1f, \"journal_max_mb\": %.0f, \"rss_mb\": [%.0f, %.0f]}", all, lag,
            held / 1e6, r[int(1 + (NR - 1) / 4)] / 1024, rss / 1024 }' course)
over() { between before-random after-random "$1"; }
result=$(jq -s --argjson load "$(cat load.log)" --argjson course "$course" --argjson minutes "$minutes" \
    --argjson written "$(over journal_written_bytes_total)" --argjson put "$(over journal_index_put_bytes_total)" \
    --argjson index "$(over journal_index_written_bytes_total)" --argjson segments "$(over journal_segment_bytes_total)" \
    --argjson moved "$(over journal_moved_bytes_total)" --arg load_average "$(cut -d' ' -f1-3 /proc/loadavg)" '
    def digits: . * 100 | round / 100;
    {minutes: $minutes, write_4k_iops_qd32: $load.iops, write_4k_p99_us: $load.p99_us, cpu_us_per_io: $load.cpu_us_per_io}
    + $course + {rocksdb_write_amp: ($index / $put | digits), journal_write_amp: (($index + $segments) / $written | digits),
      journal_moved_share: ($moved / $segments | digits), load_average: $load_average}
    + {object_bytes_per_guest_byte: (add | map_values(.object_bytes_per_guest_byte)),
       writeback_bytes_per_guest_byte: (add | map_values(.writeback_bytes_per_guest_byte)),
       guest_mb: (add | map_values(.guest_mb))}' workloads)
if [ -n "$json" ]; then
    jq -c . <<<"$result"
else
    jq -r 'to_entries[] | if .value | type == "object" then .key as $k | .value | to_entries[] | "\($k) \(.key)  \(.value)" else "\(.key)  \(.value)" end' <<<"$result"
fi
