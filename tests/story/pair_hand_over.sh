#!/usr/bin/env bash
# A VM is handed to the other edge and back while initiators write to it by both: no error, none is dropped, and how long
# their commands wait is printed. Then the new owner dies, at any time, and nothing is lost; and one that dies in the middle of
# taking a VM leaves it to the edge that gave it.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
needs jq

verify-load prepare one.img "$sectors"
verify-load prepare two.img "$sectors"
pair_up disk1 "file:$stage/one.img" disk2 "file:$stage/two.img"
both_up
act "a VM, written to by both edges"
ctl_at a vm create vm1 --disk dc1:disk1 --disk dc1:disk2
declare -A lun=([a]=0 [b]=1)
# path a|b: to the disk that is loaded by that edge
path() { printf 'iscsi://%s:3260/%s:vm1/%s\n' "${edge_address[$1]}" "$iqn" "${lun[$1]}"; }
# load a|b
load() {
    rm -f "load-$1.log"
    start "load-$1" verify-load run "$(path "$1")" "$stage/state-$1" "$sectors" "$RANDOM"
    wait_log "load-$1" "^loading" 60
}
exported() { verify-load check "$(path b)" "$stage/state-b" "$sectors"; }
wait_for 10 "edge b to export it" exported
two-ports "$(path a)" "$(path b)" "1 register 0 0xa" "2 register 0 0xb" >out
load a
load b
both_unharmed() {
    unharmed load-a
    unharmed load-b
}
# stalls: while the file "watch" is there, how long the longest time without an acknowledged write was by each, in ms
stalls() {
    local now at seen
    local -A last=([a]=0 [b]=0) since longest=([a]=0 [b]=0)
    now=$(date +%s%3N)
    since=([a]=$now [b]=$now)
    while [ -e watch ]; do
        for at in a b; do
            seen=$(acknowledged "load-$at") now=$(date +%s%3N)
            [ $((now - since[$at])) -le "${longest[$at]}" ] || longest[$at]=$((now - since[$at]))
            [ "$seen" = "${last[$at]}" ] || since[$at]=$now
            last[$at]=$seen
        done
        sleep 0.01
    done
    echo "${longest[a]} ms by edge a, ${longest[b]} ms by edge b"
}
waited() { grep -oE 'commands waited for [0-9]+ ms' "edge-$1.log" | tail -n 1; }

at=a other=b
for round in 1 2; do
    : >watch
    stalls >longest & watching=$!
    hand_over "$at" vm1
    expect "edge $other to own it" owns "$other" vm1
    both_unharmed
    rm watch
    wait "$watching"
    act "round $round: edge $at gave it to edge $other: $(waited "$at"); the longest stall was $(cat longest)"
    refuse "edge $at to own it, too" owns "$at" vm1
    [ "$at" = a ] && at=b other=a || at=a other=b
done

act "registrations went along, each with its port"
two-ports "$(path a)" "$(path b)" "1 full" "2 full" "1 groups" >out
expect "edge a's (not: $(cat out))" grep -qx 'registered 0xa@1' out
expect "edge b's (not: $(cat out))" grep -qx 'registered 0xb@32769' out
expect "edge a's path to be the fast one again (not: $(cat out))" grep -qx 'groups 1=optimized 32769=non-optimized' out

act "the new owner dies"
hand_over a vm1
both_unharmed
crash edge-b
wait_role a sole
wait_for 30 "edge a to own it again" owns a vm1
goes_on load-a 30
refuse "the initiator at edge a to have been refused anything" logged load-a refused
ended load-b 60
expect "nothing lost by edge b" verify-load check "iscsi://${edge_address[a]}:3260/$iqn:vm1/1" "$stage/state-b" "$sectors"
refuse "a VM to be handed over to nobody" ctl_at a vm hand-over vm1

act "the other edge dies when it has just taken the VM"
rm -f edge-b.log
start_in b edge-b isthmus-edge --config "$stage/edge-b.conf" --crash-at recover.take:1
whole
# It may be put off before edge b takes it.
dies_of_it() {
    alive edge-b || return 0
    ctl_at a vm hand-over vm1 --no-wait
    sleep 1
    ! alive edge-b
}
wait_for 60 "edge b to die in the midst of taking it" dies_of_it
ended edge-b 5
wait_role a sole
wait_for 30 "edge a to own it" owns a vm1
goes_on load-a 30
refuse "the initiator at edge a to have been refused anything" logged load-a refused

act "the edge that gives dies"
edge_up b
whole
ctl_at a vm hand-over vm1 --no-wait
crash edge-a
ended load-a 60
wait_role b sole
served() { verify-load check "iscsi://${edge_address[b]}:3260/$iqn:vm1/0" "$stage/state-a" "$sectors"; }
wait_for 30 "edge b to own it" owns b vm1
expect "nothing lost by edge a" served
expect "nor by edge b" exported
stop edge-b
stop onprem
