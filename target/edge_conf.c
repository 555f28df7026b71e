/* target/edge_conf.c - the table of what edge.conf may hold. docs/operating.md says what each means.
 */
#include "edge_conf.h"
#include "store_conf.h"

#include "edge_iscsi.h"
#include "edge_pair.h"

int edge_conf_load(cfg_t **cfg, const char *path, struct why *why)
{
    cfg_opt_t iscsi[] = {
        CONF_PORTALS("listen", "{0.0.0.0:3260}"),
        CONF_COUNT("portal_group", 1),
        CFG_STR("iqn_prefix", "iqn.2026-11.org.isthmus", CFGF_NONE),
        CFG_STR("discovery_user", "", CFGF_NONE),
        CFG_STR("discovery_secret_file", "", CFGF_NONE),
        CFG_STR("discovery_mutual_user", "", CFGF_NONE),
        CFG_STR("discovery_mutual_secret_file", "", CFGF_NONE),
        CONF_COUNT("max_connections", 1024),
        CONF_COUNT("max_connections_per_address", 768),
        CONF_COUNT("max_sessions_per_vm", 64),
        CONF_COUNT("queue_depth", 128),
        CONF_DURATION("login_timeout", "15s"),
        CONF_DURATION("ping_interval", "5s"),
        CONF_DURATION("ping_timeout", "10m"),
        CONF_SIZE("session_memory", "64M"),
        CONF_SIZE("loop_memory", "256M"),
        CONF_SIZE("first_burst", "64K"),
        CONF_SIZE("max_burst", "1M"),
        CFG_END(),
    };
    cfg_opt_t link[] = {
        CONF_ADDRESS("listen", "0.0.0.0:7260"),
        CONF_REQUIRED("certificate"),
        CONF_REQUIRED("key"),
        CONF_REQUIRED("ca"),
        CFG_STR("congestion", "", CFGF_NONE),
        CFG_END(),
    };
    cfg_opt_t cache[] = {CONF_SIZE("ram", "1G"), CFG_STR("tiers", "", CFGF_NONE), CFG_END()};
    cfg_opt_t journal[] = {CONF_SIZE("max", "8G"), CFG_END()};
    cfg_opt_t store[] = {
        CONF_COUNT("commit_age", 10),
        CONF_SIZE("commit_bytes", "64M"),
        STORE_CONF_OPTIONS,
        CFG_END(),
    };
    cfg_opt_t writeback[] = {CONF_DURATION("interval", "5m"), CONF_SIZE("bytes", "4G"), CFG_END()};
    cfg_opt_t pair[] = {
        CFG_STR("name", "", CFGF_NONE),        CFG_STR("peer", "", CFGF_NONE),
        CONF_ADDRESS("address", ""),           CONF_DURATION("lease", "3s"),
        CONF_DURATION("peer_wait", "20ms"),    CFG_BOOL("failback", cfg_true, CFGF_NONE),
        CONF_DURATION("failback_after", "5m"), CFG_END(),
    };
    cfg_opt_t control[] = {
        CONF_ADDRESS("listen", "127.0.0.1:7261"),
        CONF_REQUIRED("token_file"),
        CFG_STR("certificate", "", CFGF_NONE),
        CFG_STR("key", "", CFGF_NONE),
        CFG_END(),
    };
    cfg_opt_t http[] = {CONF_ADDRESS("listen", "0.0.0.0:7262"), CFG_STR("portal", "", CFGF_NONE), CFG_END()};
    cfg_opt_t options[] = {
        CFG_STR("data", "/var/lib/isthmus-edge", CFGF_NONE),
        CONF_REQUIRED("key"),
        CONF_LOG_LEVEL("log_level", "info"),
        CONF_COUNT("loops", 0),
        CFG_SEC("iscsi", iscsi, CFGF_NONE),
        CFG_SEC("link", link, CFGF_NONE),
        CFG_SEC("cache", cache, CFGF_NONE),
        CFG_SEC("journal", journal, CFGF_NONE),
        CFG_SEC("store", store, CFGF_NONE),
        CFG_SEC("writeback", writeback, CFGF_NONE),
        CFG_SEC("pair", pair, CFGF_NONE),
        CFG_SEC("control", control, CFGF_NONE),
        CFG_SEC("http", http, CFGF_NONE),
        CFG_END(),
    };

    struct target_conf scratch;
    int rc = conf_load(cfg, path, options, why);

    if (rc)
        return rc;
    rc = edge_iscsi_limits(*cfg, &scratch, why);
    if (rc == 0)
        rc = edge_pair_check(*cfg, why);
    if (rc)
        conf_free(cfg);
    return rc;
}
