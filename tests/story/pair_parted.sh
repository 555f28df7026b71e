#!/usr/bin/env bash
# Edges of a pair that do not hear of each other: at most one serves a VM. The cable between them is pulled, then the
# cable and the store of one of them, then one is stopped for longer than a lease: the one that lost answers not one read
# from then on, ends, and is taken in again when it comes back.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"

vm1_up

# loaded_at a|b: vm1 is written to there, and has been for a moment.
loaded_at() {
    load_at "$1"
    sleep 1
}
# load_ends a|b
load_ends() {
    load_dies_at "$1"
    expect "nothing lost at edge $1" wait_for 30 "edge $1 to serve vm1" served_by "$1"
}
# read_at a|b: a read there, begun now, has no answer until edge_ends says so.
read_at() {
    rm -f read.out read.part
    # shellcheck disable=SC2016
    start read bash -c 'lun-io read "$1" 0 8 >read.part && [ -s read.part ] && mv read.part read.out' read "$(url_at "$1" vm1)"
}
# edge_ends a|b: it has found out that it lost, says so and answers nothing.
edge_ends() {
    ended "edge-$1" 30
    [ "$ended_status" = 75 ] || failed "edge $1 ended with status $ended_status"
    expect_log "edge-$1" "the other edge is the only member: this one stops"
    expect "no read to be answered at edge $1" test ! -e read.out
    crash read
}
blocked() { [ "$(metric "$1" isthmus_pair_blocked)" = 1 ]; }
# taken_in a|b: it comes back and is a member again.
taken_in() {
    edge_up "$1"
    whole
}

act "the cable between the edges is pulled: one goes on, the other ends"
loaded_at a
peer_cut
one_ends
load_ends "$at"
peer_heal
taken_in "$loser"
if [ "$at" = b ]; then # the acts below begin with edge a as the owner
    crash edge-b
    wait_role a sole
    taken_in b
fi

act "cable and store of the owner are pulled: it blocks, the other serves what was acknowledged"
loaded_at a
touch away-a
peer_cut
wait_role b sole
read_at a
load_ends b
expect "edge a to wait" alive edge-a
expect "no read to be answered at edge a" test ! -e read.out
wait_for 10 "it to say that it is blocked" blocked a
rm away-a
edge_ends a
peer_heal
taken_in a

act "the owner is stopped for longer than a lease"
loaded_at b
kill -STOP "${pids[edge-b]}"
read_at b
wait_role a sole
load_ends a
kill -CONT "${pids[edge-b]}"
edge_ends b
taken_in b

act "no store for both, and no cable: nobody guesses, and all goes on when either is back"
loaded_at a
touch away-a away-b
peer_cut
wait_for 30 "edge a to block" blocked a
read_at a
sleep 2
expect "both edges to be there" alive edge-a
expect "both edges to be there" alive edge-b
expect "no read to be answered at edge a" test ! -e read.out
rm away-a away-b
one_ends
if [ "$at" = a ]; then
    ended read 30
    expect "the read that waited to be answered" test -s read.out
else
    expect "no read to be answered at edge a" test ! -e read.out
    crash read
fi
load_ends "$at"
