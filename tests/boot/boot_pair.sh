#!/usr/bin/env bash
# A guest whose root is a multipath map of both edges' portals works (SQLite, fio with verify) while one edge after the
# other is killed and comes back, and each gets a program of the next generation: it sees no error. Then it boots again, by
# either edge's script.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
needs jq qemu-system-x86_64 python3

# guest_boot NAME a|b ASSIGNMENT...: by that edge's script.
guest_boot() {
    local name=$1 edge=$2
    shift 2
    guest_script "$name" guest_pair.sh "$@"
    SCRIPT=$stage/$name.sh vm_boot "$name" script chain "http://${edge_address[$edge]}:7262/boot/vm1.ipxe"
}
told() { { grep -aoE "$2 [0-9]+ END" "$1/serial.log" || true; } | tail -n 1 | cut -d' ' -f2; }
beyond() { local n; n=$(told guest "$1") && [ "${n:-0}" -gt "$2" ]; }
# goes_on: both kinds of work get further, by more than what was under way.
goes_on() {
    local rows passes
    rows=$(told guest ROW) passes=$(told guest PASS)
    wait_for 60 "more rows to be committed" beyond ROW "${rows:-0}"
    wait_for 120 "fio to verify more" beyond PASS $((${passes:-0} + 1))
    refuse_failures guest
}
refuse_failures() { refuse "something wrong: $(grep -a '^FAILED' "$1/serial.log")" serial_has "$1" '^FAILED'; }
# back: the pair is whole, and the guest has both paths.
back() {
    whole
    wait_for 120 "the guest to have both paths again" both_paths
}
both_paths() { [ "$(told guest PATHS)" = 2 ]; }
# upgraded a|b: stopped, and started as a program of the next generation.
upgraded() {
    stop "edge-$1"
    edge_as "$1" 1
    back
}
# checked GUEST
checked() {
    wait_serial "$1" 'CHECKED [0-9]+ FAILURES [0-9]+ END' 300
    refuse_failures "$1"
    expect "the guest to be content" serial_has "$1" 'CHECKED [0-9]+ FAILURES 0 END'
    ended "$1" 60
}

image_copy source.img two-paths
pair_up vm1-root "file:$stage/source.img"
both_up
ctl_at a vm create vm1 --disk dc1:vm1-root
guest_boot guest a load=1
wait_serial guest LOADING 900
goes_on
act "the guest works ($(told guest ROW) rows, $(told guest PASS) files): the owner is killed"
crash edge-a
wait_for 30 "edge b to own it" owns b vm1
goes_on
act "it goes on; edge a comes back"
edge_up a
back
goes_on
act "it goes on; edge b, which owns it now, is killed"
crash edge-b
wait_for 30 "edge a to own it" owns a vm1
goes_on
edge_up b
back
goes_on
act "it goes on; edge b gets the next program, then edge a"
upgraded b
goes_on
upgraded a
expect "both to write as the next generation" test "$(ctl_at a --json pair status | jq -r '"\(.generation) \(.own_generation) \(.other_generation)"')" = "2 2 2"
goes_on
act "enough"
mkdir empty
start enough python3 -m http.server 9 --bind 127.0.0.1 --directory "$stage/empty"
checked guest
rows=$(told guest ROW)
crash enough
for name in a b; do
    act "it boots again by edge $name's script; $rows rows were committed"
    guest_boot "again-$name" "$name" "rows=$rows"
    checked "again-$name"
done
stop edge-a
stop edge-b
stop onprem
