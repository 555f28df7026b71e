#!/usr/bin/env bash
# SIGTERM ends either daemon in order, with status 0, also while a client is writing; what was acknowledged is there.
. "$(dirname "$0")/../lib/story.sh"

verify-load prepare source.img 8192
usual_cast "$stage/source.img"
start load verify-load run "$(url vm1)" "$stage/state" 8192 7
wait_log load loading
sleep 1
stop edge
ended load 30
edge_start
verify-load check "$(url vm1)" "$stage/state" 8192
stop onprem
stop edge
act "and with the other side gone, or never there"
edge_start
stop edge
onprem_start
stop onprem
refuse_log edge 'level=error.*(leak|failed)'
