#!/usr/bin/env bash
# While reads wait for a datastore that does not answer, task management is answered at once, and nothing is answered late.
. "$(dirname "$0")/../lib/story.sh"

truncate -s 8G source.img
usual_cast "$stage/source.img"
no_connection() { [ "$(metric edge isthmus_iscsi_connections)" = 0 ]; }
stalled() { play "$1" --backend "${pids[onprem]}" --at "$2" "${@:3}"; }
act "ABORT TASK, and its races"
stalled aborts 64
stalled abort_race 512
act "resets of the task set, the LUN, the target"
stalled resets 1024
stalled reset_while_writing 2048
stalled big_reads 2560
act "initiators that go away, or log in again"
stalled gone_in_flight 3072
stalled reinstated 3584
stalled relogin_storm 4096
wait_for 20 "the last connection to be gone" no_connection
stop edge
stop onprem
