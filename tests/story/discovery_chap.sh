#!/usr/bin/env bash
# With a discovery user configured, nobody lists the targets without its secret; VMs' own logins are as before.
. "$(dirname "$0")/../lib/story.sh"
needs iscsi-ls

disk_make source.img 8
(umask 077 && printf 'discovery-secret-1' >discovery.secret)
edge_conf
sed -i "s|^iscsi {|&\n    discovery_user = \"looker\"\n    discovery_secret_file = \"$stage/discovery.secret\"|" edge.conf
usual_cast "$stage/source.img"
list() { iscsi-ls "iscsi://${1}127.0.0.1:3260" 2>&1; }
refuse "a list for nobody in particular" list ""
refuse "a list for a wrong secret" list looker%discovery-secret-2@
refuse "a list for another user" list erin%discovery-secret-1@
wait_log edge 'discovery.*refused'
expect "vm1 in the list" grep -q ":vm1 " <(list looker%discovery-secret-1@)
lun-io read "$(url vm1)" 0 8 >/dev/null
refuse_log edge discovery-secret
stop edge
stop onprem
