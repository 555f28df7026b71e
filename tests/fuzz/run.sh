#!/usr/bin/env bash
# tests/fuzz/run.sh - one fuzz target for so many seconds of its own processor time, from its seeds and what was found
# before; ends with one line that says what was done.
#
#   run.sh NAME [SECONDS]        libFuzzer, from build-fuzz; lines are counted by build-cov, where that is built
#   run.sh --afl NAME [SECONDS]  AFL++, from build-afl
#
# What is found stays beside the build, an input that fails too (NAME-crash-*, NAME-leak-*, NAME-timeout-*). FUZZ_BUILD
# names another build folder, FUZZ_SECONDS says how long if SECONDS does not (10).
set -euo pipefail

fuzz=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$fuzz/../.." && pwd)
afl=""
if [ "${1:-}" = --afl ]; then
    afl=1
    shift
fi
name=${1:-} seconds=${2:-${FUZZ_SECONDS:-10}}
if [ -z "$name" ] || [ $# -gt 2 ] || ! [[ $seconds =~ ^[1-9][0-9]*$ ]]; then
    sed -n '5,6s/^# *//p' "$0" >&2
    exit 2
fi
build=${FUZZ_BUILD:-$root/build-fuzz}
[ -z "$afl" ] || build=${FUZZ_BUILD:-$root/build-afl}
here=$build/tests/fuzz
program=$here/fuzz_$name
[ -x "$program" ] || { echo "run.sh: no $program"; exit 2; }
dictionary=$fuzz/$name.dict
# AFL++ wants a seed, libFuzzer its folder.
seeds=$fuzz/corpus/$name

# cpu_seconds PID -> user and system time so far, in whole seconds
ticks=$(getconf CLK_TCK)
cpu_seconds() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | awk -v ticks="$ticks" '{ print int(($12 + $13) / ticks) }'; }

# lines_run -> ", 87.5 % of the lines of target/..." by the seeds and what was found
lines_run() {
    local covered=$root/build-cov/tests/fuzz/fuzz_$name first patterns part files=() profile
    first=$(head -n 3 "$fuzz/fuzz_$name.c" | tr -d '\n')
    [[ $first =~ covers:\ ([a-z_/ *]+) ]] && [ -x "$covered" ] || return 0
    patterns=${BASH_REMATCH[1]%% \*/*}
    for part in $patterns; do
        [ "$part" = '*' ] || files+=("$root/$part"*.c)
    done
    profile=$here/$name.profile
    LLVM_PROFILE_FILE=$profile.raw "$covered" -runs=0 "$found" "$seeds" >"$profile.log" 2>&1 || return 0
    llvm-profdata merge -sparse "$profile.raw" -o "$profile"
    llvm-cov report "$covered" -instr-profile="$profile" "${files[@]}" 2>/dev/null |
        awk -v of="${patterns//\*/}" '$1 == "TOTAL" { sub(/ +$/, "", of); gsub(/  +/, " ", of); printf ", %s of the lines of %s", $10, of }'
    rm -f "$profile.raw"
}

libfuzzer() {
    local log=$here/$name.log pid used=0 status=0 options=(-rss_limit_mb=1024 -malloc_limit_mb=256 -timeout=120)
    found=$here/$name-found
    mkdir -p "$found" "$seeds"
    [ ! -e "$dictionary" ] || options+=("-dict=$dictionary")
    export ASAN_OPTIONS=abort_on_error=1:detect_leaks=1:quarantine_size_mb=64 UBSAN_OPTIONS=print_stacktrace=1
    "$program" "${options[@]}" -print_final_stats=1 -artifact_prefix="$here/$name-" "$found" "$seeds" >"$log" 2>&1 &
    pid=$!
    trap 'kill -KILL "$pid" 2>/dev/null' EXIT
    while kill -0 "$pid" 2>/dev/null; do
        used=$(cpu_seconds "$pid")
        [ "${used:-0}" -lt "$seconds" ] || { kill -USR1 "$pid"; break; }
        sleep 0.2
    done
    wait "$pid" || status=$?
    trap - EXIT
    # SIGUSR1 ends it with 0, between two inputs. SIGINT ends it where it stands; in the allocator it stands for ever.
    if [ "$status" != 0 ] || [ "${used:-0}" -lt "$seconds" ]; then
        tail -n 60 "$log"
        echo "$name: FOUND something after $used s of CPU (status $status)"
        return 1
    fi
    awk -v name="$name" -v cpu="$used" -v lines="$(lines_run)" '
        match($0, /\([0-9]+ inline/) { edges = substr($0, RSTART + 1, RLENGTH - 8) }
        match($0, /cov: [0-9]+/) { cov = substr($0, RSTART + 5, RLENGTH - 5) }
        /number_of_executed_units/ { runs = $2 }
        END { printf "%s: %d executions in %d s of CPU, %d of %d edges%s, no finding\n", name, runs, cpu, cov, edges, lines }' "$log"
}

afl() {
    local out=$here/$name-afl log=$here/$name-afl.log stats options=(-V "$seconds" -m none -t 5000)
    stats=$out/default/fuzzer_stats
    [ ! -e "$dictionary" ] || options+=(-x "$dictionary")
    rm -rf "$out"
    AFL_NO_UI=1 AFL_SKIP_CPUFREQ=1 AFL_NO_AFFINITY=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 \
        ASAN_OPTIONS=abort_on_error=1:symbolize=0:detect_leaks=0 \
        afl-fuzz "${options[@]}" -i "$seeds" -o "$out" -- "$program" >"$log" 2>&1 </dev/null ||
        { tail -n 20 "$log"; echo "$name: afl-fuzz ended with an error"; return 1; }
    awk -v name="$name" -v seconds="$seconds" '
        { value[$1] = $3 }
        END {
            bad = value["saved_crashes"] + value["saved_hangs"]
            printf "%s: %d executions in %d s by AFL++, %d of %d edges, ", name, value["execs_done"], seconds, value["edges_found"], value["total_edges"]
            if (bad) print bad " findings"
            else print "no finding"
            exit bad > 0
        }' "$stats" || { echo "they are in $out/default"; return 1; }
}

if [ -n "$afl" ]; then afl; else libfuzzer; fi
