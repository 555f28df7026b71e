#!/usr/bin/env bash
# Two edges that are a pair, each with a VM of its own, and initiators with a path to both: whatever happens to one edge or
# to its cables, what was acknowledged is there, no initiator sees an error, and all goes on within seconds.
#
# FAILOVER_ROUNDS says how many rounds (10), SEED which ones, STOP_SECONDS how long a stopped edge is stopped (6). The last line is
# "rounds N lost N errors N stall_p50_ms N stall_max_ms N"; a stall is the longest time in which a load had no answer. As each check
# is one of all that was written, there are new VMs every 10 rounds, on the same source disks, which nobody writes to.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
pair_lease=3s # what happens to an edge lasts longer

rounds=${FAILOVER_ROUNDS:-10} seed=${SEED:-$RANDOM} stop_seconds=${STOP_SECONDS:-6}
sectors=16384
faults=(kill wipe stop cable client store cable_store full)
declare -A vm_of=([a]=vm1 [b]=vm2)
stalls=() lost=0 errors=0 played=0
say "SEED=$seed"
RANDOM=$seed

# Each edge's data is on a disk of its own, which can be full.
disk_for() {
    mkdir -p "data-$1"
    mountpoint -q "data-$1" || mount -t tmpfs -o size=900m tmpfs "data-$1"
}
disk_fresh() {
    umount "data-$1"
    disk_for "$1"
}

# --- what is always so ---

# An edge that has ended because it lost the argument is started again, as its service manager does. There is no other reason.
raise() {
    local e
    for e in a b; do
        alive "edge-$e" && continue
        ended "edge-$e" 1
        [ "$ended_status" = 75 ] || failed "edge $e ended with status $ended_status: $(tail -n 3 "edge-$e.log")"
        edge_up "$e"
    done
}
both_are_members() {
    raise
    edge_is a 4 && edge_is b 4
}
loads_go() {
    local vm
    for vm in vm1 vm2; do
        rm -f "load-$vm.log"
        start "load-$vm" cut-check run "history-$vm" "$(url_at a $vm)" "$(url_at b $vm)" --ms 300000 --seed "$RANDOM" --login 60
    done
    for vm in vm1 vm2; do wait_log "load-$vm" "^loading" 180; done # it looks at all that was written before
}
# take FILE: what a load or a check has said.
take() {
    local word l t key value rest
    read -r word l _ t _ _ rest < <(grep '^lost' "$1")
    [ "${word:-}" = lost ] || failed "no answer in $1: $(tail -n 3 "$1")"
    lost=$((lost + l + t))
    # shellcheck disable=SC2086
    set -- $rest
    while [ $# -ge 2 ]; do
        key=$1 value=$2
        [ "$key" != stall_ms ] || stalls+=("$value")
        shift 2
    done
    [ $# = 0 ] || errors=$((errors + 1))
}
loads_end() {
    local vm
    for vm in vm1 vm2; do
        kill -TERM "${pids[load-$vm]}" 2>/dev/null || true
        ended "load-$vm" 90
        [ "$ended_status" != 2 ] || errors=$((errors + 1))
        take "load-$vm.log"
        grep '^cut-check' "load-$vm.log" || true
    done
}
check() {
    local vm status
    for vm in vm1 vm2; do
        status=0
        cut-check verify "history-$vm" "$(url_at a $vm)" "$(url_at b $vm)" --settle --login 60 >check.log 2>&1 || status=$?
        [ "$status" -le 1 ] || failed "$vm cannot be checked: $(cat check.log)"
        grep '^cut-check' check.log || true
        take check.log
    done
}

# --- what happens ---

# fault NAME EDGE, and then mended.
fault() {
    local e=$2
    case $1 in
    kill | wipe)
        crash "edge-$e"
        [ "$1" = kill ] || disk_fresh "$e"
        sleep 4
        edge_up "$e"
        ;;
    stop)
        kill -STOP "${pids[edge-$e]}"
        sleep "$stop_seconds"
        kill -CONT "${pids[edge-$e]}"
        ;;
    cable)
        peer_cut
        sleep 6
        peer_heal
        ;;
    client) # what initiators and on-prem reach it by
        ip link set "to-$e" down
        sleep 6
        ip link set "to-$e" up
        ;;
    store)
        touch "away-$e"
        sleep 6
        rm "away-$e"
        ;;
    cable_store)
        touch "away-$e"
        peer_cut
        sleep 6
        peer_heal
        rm "away-$e"
        ;;
    full)
        fallocate -l 1G "data-$e/filler" 2>/dev/null || dd if=/dev/zero of="data-$e/filler" bs=1M status=none 2>/dev/null || true
        sleep 6
        rm -f "data-$e/filler"
        ;;
    esac
}

median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }
summary() {
    printf 'rounds %d lost %d errors %d stall_p50_ms %d stall_max_ms %d\n' "$played" "$lost" "$errors" "$(median "${stalls[@]}")" \
        "$(printf '%s\n' "${stalls[@]}" | sort -n | tail -n 1)"
}

# --- the VMs ---

vms_new() {
    cp none-vm1 history-vm1
    cp none-vm2 history-vm2
    wait_for 60 "vm1 to be made" ctl_at a vm create vm1 --disk dc1:one --disk dc1:two
    wait_for 60 "vm2 to be made" ctl_at b vm create vm2 --disk dc1:three --disk dc1:four
}
# Each by the edge that has it.
vm_delete() {
    local e
    for e in a b; do
        if owns "$e" "$1"; then ctl_at "$e" vm delete "$1" && return; fi
    done
    return 1
}
vms_again() {
    wait_for 60 "vm1 to be deleted" vm_delete vm1
    wait_for 60 "vm2 to be deleted" vm_delete vm2
    vms_new
    act "new VMs"
}

cut-check prepare none-vm1 vm1 one.img "$sectors" two.img "$sectors"
cut-check prepare none-vm2 vm2 three.img "$sectors" four.img "$sectors"
pair_up one "file:$stage/one.img" two "file:$stage/two.img" three "file:$stage/three.img" four "file:$stage/four.img"
disk_for a
disk_for b
both_up
vms_new

for ((round = 1; round <= rounds; round++)); do
    [ "$round" = 1 ] || [ $((round % 10)) != 1 ] || vms_again
    e=a
    [ $((RANDOM % 2)) = 0 ] || e=b
    what=${faults[(round - 1) % ${#faults[@]}]}
    loads_go
    sleep "0.$((RANDOM % 10))" # a moment at random
    fault "$what" "$e"
    wait_for 60 "both edges to be members" both_are_members
    loads_end
    check
    played=$round
    act "round $round, $what at edge $e: stalls ${stalls[*]: -2} ms, lost $lost, errors $errors"
done
summary
[ $((lost + errors)) = 0 ]
