# shellcheck shell=bash
# tests/lib/story.sh - what a story needs: a stage that vanishes, daemons, a WAN, datastores, expectations.
#
# Source it first. The story is then started again in network, mount and process namespaces of its own: every
# port is free, /run is its alone, and whatever it starts, mounts or makes is gone when it ends, however it
# ends. Files live in $stage. ISTHMUS_BIN names the folder of the programs. KEEP=DIR copies the stage there.
# UNDER="valgrind ..." runs our daemons under it.
set -euo pipefail

# shellcheck source=../../deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../deploy/lib.sh"

if [ -z "${STORY_INSIDE:-}" ]; then
    [ "$(id -u)" = 0 ] || { say "needs root"; exit 77; }
    export STORY_INSIDE=1
    exec unshare --net --mount --pid --fork --kill-child --mount-proc bash "$0" "$@"
fi
unset STORY_INSIDE
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
stage=/run/story
mkdir -p "$stage"
cd "$stage"

export PATH=${ISTHMUS_BIN:-$root/build/bin}:$PATH
export LC_ALL=C
wan=$root/deploy/wan/wan.sh
export WANLINK=${WANLINK:-${ISTHMUS_BIN:-$root/build/bin}/wanlink}
story_started=$(now)
story_name=$(basename "$0" .sh)
# How much slower than a plain build everything is: deadlines are multiplied by it.
slowness=${SLOWNESS:-1}

show_whole=() # files that are shown when the story fails, besides the logs' ends

exec 3>&1 4>&2 # the story's own, wherever a failure is noticed

# --- the play ---

act() { printf '%6s s  %s\n' "$(since "$story_started")" "$*"; }

failed() {
    printf '%s: %s\n' "$story_name" "$*" >&4
    exit 1
}

needs() {
    local tool
    for tool in "$@"; do
        command -v "$tool" >/dev/null || { say "needs $tool"; exit 77; }
    done
}

# expect "what" command...: it must succeed.
expect() {
    local what=$1
    shift
    "$@" || failed "expected: $what"
}

# refuse "what" command...: it must fail.
refuse() {
    local what=$1
    shift
    ! "$@" || failed "expected a refusal: $what"
}

# wait_for SECONDS "what" command...: until it succeeds.
wait_for() {
    local seconds=$(($1 * slowness)) what=$2 end
    shift 2
    end=$((SECONDS + seconds))
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -le "$end" ] || failed "waited $seconds s for: $what"
        sleep 0.05
    done
}

# --- processes ---

declare -A pids=() programs=()

# start NAME program...: its output goes to NAME.log.
start() { start_in "" "$@"; }
# start_in NAMESPACE NAME program...
start_in() {
    local ns=$1 name=$2
    shift 2
    programs[$name]=$1
    # shellcheck disable=SC2086
    [[ $1 != isthmus-* ]] || set -- ${UNDER:-} "$@"
    [ -z "$ns" ] || set -- ip netns exec "$ns" "$@"
    (exec "$@") >>"$stage/$name.log" 2>&1 </dev/null 3>&- 4>&- 5<&- &
    pids[$name]=$!
}
alive() { kill -0 "${pids[$1]}" 2>/dev/null; }

# ended NAME SECONDS -> waits for its end; status in $ended_status
ended_status=0
ended() {
    local name=$1 end=$((SECONDS + $2 * slowness))
    while alive "$name"; do
        [ "$SECONDS" -le "$end" ] || failed "$name did not end within $2 s"
        sleep 0.02
    done
    ended_status=0
    wait "${pids[$name]}" || ended_status=$?
    unset "pids[$name]"
}

# A clean end: SIGTERM, status 0.
stop() {
    kill -TERM "${pids[$1]}"
    ended "$1" 20
    [ "$ended_status" = 0 ] || failed "$1 ended with status $ended_status after SIGTERM"
}

# SIGKILL, nothing flushed.
crash() {
    kill -KILL "${pids[$1]}" 2>/dev/null || true
    wait "${pids[$1]}" 2>/dev/null || true
    unset "pids[$1]"
}

# --- what is heard of them ---

logged() { grep -qE -- "$2" "$stage/$1.log"; }
# wait_log NAME REGEX [SECONDS=15]
wait_log() { wait_for "${3:-15}" "'$2' in $1's log" logged "$1" "$2"; }
expect_log() { logged "$1" "$2" || failed "expected '$2' in $1's log"; }
refuse_log() { ! logged "$1" "$2" || failed "'$2' must not be in $1's log: $(grep -E -- "$2" "$stage/$1.log" | head -3)"; }

edge_http=127.0.0.1:7262 onprem_http=127.0.0.1:7263
edge_ns="" onprem_ns="" # set by wan_up: where the daemons live
in_ns() { # in_ns NS command...: "" is the story's own namespace
    local ns=$1
    shift
    if [ -n "$ns" ]; then
        ip netns exec "$ns" "$@"
    else
        "$@"
    fi
}
edge_get() { in_ns "$edge_ns" curl -fsS --max-time 20 "http://$edge_http$1"; }
onprem_get() { in_ns "$onprem_ns" curl -fsS --max-time 20 "http://$onprem_http$1"; }

# metric edge|onprem NAME [LABEL_PART] -> sum of its series (a whole number, or 0)
metric() {
    local text
    text=$("$1_get" /metrics) || return 1
    awk -v name="$2" -v part="${3:-}" '
        { series = $1; sub(/\{.*/, "", series) }
        series == name && (part == "" || index($0, part)) { sum += $NF }
        END { printf "%.0f\n", sum }' <<<"$text"
}

# --- the end ---

# With CLEAN_ENDS=1 our daemons must end well on SIGTERM, too: that is where the sanitizers and valgrind say
# what they have seen.
clean_ends() {
    local name end=$((SECONDS + 20 * slowness)) status=0
    for name in "${!pids[@]}"; do
        if [[ ${programs[$name]} != isthmus-* ]] || ! alive "$name"; then continue; fi
        kill -TERM "${pids[$name]}"
        while alive "$name" && [ "$SECONDS" -le "$end" ]; do
            sleep 0.02
        done
        ended_status=124
        alive "$name" || { ended_status=0 && wait "${pids[$name]}" && unset "pids[$name]"; } || ended_status=$?
        [ "$ended_status" = 0 ] || { status=1 && say "$name ended with status $ended_status at the end"; }
    done
    return "$status"
}

story_end() {
    local status=$? name
    exec 1>&3 2>&4
    if [ "$status" = 0 ] && [ -n "${CLEAN_ENDS:-}" ]; then
        clean_ends || status=1
    fi
    if [ "$status" != 0 ] && [ "$status" != 77 ]; then
        [ ${#show_whole[@]} = 0 ] || cat "${show_whole[@]}" 2>/dev/null || true
        say "--- $story_name failed; the logs' ends:"
        tail -n 25 "$stage"/*.log "$stage"/*/serial.log 2>/dev/null || true
    fi
    [ -z "${KEEP:-}" ] || { mkdir -p "$KEEP/$story_name" && cp -a --sparse=always "$stage/." "$KEEP/$story_name/"; }
    for name in "${!pids[@]}"; do
        crash "$name"
    done
    [ "$status" != 0 ] || act "done" >&2
}
trap story_end EXIT
trap 'exit 130' INT TERM

# shellcheck source=cast.sh
. "$root/tests/lib/cast.sh"
