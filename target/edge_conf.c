/* target/edge_conf.c - the table of what edge.conf may hold. docs/operating.md says what each means.
 */
#include "edge_conf.h"
#include "store_conf.h"

int edge_conf_load(cfg_t **cfg, const char *path, struct why *why)
{
    cfg_opt_t iscsi[] = {
        CONF_ADDRESSES("listen", "{0.0.0.0:3260}"),
        CFG_STR("iqn_prefix", "iqn.2026-11.org.isthmus", CFGF_NONE),
        CFG_STR("discovery_user", "", CFGF_NONE),
        CFG_STR("discovery_secret_file", "", CFGF_NONE),
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
        CFG_SEC("control", control, CFGF_NONE),
        CFG_SEC("http", http, CFGF_NONE),
        CFG_END(),
    };

    return conf_load(cfg, path, options, why);
}
