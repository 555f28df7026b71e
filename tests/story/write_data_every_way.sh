#!/usr/bin/env bash
# Write data arrives whole however it comes: immediate, unasked or asked for, in pieces, cut anywhere; without a residual.
. "$(dirname "$0")/../lib/story.sh"

disk_make source.img 64
usual_cast "$stage/source.img"
act "every split of immediate, unsolicited and solicited data"
play splits
play exp_stat_sn
act "PDUs cut anywhere by TCP"
play dribble
act "commands that nobody knows"
play unsupported
stop edge
stop onprem
