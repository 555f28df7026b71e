/* target/edge_iscsi.c - section iscsi of edge.conf as a struct target_conf: portals, limits, CHAP of
 * discovery sessions. On the main thread at start-up.
 */
#include "edge_iscsi.h"

#include "mem.h"
#include "vm_spec.h"

#include <string.h>

int edge_iscsi_limits(cfg_t *cfg, struct target_conf *conf, struct why *why)
{
    enum {
        SECOND = 1000000000,
        QUEUE_MAX = 1024,
        BURST_MIN = 512,
        BURST_MAX = 0xffffff,
        MEMORY_MIN = 1 << 20
    };
    static const char *const durations[] = {"login_timeout", "ping_interval", "ping_timeout"};
    unsigned *seconds[] = {&conf->login_seconds, &conf->ping_seconds, &conf->ping_timeout_seconds};
    static const char *const counts[] = {"max_connections", "max_connections_per_address",
                                         "max_sessions_per_vm", "queue_depth"};
    unsigned *numbers[] = {&conf->max_connections, &conf->max_connections_per_address,
                           &conf->max_sessions_per_vm, &conf->window};
    cfg_t *iscsi = cfg_getsec(cfg, "iscsi");
    uint64_t first = conf_bytes(iscsi, "first_burst"), most = conf_bytes(iscsi, "max_burst");

    for (unsigned i = 0; i < sizeof durations / sizeof *durations; i++) {
        uint64_t ns = conf_ns(iscsi, durations[i]);

        if (ns < SECOND || ns / SECOND > 3600)
            return conf_refuse(iscsi, why, "'%s' is from 1s to 1h", durations[i]);
        *seconds[i] = (unsigned)(ns / SECOND);
    }
    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++) {
        *numbers[i] = (unsigned)cfg_getint(iscsi, counts[i]);
        if (!*numbers[i])
            return conf_refuse(iscsi, why, "'%s' is at least 1", counts[i]);
    }
    if (conf->window > QUEUE_MAX)
        return conf_refuse(iscsi, why, "'queue_depth' is at most %d", QUEUE_MAX);
    if (first < BURST_MIN || most < first || most > BURST_MAX)
        return conf_refuse(iscsi, why,
                           "'first_burst' is at least 512 bytes, 'max_burst' not less than it and below 16M");
    conf->portal_group = (uint16_t)cfg_getint(iscsi, "portal_group");
    if (!conf->portal_group)
        return conf_refuse(iscsi, why, "'portal_group' is at least 1");
    conf->nportals = cfg_size(iscsi, "listen");
    if (conf->nportals == 0 || conf->nportals > TARGET_PORTALS_MAX)
        return conf_refuse(iscsi, why, "'listen' holds 1 to %d addresses, not %u", TARGET_PORTALS_MAX,
                           conf->nportals);
    conf->first_burst_bytes = (uint32_t)first;
    conf->max_burst_bytes = (uint32_t)most;
    conf->session_bytes = conf_bytes(iscsi, "session_memory");
    conf->loop_bytes = conf_bytes(iscsi, "loop_memory");
    if (conf->session_bytes < MEMORY_MIN || conf->loop_bytes < conf->session_bytes)
        return conf_refuse(iscsi, why, "'session_memory' is at least 1M, 'loop_memory' not less than it");
    return 0;
}

/* CHAP of discovery sessions, under the rules that VMs have. */
static int take_discovery(cfg_t *iscsi, struct vm_spec *spec, struct why *why)
{
    const struct {
        const char *user_key, *file_key;
        char *user, *secret;
    } of[] = {
        {"discovery_user", "discovery_secret_file", spec->chap_user, spec->chap_secret},
        {"discovery_mutual_user", "discovery_mutual_secret_file", spec->mutual_user, spec->mutual_secret}};

    for (unsigned i = 0; i < sizeof of / sizeof *of; i++) {
        const char *user = cfg_getstr(iscsi, of[i].user_key), *file = cfg_getstr(iscsi, of[i].file_key);
        int rc;

        if (!*user && !*file)
            continue;
        if (!*user || !*file || strlen(user) > VM_SECRET_MAX)
            return conf_refuse(iscsi, why, "'%s' (at most %d bytes) and '%s' come together", of[i].user_key,
                               VM_SECRET_MAX, of[i].file_key);
        strcpy(of[i].user, user);
        rc = conf_read_secret(file, of[i].secret, VM_SECRET_MAX + 1, why);
        if (rc)
            return rc;
    }
    return vm_chap_check(spec, why);
}

int edge_iscsi_start(struct target **target, struct target_conf *conf, cfg_t *cfg, struct why *why)
{
    const char *portals[TARGET_PORTALS_MAX];
    struct vm_spec *discovery = xcalloc(1, sizeof *discovery);
    int rc = edge_iscsi_limits(cfg, conf, why);

    for (unsigned i = 0; rc == 0 && i < conf->nportals; i++)
        portals[i] = cfg_getnstr(cfg, "iscsi|listen", i);
    conf->portals = portals;
    conf->discovery_user = discovery->chap_user;
    conf->discovery_secret = discovery->chap_secret;
    conf->discovery_mutual_user = discovery->mutual_user;
    conf->discovery_mutual_secret = discovery->mutual_secret;
    if (rc == 0)
        rc = take_discovery(cfg_getsec(cfg, "iscsi"), discovery, why);
    if (rc == 0)
        rc = target_start(target, conf, why);
    vm_spec_wipe(discovery);
    free(discovery);
    return rc;
}
