#!/usr/bin/env bash
# Azure Blob (Azurite) as a store: every promise of the contract with an account's key, the rest of the ways to
# say who we are, and one clear sentence for each way it can be set up wrongly.
. "$(dirname "$0")/../lib/story.sh"
# shellcheck source=../lib/stores.sh
. "$root/tests/lib/stores.sh"

azurite_start az tls
store_conf az key.conf
expect "every promise with an account's key" store-check key.conf all >check.log
act "every promise with an account's key"

# secret_file NAME TEXT: a private file.
secret_file() { (umask 077 && printf '%s\n' "$2" >"$stage/$1"); }

# A SAS token.
secret_file sas "?$(azure_sas az rwdlc)"
store_conf az sas.conf account_key_file= sas_file="$stage/sas"
expect "a SAS token does" store-check sas.conf round_trips conditions odd_keys big >check.log
act "a SAS token"
secret_file wrong.sas "$(azure_sas az rwdlc | sed 's/sig=.*/sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D/')"
says az account_key_file= sas_file="$stage/wrong.sas" 'does not (accept|allow) the SAS token in .*wrong.sas'
secret_file read.sas "$(azure_sas az r)"
says az account_key_file= sas_file="$stage/read.sas" 'does not allow the SAS token in .*read.sas to put'
secret_file old.sas "$(azure_sas az rwdlc 2021-01-02T03:04:05Z)"
says az account_key_file= sas_file="$stage/old.sas" 'old.sas: the SAS token has expired at 2021-01-02T03:04:05Z'
secret_file no.sas "sv=2021"
says az account_key_file= sas_file="$stage/no.sas" 'this is no SAS token'
says az endpoint=http://127.0.0.1:1 account_key_file= sas_file="$stage/sas" 'must not go over http'
says az sas_file="$stage/sas" 'only one can be used'

# The machine's managed identity.
port_new imds
start imds /usr/bin/python3 "$root/tests/lib/imds.py" "$imds"
wait_for 10 "the metadata service" curl -s -o /dev/null "http://127.0.0.1:$imds/"
export AZURE_POD_IDENTITY_AUTHORITY_HOST=http://127.0.0.1:$imds/
store_conf az identity.conf account_key_file= client_id=b0b
expect "a managed identity does" store-check identity.conf round_trips conditions big >check.log
expect "one token for all: $(cat imds.log)" test "$(grep -c 'token?.*client_id=b0b HTTP/1.1" 200' imds.log)" = 1
act "a managed identity"
says az account_key_file= client_id=nobody 'no token of the managed identity: .* 400: Identity not found'
says az endpoint=http://127.0.0.1:1 account_key_file= 'managed identity must not go over http'
crash imds
says az account_key_file= 'no token of the managed identity: cannot connect to 127.0.0.1'

# The environment.
store_conf az env.conf account_key_file=
expect "a key in the environment does" env AZURE_STORAGE_KEY="${secret[az]}" store-check env.conf round_trips >check.log
expect "a SAS token in the environment does" env AZURE_STORAGE_SAS_TOKEN="$(azure_sas az rwdlc)" \
    store-check env.conf round_trips >check.log

# What is set up wrongly is said in one sentence.
secret_file other "$(head -c 64 /dev/zero | base64 -w0)"
says az account_key_file="$stage/other" 'does not accept our signature: the account key in .*other does not belong to account isthmus'
secret_file word "not a key"
says az account_key_file="$stage/word" 'word holds no account key'
says az account_key_file="$stage/none" "cannot .*$stage/none"
chmod 644 other
says az account_key_file="$stage/other" 'chmod'
says az url="azure://${access[az]}/no-such-container" 'there is no container no-such-container in account isthmus'
says az url=azure://other/isthmus 'other'
says az url=azure://UPPER/isthmus 'names no account and container'
says az "url=azure://${access[az]}/isthmus/a//b" 'the prefix in'
says az endpoint=https://127.0.0.1:1 'cannot connect to 127.0.0.1:1: Connection refused'
says az endpoint= 'resolve'
says az ca= 'the certificate of 127.0.0.1.* is not trusted'

vm_journey az
chmod 600 other
edge_refuses az account_key_file="$stage/other" 'does not accept our signature: the account key in .*other does not belong'
edge_refuses az url="azure://${access[az]}/no-such-container" 'there is no container no-such-container'

store_stop az
says az 'cannot connect to 127.0.0.1'
