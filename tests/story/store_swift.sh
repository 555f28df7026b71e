#!/usr/bin/env bash
# OpenStack Swift behind its S3 layer as a store: its signature check is the strictest there is, and it has no
# conditional puts, which must be said, not passed over.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/stores.sh
. "$root/tests/lib/stores.sh"

swift_start swift
store_conf swift swift.conf
expect "every promise but conditions" store-check swift.conf plain
act "every promise but conditions"
says swift 'cannot be used: it cannot refuse to overwrite an object .*501'
printf 'not the secret\n' >other-secret
chmod 600 other-secret
says swift secret_key_file="$stage/other-secret" 'does not accept our signature: the secret key does not belong'
says swift access_key=test:nobody 'access key test:nobody'
says swift url=s3://no-such-bucket 'there is no bucket no-such-bucket'

edge_refuses swift 'cannot be used: it cannot refuse to overwrite an object .*501'
edge_refuses swift secret_key_file="$stage/other-secret" 'does not accept our signature: the secret key does not belong'
edge_refuses swift url=s3://no-such-bucket 'there is no bucket no-such-bucket'
