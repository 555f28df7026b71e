#!/usr/bin/env bash
# A port that is taken ends the start with one sentence naming it; the one who has it is not disturbed.
. "$(dirname "$0")/../lib/story.sh"

disk_make source.img 8
usual_cast "$stage/source.img"
sed -e "s|$stage/edge-data|$stage/edge2-data|" -e 's/:7260/:7270/; s/:7261/:7271/; s/:7262/:7272/' edge.conf >second.conf
mkdir -p edge2-data
start second isthmus-edge --config "$stage/second.conf"
ended second 10
expect "a refusal" test "$ended_status" -ne 0
expect_log second '3260.*(in use|Address already)'

sed -e "s|$stage/edge-data|$stage/edge2-data|" -e 's/:3260/:3270/; s/:7261/:7271/; s/:7262/:7272/' edge.conf >third.conf
start third isthmus-edge --config "$stage/third.conf"
ended third 10
expect "a refusal" test "$ended_status" -ne 0
expect_log third '7260.*(in use|Address already)'

sed -e 's|onprem-data|onprem2-data|' onprem.conf >fourth.conf
mkdir -p onprem2-data
start fourth isthmus-onprem --config "$stage/fourth.conf"
ended fourth 10
expect "a refusal" test "$ended_status" -ne 0
expect_log fourth '7263.*(in use|Address already)'
expect "the first edge serves on" lun-io size "$(url vm1)"
stop edge
