#!/usr/bin/env bash
# No secret shows up in logs, metrics, process lists or the journal's files: CHAP, token, keys, datastore passwords.
. "$(dirname "$0")/../lib/story.sh"
needs tgtd

LOG_LEVEL=debug
disk_make source.img 8
tgt_start "$stage/source.img" dora datastore-secret-1
(umask 077 && echo guest-secret-number-2 >chap.secret)
onprem_conf disk1 "$(tgt_url dora%datastore-secret-1@)" wrong "$(tgt_url dora%datastore-secret-wrong@)"
edge_start
onprem_start
vm_create vm1 disk1 --chap-user erin --chap-secret-file "$stage/chap.secret"
secret_url=iscsi://erin%guest-secret-number-2@127.0.0.1:3260/$iqn:vm1/0
yes 'plain text of the guest' | head -c 1M | lun-io write "$secret_url" 0 flush || true
lun-io read "$secret_url" 8 64 >/dev/null
refuse "a wrong secret" lun-io size "iscsi://erin%guest-secret-wrong-22@127.0.0.1:3260/$iqn:vm1/0" 2>/dev/null
wait_log onprem 'wrong'
edge_get /metrics >edge.metrics
onprem_get /metrics >onprem.metrics
edge_get /boot/vm1.ipxe >boot.script
ctl vm show vm1 --json >vm.json
ps axww -o args >processes
for secret in datastore-secret-1 datastore-secret-wrong guest-secret-number-2 guest-secret-wrong-22 "$(cat token)" "$(cat at-rest.key)"; do
    refuse "the secret '$secret' in what can be seen" grep -qF -- "$secret" edge.log onprem.log edge.metrics onprem.metrics boot.script vm.json processes
    refuse "the secret '$secret' in the edge's data" grep -rqaF -- "$secret" edge-data
done
refuse "the guest's data in the clear" grep -rqa 'plain text of the guest' edge-data
expect "the on-prem configuration to be refused when others may read it" test -n "$(chmod 644 onprem.conf; isthmus-onprem --config "$stage/onprem.conf" 2>&1 | grep -i chmod)"
stop edge
