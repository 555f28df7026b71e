/* initiator/onprem_conf.c - keys and checks of the configuration; see onprem_conf.h.
 *
 * At start-up and on SIGHUP. What only the outside world can tell (does the LUN exist, is the edge there) is
 * not looked at here.
 */
#include "onprem_conf.h"

#include <errno.h>

enum { CONNECTIONS_MAX = 16, SESSIONS_MAX = 8 };

static int check_disks(cfg_t *cfg, const char *path, struct why *why)
{
    for (unsigned i = 0; i < onprem_conf_ndisks(cfg); i++) {
        cfg_t *section = cfg_getnsec(cfg, "disk", i);
        struct datastore_conf disk = onprem_conf_disk(cfg, i);
        struct why reason;

        if (datastore_url_check(disk.url, &reason) != 0)
            return conf_refuse(section, why, "disk %s: %s", disk.name, reason.text);
        if (disk.sessions < 1 || disk.sessions > SESSIONS_MAX)
            return conf_refuse(section, why, "disk %s: sessions must be 1 to %d", disk.name, SESSIONS_MAX);
        if (datastore_url_has_secret(disk.url) && conf_private(path, &reason) != 0)
            return why_set(why, -EACCES, "disk %s has a secret in its url: %s", disk.name, reason.text);
    }
    return 0;
}

static int check_edges(cfg_t *cfg, struct why *why)
{
    for (unsigned i = 0; i < cfg_size(cfg, "edge"); i++) {
        cfg_t *section = cfg_getnsec(cfg, "edge", i);
        long n = cfg_getint(section, "connections");

        if (n < 1 || n > CONNECTIONS_MAX)
            return conf_refuse(section, why, "edge %s: connections must be 1 to %d", cfg_title(section),
                               CONNECTIONS_MAX);
    }
    return 0;
}

int onprem_conf_load(cfg_t **cfg, const char *path, struct why *why)
{
    cfg_opt_t link_keys[] = {CONF_REQUIRED("certificate"),
                             CONF_REQUIRED("key"),
                             CONF_REQUIRED("ca"),
                             CFG_STR("congestion", "bbr", CFGF_NONE),
                             CFG_BOOL("thorough", cfg_true, CFGF_NONE),
                             CFG_END()};
    cfg_opt_t http_keys[] = {CONF_ADDRESS("listen", "0.0.0.0:7263"), CFG_END()};
    cfg_opt_t edge_keys[] = {CONF_ADDRESS_REQUIRED("address"), CONF_COUNT("connections", 2), CFG_END()};
    cfg_opt_t disk_keys[] = {CONF_REQUIRED("url"), CONF_COUNT("sessions", 2), CFG_END()};
    cfg_opt_t keys[] = {CFG_STR("data", "/var/lib/isthmus-onprem", CFGF_NONE),
                        CONF_REQUIRED("key"),
                        CONF_LOG_LEVEL("log_level", "info"),
                        CFG_SEC("link", link_keys, CFGF_NONE),
                        CFG_SEC("http", http_keys, CFGF_NONE),
                        CONF_NAMED_SECTION("edge", edge_keys),
                        CONF_NAMED_SECTION("disk", disk_keys),
                        CFG_END()};
    int err = conf_load(cfg, path, keys, why);

    if (err)
        return err;
    err = check_edges(*cfg, why);
    if (!err)
        err = check_disks(*cfg, path, why);
    if (err)
        conf_free(cfg);
    return err;
}

unsigned onprem_conf_ndisks(cfg_t *cfg)
{
    return cfg_size(cfg, "disk");
}

struct datastore_conf onprem_conf_disk(cfg_t *cfg, unsigned i)
{
    cfg_t *section = cfg_getnsec(cfg, "disk", i);

    return (struct datastore_conf){.name = cfg_title(section),
                                   .url = cfg_getstr(section, "url"),
                                   .sessions = (unsigned)cfg_getint(section, "sessions")};
}
