#!/usr/bin/env bash
# An edge that is taking the other in waits until the store has what was written before. It can be stopped meanwhile, also
# when the store is away, and loses nothing.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/pair.sh
. "$root/tests/lib/pair.sh"
needs jq

verify-load prepare source.img "$sectors"
pair_up disk1 "file:$stage/source.img"
sed -i 's/p=1,file/p=1,op=put,file/' edge-a.conf
both_up
ctl_at a vm create vm1 --disk dc1:disk1

act "edge a is alone, can put nothing into its store, and begins to take edge b in"
crash edge-b
wait_log edge-a "0 VM.s. of the other edge taken over" 30
touch away-a
load_at a
goes_on load
edge_up b
wait_log edge-a "the other edge is being taken in: 1 VM" 30

act "it is stopped"
stop edge-a
load_lost
rm away-a
edge_up a
whole
expect "nothing lost" wait_for 30 "edge a to serve vm1" served_by a
