#!/usr/bin/env bash
# One linter over all our sources: lint.sh shellcheck | cppcheck | clang-tidy BUILD_DIR
set -euo pipefail
cd "$(dirname "$0")/../.."

c_sources() { find common link journal cache target initiator control tests/lib deploy -name '*.c' | sort; }
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
    # Its counts of suppressed warnings are noise.
    c_sources | xargs -P "$(nproc)" -n 1 clang-tidy -p "$2" --quiet --warnings-as-errors='*' 2>&1 |
        sed -E '/^[0-9]+ warnings? |^Suppressed|^Use -/d'
    ;;
esac
