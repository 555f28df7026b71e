#!/usr/bin/env bash
# Both daemons tell their figures in a form Prometheus' own checker accepts, and say that they are well.
. "$(dirname "$0")/../lib/story.sh"
needs promtool

disk_make source.img 8
edge_store="commit_age = 30" # what is written is in the journal still when we look
usual_cast "$stage/source.img"
lun-io read "$(url vm1)" 0 4096 >/dev/null
head -c 65536 /dev/urandom | lun-io write "$(url vm1)" 64 flush
edge_get /metrics >edge.metrics
onprem_get /metrics >onprem.metrics
expect "promtool to accept the edge's" promtool check metrics <edge.metrics
expect "promtool to accept the on-prem daemon's" promtool check metrics <onprem.metrics
expect "only our names" test -z "$(grep -vE '^(#|isthmus_)' edge.metrics onprem.metrics)"
expect "bytes that came from on-prem" test "$(metric edge isthmus_tier_bytes_total 'tier="onprem"')" -ge 2097152
expect "bytes read by the guest" test "$(metric edge isthmus_iscsi_bytes_total 'direction="read"')" -ge 2097152
expect "bytes written" test "$(metric edge isthmus_iscsi_bytes_total 'direction="write"')" -ge 65536
expect "journal bytes" grep -qE '^isthmus_journal_bytes [1-9]' edge.metrics
expect "link state" grep -qE '^isthmus_link_.*(up|rtt)' edge.metrics
edge_healthy >/dev/null
onprem_get /healthz >/dev/null
expect "404 for what is not there" test "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:7262/nothing)" = 404
expect "no VM list without a token" test "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:7261/v1/vms)" = 401
expect "a boot script" grep -q '^#!ipxe' <(edge_get /boot/vm1.ipxe)
expect "its target" grep -q "$iqn:vm1" <(edge_get /boot/vm1.ipxe)
refuse "a boot script of nobody" edge_get /boot/nobody.ipxe 2>/dev/null
stop onprem
stop edge
