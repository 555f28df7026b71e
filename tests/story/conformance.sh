#!/usr/bin/env bash
# The field's own suite, iscsi-test-cu --dataloss, every test in a process of its own, with two paths, by two ports
# of the target, against an edge whose disk is on-prem. tests/conformance/exceptions names the tests that are wrong
# themselves. Ends with "passed N failed N skipped N". CONFORMANCE='Suite[.Test]...' runs a part, BLOCK_BYTES=4096
# gives it a 4Kn disk, SIZE=5T a large one.
. "$(dirname "$0")/../lib/story.sh"

needs iscsi-test-cu
declare -A exceptions=()
while read -r name reason; do
    case $name in
    '' | '#'*) ;;
    *) exceptions[$name]=$reason ;;
    esac
done <"$root/tests/conformance/exceptions"

truncate -s "${SIZE:-100M}" disk.img
edge_iscsi='0.0.0.0:3260", "0.0.0.0:3261,2'
onprem_conf disk1 "file:$stage/disk.img"
edge_start
onprem_start
vm_create vm1 disk1 --block-bytes "${BLOCK_BYTES:-512}"
first=$(url vm1)
mapfile -t tests < <(iscsi-test-cu -l | sed -n 's/^ *ALL\.\([^. ]*\.[^ ]*\) *$/\1/p')
[ "${#tests[@]}" -ge 200 ] || failed "iscsi-test-cu lists ${#tests[@]} tests"

chosen() {
    local part
    [ -n "${CONFORMANCE:-}" ] || return 0
    for part in $CONFORMANCE; do
        case $1 in
        "$part" | "$part".*) return 0 ;;
        esac
    done
    return 1
}

# one NAME -> passed, failed or skipped in $verdict, with $why
one() {
    local status=0 name=$1
    timeout -k 1 "$((20 * slowness))" iscsi-test-cu --dataloss --normal -t "ALL.$1" "$first" "${first/:3260/:3261}" \
        >test.out 2>&1 </dev/null || status=$?
    why=""
    # What it says before the test itself is about the run, not the test.
    sed -n '/CUnit - /,$p' test.out >said
    # (it looks for reservations to clear before every test)
    [[ $name == Prin* || $name == Prout* ]] || sed -i '/PERSISTENT RESERVE IN is not/d' said
    if [ "$status" != 0 ] || grep -qE '^ *[0-9]+\. ' said ||
        ! grep -qE '^ *tests +1 +1 +1 +0 ' test.out; then
        verdict=failed
        why="status $status: $(grep -E '\[FAILED\]|^ *[0-9]+\. ' said | head -n 2 | tr -s ' \n' ' ' || true)"
        if [ -n "${exceptions[$1]:-}" ]; then
            verdict=skipped
            why="the suite is wrong: ${exceptions[$1]}"
        fi
    elif grep -q SKIPPED said; then
        verdict=skipped
        why=$(sed -n 's/.*\[SKIPPED\] *//p' said | head -n 1)
    else
        verdict=passed
        [ -z "${exceptions[$1]:-}" ] || why="though it is in the list of exceptions"
    fi
}

declare -A count=([passed]=0 [failed]=0 [skipped]=0)
for name in "${tests[@]}"; do
    chosen "$name" || continue
    alive edge || failed "the edge ended before $name"
    one "$name"
    count[$verdict]=$((${count[$verdict]} + 1))
    if [ "$verdict" != passed ] || [ -n "$why" ]; then
        printf '%-7s %-40s %s\n' "$verdict" "$name" "$why"
    fi
    if [ "$verdict" = failed ] && [ -n "${KEEP:-}" ]; then
        cp test.out "$stage/$name.out"
    fi
done
stop edge
printf 'passed %d failed %d skipped %d\n' "${count[passed]}" "${count[failed]}" "${count[skipped]}"
[ "${count[failed]}" = 0 ]
