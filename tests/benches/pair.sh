#!/usr/bin/env bash
# What it costs that two edges have a write before it is acknowledged: the same edge with and without a mirror.
#
#   --rtt MS      round trip between the edges (1)
#   --seconds S   of each measurement (2)
#   --reps N      how often each is repeated, both in turn; medians are told (5)
#   --quick       0.3 seconds, once: whether everything runs, not how fast
#   --json        one JSON object on stdout
#
# Three edges, an on-prem daemon and a store, all on tmpfs: two are a pair, over an emulated line, the third is alone. Both
# kinds are written to in 4 KiB at random, with one command at a time and with 32; and the pair by 50 sessions, 25 at each
# edge. local_append is a write to the edge that is alone: the journal, and iSCSI. qd32_ratio_at_most: 32 commands that
# take a round trip more than they do alone, and nothing else. The edges, the line and the generator
# share this machine's processors: with two of them, the mirror takes what the owner could use (cpu is that of each edge).
bench_help=$(sed -n '2,16s/^# \{0,1\}//p' "$0")
. "$(dirname "$0")/../lib/story.sh"
seconds=2 reps=5 pair_rtt_ms=1 json=""
while [ $# -gt 0 ]; do
    case $1 in
    --rtt | --seconds | --reps)
        [ $# -ge 2 ] || die "$1 wants a value"
        case $1 in
        --rtt) pair_rtt_ms=$2 ;;
        --seconds) seconds=$2 ;;
        --reps) reps=$2 ;;
        esac
        shift
        ;;
    --quick) seconds=0.3 reps=1 ;;
    --json) json=1 ;;
    --help) say "$bench_help"; exit 0 ;;
    *) die "unknown option $1" ;;
    esac
    shift
done
[[ $reps =~ ^[1-9][0-9]*$ && $pair_rtt_ms =~ ^[0-9]+$ ]] || die "--reps and --rtt want numbers"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
needs jq load-gen ping
tell() { act "$*" >&2; }

# --- the cast ---

span=64
edge_address[c]=10.210.0.4
disk_make disk.img "$span"
disks=()
for name in disk1 disk2 disk3; do disks+=("$name" "file:$stage/disk.img"); done
pair_up "${disks[@]}"
host c "${edge_address[c]}"
isthmusctl pki issue "$stage/pki" --role edge --name edge-c >/dev/null
sed "/^pair {/,/^}/d; s/edge-a/edge-c/g; s/data-a/data-c/; s/bucket/bucket-c/; s/away-a/away-c/; s/${edge_address[a]}:3260/${edge_address[c]}:3260/" edge-a.conf >edge-c.conf
mkdir bucket-c
cat >>onprem.conf <<CONF
edge "edge-c" {
    address = "${edge_address[c]}:7260"
    connections = 2
}
CONF
edge_up c
both_up
wait_for 30 "the edge that is alone to answer" ctl_at c vm list
ctl_at a vm create vm1 --disk dc1:disk1 >&2
ctl_at b vm create vm2 --disk dc1:disk2 >&2
ctl_at c vm create vm3 --disk dc1:disk3 >&2
rtt_ms=$(in_ns a ping -q -i 0.05 -c 20 "${cable_address[b]}" | awk -F/ '/^rtt/ { print $5 }')
tell "round trip between the edges $rtt_ms ms"

# --- the runs ---

cpu_us() { awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) * 1000000 / hz }' "/proc/${pids[edge-$1]}/stat"; }
# run NAME EDGE URL arguments...: a line of JSON in runs.
run() {
    local name=$1 edge=$2 url=$3 before
    shift 3
    before=$(cpu_us b)
    load-gen "$url" write random --bytes 4096 --span-mib "$span" --seconds "$seconds" --process "/proc/${pids[edge-$edge]}" "$@" |
        jq -c --arg name "$name" --argjson mirror "$(($(cpu_us b) - before))" '{name: $name, mirror_us: $mirror} + .' >>runs
}
: >runs
for ((rep = 0; rep < reps; rep++)); do
    tell "$((rep + 1)) of $reps"
    run local-qd1 c "$(url_at c vm3)" --depth 1
    run pair-qd1 a "$(url_at a vm1)" --depth 1
    run local-qd32 c "$(url_at c vm3)" --depth 32
    run pair-qd32 a "$(url_at a vm1)" --depth 32
    run pair-50 b "$(url_at b vm2)" --depth 4 --sessions 25 &
    other=$!
    run pair-50 a "$(url_at a vm1)" --depth 4 --sessions 25
    wait "$other"
done

# --- what is told ---

result=$(jq -s --argjson rtt "$rtt_ms" --argjson reps "$reps" '
    def median: sort | .[(length - 1) / 2 | floor];
    def of($name; f): [.[] | select(.name == $name) | f] | median;
    def round2: . * 100 | round / 100;
    {peer_rtt_ms: $rtt, reps: $reps,
     local_append_p50_ms: (of("local-qd1"; .p50_us) / 1000), write_p50_ms: (of("pair-qd1"; .p50_us) / 1000),
     write_p99_ms: (of("pair-qd1"; .p99_us) / 1000), local_append_p99_ms: (of("local-qd1"; .p99_us) / 1000),
     local_qd32_iops: of("local-qd32"; .iops), qd32_iops: of("pair-qd32"; .iops),
     local_cpu_us_per_io: of("local-qd32"; .cpu_us_per_io), owner_cpu_us_per_io: of("pair-qd32"; .cpu_us_per_io),
     sessions_50_iops: (2 * of("pair-50"; .iops))}
    | .goal_p50_ms = (1.3 * .peer_rtt_ms + .local_append_p50_ms | round2)
    | .qd32_ratio = (.qd32_iops / .local_qd32_iops | round2)
    | (32000 / .local_qd32_iops) as $alone_ms
    | .qd32_ratio_at_most = ($alone_ms / ($alone_ms + .peer_rtt_ms) | round2)' runs)
if [ -n "$json" ]; then
    jq -c . <<<"$result"
else
    jq -r 'to_entries[] | "\(.key)\t\(.value)"' <<<"$result" | column -t -s $'\t'
fi
