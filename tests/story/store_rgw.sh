#!/usr/bin/env bash
# Ceph's object gateway as a store: every promise of the contract over plain HTTP and TLS, both styles of
# addressing, and one clear sentence for each way it can be set up wrongly.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/stores.sh
. "$root/tests/lib/stores.sh"

rgw_start rgw tls
store_conf rgw rgw.conf
expect "every promise over TLS" store-check rgw.conf all >check.out
act "every promise over TLS, addressed by path"

# The bucket in the host's name.
printf '127.0.0.1 localhost isthmus.localhost\n' >hosts
mount --bind hosts /etc/hosts
virtual=${endpoint[rgw]/127.0.0.1/localhost}
store_conf rgw virtual.conf endpoint="$virtual" style=virtual
expect "every promise, addressed by host" store-check virtual.conf round_trips conditions odd_keys big lists >check.out
act "addressed by host"

# The gateway is killed in the middle of things, and comes back.
start load store-check rgw.conf outage
wait_log load 'outage may begin'
crash rgw.rgw
act "the gateway is gone"
sleep 2
start rgw.rgw radosgw -f -c rgw/ceph.conf -n client.rgw
wait_for 60 "the gateway to be back" store_answers rgw
touch enough
ended load 60
[ "$ended_status" = 0 ] || failed "puts through an outage: $(tail -n 3 load.log)"
act "every put is there: $(grep '^puts' load.log)"

# What is set up wrongly is said in one sentence.
says rgw secret_key_file="$stage/none" "cannot .*$stage/none"
printf 'not the secret\n' >other-secret
chmod 600 other-secret
says rgw secret_key_file="$stage/other-secret" 'does not accept our signature: the secret key does not belong to access key'
says rgw access_key=AKNOBODY 'does not know the access key AKNOBODY'
says rgw url=s3://no-such-bucket 'there is no bucket no-such-bucket at 127.0.0.1'
says rgw url=s3://x 'names no bucket'
says rgw endpoint=https://127.0.0.1:1 'cannot connect to 127.0.0.1:1: Connection refused'
says rgw endpoint=https://store.invalid 'the name of store.invalid does not resolve'
says rgw endpoint="http://${endpoint[rgw]#https://}" 'broke|HTTP'
says rgw ca= 'the certificate of 127.0.0.1.* is not trusted'
says rgw ca="$stage/rgw.secret" "trusted certificates"
says rgw ca="$stage/none" 'cannot read the trusted certificates'

# Credentials from the environment and from a file.
store_conf rgw env.conf access_key= secret_key_file=
expect "credentials of the environment" env AWS_ACCESS_KEY_ID="${access[rgw]}" \
    AWS_SECRET_ACCESS_KEY="${secret[rgw]}" store-check env.conf round_trips >check.out
printf '[other]\naws_access_key_id = x\n[backup]\naws_access_key_id = %s\naws_secret_access_key = %s\n' \
    "${access[rgw]}" "${secret[rgw]}" >credentials
chmod 600 credentials
store_conf rgw file.conf access_key= secret_key_file= credentials_file="$stage/credentials" profile=backup
expect "credentials of a file" store-check file.conf round_trips >check.out
says rgw access_key= secret_key_file= credentials_file="$stage/credentials" profile=other "no profile 'other'"
chmod 644 credentials
says rgw access_key= secret_key_file= credentials_file="$stage/credentials" profile=backup 'chmod'

vm_journey rgw
edge_refuses rgw secret_key_file="$stage/other-secret" 'does not accept our signature: the secret key does not belong'
