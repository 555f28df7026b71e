# shellcheck shell=bash
# tests/lib/cast.sh - the cast of the stories: an edge, an on-prem daemon, datastores, a WAN between them.
#
# Sourced by story.sh, which sets stage, wan and root. Without wan_up all live in the story's own namespace, on
# loopback; after it the edge is in namespace a (10.200.0.1), the on-prem daemon and the datastore in b
# (10.200.0.2).

# shellcheck source=../../deploy/conf.sh
. "$root/deploy/conf.sh"

# --- the WAN ---

# wan_up RTT_MS MBIT [LOSS_PERCENT]
wan_up() {
    "$wan" up a b "$1" "$2" "${3:-0}"
    edge_ns=a onprem_ns=b
    edge_link_address=10.200.0.1:7260
}
wan_cut() { "$wan" cut a b; }
wan_heal() { "$wan" heal a b; }
# Bytes that have arrived on the edge's side so far.
wan_bytes() { "$wan" stats a b | awk '$1 == "b_to_a" { for (i = 2; i < NF; i++) if ($i == "tx_bytes") print $(i + 1) }'; }

# --- the edge ---

edge_healthy() { edge_get /healthz; }

# Starts the edge with the edge.conf there is (or the usual one) and waits until it answers.
edge_start() {
    [ -e "$stage/edge.conf" ] || edge_conf
    start_in "$edge_ns" edge isthmus-edge --config "$stage/edge.conf"
    wait_for 30 "the edge to answer" edge_answers
}
edge_answers() {
    alive edge || failed "the edge ended: $(tail -n 3 "$stage/edge.log")"
    edge_healthy
}

# ctl command...: isthmusctl against this edge.
ctl() { in_ns "$edge_ns" isthmusctl --server http://127.0.0.1:7261 --token-file "$stage/token" "$@"; }

# --- the on-prem daemon ---

onprem_start() {
    start_in "$onprem_ns" onprem isthmus-onprem --config "$stage/onprem.conf"
    wait_for 30 "the on-prem daemon to answer" onprem_answers
}
onprem_answers() {
    alive onprem || failed "the on-prem daemon ended: $(tail -n 3 "$stage/onprem.log")"
    onprem_get /healthz
}

# The usual cast: a disk from a file, both daemons, one VM "vm1" on it. usual_cast FILE
usual_cast() {
    onprem_conf disk1 "file:$1"
    edge_start
    onprem_start
    vm_create vm1 disk1
}
# vm_create NAME DISK [isthmusctl options]...
vm_create() {
    local name=$1 disk=$2
    shift 2
    ctl vm create "$name" --disk "dc1:$disk" "$@"
}
# url VM -> what libiscsi's tools take
url() { printf 'iscsi://127.0.0.1:3260/%s:%s/0\n' "$iqn" "$1"; }

# play CASE [options]: a case of `practice` (tests/lib/practice.c) against vm1, or the VM in $play_vm.
play() {
    practice "$1" 127.0.0.1:3260 "$iqn:${play_vm:-vm1}" --edge "${pids[edge]}" "${@:2}"
}

# disk_make FILE MIB: content that is neither zeros nor compressible, the same every time.
disk_make() {
    openssl enc -aes-128-ctr -K 00112233445566778899aabbccddeeff -iv 0 -in /dev/zero 2>/dev/null |
        head -c "$2M" >"$1" || true
}

# --- a datastore: tgt, in the on-prem daemon's namespace ---

tgt_control=7
tgt_portal=127.0.0.1:3261
tgtadm_() { tgtadm -C "$tgt_control" --lld iscsi "$@"; }
# tgt_start FILE [USER SECRET]: serves it as iqn.2026-11.org.isthmus.test:ds, LUN 1.
tgt_start() {
    local address=127.0.0.1
    [ -z "$onprem_ns" ] || address=10.200.0.2
    tgt_portal=$address:3261
    start_in "$onprem_ns" tgt tgtd -f -C "$tgt_control" --iscsi "portal=$tgt_portal"
    wait_for 10 "tgt to answer" tgtadm_ --op show --mode sys
    tgtadm_ --op new --mode target --tid 1 -T iqn.2026-11.org.isthmus.test:ds
    tgtadm_ --op new --mode logicalunit --tid 1 --lun 1 -b "$1"
    if [ $# = 3 ]; then
        tgtadm_ --op new --mode account --user "$2" --password "$3"
        tgtadm_ --op bind --mode account --tid 1 --user "$2"
    fi
    tgtadm_ --op bind --mode target --tid 1 -I ALL
}
# tgt_url [USER%SECRET@]
tgt_url() { printf 'iscsi://%s%s/iqn.2026-11.org.isthmus.test:ds/1\n' "${1:-}" "$tgt_portal"; }

# --- a guest, under QEMU, in the edge's namespace ---

# vm_boot NAME TASK chain URL | target IP PORT IQN LUN: its console is in NAME/serial.log.
# It goes before what else runs on the machine: a guest that gets no processor for half a minute calls that a lockup.
vm_boot() {
    local name=$1 task=$2
    shift 2
    TASK=isthmus-$task start_in "$edge_ns" "$name" nice -n -5 "$root/deploy/image/boot-vm" "$stage/$name" "$@"
}
# guest_script NAME FILE [ASSIGNMENT...]: writes NAME.sh, for a guest to run (SCRIPT): FILE of tests/boot, after guest.sh there.
guest_script() {
    local name=$1 file=$2
    shift 2
    { printf '%s\n' "$@" && cat "$root/tests/boot/guest.sh" "$root/tests/boot/$file"; } >"$stage/$name.sh"
}
serial_has() { grep -aqE -- "$2" "$stage/$1/serial.log" 2>/dev/null; }
# wait_serial NAME REGEX SECONDS
wait_serial() { wait_for "$3" "'$2' on $1's console" serial_or_end "$1" "$2"; }
serial_or_end() {
    serial_has "$@" && return 0
    alive "$1" || failed "$1 ended without '$2': $(tail -c 1000 "$stage/$1/serial.log")"
    return 1
}

# image_copy FILE [vm|tools|two-paths]: a disk to boot from, of this story alone (sparse).
image_copy() {
    local name=${2:-vm} image
    image=$(image_path "$name")
    [ -e "$image" ] || { say "needs the VM image: run deploy/image/ensure $name"; exit 77; }
    cp --sparse=always "$image" "$1"
}
