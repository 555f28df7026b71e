# shellcheck shell=bash
# tests/lib/stores.sh - real object stores for the stories: Ceph RGW, OpenStack Swift with its S3 layer, Azurite.
#
# Source it after story.sh. NAME_start takes the name of the instance, so that several can be there at once;
# all of its state is in $stage/NAME, all of its ports are free ones. What a client needs is afterwards in
# ${endpoint[NAME]}, ${access[NAME]}, ${secret[NAME]}, and ${bucket[NAME]} names a bucket that is there.
# store_stop ends an instance; what is left over at the end of the story goes with the stage.

store_host=${store_host:-127.0.0.1} # where they listen; the certificates know the default only
declare -A endpoint=() access=() secret=() bucket=() store_processes=() azure=()

# A TCP port that nobody has, and that was not given out before.
port_last=20000
port_new() {
    local -n port_result=$1
    while :; do
        port_last=$((port_last + 1))
        [ -z "$(ss -Htln "sport = :$port_last")" ] || continue
        port_result=$port_last
        return
    done
}

# store_process STORE NAME program...: a daemon that is part of it.
store_process() {
    local store=$1 name=$2
    shift 2
    start "$name" "$@"
    store_processes[$store]="$name ${store_processes[$store]:-}"
}

# Ends what the instance runs, last first. (Azurite saves what it acknowledged only when it ends by SIGTERM.)
store_stop() {
    local name
    for name in ${store_processes[$1]}; do
        kill -TERM "${pids[$name]}" 2>/dev/null || true
        ended "$name" 30
    done
    unset "store_processes[$1]"
}

store_answers() {
    local name
    for name in ${store_processes[$1]}; do
        alive "$name" || failed "$name ended: $(tail -n 5 "$stage/$name.log")"
    done
    curl -sk -o /dev/null --max-time 5 "${endpoint[$1]}/healthcheck"
}

# The CA that signed the stores' TLS certificates is $stage/tls/ca.pem.
tls_make() {
    [ ! -d "$stage/tls" ] || return 0
    mkdir -p "$stage/tls"
    (
        cd "$stage/tls" || exit
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem \
            -subj '/CN=test CA' -days 2
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout store.key -out store.csr \
            -subj '/CN=store'
        printf 'subjectAltName = IP:127.0.0.1, DNS:localhost, DNS:isthmus.localhost\n' >store.ext
        openssl x509 -req -in store.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out store.pem -days 2 \
            -extfile store.ext
        cat store.pem store.key >store.both.pem
    ) >"$stage/tls.log" 2>&1
}

# s3_curl STORE METHOD PATH [curl options]...: one signed request, for what our own client does not do.
s3_curl() {
    local store=$1 method=$2 path=$3
    shift 3
    curl -sS -k --fail-with-body -X "$method" --aws-sigv4 aws:amz:us-east-1:s3 \
        --user "${access[$store]}:${secret[$store]}" \
        -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$@" "${endpoint[$store]}$path"
}
# s3_bucket STORE BUCKET
s3_bucket() {
    s3_curl "$1" PUT "/$2" -H 'Content-Length: 0' >"$stage/$1/bucket.out" 2>&1 ||
        failed "$1 did not make the bucket $2: $(cat "$stage/$1/bucket.out")"
    bucket[$1]=$2
}

# --- Ceph RGW: one monitor, one OSD in memory, no manager ---

# rgw_start NAME [tls]
rgw_start() {
    local name=$1 scheme=${2:-plain} dir=$stage/$1 mon msgr port frontend ids user
    needs ceph ceph-mon ceph-osd radosgw radosgw-admin
    port_new msgr
    port_new port
    mkdir -p "$dir"/{mon,osd,rgw,run}
    frontend="beast endpoint=$store_host:$port tcp_nodelay=1"
    endpoint[$name]=http://$store_host:$port
    if [ "$scheme" = tls ]; then
        tls_make
        frontend="beast ssl_endpoint=127.0.0.1:$port ssl_certificate=$stage/tls/store.both.pem tcp_nodelay=1"
        endpoint[$name]=https://127.0.0.1:$port
    fi
    mon="[v2:127.0.0.1:$msgr/0]"
    ids=$(cat /proc/sys/kernel/random/uuid)
    rgw_conf "$dir" "$ids" "$mon" "$frontend" >"$dir/ceph.conf"
    rgw_keys "$dir" "$ids" "$mon" >"$dir/setup.log" 2>&1 || failed "ceph: $(tail -n 5 "$dir/setup.log")"
    store_process "$name" "$name.mon" ceph-mon -f -c "$dir/ceph.conf" -i a
    user=$(cat /proc/sys/kernel/random/uuid)
    ceph-authtool -p -n osd.0 "$dir/keyring" | jq -R '{cephx_secret: .}' >"$dir/osd.json"
    rgw_ceph "$name" osd new "$user" -i "$dir/osd.json" >/dev/null
    ceph-osd -c "$dir/ceph.conf" -i 0 --mkfs --osd-uuid "$user" >>"$dir/setup.log" 2>&1
    store_process "$name" "$name.osd" ceph-osd -f -c "$dir/ceph.conf" -i 0
    wait_for 60 "ceph's OSD to be up" rgw_osd_up "$name"
    store_process "$name" "$name.rgw" radosgw -f -c "$dir/ceph.conf" -n client.rgw
    wait_for 60 "radosgw to answer" store_answers "$name"
    access[$name]=AK$(openssl rand -hex 8) secret[$name]=$(openssl rand -hex 20)
    radosgw-admin -c "$dir/ceph.conf" user create --uid=test --display-name=test \
        --access-key="${access[$name]}" --secret-key="${secret[$name]}" >>"$dir/setup.log" 2>&1
    s3_bucket "$name" isthmus
}
rgw_ceph() {
    local dir=$stage/$1
    shift
    timeout 60 ceph -c "$dir/ceph.conf" "$@" 2>>"$dir/setup.log"
}
rgw_osd_up() { rgw_ceph "$1" osd stat | grep -q '1 up'; }

rgw_keys() {
    local dir=$1 fsid=$2 mon=$3 name
    cd "$dir" || return
    ceph-authtool --create-keyring keyring --gen-key -n mon. --cap mon 'allow *'
    for name in client.admin client.rgw; do
        ceph-authtool keyring --gen-key -n "$name" --cap mon 'allow *' --cap osd 'allow *'
    done
    ceph-authtool keyring --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *' \
        --cap mgr 'allow profile osd'
    monmaptool --create --fsid "$fsid" --addv a "$mon" monmap
    ceph-mon -c ceph.conf --mkfs -i a --monmap monmap --keyring keyring
    cd "$stage" || return
}

# rgw_conf DIR FSID MON FRONTEND
rgw_conf() {
    cat <<CONF
[global]
fsid = $2
mon initial members = a
mon host = $3
public network = 127.0.0.0/8
ms bind ipv6 = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
auth allow insecure global id reclaim = false
keyring = $1/keyring
run dir = $1/run
admin socket = $1/run/\$name.asok
pid file = $1/run/\$name.pid
crash dir = $1/run
log file =
mon cluster log file =
mon cluster log to stderr = false
debug mon = 0/0
debug osd = 0/0
debug paxos = 0/0
debug rocksdb = 0/0
debug rgw = 0/0
debug ms = 0/0
mon data = $1/mon
mon data avail crit = 1
mon allow pool size one = true
mon osd initial require min compat client = luminous
mon max pg per osd = 1000
mon tick interval = 1
paxos propose interval = 0.05
paxos min wait = 0.01
osd data = $1/osd
osd journal = $1/osd/journal
osd objectstore = memstore
memstore device bytes = 4294967296
osd class load list = *
osd class default list = *
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
[client.rgw]
rgw frontends = $4
rgw data = $1/rgw
rgw dns name = localhost
rgw thread pool size = 64
CONF
}

# --- OpenStack Swift behind its S3 layer: strict signatures, no conditional PUT ---

# swift_start NAME
swift_start() {
    local name=$1 dir=$stage/$1 server port cache ports=()
    needs swift-proxy-server swift-object-server memcached
    mkdir -p "$dir"/etc "$dir"/srv/d1
    for server in account container object; do
        port_new port
        ports+=("$port")
        swift_server_conf "$dir" "$server" "$port" >"$dir/etc/$server-server.conf"
    done
    swift_rings "$dir" "${ports[@]}" >"$dir/setup.log" 2>&1 || failed "swift: $(tail -n 5 "$dir/setup.log")"
    port_new cache
    port_new port
    endpoint[$name]=http://127.0.0.1:$port
    access[$name]=test:writer secret[$name]=$(openssl rand -hex 20) # the access key is account:user
    swift_proxy_conf "$dir" "$port" "$cache" "${secret[$name]}" >"$dir/etc/proxy-server.conf"
    store_process "$name" "$name.memcached" memcached -u root -l 127.0.0.1 -p "$cache"
    for server in account container object proxy; do
        store_process "$name" "$name.$server" "swift-$server-server" "$dir/etc/$server-server.conf"
    done
    wait_for 60 "swift to answer" swift_healthy "$name" "${ports[@]}"
    swift_bucket "$name" isthmus
}
# The proxy would shun a server that did not answer its first request: they must be there before.
swift_healthy() {
    local name=$1 port
    shift
    store_answers "$name" && curl -fs "${endpoint[$name]}/healthcheck" || return
    for port in "$@"; do
        [ -n "$(ss -Htln "sport = :$port")" ] || return
    done
}

# Made through Swift's own API: the access key holds a colon, and curl would split it there.
swift_bucket() {
    local token url
    curl -fsS -D "$stage/$1/auth" -o /dev/null -H "X-Storage-User: ${access[$1]}" \
        -H "X-Storage-Pass: ${secret[$1]}" "${endpoint[$1]}/auth/v1.0"
    token=$(tr -d '\r' <"$stage/$1/auth" | awk 'tolower($1) == "x-auth-token:" { print $2 }')
    url=$(tr -d '\r' <"$stage/$1/auth" | awk 'tolower($1) == "x-storage-url:" { print $2 }')
    expect "swift makes a bucket" curl -fsS -X PUT -H "X-Auth-Token: $token" "$url/$2"
    bucket[$1]=$2
}

# swift_rings DIR ACCOUNT_PORT CONTAINER_PORT OBJECT_PORT (swift-ring-builder would be nine slow starts of Python)
swift_rings() {
    printf '[swift-hash]\nswift_hash_path_suffix = test\n' >"$1/etc/swift.conf"
    /usr/bin/python3 -I - "$@" <<'PYTHON'
import sys
import swift.common.utils
swift.common.utils.SWIFT_CONF_FILE = sys.argv[1] + "/etc/swift.conf"
from swift.common.ring import RingBuilder

for name, port in zip(("account", "container", "object"), sys.argv[2:]):
    builder = RingBuilder(4, 1, 1)
    where = dict(ip="127.0.0.1", port=int(port), replication_ip="127.0.0.1", replication_port=int(port))
    builder.add_dev(dict(id=0, region=1, zone=1, device="d1", weight=1, meta="", **where))
    builder.rebalance()
    builder.get_ring().save("%s/etc/%s.ring.gz" % (sys.argv[1], name))
PYTHON
}

# swift_server_conf DIR SERVER PORT
swift_server_conf() {
    cat <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $3
devices = $1/srv
swift_dir = $1/etc
mount_check = false
user = root
workers = 0
log_level = ERROR
log_address = /dev/null
fallocate_reserve = 0
disable_fallocate = true
[pipeline:main]
pipeline = $2-server
[app:$2-server]
use = egg:swift#$2
CONF
}

# swift_proxy_conf DIR PORT MEMCACHED_PORT SECRET
swift_proxy_conf() {
    local filter
    cat <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $2
swift_dir = $1/etc
user = root
workers = 0
log_level = ERROR
log_address = /dev/null
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth slo versioned_writes proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:$3
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
s3_acl = false
dns_compliant_bucket_names = true
[filter:tempauth]
use = egg:swift#tempauth
user_test_writer = $4 .admin
CONF
    for filter in catch_errors gatekeeper healthcheck listing_formats bulk slo versioned_writes; do
        printf '[filter:%s]\nuse = egg:swift#%s\n' "$filter" "$filter"
    done
}

# --- Azurite: Azure Blob ---

# azurite_start NAME [tls]: ${access[NAME]} is the account, ${secret[NAME]} its key, ${bucket[NAME]} the container.
azurite_start() {
    local name=$1 scheme=http port tls=() main
    main=$(azurite_path)/node_modules/azurite/dist/src/blob/main.js
    [ -e "$main" ] || { say "needs azurite: run deploy/lib.sh's azurite_ensure"; exit 77; }
    needs node
    port_new port
    mkdir -p "$stage/$name"
    if [ "${2:-}" = tls ]; then
        tls_make
        scheme=https tls=(--cert "$stage/tls/store.pem" --key "$stage/tls/store.key" --oauth basic)
    fi
    access[$name]=isthmus$RANDOM secret[$name]=$(openssl rand -base64 64 | tr -d '\n')
    endpoint[$name]=$scheme://$store_host:$port/${access[$name]} azure[$name]=1
    AZURITE_ACCOUNTS=${access[$name]}:${secret[$name]} store_process "$name" "$name.azurite" \
        node "$main" --blobHost "$store_host" --blobPort "$port" --location "$stage/$name" \
        --skipApiVersionCheck --disableTelemetry "${tls[@]}"
    wait_for 30 "azurite to answer" store_answers "$name"
    azure_container "$name" isthmus
}
azure_container() {
    curl -fsSk -X PUT -H 'Content-Length: 0' -H 'x-ms-version: 2021-12-02' \
        "${endpoint[$1]}/$2?restype=container&$(azure_sas "$1" rwdlc)" || failed "no container $2 in $1"
    bucket[$1]=$2
}

# azure_sas NAME PERMISSIONS [EXPIRY] -> an account SAS token for blobs
azure_sas() {
    local version=2021-12-02 start=2020-01-01T00:00:00Z expiry=${3:-2099-01-01T00:00:00Z} key signature
    key=$(base64 -d <<<"${secret[$1]}" | od -An -v -tx1 | tr -d ' \n')
    signature=$(printf '%s\n%s\nb\nsco\n%s\n%s\n\n\n%s\n\n' "${access[$1]}" "$2" "$start" "$expiry" "$version" |
        openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64 | jq -Rr @uri)
    printf 'sv=%s&ss=b&srt=sco&sp=%s&st=%s&se=%s&sig=%s\n' "$version" "$2" "$start" "$expiry" "$signature"
}

# --- our own client ---

# store_conf STORE FILE KEY=VALUE...: a configuration of a store section for it, with these keys changed. The
# STORE "dir" is a directory.
store_conf() {
    local store=$1 file=$2 pair settings
    shift 2
    printf '%s\n' "${secret[$store]:-}" >"$stage/$store.secret"
    chmod 600 "$stage/$store.secret"
    if [ "$store" = dir ]; then
        settings=("url=dir:$stage/bucket")
    elif [ -n "${azure[$store]:-}" ]; then
        settings=("url=azure://${access[$store]}/${bucket[$store]}/a/prefix" "endpoint=${endpoint[$store]%/*}"
            "account_key_file=$stage/$store.secret")
    else
        settings=("url=s3://${bucket[$store]}/a/prefix" "endpoint=${endpoint[$store]}"
            "access_key=${access[$store]}" "secret_key_file=$stage/$store.secret")
    fi
    {
        printf 'store {\n'
        for pair in "${settings[@]}" "part=5M" "$@"; do
            printf '    %s = "%s"\n' "${pair%%=*}" "${pair#*=}"
        done
        [[ ${endpoint[$store]:-} != https:* || $* == *ca=* ]] || printf '    ca = "%s"\n' "$stage/tls/ca.pem"
        printf '}\n'
    } >"$file"
}

# says STORE KEY=VALUE... REGEX: with these settings a probe ends with such a sentence. One that took too long (-110) on a
# busy machine has found out nothing: it is asked again.
says() {
    local try
    store_conf "$1" "$stage/wrong.conf" "${@:2:$#-2}"
    for try in 1 2 3; do
        store-check "$stage/wrong.conf" say >"$stage/said" 2>&1 || true
        [[ $(head -c 5 "$stage/said") = "-110 " && $try != 3 ]] || break
    done
    grep -qE -- "${*: -1}" "$stage/said" || failed "with ${*:2:$#-2} it says: $(cat "$stage/said")"
    refuse "a secret in a sentence" grep -qF -- "${secret[$1]}" "$stage/said"
    act "$(head -c 250 "$stage/said")"
}

# --- an edge on it ---

# edge_on STORE [KEY=VALUE...]: the edge.conf of one that commits every second.
edge_on() {
    store_conf "$1" "$stage/section" "${@:2}"
    edge_store="$(sed '1d;$d' "$stage/section") commit_age = 1"
    rm -f "$stage/edge.conf"
    edge_conf
}

# A VM's journey through a store: what is written is committed, read back by an edge that has it from nowhere
# else, and by one without disks, which takes the VM over; the first edge is not let back in.
# vm_journey STORE [KEY=VALUE...]
vm_journey() {
    act "an edge, a VM, 5 MB of writes"
    edge_on "$@"
    disk_make source.img 16
    cp source.img expected.img
    usual_cast "$stage/source.img"
    head -c 3M /dev/urandom >noise
    journey_write 4096 noise
    yes "compressible" | head -c 2M >text || true
    journey_write 12345 text
    lun-io zero "$(url vm1)" 5000 1000
    dd if=/dev/zero of=expected.img bs=512 seek=5000 count=1000 conv=notrunc status=none
    wait_for 60 "everything to be in the store" journey_committed
    stop edge
    edge_start
    expect "the same after a restart" journey_same
    # The noise, less the thousand sectors that were zeroed since, is in the store; more of it only if it was put before that.
    expect "reads from the store" test "$(metric edge isthmus_store_read_bytes_total)" -gt 2600000
    act "an edge without disks takes the VM over"
    crash edge
    mv edge-data edge-data-old
    edge_start
    ctl vm recover vm1 >recovered
    expect "the same after a recovery" journey_same
    journey_write 20000 text
    wait_for 60 "everything to be in the store" journey_committed
    expect "the VM to be sound in the store" isthmusctl store verify --config "$stage/edge.conf" >verified
    act "the first edge comes back"
    stop edge
    mv edge-data edge-data-new
    mv edge-data-old edge-data
    edge_start
    wait_log edge "another edge writes this VM's log" 30
    refuse "to be read" lun-io read "$(url vm1)" 0 8 >/dev/null 2>&1
    stop edge
    stop onprem
}
journey_vm=vm1
journey_same() { lun-io read "$(url "$journey_vm")" 0 32768 | cmp - expected.img; }
journey_committed() { [ "$(metric edge isthmus_store_pending_bytes)" = 0 ] && [ "$(metric edge isthmus_journal_bytes)" = 0 ]; }
journey_write() {
    lun-io write "$(url "$journey_vm")" "$1" flush <"$2"
    dd if="$2" of=expected.img bs=512 seek="$1" conv=notrunc status=none
}

# edge_refuses STORE [KEY=VALUE...] REGEX: an edge on it ends with such a sentence, and says it once.
edge_refuses() {
    edge_on "$1" "${@:2:$#-2}"
    rm -f edge.log
    start edge isthmus-edge --config "$stage/edge.conf"
    ended edge 60
    [ "$ended_status" = 1 ] || failed "the edge ended with $ended_status, not with a refusal"
    [ "$(grep -cE -- "level=error .*${*: -1}" edge.log)" = 1 ] || failed "with ${*:2:$#-2} the edge says: $(tail -n 5 edge.log)"
    refuse_log edge "$(sed 's/[+/]/./g' <<<"${secret[$1]}")"
    act "$(grep -E 'level=error' edge.log | sed 's/.*msg=//' | head -c 250)"
}
