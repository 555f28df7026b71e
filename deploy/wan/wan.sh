#!/usr/bin/env bash
# Two network namespaces joined by an emulated WAN (wanlink: real delay, drop-tail bottleneck, random loss).
#
#   wan.sh up    NS_A NS_B RTT_MS MBIT LOSS_PERCENT [QUEUE_MS=100 [SEED=1 [SUBNET=0]]]
#   wan.sh set   NS_A NS_B RTT_MS MBIT LOSS_PERCENT [QUEUE_MS]   change a running link
#   wan.sh cut   NS_A NS_B      100 % loss; wan.sh heal NS_A NS_B brings the last values back
#   wan.sh stats NS_A NS_B      counters of both directions
#   wan.sh down  NS_A NS_B
#
# NS_A has 10.200.SUBNET.1, NS_B 10.200.SUBNET.2: addresses that exist only inside these namespaces, which have
# no route to anything else. MBIT 0 = no limit. WANLINK names the wanlink program (else it is in build/bin).
# Needs root, ip and /dev/net/tun; no queueing discipline of the kernel.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
usage() {
    sed -n '2,12s/^# \{0,1\}//p' "$0"
    exit 2
}
die() {
    echo "wan.sh: $*" >&2
    exit 1
}
[ $# -ge 3 ] || usage
verb=$1 a=$2 b=$3
shift 3
state=${WAN_STATE:-/run/isthmus-wan}/$a-$b
pid=""

# Is the process of the pid file still our wanlink?
running() {
    pid=$(cat "$state/pid" 2>/dev/null) && [ "$(readlink "/proc/$pid/exe" 2>/dev/null)" = "$(cat "$state/exe")" ]
}
need_running() { running || die "$a-$b is not up"; }

wait_until() {
    local i
    for ((i = 0; i < 200; i++)); do
        ! "$@" || return 0
        sleep 0.01
    done
    return 1
}
ready() {
    kill -0 "$(cat "$state/pid")" 2>/dev/null || die "$(cat "$state/err")"
    grep -qs ready "$state/out"
}
gone() { ! kill -0 "$pid" 2>/dev/null; }

# configure NS NUMBER OTHER_NUMBER SUBNET
configure() {
    local ns=$1 mine=$2 other=$3 subnet=$4
    ip netns exec "$ns" sysctl -qw net.ipv6.conf.wan0.disable_ipv6=1 || true
    ip -n "$ns" link set wan0 address "$(printf '02:00:0a:c8:%02x:%02x' "$subnet" "$mine")" txqueuelen 10000 up
    ip -n "$ns" addr add "10.200.$subnet.$mine/24" dev wan0
    # A customer's machines run cubic, whatever this one's default is: a route can say so inside a namespace,
    # where the sysctl is refused.
    ip -n "$ns" route replace "10.200.$subnet.0/24" dev wan0 proto kernel scope link \
        src "10.200.$subnet.$mine" congctl "${WAN_CC:-cubic}"
    # A known neighbour: an ARP exchange over a lossy link would look like an outage.
    ip -n "$ns" neigh add "10.200.$subnet.$other" lladdr "$(printf '02:00:0a:c8:%02x:%02x' "$subnet" "$other")" \
        dev wan0 nud permanent
}

up() {
    [ $# -ge 3 ] || usage
    local rtt=$1 mbit=$2 loss=$3 queue=${4:-100} seed=${5:-1} subnet=${6:-0}
    local program=${WANLINK:-$here/../../build/bin/wanlink} ns
    [ -x "$program" ] || die "no program $program: build it, or name it in WANLINK"
    ! running || die "$a-$b is up already"
    rm -rf "$state"
    mkdir -p "$state"
    for ns in "$a" "$b"; do
        ip netns add "$ns"
        ip -n "$ns" link set lo up
    done
    readlink -f "$program" >"$state/exe"
    echo "$rtt $mbit $loss $queue" >"$state/params"
    "$program" "$a" "$b" wan0 "$state" "$rtt" "$mbit" "$loss" "$queue" "$seed" \
        >"$state/out" 2>"$state/err" </dev/null &
    echo $! >"$state/pid"
    wait_until ready || die "wanlink does not start: $(cat "$state/err")"
    configure "$a" 1 2 "$subnet"
    configure "$b" 2 1 "$subnet"
}

case $verb in
up) up "$@" ;;
set)
    [ $# -ge 3 ] || usage
    need_running
    read -r _ _ _ queue <"$state/params"
    echo "$1 $2 $3 ${4:-$queue}" >"$state/params"
    kill -HUP "$pid"
    ;;
cut)
    need_running
    [ -f "$state/healed" ] || cp "$state/params" "$state/healed"
    read -r rtt mbit _ queue <"$state/healed"
    echo "$rtt $mbit 100 $queue" >"$state/params"
    kill -HUP "$pid"
    ;;
heal)
    need_running
    [ ! -f "$state/healed" ] || mv "$state/healed" "$state/params"
    kill -HUP "$pid"
    ;;
stats)
    need_running
    rm -f "$state/stats"
    kill -USR1 "$pid"
    wait_until test -f "$state/stats" || die "no answer from wanlink"
    cat "$state/stats"
    ;;
down)
    if running; then
        kill -TERM "$pid"
        wait_until gone || kill -KILL "$pid"
    fi
    for ns in "$a" "$b"; do
        ip netns del "$ns" 2>/dev/null || true
    done
    rm -rf "$state"
    rmdir "$(dirname "$state")" 2>/dev/null || true
    ;;
*) usage ;;
esac
