# shellcheck shell=bash
# deploy/lib.sh - what the scripts of deploy/ and tests/ share: steps with progress, clean-up, packages, build.
#
# Source it from bash with `set -euo pipefail`. Nothing here runs by being sourced.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
steps_log=${steps_log:-/dev/null} # where the output of steps goes, besides the tail shown on failure

say() { printf '%s\n' "$*"; }
die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Seconds since the epoch, with milliseconds.
now() { date +%s.%3N; }
# since START -> seconds with one digit
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f", b - a }'; }

# Clean-up is registered where a thing is made, and undone last first.
undo_stack=()
step_group="" # of the step that is running
undo() { undo_stack+=("$*"); }
undo_all() {
    local undo_at # not a name that a registered command may use
    [ -z "$step_group" ] || kill -TERM -- "-$step_group" 2>/dev/null || true
    for ((undo_at = ${#undo_stack[@]} - 1; undo_at >= 0; undo_at--)); do
        eval "${undo_stack[undo_at]}" || true
    done
    undo_stack=()
}

# step "Words" command...: says what happens, how long it has taken so far (on a terminal), and how it ended.
# The output is shown only when the command fails.
step() {
    local words=$1 start log pid status=0
    shift
    start=$(now)
    log=$(mktemp)
    set -m # a process group of its own, so that Ctrl-C ends all of it
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    set +m
    step_group=$pid
    [ -t 1 ] || printf '%s ...\n' "$words"
    while kill -0 "$pid" 2>/dev/null; do
        [ ! -t 1 ] || printf '\r\033[K%s ... %.0f s' "$words" "$(since "$start")"
        sleep 0.2
    done
    wait "$pid" || status=$?
    step_group=""
    [ ! -t 1 ] || printf '\r\033[K'
    cat "$log" >>"$steps_log"
    if [ "$status" = 0 ]; then
        printf '%s: done in %s s\n' "$words" "$(since "$start")"
    else
        printf '%s: failed after %s s\n' "$words" "$(since "$start")"
        tail -n 60 "$log"
    fi
    rm -f "$log"
    return "$status"
}

# --- packages (Debian 12) ---

declare -A packages=(
    [build]="gcc libc6-dev cmake ninja-build pkg-config libevent-dev libssl-dev liblz4-dev libjansson-dev
    libiscsi-dev libnbd-dev librocksdb-dev libcurl4-openssl-dev libexpat1-dev libconfuse-dev libbsd-dev libcmocka-dev"
    [run]="openssl curl jq procps iproute2 util-linux qemu-system-x86 ipxe-qemu
    debootstrap e2fsprogs parted grub-pc-bin grub2-common zstd"
    [test]="tgt libiscsi-bin qemu-utils qemu-block-extra nbdkit clang clang-tidy lld libclang-rt-14-dev cppcheck valgrind shellcheck
        prometheus ccache llvm afl++ iputils-ping
        ceph-mon ceph-osd radosgw ceph-common
        swift-proxy swift-account swift-container swift-object memcached"
)
# Node's own packages hold npm, and cannot live beside Debian's.
command -v npm >/dev/null || packages[test]+=" nodejs npm"

# packages_missing LIST... -> those not installed, one a line
packages_missing() {
    local package
    # shellcheck disable=SC2048
    for package in $*; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || printf '%s\n' "$package"
    done
}

# Installs without starting any service of theirs (tgt, prometheus).
packages_apt() {
    local policy=/usr/sbin/policy-rc.d ours="" status=0
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        ours=1
    fi
    apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" || status=$?
    [ -z "$ours" ] || rm -f "$policy"
    return "$status"
}

# packages_install build|run|test...: what is missing of these lists.
packages_install() {
    local list missing="" names
    for list in "$@"; do
        names=${packages[$list]}
        missing+=" $(packages_missing "$names" | tr '\n' ' ')"
    done
    # shellcheck disable=SC2086
    set -- $missing
    [ $# -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "needs root to install: $*"
    command -v apt-get >/dev/null || die "install these by hand (no apt-get here): $*"
    step "Installing $# packages" packages_apt "$@"
}

# --- build ---

# build DIR TARGETS_OR_"" [cmake options...]
build() {
    local dir=$1 targets=$2 launcher=()
    shift 2
    command -v ccache >/dev/null && launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
    export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1 # a clone in another folder finds what is built already
    cmake -S "$root" -B "$dir" -G Ninja "${launcher[@]}" "$@"
    # shellcheck disable=SC2086
    ninja -C "$dir" $targets
}

# --- the VM images, each built once a machine ---

cache_dir=${ISTHMUS_CACHE:-${XDG_CACHE_HOME:-/var/cache}/isthmus}
# An image by its name, and the packages it has besides what makes a VM.
declare -A image_packages=(
    [vm]=""
    [tools]="multipath-tools,sg3-utils,fio,sqlite3"
    [two-paths]="multipath-tools-boot,fio,sqlite3"
)

# image_path [vm|tools|two-paths] -> where the image of this version of the script is, or will be
image_path() {
    local name=${1:-vm} hash
    hash=$({ cat "$root/deploy/image/make-image" && echo "${image_packages[$name]}"; } | sha256sum | cut -c1-16)
    printf '%s/%s-%s.img\n' "$cache_dir" "$name" "$hash"
}

# image_ensure [vm|tools|two-paths]: builds it if it is not there yet; only one process does, the others wait.
image_ensure() {
    local name=${1:-vm} image lock
    image=$(image_path "$name")
    [ ! -e "$image" ] || return 0
    mkdir -p "$cache_dir"
    exec {lock}>"$cache_dir/lock"
    flock "$lock"
    if [ ! -e "$image" ]; then
        rm -f "$cache_dir/$name"-*.img "$cache_dir/$name"-*.img.new
        step "Building a small Debian VM disk, '$name' (once, about 3 minutes)" \
            "$root/deploy/image/make-image" "$image.new" 4G "${image_packages[$name]}" && mv "$image.new" "$image"
    fi
    exec {lock}>&-
    [ -e "$image" ]
}

# --- Azurite, which speaks Azure Blob: for the tests, installed once a machine ---

azurite_version=3.35.0
azurite_before=2025-11-01 # what it depends on: no newer than this

azurite_path() { printf '%s/azurite-%s\n' "$cache_dir" "$azurite_version"; }

azurite_install() {
    local dir
    dir=$(azurite_path)
    rm -rf "$cache_dir"/azurite-*
    mkdir -p "$dir.new"
    (
        cd "$dir.new"
        printf '{"private": true}\n' >package.json
        npm install --no-audit --no-fund --ignore-scripts --before="$azurite_before" "azurite@$azurite_version"
    ) && mv "$dir.new" "$dir"
}

# Installs it if it is not there yet; only one process does, the others wait.
azurite_ensure() {
    local lock
    [ ! -e "$(azurite_path)" ] || return 0
    mkdir -p "$cache_dir"
    exec {lock}>"$cache_dir/azurite.lock"
    flock "$lock"
    [ -e "$(azurite_path)" ] || step "Installing Azurite (once, about half a minute)" azurite_install
    exec {lock}>&-
    [ -e "$(azurite_path)" ]
}
