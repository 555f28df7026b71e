#!/usr/bin/env bash
# tests/lib/crash_lane.sh - rounds of crashes, one after the other, on one set of daemons: crash_lane.sh NAME PLAN
#
# PLAN has a round a line: KIND STEP N SEED (story/crash.sh writes it). Of each round a line comes back on
# stdout, "round KIND STEP N SEED: reached|not reached|random, lost N torn N", of a failed one the stage is kept in
# $CRASH_KEPT. One VM, three disks, commits every second or megabyte, small segments, another VM that comes and
# goes.
#
#   edge     the edge dies at its step, or at a random moment (-), under load; started again, everything
#            acknowledged is there
#   start    it dies at a random moment, and again at its step when it starts; the same
#   wipe     it dies as with edge, and its disks are lost; recovered from the store the VM is at a cut, with
#            everything that was flushed to the store
#   recover  it dies at a random moment, its disks are lost, and it dies again at its step while it recovers; the same
#   store    the object store takes nothing for a while, and the edge dies meanwhile; as with edge
#   home     the edge or the on-prem daemon, whose step it is, dies under load (-: at a random moment), and the other with
#            it; the on-prem daemon alone brings the source disks to a cut, with everything up to its instant
#   alone    the on-prem daemon dies under load, the edge goes on; started again, it brings the source disks to all that was
#            acknowledged
#   power    as if its machine had died: pieces of a stage that came last are lost; the same
#   verb     the edge dies as with edge, while another VM goes home and comes back and what it wrote is discarded;
#            the same, and what was under way with that VM comes to an end
#
# In a lane with STORAGE=write-back cuts go on to the source disks every second; else those never change.
. "$(dirname "$0")/story.sh"

lane=$1 plan=$2 kept=$CRASH_KEPT
story_name=crash-$lane
vm=vm1 sectors=8192 load_ms=$((3000 * slowness))
target=iscsi://127.0.0.1:3260/$iqn:$vm/0

# --- the daemons ---

# A small file system makes small segments. The store has one of its own, to be filled up.
stage_make() {
    mkdir data bucket
    mount -t tmpfs -o size=192M tmpfs data
    mount -t tmpfs -o size=512M tmpfs bucket
    edge_data=$stage/data/edge edge_journal=48M edge_ram=64M edge_loops=1
    edge_store="url = \"dir:$stage/bucket\" commit_age = 1 commit_bytes = 1M"
    cut-check prepare history "$vm" a.img "$sectors" b.img "$sectors" c.img "$sectors"
    truncate -s 4M other.img
    edge_conf
    echo 'writeback { interval = "1s" }' >>edge.conf
    onprem_conf a "file:$stage/a.img" b "file:$stage/b.img" c "file:$stage/c.img" other "file:$stage/other.img"
    onprem_start
    edge_go
    wait_for 180 "the edge to answer" edge_answers
    checksum=$(sums)
    ctl vm create "$vm" --disk dc1:a --disk dc1:b --disk dc1:c --storage "$STORAGE" >/dev/null
    cut-check run history "$target" --fill >/dev/null # the datastore, over the link, is not needed from here on
    rounds_on_stage=0
}
sums() { cat ./?.img | sha256sum; }
stage_end() {
    local name
    for name in "${!pids[@]}"; do
        crash "$name"
    done
    umount data bucket
    rm -rf "${stage:?}"/{data,bucket,history,*.img,*.log,onprem-data,flushed}
}

# edge_go [option]...: without waiting for it.
edge_go() {
    start edge isthmus-edge --config edge.conf "$@"
}
onprem_go() { start onprem isthmus-onprem --config onprem.conf "$@"; }
gone() { ! alive "$1"; }

# --- a load ---

load_go() { start load cut-check run history "$target" --ms "${1:-$load_ms}" --seed "$seed" --login 20; }

# Waits until the edge, or the on-prem daemon, has died or the load is over: 0 if it died.
dies() {
    local who=""
    wait -n -p who "${pids[$1]}" "${pids[load]}" 2>/dev/null || true
    [ "$who" = "${pids[load]}" ] || return 0
    unset "pids[load]"
    sleep 0.02 # the connection goes before the process
    ! alive "$1"
}
# It ends by itself when its connection does; but it may still be logging in.
load_over() {
    [ -n "${pids[load]:-}" ] || return 0
    kill -TERM "${pids[load]}" 2>/dev/null || true
    wait "${pids[load]}" 2>/dev/null || true
    unset "pids[load]"
}

# The edge, killed by itself or by us.
edge_buried() {
    local status=0
    [ -n "${pids[edge]:-}" ] || return 0
    kill -KILL "${pids[edge]}" 2>/dev/null || true
    wait "${pids[edge]}" 2>/dev/null || status=$?
    unset "pids[edge]"
    [ "$status" = 137 ] || trouble "the edge ended with status $status"
}

trouble() { printf 'trouble: %s\n' "$*" >>trouble.log; }

# What the load and the checks have said so far: adds to lost and torn.
take_words() {
    local word l t
    while read -r word l _ t _; do
        [ "$word" = lost ] || continue
        lost=$((lost + l)) torn=$((torn + t))
    done < <(grep -h '^lost' load.log check.log 2>/dev/null)
    grep -h '^cut-check' load.log check.log >>trouble.log 2>/dev/null || true
    rm -f load.log check.log
}

# Everything acknowledged must be there.
check_all() {
    cut-check verify history "$target" --settle --login $((60 * slowness)) >>check.log 2>&1 ||
        trouble "the check ended with status $?"
}

# --- what goes on beside the load ---

# A VM comes and goes, with something in the store.
others() {
    set +e
    while :; do
        until ctl vm create other --disk dc1:other || ctl vm show other || { ctl vm recover other && ctl vm show other; }; do
            sleep 0.05
        done
        head -c 1100000 /dev/urandom | lun-io write "iscsi://127.0.0.1:3260/$iqn:other/0" 0
        sleep 0.6 # for a commit
        ctl vm delete other --force
    done >/dev/null 2>&1
}

# What was acknowledged before a flush to the store was asked for survives the loss of the edge's disks.
flushes() {
    local asked
    while :; do
        asked=${EPOCHREALTIME//[.,]/}
        ! ctl vm flush "$vm" >/dev/null 2>&1 || echo "$asked" >flushed
        sleep 0.1
    done
}

# Without commits the journal keeps what is written over, until it writes the rest anew.
no_commits() {
    sleep 0.5
    bucket_fill
    sleep 60
}
bucket_fill() {
    fallocate -l "$(df --output=avail -B1 bucket | tail -n 1)" bucket/full 2>/dev/null || true
}

# Another VM goes home, comes back, and forgets what it wrote.
verbs() {
    set +e
    # A recovery may find one that was being deleted, or made: then there is none yet.
    until ctl vm show other || ctl vm create other --disk dc1:other || { ctl vm recover other && ctl vm show other; }; do
        sleep 0.05
    done
    while :; do
        ctl run-in-cloud other
        head -c 100000 /dev/urandom | lun-io write "iscsi://127.0.0.1:3260/$iqn:other/0" 0
        ctl vm flush other
        ctl vm discard other --yes --force
        head -c 100000 /dev/urandom | lun-io write "iscsi://127.0.0.1:3260/$iqn:other/0" 1000
        ctl run-on-prem other --commit --force
        ctl run-in-cloud other
        head -c 100000 /dev/urandom | lun-io write "iscsi://127.0.0.1:3260/$iqn:other/0" 2000
        ctl run-on-prem other --discard --force
    done
} >/dev/null 2>&1
# What was under way with it ends, and it goes.
other_is_gone() { ctl vm delete other --force 2>refused || ! ctl vm show other; }

clears() {
    set +e
    while :; do
        ctl vm clear-alarm "$vm"
        sleep 0.1
    done
} >/dev/null 2>&1

beside() {
    case $1 in
    create.* | delete.* | commit.whole) others & ;; # once in a VM's life
    verb.* | task.* | onprem.vm.detach) verbs & ;;
    onprem.vm.clear) clears & ;;
    journal.move) no_commits & ;;
    *) flushes & ;;
    esac
    beside=$!
}
beside_end() {
    kill "$beside" 2>/dev/null || true
    wait "$beside" 2>/dev/null || true
    rm -f bucket/full
}

# --- the rounds ---

# The edge, armed or not, under load until it dies; a random moment is less than a second away. The load begins
# by looking whether all is there that earlier deaths should have left.
die_under_load() {
    local options=() ms=$load_ms
    [ "$1" = - ] || options=(--crash-at "$1:$2")
    edge_buried
    edge_go "${options[@]}"
    case $1 in
    journal.move | verb.* | task.* | create.* | delete.* | commit.whole) ms=$((3 * load_ms)) ;; # the journal has to grow; on-prem has to be there
    esac
    load_go "$ms"
    beside "$1"
    if [ "$1" = - ]; then
        how=random
        sleep "0.$(printf '%03d' $((50 + seed % 800)))"
    elif dies edge; then
        how=reached
    fi
    beside_end
    edge_buried
    load_over
}

play_edge() { die_under_load "$1" "$2"; }

play_verb() {
    die_under_load "$1" "$2"
    edge_go
    show_whole=(refused) # why, if it does not
    wait_for 180 "the other VM to come to rest" other_is_gone
    check_all
}

play_store() {
    how=random
    edge_buried
    edge_go
    load_go
    sleep "0.$(printf '%03d' $((100 + seed % 400)))"
    bucket_fill
    sleep "0.$(printf '%03d' $((200 + seed % 500)))"
    edge_buried
    load_over
    edge_go
    sleep "0.$(printf '%03d' $((seed % 300)))"
    rm -f bucket/full
    check_all
}

# A step of the start: whatever it needs is left behind by a death before it.
play_start() {
    if [ "$1" = commit.adopt ]; then
        die_under_load commit.put 1
        how="not reached"
        die_under_load "$1" "$2"
        return
    fi
    die_under_load - 1
    how="not reached"
    edge_go --crash-at "$1:$2"
    wait_for 180 "the edge to start or to die" eval 'gone edge || edge_healthy'
    ! gone edge || how=reached
    edge_buried
}

recovered() {
    if gone edge; then
        edge_buried
        edge_go
        how=reached
    fi
    ctl vm recover "$vm" >>recover.log 2>&1 || tail -n 1 recover.log | grep -q "there is a VM $vm here already"
}

wiped() {
    local must=nothing
    [ ! -s flushed ] || must=$(cat flushed)
    rm -rf "$edge_data" recover.log
    edge_go "$@"
    wait_for 180 "the VM to be recovered" recovered
    cut-check verify history "$target" --must "$must" --settle --login $((60 * slowness)) >>check.log 2>&1 ||
        trouble "the check ended with status $?"
}

play_wipe() {
    rm -f flushed
    die_under_load "$1" "$2"
    wiped
}

play_recover() {
    rm -f flushed
    die_under_load - 1
    how="not reached"
    wiped --crash-at "$1:$2"
}

# The one whose step it is.
stepping() {
    case $1 in
    onprem.*) echo onprem ;;
    *) echo edge ;;
    esac
}

# What the on-prem daemon says of the disks at last.
at_a_cut() {
    local word
    alive onprem || failed "the on-prem daemon ended: $(tail -n 3 onprem.log)"
    logged onprem "serves [0-9]+ disks" || return 1
    word=$(grep "ctx=$vm " onprem.log | grep -E 'its disks are|nothing was written back|staged and will be applied|alarm' | tail -n 1)
    [[ -z $word || $word == *"its disks are at cut"* || $word == *"nothing was written back"* ]]
}
onprem_buried() {
    [ -z "${pids[onprem]:-}" ] || crash onprem
    rm -f onprem.log
}

play_home() {
    local options=() who instant
    who=$(stepping "$1")
    [ "$1" = - ] || options=(--crash-at "$1:$2")
    edge_buried
    onprem_buried
    if [ "$who" = edge ]; then
        edge_go "${options[@]}"
        onprem_go
    else
        edge_go
        onprem_go "${options[@]}"
    fi
    load_go
    beside "$1"
    if [ "$1" = - ]; then
        how=random
        sleep "$((1 + seed % 2)).$(printf '%03d' $((seed % 1000)))"
    elif dies "$who"; then
        how=reached
    fi
    beside_end
    edge_buried
    onprem_buried
    load_over
    onprem_go
    wait_for 180 "the source disks to be at a cut" at_a_cut
    instant=$(onprem_get /metrics | awk -v vm="$vm" 'index($0, "isthmus_onprem_applied_instant_seconds{vm=\"" vm "\"") == 1 { printf "%.0f", int($2 * 1000) * 1000 }')
    cut-check verify history a.img b.img c.img --must "${instant:-nothing}" >>check.log 2>&1 ||
        trouble "the check of the source disks ended with status $?"
}

# The source disks are at all that was acknowledged.
written_back() { ctl vm flush "$vm" --on-prem; } # refused while a task that was begun beside the load goes on
check_source() {
    wait_for 180 "everything to be written back" written_back
    cut-check verify history a.img b.img c.img --must "${EPOCHREALTIME//[.,]/}" >>check.log 2>&1 ||
        trouble "the check of the source disks ended with status $?"
}

play_alone() {
    edge_buried
    onprem_buried
    edge_go
    onprem_go --crash-at "$1:$2"
    load_go $((2 * load_ms))
    beside "$1"
    ! dies onprem || how=reached
    beside_end
    onprem_buried
    onprem_go
    load_over
    check_source
    check_all
}

# Refused while a task goes on that the load before had beside it.
paused() { ctl vm pause-writeback "$vm" >/dev/null 2>&1; }

# The first pieces of a stage are kept, those that came after them are lost.
play_power() {
    edge_buried
    onprem_buried
    edge_go
    onprem_go
    wait_for 180 "write-back to be paused" paused
    load_go
    wait "${pids[load]}" || true
    unset "pids[load]"
    onprem_buried
    onprem_go --crash-at onprem.stage.data:1
    ctl vm resume-writeback "$vm" >/dev/null
    wait_for 180 "a piece of a stage" gone onprem
    onprem_buried
    cp -a onprem-data onprem-before
    onprem_go --crash-at onprem.stage.data:4
    wait_for 180 "more pieces of it" gone onprem
    onprem_buried
    rm -rf onprem-data
    mv onprem-before onprem-data
    onprem_go --crash-at "$1:$2"
    wait_for 180 "the stage to be found in pieces" gone onprem
    how=reached
    onprem_buried
    onprem_go
    check_source
    check_all
}

before="a new stage"
play_round() {
    local kind=$1 step=$2 n=$3
    seed=$4 how="not reached" lost=0 torn=0
    : >trouble.log
    "play_$kind" "$step" "$n"
    take_words
    [ "$STORAGE" = write-back ] || [ "$checksum" = "$(sums)" ] || trouble "the source disks were written to"
    [ ! -s trouble.log ] || [ "$((lost + torn))" != 0 ] || torn=1
    printf 'round %s %s %s %s: %s, lost %s torn %s\n' "$kind" "$step" "$n" "$seed" "$how" "$lost" "$torn" >&3
    [ "$((lost + torn))" = 0 ] || keep_round "$kind-$step-$n-$seed"
    before="$kind $step $n $seed"
}

# The stage as it is, and a new one.
keep_round() {
    printf '  before it: %s; the stage is kept in %s\n' "$before" "$kept/$1" >&3
    sed 's/^/  /' trouble.log >&3
    mkdir -p "$kept/$1"
    cp -a --sparse=always ./*.log ./*.key history ./*.img data bucket "$kept/$1/" || true
    stage_end
    stage_make
}

stage_make
while read -r kind step n seed <&5; do
    play_round "$kind" "$step" "$n" "$seed"
    if [ $((++rounds_on_stage)) = 40 ]; then
        play_round edge - 1 "$seed"
        stage_end
        stage_make
    fi
done 5<"$plan" # 3 and 4 are the story's
