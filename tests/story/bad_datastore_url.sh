#!/usr/bin/env bash
# A datastore that cannot be: what is wrong with the URL, at start; what is wrong with the LUN, when it answers.
. "$(dirname "$0")/../lib/story.sh"

# url_refused URL REGEX
url_refused() {
    onprem_conf disk1 "$1"
    refuse "$1" timeout 60 isthmus-onprem --config "$stage/onprem.conf" 2>out
    expect "one sentence (not: $(cat out))" test "$(wc -l <out)" = 1
    expect "'$2' in: $(cat out)" grep -qE "onprem.conf:[0-9]+: .*$2" out
}
url_refused "ftp://host/file" "no datastore URL"
url_refused "iscsi://host" "iSCSI URL"
url_refused "iscsi://user%verysecretword@host/iqn.x" "iSCSI URL"
refuse "the secret in what is said" grep -q verysecretword out
url_refused "nbd+unix:///export" "socket"
url_refused "file:relative.img" "absolute path"

act "a good disk beside bad ones is served; each bad one is named in the log"
needs tgtd
disk_make source.img 8
tgt_start "$stage/source.img"
onprem_conf good "$(tgt_url)" no-lun "${tgt_portal/#/iscsi://}/iqn.2026-11.org.isthmus.test:ds/9" \
    no-target "iscsi://$tgt_portal/iqn.2026-11.org.isthmus.test:nothing/1" no-host "iscsi://127.0.0.1:1/iqn.x:y/1" \
    no-file "file:$stage/nothing.img"
edge_start
onprem_start
vm_create vm1 good
expect "the good disk" lun-io read "$(url vm1)" 0 8 >/dev/null
wait_log onprem 'no-lun.*LUN 9'
wait_log onprem 'no-target'
wait_log onprem 'no-host'
wait_log onprem 'no-file.*nothing.img'
refuse "a VM on a disk that cannot be read" vm_create vm2 no-lun 2>out
expect "the reason (not: $(cat out))" grep -qE 'LUN|no-lun' out
refuse "a VM on a disk nobody knows" vm_create vm3 unheard-of 2>out
expect "the disk's name (not: $(cat out))" grep -q unheard-of out
stop onprem
stop edge
