#!/usr/bin/env bash
# How long a VM takes to boot: from its datastore on the LAN, directly over the WAN, and through the edge, twice.
#
#   --rtt MS     round trip of the emulated WAN (50)
#   --mbit N     its bandwidth (100)
#   --disk FILE  this disk instead of the small Debian (it must boot from iSCSI and say "login:" on ttyS0)
#   --no-direct  leave the slow boot directly over the WAN out (null)
#   --json       one JSON object on stdout
#
# *_s is the wall time of the guest's whole life, power-on to power-off (to the login prompt with --disk);
# *_ready_s that until it is up; *_wan_mb both directions of the WAN, in 10^6 bytes. The absolute times are
# this machine's; the ratios, taken within one run, travel.
bench_help=$(sed -n '2,12s/^# \{0,1\}//p' "$0")
. "$(dirname "$0")/../lib/story.sh"

rtt=50
mbit=100
disk=""
json=""
direct=1
while [ $# -gt 0 ]; do
    case $1 in
    --rtt | --mbit | --disk)
        [ $# -ge 2 ] || die "$1 wants a value"
        case $1 in --rtt) rtt=$2 ;; --mbit) mbit=$2 ;; --disk) disk=$2 ;; esac
        shift
        ;;
    --json) json=1 ;;
    --no-direct) direct="" ;;
    --help) say "$bench_help"; exit 0 ;;
    *) die "unknown option $1" ;;
    esac
    shift
done
needs qemu-system-x86_64 tgtd jq
up_regex=BOOT-DONE
[ -z "$disk" ] || up_regex='BOOT-DONE|login:'
tell() { act "$*" >&2; }

declare -A took=() ready=() moved=()

source_copy() {
    if [ -n "$disk" ]; then
        cp --sparse=always "$disk" "$1"
    else
        image_copy "$1"
    fi
}
wan_total() { { "$wan" stats a b 2>/dev/null || true; } | awk '/^[ab]_to/ { for (i = 2; i < NF; i++) if ($i == "tx_bytes") n += $(i + 1) } END { printf "%.0f\n", n }'; }

# boot_once NAME chain|target ...: fills took, ready and moved.
boot_once() {
    local name=$1 start before
    shift
    before=$(wan_total)
    start=$(now)
    vm_boot "$name" boot "$@"
    wait_serial "$name" "$up_regex" 1500
    ready[$name]=$(since "$start")
    if [ -n "$disk" ]; then
        crash "$name"
    else
        ended "$name" 600
    fi
    took[$name]=$(since "$start")
    moved[$name]=$(($(wan_total) - before))
    tell "$name: ${took[$name]} s (up after ${ready[$name]} s), $((moved[$name] / 1000000)) MB over the WAN"
}

tell "on the LAN, from tgt"
source_copy source.img
tgt_start "$stage/source.img"
boot_once lan target 10.0.2.2 3261 iqn.2026-11.org.isthmus.test:ds 1
crash tgt

wan_up "$rtt" "$mbit"
if [ -n "$direct" ]; then
    tell "directly over the WAN ($rtt ms, $mbit Mbit/s)"
    source_copy source.img
    tgt_start "$stage/source.img"
    boot_once direct target 10.200.0.2 3261 iqn.2026-11.org.isthmus.test:ds 1
    crash tgt
fi

tell "through the edge, for the first time"
source_copy source.img
tgt_start "$stage/source.img"
onprem_conf root "$(tgt_url)"
edge_ram=1G
edge_start
onprem_start
vm_create vm1 root >&2
boot_once first chain http://10.0.2.2:7262/boot/vm1.ipxe
tell "through the edge, again"
boot_once second chain http://10.0.2.2:7262/boot/vm1.ipxe

# mb NAME -> megabytes, or null
mb() {
    if [ -n "${moved[$1]:-}" ]; then
        awk -v b="${moved[$1]}" 'BEGIN { printf "%.1f", b / 1e6 }'
    else
        echo null
    fi
}
ratio() { awk -v a="$1" -v b="${took[lan]}" 'BEGIN { printf "%.2f", a / b }'; }
result=$(jq -n --argjson rtt "$rtt" --argjson mbit "$mbit" \
    --argjson lan "${took[lan]}" --argjson lan_ready "${ready[lan]}" \
    --argjson direct "${took[direct]:-null}" --argjson direct_ready "${ready[direct]:-null}" --argjson direct_mb "$(mb direct)" \
    --argjson first "${took[first]}" --argjson first_ready "${ready[first]}" --argjson first_mb "$(mb first)" \
    --argjson second "${took[second]}" --argjson second_ready "${ready[second]}" --argjson second_mb "$(mb second)" \
    --argjson first_ratio "$(ratio "${took[first]}")" --argjson second_ratio "$(ratio "${took[second]}")" \
    '{rtt_ms: $rtt, mbit: $mbit, lan_s: $lan, direct_wan_s: $direct, first_s: $first, second_s: $second,
      direct_wan_mb: $direct_mb, first_wan_mb: $first_mb, second_wan_mb: $second_mb,
      lan_ready_s: $lan_ready, direct_wan_ready_s: $direct_ready, first_ready_s: $first_ready,
      second_ready_s: $second_ready, first_ratio: $first_ratio, second_ratio: $second_ratio}')
if [ -n "$json" ]; then
    jq -c . <<<"$result"
else
    jq -r '"boot                      seconds  x LAN   up after  MB over the WAN",
        "from the LAN              \(.lan_s)     1.00    \(.lan_ready_s)      -",
        "directly over the WAN     \(.direct_wan_s)    -       \(.direct_wan_ready_s)     \(.direct_wan_mb)",
        "edge, first boot          \(.first_s)     \(.first_ratio)    \(.first_ready_s)      \(.first_wan_mb)",
        "edge, second boot         \(.second_s)     \(.second_ratio)    \(.second_ready_s)      \(.second_wan_mb)"' <<<"$result"
fi
