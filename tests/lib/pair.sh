# shellcheck shell=bash
# tests/lib/pair.sh - a cast of two edges, an on-prem daemon and a store that both edges use (a directory, or what
# pair_store_section says), each in a namespace of its own; the story itself sits on the same network, at
# $pair_host_address, and reaches both portals. The edges talk to each other over a cable of their own, with
# pair_rtt_ms set over an emulated line of that round trip. Source it after story.sh.

pair_lease=${pair_lease:-$((3 * slowness))s} # who is late on such a build is not lost
pair_rtt_ms=${pair_rtt_ms:-}
pair_store=$stage/bucket
pair_host_address=10.210.0.9
declare -A edge_address=([a]=10.210.0.1 [b]=10.210.0.2) cable_address=([a]=10.211.0.1 [b]=10.211.0.2)

# host NAME ADDRESS: a namespace on the network.
host() {
    [ -e "/run/netns/$1" ] || ip netns add "$1"
    ip link add "to-$1" type veth peer name eth0 netns "$1"
    ip link set "to-$1" master pair0 up
    ip -n "$1" addr add "$2/24" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" link set lo up
}

# pair_edge_conf a|b: edge-a.conf or edge-b.conf; its store fails while the file away-a or away-b exists.
pair_edge_conf() {
    local me=$1 other=b
    [ "$me" = a ] || other=a
    cat >"$stage/edge-$me.conf" <<CONF
data = "$stage/data-$me"
key = "$stage/at-rest.key"
log_level = "${LOG_LEVEL:-info}"
loops = 2
iscsi {
    listen = {"${edge_address[$me]}:3260"}
    iqn_prefix = "$iqn"
}
link {
    listen = "0.0.0.0:7260"
    certificate = "$stage/pki/edge-$me.pem"
    key = "$stage/pki/edge-$me.key"
    ca = "$stage/pki/ca.pem"
}
cache {
    ram = "128M"
}
journal {
    max = "512M"
}
store {
    ${pair_store_section:-url = "dir:$pair_store"}
    layers = "fail:p=1,file=$stage/away-$me,error=ENOTCONN"
}
pair {
    name = "pair1"
    peer = "edge-$other"
    address = "${cable_address[$other]}:7260"
    lease = "$pair_lease"
    failback = ${pair_failback:-no}
    failback_after = "${pair_failback_after:-5m}"
}
control {
    listen = "127.0.0.1:7261"
    token_file = "$stage/token"
}
http {
    listen = "0.0.0.0:7262"
}
CONF
}

# pair_up: the network, the store, every configuration; nothing is started.
pair_up() {
    ip link add pair0 type bridge
    ip addr add "$pair_host_address/24" dev pair0
    ip link set pair0 up
    [ -z "$pair_rtt_ms" ] || "$wan" up a b "$pair_rtt_ms" 0 0
    host a "${edge_address[a]}"
    host b "${edge_address[b]}"
    host o 10.210.0.3
    if [ -n "$pair_rtt_ms" ]; then
        cable_address=([a]=10.200.0.1 [b]=10.200.0.2)
    else
        ip -n a link add cable type veth peer name cable netns b
        ip -n a addr add "${cable_address[a]}/24" dev cable
        ip -n b addr add "${cable_address[b]}/24" dev cable
        peer_heal
    fi
    mkdir "$pair_store"
    pki_make
    isthmusctl pki issue "$stage/pki" --role edge --name edge-b >/dev/null
    pair_edge_conf a
    pair_edge_conf b
    onprem_ns=o edge_link_address=${edge_address[a]}:7260
    onprem_conf "$@"
    cat >>"$stage/onprem.conf" <<CONF
edge "edge-b" {
    address = "${edge_address[b]}:7260"
    connections = 2
}
CONF
}

# edge_up a|b
edge_up() { start_in "$1" "edge-$1" isthmus-edge --config "$stage/edge-$1.conf"; }
# edge_as a|b N: by a program of N generations later.
edge_as() { PATH=${ISTHMUS_BIN:-$root/build/bin}/raised-$2:$PATH edge_up "$1"; }
edge_is() { curl -fsS --max-time 20 "http://${edge_address[$1]}:7262/metrics" | grep "^isthmus_pair_role{.*} $2\$" >/dev/null; }
# wait_role a|b sole|both|out
wait_role() {
    local role
    case $2 in unknown) role=1 ;; out) role=2 ;; sole) role=3 ;; both) role=4 ;; esac
    wait_for 30 "edge $1 to be '$2'" edge_is "$1" "$role"
}
# whole: both are members.
whole() {
    wait_role a both
    wait_role b both
}
# both_up: edge a is alone, then the on-prem daemon and edge b come, which is taken in.
both_up() {
    edge_up a
    wait_role a sole
    onprem_start
    edge_up b
    whole
}
# ctl_at a|b command...
ctl_at() {
    local at=$1
    shift
    in_ns "$at" isthmusctl --server http://127.0.0.1:7261 --token-file "$stage/token" "$@"
}
# pair_status a|b [jq options] FILTER: of what that edge says of its pair.
pair_status() { ctl_at "$1" --json pair status | jq -r "${@:2}"; }
# pair_vm a|b VM FILTER: of what that edge says of this VM.
pair_vm() { ctl_at "$1" --json pair status | jq -r --arg vm "$2" ".vms[] | select(.name == \$vm) | $3"; }
# What metric() asks: metric a NAME, metric b NAME.
a_get() { curl -fsS --max-time 20 "http://${edge_address[a]}:7262$1"; }
b_get() { curl -fsS --max-time 20 "http://${edge_address[b]}:7262$1"; }
# url_at a|b VM
url_at() { printf 'iscsi://%s:3260/%s:%s/0\n' "${edge_address[$1]}" "$iqn" "$2"; }

# --- vm1 and its load: verify-load knows what was written to its disk, and what of that was acknowledged ---

sectors=16384 # of the disk
more_disks=() # DISK URL..., for other VMs
# vm1_up: the pair, both its members, and vm1 at edge a.
vm1_up() {
    verify-load prepare source.img "$sectors"
    pair_up disk1 "file:$stage/source.img" "${more_disks[@]}"
    both_up
    ctl_at a vm create vm1 --disk dc1:disk1
}
# load_at a|b: an unbroken load at that edge, which runs from now on.
load_at() {
    rm -f load.log
    start load verify-load run "$(url_at "$1" vm1)" "$stage/state" "$sectors" "$RANDOM"
    wait_log load "^loading" 60
}
# load_lost: it ends by itself, for its edge is gone, and was told of nothing wrong.
load_lost() {
    ended load 60
    [ "$ended_status" = 0 ] || failed "what was acknowledged is not there: $(tail -n 2 load.log)"
}
# load_dies: the load is killed; what it had under way is there, or never will be.
load_dies() { load_dies_at b a; }
# load_dies_at a|b...: the same of what it had under way there.
load_dies_at() {
    local at
    crash load
    rm load.log
    for at in "$@"; do
        wait_for 10 "its connection to be gone" no_connection "$at"
    done
}
no_connection() {
    [ -n "${pids[edge-$1]:-}" ] || return 0 # nor an edge
    [ "$(metric "$1" isthmus_iscsi_connections) $(metric "$1" isthmus_iscsi_sessions)" = "0 0" ]
}
# served_by a|b: all that was acknowledged is there.
served_by() { verify-load check "$(url_at "$1" vm1)" "$stage/state" "$sectors"; }

# Of several loads each has a name and a state of its own: load-NAME and state-NAME.
# acknowledged LOAD -> how many writes of it were
acknowledged() { od -An -tu4 -j4 -N4 "${1/load/state}" | tr -d ' '; }
goes_beyond() { [ "$(acknowledged "$1")" -gt "$2" ]; }
# goes_on LOAD [SECONDS=10]: more of its writes are acknowledged.
goes_on() { wait_for "${2:-10}" "more writes of $1 to be acknowledged" goes_beyond "$1" "$(acknowledged "$1")"; }
# unharmed LOAD [SECONDS]: it goes on, and was told of no trouble.
unharmed() {
    expect "the initiator of $1 to be logged in still" alive "$1"
    refuse "the initiator of $1 to have been refused anything" logged "$1" refused
    goes_on "$@"
}

# --- whose a VM is ---

# owns a|b VM: it is that edge's, and not only forwarded there.
owns() { ctl_at "$1" --json vm list | jq -e --arg vm "$2" 'any(.vms[]; .name == $vm)' >/dev/null; }

# hand_over a|b VM: that edge gives it to the other. On a busy machine that may be put off, when commands under way or the store
# take seconds: then it is asked again.
hand_over() { wait_for 60 "edge $1 to hand $2 over" ctl_at "$1" vm hand-over "$2"; }

# one_ends -> of two that do not hear of each other one is left, in $at, and the other, in $loser, has found out that it lost.
# As a rule the owner is left: who serves nothing waits a little.
one_ends() {
    wait_for 30 "one edge to end" one_ended
    at=a loser=b
    alive edge-a || at=b loser=a
    ended "edge-$loser" 5
    [ "$ended_status" = 75 ] || failed "edge $loser ended with status $ended_status"
    wait_role "$at" sole
    act "edge $at goes on"
}
one_ended() { ! alive edge-a || ! alive edge-b; }

# The cable between the edges. Pulled, each end is there, without a carrier.
peer_cut() { ip -n b link set cable down; }
peer_heal() {
    ip -n a link set cable up
    ip -n b link set cable up
}
