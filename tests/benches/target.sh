#!/usr/bin/env bash
# What the iSCSI target does with small, large, single and many reads and writes, beside tgt and any other.
#
#   --url NAME=URL[#PID]  another target: iscsi://HOST:PORT/IQN/LUN, and its process if it runs here
#   --seconds S           of each measurement (1.5)
#   --reps N              how often each is repeated, all targets in turn; medians are told (5)
#   --quick               0.3 seconds, once, 64 MiB: whether everything runs, not how fast
#   --only REGEX          only workloads whose name matches
#   --targets REGEX       only targets whose name matches: isthmus, tgt, floor, the NAMEs (all)
#   --span MIB            size of the disk that is read and written (256)
#   --loops N             isthmus: so many loops and VMs, on all cores but the generator's if there are others (1)
#   --json                one JSON object on stdout
#
# isthmus is an edge and an on-prem daemon as deployed, with everything on tmpfs; the disk is read once before,
# so reads are RAM hits, and writes are journalled. tgt serves a file on tmpfs. floor is tests/lib/floor_target.c, the
# least a target over memory can cost: no target is faster, and what is known of others as a part of such a floor can be
# put beside. The load generator has one core,
# the target's process the other; the on-prem daemon and the edge's pool (which commits the journal to the object
# store, and is told as pool/io, a part of cpu/io) share the generator's. gen is the part of the time the
# generator computed, lost that in which other programs had its core: when they sum up to 0.9 it may be the
# bottleneck (marked !), and when lost is not near 0 the machine was not ours. The generator sends all commands it can in
# one segment, which batching targets gain from; -single sends each by itself. login-50: an I/O is 50 sessions that log
# in together, cpu/io one of the 50. Compare targets within one run only, never with figures of another generator.
bench_help=$(sed -n '2,23s/^# \{0,1\}//p' "$0")
# What is given by URL lives outside the namespaces of the story.
[ -n "${STORY_INSIDE:-}" ] || exec 8</proc 9</proc/self/ns/net
. "$(dirname "$0")/../lib/story.sh"

seconds=1.5 reps=5 only=. targets_regex=. span=256 loops=1 json=""
declare -A url_of=() process_of=() outside=()
targets=(isthmus tgt floor)
while [ $# -gt 0 ]; do
    case $1 in
    --url | --seconds | --reps | --only | --targets | --span | --loops)
        [ $# -ge 2 ] || die "$1 wants a value"
        case $1 in
        --seconds) seconds=$2 ;;
        --reps) reps=$2 ;;
        --only) only=$2 ;;
        --targets) targets_regex=$2 ;;
        --span) span=$2 ;;
        --loops) loops=$2 ;;
        --url)
            [[ $2 =~ ^([A-Za-z0-9_-]+)=(iscsi://[^#]+)(#([0-9]+))?$ ]] || die "--url wants NAME=iscsi://HOST:PORT/IQN/LUN[#PID], not '$2'"
            name=${BASH_REMATCH[1]}
            targets+=("$name")
            url_of[$name]=${BASH_REMATCH[2]}
            outside[$name]=1
            process_of[$name]=${BASH_REMATCH[4]:+/proc/self/fd/8/${BASH_REMATCH[4]}}
            ;;
        esac
        shift
        ;;
    --quick) seconds=0.3 reps=1 span=64 ;;
    --json) json=1 ;;
    --help) say "$bench_help"; exit 0 ;;
    *) die "unknown option $1" ;;
    esac
    shift
done
[[ $reps =~ ^[1-9][0-9]*$ && $span =~ ^[1-9][0-9]*$ && $loops =~ ^[1-9]$ ]] || die "--reps, --span and --loops want numbers"
needs tgtd jq taskset load-gen floor-target
tell() { act "$*" >&2; }

# name, then what load-gen is told
workloads=(
    "read-4k-qd1 read random --bytes 4096 --depth 1 --poll"
    "read-4k-qd32 read random --bytes 4096 --depth 32"
    "read-4k-qd32-single read random --bytes 4096 --depth 32 --single"
    "write-4k-qd1 write random --bytes 4096 --depth 1 --poll"
    "write-4k-qd32 write random --bytes 4096 --depth 32"
    "read-64k-qd8 read sequential --bytes 65536 --depth 8"
    "write-64k-qd8 write sequential --bytes 65536 --depth 8"
    "read-1m-qd4 read sequential --bytes 1048576 --depth 4"
    "write-1m-qd4 write sequential --bytes 1048576 --depth 4"
    "read-64k-qd8-digests read sequential --bytes 65536 --depth 8 --digests"
    "read-4k-qd32-8-sessions read random --bytes 4096 --depth 32 --sessions 8"
    "write-4k-qd32-8-sessions write random --bytes 4096 --depth 32 --sessions 8"
    "read-4k-qd32-50-sessions read random --bytes 4096 --depth 32 --sessions 50"
    "login-50 --sessions 50"
)

# --- the targets; the last core allowed is theirs, the first the generator's ---

mapfile -t cores < <(taskset -cp $$ | sed 's/.*: //' | tr , '\n' | awk -F- '{ for (i = $1; i <= ($2 == "" ? $1 : $2); i++) print i }')
load_core=${cores[0]}
target_core=${cores[-1]}
[ "$load_core" != "$target_core" ] || tell "one core only: generator and target share it"
pin() { taskset -a -cp "$2" "${pids[$1]}" >/dev/null; }
# Its threads that are not on the path of an I/O.
pin_pool() {
    local task
    for task in "/proc/${pids[$1]}/task/"*; do
        if [ "$(<"$task/comm")" = pool ]; then taskset -cp "$2" "${task##*/}" >/dev/null; fi
    done
}
load() { # load TARGET arguments...
    local name=$1
    shift
    if [ -n "${outside[$name]:-}" ]; then
        taskset -c "$load_core" nsenter --net=/proc/self/fd/9 load-gen "$@"
    else
        taskset -c "$load_core" load-gen "$@"
    fi
}

isthmus_up() {
    truncate -s "${span}M" disk.img
    disk_make disk.img "$span"
    edge_ram=$((loops * span * 2 + 256))M edge_loops=$loops edge_journal=3G
    local disks=() i
    for ((i = 1; i <= loops; i++)); do disks+=("disk$i" "file:$stage/disk.img"); done
    onprem_conf "${disks[@]}"
    edge_start
    onprem_start
    for ((i = 1; i <= loops; i++)); do vm_create "vm$i" "disk$i" >&2; done
    [ "$loops" -gt 1 ] || pin edge "$target_core"
    [ "$loops" = 1 ] || [ "${#cores[@]}" -le 2 ] || pin edge "$(IFS=,; echo "${cores[*]:1}")"
    pin onprem "$load_core"
    pin_pool edge "$load_core"
    url_of[isthmus]=iscsi://127.0.0.1:3260/$iqn:vm1/0
    process_of[isthmus]=/proc/${pids[edge]}
}
tgt_up() {
    disk_make tgt.img "$span"
    tgt_start "$stage/tgt.img"
    # It agrees to none otherwise, whatever is offered.
    tgtadm_ --op update --mode target --tid 1 -n HeaderDigest -v CRC32C,None
    tgtadm_ --op update --mode target --tid 1 -n DataDigest -v CRC32C,None
    pin tgt "$target_core"
    url_of[tgt]=iscsi://$tgt_portal/iqn.2026-11.org.isthmus.test:ds/1
    process_of[tgt]=/proc/${pids[tgt]}
}

floor_up() {
    start floor floor-target 127.0.0.1 3270 "$span"
    wait_log floor ready 30
    pin floor "$target_core"
    url_of[floor]=iscsi://127.0.0.1:3270/iqn.2026-11.org.isthmus.test:floor/0
    process_of[floor]=/proc/${pids[floor]}
}

chosen=()
for name in "${targets[@]}"; do
    [[ $name =~ $targets_regex ]] || continue
    chosen+=("$name")
    tell "$name"
    [ -n "${outside[$name]:-}" ] || "${name}_up"
    load "$name" fill "${url_of[$name]}" --span-mib "$span" >/dev/null
    [ "$name" != isthmus ] || for ((vm = 2; vm <= loops; vm++)); do
        load "$name" fill "${url_of[$name]/vm1/vm$vm}" --span-mib "$span" >/dev/null
    done
done
[ ${#chosen[@]} -gt 0 ] || die "no target's name matches '$targets_regex'"

# --- the runs ---

tell "cores: generator $load_core, target $target_core"
tcp() { load-gen floor --cores "$load_core,$target_core" --seconds 1 "$@" | jq .p50_us; }
floor_poll=$(tcp --poll)
floor_sleep=$(tcp)
: >runs
for workload in "${workloads[@]}"; do
    read -r name arguments <<<"$workload"
    [[ $name =~ $only ]] || continue
    tell "$name"
    for ((rep = 0; rep < reps; rep++)); do
        for target in "${chosen[@]}"; do
            options=(--seconds "$seconds" --span-mib "$span")
            [ -z "${process_of[$target]:-}" ] || options+=(--process "${process_of[$target]}")
            [ "$target" != isthmus ] || [ "$loops" = 1 ] || options+=(--vms "$loops")
            words=("${url_of[$target]}")
            [ "$name" != login-50 ] || words=(login "${url_of[$target]}")
            # shellcheck disable=SC2086
            load "$target" "${words[@]}" $arguments "${options[@]}" >run || { tell "$target: no figures for $name"; continue; }
            jq -c --arg target "$target" --arg workload "$name" '{$target, $workload} + .' run >>runs
        done
    done
done

# --- what is told ---

result=$(jq -s --argjson floor_poll "$floor_poll" --argjson floor_sleep "$floor_sleep" --argjson reps "$reps" \
    --argjson seconds "$seconds" --argjson loops "$loops" --arg load_core "$load_core" --arg target_core "$target_core" '
    def median: sort | if length == 0 then null else .[(length - 1) / 2 | floor] end;
    def medians: . as $runs | if length == 0 then null else $runs[0] | del(.target, .workload) | with_entries(.key as $k | .value = ([$runs[][$k]] | median)) end;
    def ordered: reduce .[] as $x ([]; if index([$x]) then . else . + [$x] end);
    . as $all
    | (map(.workload) | ordered) as $workloads | (map(.target) | ordered) as $targets
    | {cores: {generator: $load_core, target: $target_core}, reps: $reps, seconds: $seconds, loops: $loops,
       wakeup_floor_us: {generator_polls: $floor_poll, both_sleep: $floor_sleep},
       workloads: ($workloads | map(. as $w | {key: $w, value: (
           ($targets | map(. as $t | {key: $t, value: ([$all[] | select(.target == $t and .workload == $w)] | medians)}) | from_entries)
           | with_entries(if .value then .value.generator_limits = (.value.gen_busy + .value.gen_waited >= 0.9) else . end)
           | . as $by | with_entries(if .key != "isthmus" and .value and $by.isthmus then .value += {
               ratio: ($by.isthmus.iops / .value.iops * 100 | round / 100),
               cpu_ratio: (if .value.cpu_us_per_io > 0 then $by.isthmus.cpu_us_per_io / .value.cpu_us_per_io * 100 | round / 100 else null end)} else . end))})
         | from_entries)}' runs)
if [ -n "$json" ]; then
    jq -c . <<<"$result"
else
    jq -r '.workloads | to_entries[] | .key as $w | .value | to_entries[] | select(.value) | [$w, .key, .value.iops, .value.mib_s,
        .value.p50_us, .value.p99_us, .value.p999_us, .value.cpu_us_per_io, .value.pool_us_per_io, .value.rss_mb,
        "\(.value.gen_busy)\(if .value.generator_limits then "!" else "" end)", .value.gen_waited,
        .value.login_ms, .value.ratio // "-", .value.cpu_ratio // "-"] | map(tostring) | join(" ")' <<<"$result" |
        awk 'BEGIN { f = "%-25s %-8s %8s %8s %8s %8s %8s %8s %8s %8s %5s %5s %8s %6s %6s\n"
                printf f, "workload", "target", "iops", "MiB/s", "p50 us", "p99 us", "p99.9", "cpu/io", "pool/io", "rss MB", "gen", "lost", "login ms", "ratio", "cpu" }
            { printf f, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15 }'
    jq -r '"ratio: IOPS of isthmus / that target, cpu: the same of cpu/io, which other programs disturb less. cpu/io in us of the target'\''s process. Cores: generator \(.cores.generator), target \(.cores.target).",
        "TCP alone, 48 bytes there and 4 KiB back: p50 \(.wakeup_floor_us.generator_polls) us with a polling generator (as in qd1), \(.wakeup_floor_us.both_sleep) us when both sleep."' <<<"$result"
fi
