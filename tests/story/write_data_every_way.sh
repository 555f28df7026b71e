#!/usr/bin/env bash
# Write data arrives whole however it comes: immediate, unasked or asked for, in tiny pieces, cut anywhere, with digests.
. "$(dirname "$0")/../lib/story.sh"

disk_make source.img 64
usual_cast "$stage/source.img"
act "every split of immediate, unsolicited and solicited data"
play splits
play first_burst
play tiny_data_out
act "PDUs cut anywhere by TCP"
play dribble
play pipelined_login
act "answers: digests on all that has data, commands that nobody knows"
play digests
play unsupported
stop edge
stop onprem
