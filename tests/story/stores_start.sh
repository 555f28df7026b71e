#!/usr/bin/env bash
# The real object stores of the tests: each starts on ports of its own, takes one object from a client that is
# not ours, refuses a wrong key, and ends.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/stores.sh
. "$root/tests/lib/stores.sh"

echo hello >hello

# s3_round STORE: in by a signed PUT, out by a signed GET; not with another key.
s3_round() {
    s3_curl "$1" PUT "/${bucket[$1]}/a" -T hello >/dev/null
    s3_curl "$1" GET "/${bucket[$1]}/a" | cmp - hello
    (
        secret[$1]=wrong
        refuse "a wrong key at $1" s3_curl "$1" GET "/${bucket[$1]}/a" >refused 2>/dev/null
    )
    grep -q SignatureDoesNotMatch refused || failed "$1 says of a wrong key: $(cat refused)"
    act "$1: ${endpoint[$1]}"
}

azure_round() {
    local url=${endpoint[$1]}/${bucket[$1]}/a
    curl -fsS --cacert tls/ca.pem -T hello -H 'x-ms-blob-type: BlockBlob' "$url?$(azure_sas "$1" rw)"
    curl -fsS --cacert tls/ca.pem "$url?$(azure_sas "$1" r)" | cmp - hello
    (
        secret[$1]=$(openssl rand -base64 64 | tr -d '\n')
        refuse "a wrong key at $1" curl -fsS --cacert tls/ca.pem -o refused "$url?$(azure_sas "$1" r)"
    ) 2>refused.err
    grep -q 403 refused.err || failed "$1 says of a wrong key: $(cat refused.err)"
    act "$1: ${endpoint[$1]}"
}

rgw_start rgw
s3_round rgw
rgw_start rgw-tls tls
s3_round rgw-tls
azurite_start azurite tls
azure_round azurite
swift_start swift
expect "swift asks who it is" test "$(curl -s "${endpoint[swift]}/isthmus")" != ""
act "swift: ${endpoint[swift]}"
for store in rgw rgw-tls azurite swift; do
    store_stop "$store"
    refuse "an answer of $store" curl -sk -o /dev/null "${endpoint[$store]}/"
done
