#!/usr/bin/env bash
# One linter over all our sources: lint.sh shellcheck | cppcheck | clang-tidy BUILD_DIR
#
# TIDY_NODES says how many states of a function the analyzer looks at, at most (50,000). Its own limit, 225,000, which `tests/run --long` has,
# takes three to four times as long in large files.
set -euo pipefail
cd "$(dirname "$0")/../.."
. deploy/lib.sh

c_sources() { find common link journal cache target initiator control tests/lib tests/sim deploy -name '*.c' | sort; }
scripts() {
    find deploy tests .ci -type f -exec sh -c 'head -c 40 "$1" | grep -aqE "^#!.*bash|shellcheck shell=" && echo "$1"' _ {} \; | sort
}

case $1 in
shellcheck) scripts | xargs shellcheck ;;
cppcheck)
    c_sources | cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,performance,portability -D_GNU_SOURCE \
        -DISTHMUS_VERSION='""' --include=tests/check/cppcheck.h --inline-suppr --suppress=missingIncludeSystem --suppressions-list=tests/check/cppcheck.supp \
        --library=gnu,posix -I common -I link -I journal -I journal/store -I cache -I target -I initiator -I control \
        --file-list=-
    ;;
clang-tidy)
    export clean_dir=$cache_dir/tidy TIDY_NODES=${TIDY_NODES:-50000}
    mkdir -p "$clean_dir"
    find "$clean_dir" -type f -mtime +30 -delete
    c_sources | xargs -P "$(nproc)" -n 1 bash "$0" tidy "$2"
    ;;
tidy)
    # One file, unless the same text with the same headers was found clean before.
    command=$(jq -r --arg file "$PWD/$3" '[.[] | select(.file == $file) | .command][0] // empty' "$2/compile_commands.json")
    [ -n "$command" ] || die "$3 is in no build"
    text=$({ clang-tidy --version && echo "$TIDY_NODES" && cat .clang-tidy && eval "$command -E -P -C -o -"; } | sed "s|$PWD|.|g" | sha256sum | cut -c1-32)
    if [ -e "$clean_dir/$text" ]; then exit; fi
    # Its counts of suppressed warnings are noise.
    nodes=(-extra-arg=-Xclang -extra-arg=-analyzer-config -extra-arg=-Xclang -extra-arg=max-nodes="$TIDY_NODES")
    clang-tidy -p "$2" --quiet --warnings-as-errors='*' "${nodes[@]}" "$3" 2>&1 | sed -E '/^[0-9]+ warnings? |^Suppressed|^Use -/d'
    touch "$clean_dir/$text"
    ;;
esac
