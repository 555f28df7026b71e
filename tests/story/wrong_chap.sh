#!/usr/bin/env bash
# An initiator with the wrong CHAP secret is turned away with a reason; the right one gets in; others go on.
. "$(dirname "$0")/../lib/story.sh"

disk_make source.img 8
usual_cast "$stage/source.img"
(umask 077 && echo correct-horse-battery >secret)
vm_create vm2 disk1 --chap-user alice --chap-secret-file "$stage/secret"
chap() { printf 'iscsi://%s%%%s@127.0.0.1:3260/%s:vm2/0\n' "$1" "$2" "$iqn"; }

refuse "a wrong secret" lun-io size "$(chap alice wrong-horse-battery)"
wait_log edge 'alice|CHAP|secret'
refuse "a wrong user" lun-io size "$(chap mallory correct-horse-battery)"
refuse "no CHAP at all" lun-io size "$(url vm2)"
expect "the right one" lun-io size "$(chap alice correct-horse-battery)"
expect "another VM is not disturbed" lun-io size "$(url vm1)"
refuse_log edge correct-horse-battery
refuse_log edge wrong-horse-battery
stop edge
