#!/usr/bin/env bash
# The datastore's target dies and comes back while a client reads: the client waits, and goes on without an error.
. "$(dirname "$0")/../lib/story.sh"
needs tgtd

disk_make source.img 64
tgt_start "$stage/source.img" carol a-chap-secret-of-carol
onprem_conf disk1 "$(tgt_url carol%a-chap-secret-of-carol@)"
edge_start
onprem_start
vm_create vm1 disk1
start soak lun-io soak "$(url vm1)" 0 131072 15
some_reads() { [ "$(metric onprem isthmus_datastore_bytes_total)" -gt 1000000 ]; }
wait_for 10 "some reads" some_reads
crash tgt
wait_log onprem 'disk1'
sleep 3
expect "the client waits" alive soak
tgt_start "$stage/source.img" carol a-chap-secret-of-carol
ended soak 120
expect "no error: $(cat soak.log)" grep -q 'errors 0' soak.log
lun-io read "$(url vm1)" 0 131072 | cmp - source.img
expect "reconnects counted" test "$(metric onprem isthmus_datastore_reconnects_total)" -ge 1
refuse_log onprem a-chap-secret-of-carol
stop onprem
stop edge
