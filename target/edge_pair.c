/* target/edge_pair.c - see edge_pair.h. docs/operating.md says what the keys mean. */
#include "edge_pair.h"
#include "mem.h"
#include "proto_pair.h"
#include "reserve.h"
#include "store_conf.h"

#include <errno.h>
#include <string.h>

#define LEASE_MIN_NS     UINT64_C(1000000000)
#define LEASE_MAX_NS     (60 * LEASE_MIN_NS)
#define AFTER_MIN_NS     UINT64_C(1000000000)
#define AFTER_MAX_NS     (24 * 3600 * AFTER_MIN_NS)
#define PEER_WAIT_MAX_NS UINT64_C(1000000000)

const char *edge_pair_peer(cfg_t *cfg)
{
    return *cfg_getstr(cfg, "pair|name") ? cfg_getstr(cfg, "pair|peer") : NULL;
}

int edge_pair_check(cfg_t *cfg, struct why *why)
{
    cfg_t *section = cfg_getsec(cfg, "pair");
    const char *name = cfg_getstr(section, "name");
    uint64_t lease = conf_ns(section, "lease"), after = conf_ns(section, "failback_after");

    if (!*name)
        return 0;
    if (!conf_name_ok(name))
        return conf_refuse(section, why, "pair name: \"%.80s\" is no name", name);
    if (!conf_name_ok(cfg_getstr(section, "peer")))
        return conf_refuse(section, why,
                           "pair peer: the other edge's name (the CN of its certificate) is needed");
    if (!*cfg_getstr(section, "address"))
        return conf_refuse(section, why, "pair address: where the other edge's link listens is needed");
    if (lease < LEASE_MIN_NS || lease > LEASE_MAX_NS)
        return conf_refuse(section, why, "pair lease must be 1s to 60s");
    if (after < AFTER_MIN_NS || after > AFTER_MAX_NS)
        return conf_refuse(section, why, "pair failback_after must be 1s to 24h");
    if (conf_ns(section, "peer_wait") > PEER_WAIT_MAX_NS)
        return conf_refuse(section, why, "pair peer_wait must be at most 1s");
    if (!*cfg_getstr(cfg, "store|url"))
        return conf_refuse(section, why, "a pair needs an object store that both edges use: store url");
    return 0;
}

int edge_pair_target(struct target_conf *conf, cfg_t *cfg, struct link *link, struct why *why)
{
    const char *other = edge_pair_peer(cfg);
    cfg_t *iscsi = cfg_getsec(cfg, "iscsi");
    char address[CONF_ADDRESS_MAX + 1];
    uint16_t group;

    if (!other)
        return 0;
    conf->twin = link_peer(link, other);
    conf->portal_name = cfg_getstr(cfg, "http|portal");
    conf->portal_groups_from = strcmp(link_name(link), other) < 0 ? 0 : TARGET_GROUPS_SECOND;
    if (cfg_getint(iscsi, "portal_group") >= TARGET_GROUPS_SECOND)
        return conf_refuse(iscsi, why, "'portal_group' is at most %d in a pair", TARGET_GROUPS_SECOND - 1);
    for (unsigned i = 0; i < cfg_size(iscsi, "listen"); i++)
        if (conf_portal(cfg_getnstr(iscsi, "listen", i), address, &group) && group >= TARGET_GROUPS_SECOND)
            return conf_refuse(iscsi, why, "'listen': a group is at most %d in a pair",
                               TARGET_GROUPS_SECOND - 1);
    return 0;
}

static bool is_for_target(uint8_t type)
{
    return type > PROTO_FORWARD_VM && type <= PROTO_FORWARD_LOGOUT;
}

/* What is kept of reservations will be served here one day. */
static int look_at_reservations(const struct link_request *r)
{
    CLEANUP_FREE struct reserve *reserve = xmalloc(sizeof *reserve);
    struct pair_reserve body;
    int rc = pair_get_reserve(r->body, r->len, &body);

    return rc ? rc : reserve_get_sent(reserve, body.state, body.len);
}

void edge_pair_request(struct vms_pair *pair, struct target *target, struct link_request *r)
{
    int rc = r->type == PROTO_MIRROR_RESERVE ? look_at_reservations(r) : 0;

    if (rc)
        link_reply(&r, rc, "reservations that this edge cannot read", NULL, 0);
    else if (!is_for_target(r->type))
        vms_pair_request(pair, r);
    else if (target)
        target_link_request(target, r);
    else
        link_reply(&r, -ESTALE, "this edge is stopping", NULL, 0);
}

void edge_pair_notice(struct vms_pair *pair, struct target *target, uint8_t type, const uint8_t *body,
                      uint32_t len)
{
    if (!is_for_target(type))
        vms_pair_notice(pair, type, body, len);
    else if (target)
        target_link_notice(target, type, body, len);
}

int edge_pair_start(struct vms_pair **pair, struct store **store, const struct edge_pair_conf *c,
                    struct why *why)
{
    cfg_t *section = cfg_getsec(c->cfg, "pair");
    struct pair_conf conf = {.loop = c->main,
                             .master = c->master,
                             .name = cfg_getstr(section, "name"),
                             .self = link_name(c->link),
                             .other = cfg_getstr(section, "peer"),
                             .lease_ns = conf_ns(section, "lease"),
                             .gate = c->gate,
                             .lost = c->lost};
    struct store_conf store_conf;
    int rc = store_conf_read(cfg_getsec(c->cfg, "store"), &store_conf, why);

    if (rc)
        return rc;
    if (strcmp(conf.self, conf.other) == 0)
        return conf_refuse(section, why, "pair peer: %s is this edge itself", conf.other);
    *store = store_open(c->main, &store_conf, why);
    if (!*store)
        return -EINVAL;
    conf.store = *store;
    conf.peer = link_peer(c->link, conf.other);
    memcpy(conf.writer, c->writer, sizeof conf.writer);
    if (strcmp(conf.self, conf.other) < 0) /* one of the two dials */
        rc = link_dial(c->link, conf.peer, cfg_getstr(section, "address"), 1, why);
    if (rc == 0) {
        *pair = vms_pair_new(c->vms, &conf, c->refused, c->arg);
        vms_pair_peer_wait(*pair, (unsigned)(conf_ns(section, "peer_wait") / 1000000));
    }
    explicit_bzero(&conf.master, sizeof conf.master);
    return rc;
}
