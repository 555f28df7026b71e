# shellcheck shell=bash
# deploy/conf.sh - keys, certificates and configuration of an edge and an on-prem daemon that belong together.
#
# Sourced; everything is written into the folder $stage. The variables below are read when a file is written.

iqn=iqn.2026-11.org.isthmus
edge_link_address=127.0.0.1:7260 # where the on-prem daemon finds the edge

# --- keys and certificates ---

pki_make() {
    [ ! -d "$stage/pki" ] || return 0
    isthmusctl pki init "$stage/pki" >/dev/null
    isthmusctl pki issue "$stage/pki" --role edge --name edge-a >/dev/null
    isthmusctl pki issue "$stage/pki" --role onprem --name dc1 >/dev/null
    isthmusctl key new "$stage/at-rest.key" >/dev/null
    isthmusctl key new "$stage/onprem-at-rest.key" >/dev/null
    isthmusctl token new "$stage/token" >/dev/null
}

# --- the edge ---

edge_data=$stage/edge-data
edge_iscsi=0.0.0.0:3260
edge_ping_timeout=10m
edge_ram=256M
edge_loops=0
edge_journal=1G
edge_store='' # more lines for the store section
edge_writeback='' # and for write-back's

edge_conf() {
    pki_make
    mkdir -p "$edge_data"
    cat >"$stage/edge.conf" <<CONF
data = "$edge_data"
key = "$stage/at-rest.key"
log_level = "${LOG_LEVEL:-info}"
loops = $edge_loops
iscsi {
    listen = {"$edge_iscsi"}
    iqn_prefix = "$iqn"
    ping_timeout = "$edge_ping_timeout"
}
link {
    listen = "0.0.0.0:7260"
    certificate = "$stage/pki/edge-a.pem"
    key = "$stage/pki/edge-a.key"
    ca = "$stage/pki/ca.pem"
}
cache {
    ram = "$edge_ram"
    tiers = "${edge_tiers:-}"
}
journal {
    max = "$edge_journal"
}
store {
    $edge_store
}
writeback {
    $edge_writeback
}
control {
    listen = "127.0.0.1:7261"
    token_file = "$stage/token"
}
http {
    listen = "0.0.0.0:7262"
}
CONF
}

# onprem_conf [NAME URL]...: the disks it serves.
onprem_conf() {
    pki_make
    mkdir -p "$stage/onprem-data"
    rm -f "$stage/onprem.conf"
    # A URL may hold a secret.
    (umask 077 && : >"$stage/onprem.conf")
    cat >>"$stage/onprem.conf" <<CONF
data = "$stage/onprem-data"
key = "$stage/onprem-at-rest.key"
log_level = "${LOG_LEVEL:-info}"
link {
    certificate = "$stage/pki/dc1.pem"
    key = "$stage/pki/dc1.key"
    ca = "$stage/pki/ca.pem"
}
edge "edge-a" {
    address = "$edge_link_address"
    connections = 2
}
http {
    listen = "0.0.0.0:7263"
}
CONF
    while [ $# -ge 2 ]; do
        printf 'disk "%s" {\n    url = "%s"\n}\n' "$1" "$2" >>"$stage/onprem.conf"
        shift 2
    done
}
