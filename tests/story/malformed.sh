#!/usr/bin/env bash
# Exchanges that break the rules, each with the one reaction that is right, against one edge that outlives them.
. "$(dirname "$0")/../lib/story.sh"

disk_make source.img 16
edge_loops=2
edge_conf
sed -i 's|^iscsi {|&\n    login_timeout = "10s"|' edge.conf # a case waits for it
ulimit -n 4096
usual_cast "$stage/source.img"
(umask 077 && echo correct-horse-battery >secret && echo staple-of-the-target >mutual)
vm_create vm2 disk1 --chap-user alice --chap-secret-file "$stage/secret"
vm_create vm3 disk1 --chap-user alice --chap-secret-file "$stage/secret" \
    --mutual-user target --mutual-secret-file "$stage/mutual"
vm_create vm4 disk1

hostile 127.0.0.1 3260 "$iqn" "${pids[edge]}" || failed "what is marked above"
expect "the same process" alive edge
stop edge
