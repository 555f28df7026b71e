#!/usr/bin/env bash
# Runs first in every guest that is given a script (guest_script in tests/lib/cast.sh): its output is on the serial console.
set -uo pipefail
# A login prompt that starts later hangs the console up for all who write to it.
systemctl mask --runtime --now serial-getty@ttyS0.service >/dev/null 2>&1
exec >/dev/ttyS0 2>&1

checked=0 failures=0
fail() {
    failures=$((failures + 1))
    echo "FAILED $*"
}
# checks "what" command...
checks() {
    local what=$1
    shift
    checked=$((checked + 1))
    "$@" || fail "$what"
}
refuse() { ! "$@"; }
# all_told: the last word, for the host.
all_told() {
    echo "CHECKED $checked FAILURES $failures END"
    [ "$failures" = 0 ]
}
