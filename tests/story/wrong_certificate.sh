#!/usr/bin/env bash
# An on-prem daemon whose certificate is from another CA is turned away; both sides say why; the true one is served.
. "$(dirname "$0")/../lib/story.sh"

disk_make source.img 8
usual_cast "$stage/source.img"
isthmusctl pki init "$stage/other" >/dev/null
isthmusctl pki issue "$stage/other" --role onprem --name dc1 >/dev/null
sed -e "s|$stage/pki/|$stage/other/|" -e 's/7263/7264/' -e "s|onprem-data|stranger-data|" onprem.conf >stranger.conf
mkdir -p stranger-data
start stranger isthmus-onprem --config "$stage/stranger.conf"
wait_log edge 'certificate'
wait_log stranger 'certificate|alert|refused'
expect "the true one still serves" lun-io read "$(url vm1)" 0 8 >/dev/null
stop stranger
stop onprem
stop edge
