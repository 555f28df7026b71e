#!/usr/bin/env bash
# A pair on stores of the field, Ceph's object gateway and Azure Blob (Azurite): the record that says who goes on, and the
# entry that says whose a VM is, are swapped there as on a directory. The owner dies, is taken in again, is given its VM back,
# and the cable is pulled: one edge goes on, and nothing is lost.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
store_host=$pair_host_address
# shellcheck source=../lib/stores.sh
. "$root/tests/lib/stores.sh"
needs jq

# load_taken a|b: the load's edge is gone; what was acknowledged is at that one.
load_taken() {
    load_lost
    expect "nothing lost at edge $1" wait_for 30 "edge $1 to serve vm1" served_by "$1"
}

# pair_on STORE: the whole of it, from two empty edges on.
pair_on() {
    act "$1: two edges become a pair, one of them makes a VM"
    store_conf "$1" section
    pair_store_section=$(sed '1d;$d' section)
    pair_edge_conf a
    pair_edge_conf b
    verify-load prepare source.img "$sectors"
    both_up
    ctl_at a vm create vm1 --disk dc1:disk1

    act "$1: the owner dies and comes back"
    load_at a
    crash edge-a
    wait_role b sole
    load_taken b
    edge_up a
    whole

    act "$1: the VM is handed back under load"
    load_at b
    hand_over b vm1
    expect "edge a to own it" owns a vm1
    load_dies
    expect "nothing lost" served_by a

    act "$1: the cable between the edges is pulled"
    load_at a
    peer_cut
    one_ends
    if [ "$at" = a ]; then load_dies; else load_taken b; fi
    expect "nothing lost at edge $at" served_by "$at"
    peer_heal
    edge_up "$loser"
    whole
    expect "the VM to be sound in the store" isthmusctl store verify --config "$stage/edge-$at.conf" >verified
}

pair_up disk1 "file:$stage/source.img"
rgw_start rgw
azurite_start az
pair_on rgw
for daemon in edge-a edge-b onprem; do
    crash "$daemon"
done
rm -rf data-a data-b onprem-data state edge-a.log edge-b.log onprem.log
pair_on az
