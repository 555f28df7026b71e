/* target/edge.c - who starts whom:
 *
 *   pool ► journal ► loops, rams, stores ► link ► VMs (catalog) ► tasks ► loops run ► target ► http, rest
 *   and then the store is asked whose the VMs are
 *
 * and edge_stop() goes back: target (initiators logged out), VMs, tasks, link, http, then the main loop ends.
 */
#include "edge.h"
#include "check.h"
#include "edge_failback.h"
#include "edge_generation.h"
#include "edge_iscsi.h"
#include "edge_pair.h"
#include "edge_writer.h"
#include "http.h"
#include "link.h"
#include "log.h"
#include "mem.h"
#include "ram.h"
#include "rest.h"
#include "store_conf.h"
#include "target.h"
#include "tasks.h"
#include "tier_wrap.h"
#include "vm.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char part[] = "edge";

enum {
    COMMIT_OBJECTS = 6 /* log objects in memory, each loop */,
    WRITEBACK_VMS = 4 /* that send at once, too */
};
enum { LOOPS_MAX = 64, POOL_THREADS = 4, STOP_MS = 10000 };
#define WRITEBACK_MIN_NS UINT64_C(1000000000)
#define WRITEBACK_MAX_NS (1800 * WRITEBACK_MIN_NS)
#define RAM_LOOP_MIN     (64ull << 20) /* four of the largest reads */

struct edge {
    struct loop *main;
    cfg_t *cfg;
    struct journal *journal;
    struct loop *loops[LOOPS_MAX];
    char loop_names[LOOPS_MAX][16];
    struct ram *rams[LOOPS_MAX];
    struct store *stores[LOOPS_MAX];
    struct commit_slots slots[LOOPS_MAX];
    unsigned writeback_slots[LOOPS_MAX];
    unsigned nloops;
    struct worker *worker;
    char *spool;
    struct aead_key master;
    uint8_t writer[LOGOBJ_WRITER_BYTES];
    struct link *link;
    struct vms *vms;
    struct lease_gate gate; /* in a pair: shut while this edge may not serve */
    struct peer *twin;      /* the other edge; NULL: in no pair */
    struct vms_pair *pair;  /* NULL: in no pair */
    struct store *pair_store;
    struct tasks *tasks;
    struct failback *failback; /* NULL: in no pair */
    struct target *target;
    struct http *http, *control;
    struct rest *rest;
    bool stopping, failed;
    bool target_gone, vms_gone; /* the loops end after both */
    struct timer deadline;
};

static unsigned cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;

    return n < LOOPS_MAX ? (unsigned)n : LOOPS_MAX;
}

static int open_journal(struct edge *e, struct why *why)
{
    const char *data = cfg_getstr(e->cfg, "data");
    struct journal_conf conf = {.max_bytes = conf_bytes(e->cfg, "journal|max")};
    char *path = xasprintf("%s/journal", data);
    int rc = 0;

    conf.path = path;
    if (mkdir(data, 0700) < 0 && errno != EEXIST)
        rc = why_set(why, -errno, "cannot make the data directory %s: %s", data, strerror(errno));
    if (rc == 0)
        rc = aead_key_load(cfg_getstr(e->cfg, "key"), &conf.key, why);
    if (rc == 0)
        rc = journal_open(&e->journal, &conf, why);
    e->master = conf.key;
    explicit_bzero(&conf.key, sizeof conf.key);
    free(path);
    return rc ? rc : edge_writer(e->journal, e->main, e->writer, why);
}

static int make_loops(struct edge *e, struct why *why)
{
    unsigned wanted = (unsigned)cfg_getint(e->cfg, "loops");
    uint64_t ram = conf_bytes(e->cfg, "cache|ram");

    e->nloops = wanted ? (wanted < LOOPS_MAX ? wanted : LOOPS_MAX) : cores();
    if (ram / e->nloops < RAM_LOOP_MIN || ram > RAM_BUDGET_MAX) {
        e->nloops = 0;
        return why_set(why, -EINVAL, "cache ram must be at least 64M for each of %u loops, and at most 4T",
                       wanted ? wanted : cores());
    }
    for (unsigned i = 0; i < e->nloops; i++) {
        snprintf(e->loop_names[i], sizeof e->loop_names[i], "vm%u", i);
        e->loops[i] = loop_new(e->loop_names[i]);
        e->rams[i] = ram_new(e->loops[i], ram / e->nloops);
    }
    return 0;
}

/* Each loop has its own connections to the store. */
static int open_stores(struct edge *e, struct why *why)
{
    cfg_t *section = cfg_getsec(e->cfg, "store");
    CLEANUP_FREE char *embedded = xasprintf("dir:%s/store", cfg_getstr(e->cfg, "data"));
    struct store_conf conf;
    int rc = store_conf_read(section, &conf, why);

    if (rc)
        return rc;
    if (!*conf.url) {
        conf.url = embedded;
        log_info(NULL, "no store is configured: VMs' logs go to the directory %s", embedded + strlen("dir:"));
    }
    e->worker = worker_new("store");
    e->spool = xasprintf("%s/spool", cfg_getstr(e->cfg, "data"));
    if (mkdir(e->spool, 0700) < 0 && errno != EEXIST)
        return why_set(why, -errno, "cannot make the directory %s: %s", e->spool, strerror(errno));
    for (unsigned i = 0; i < e->nloops; i++) {
        commit_slots_init(&e->slots[i], COMMIT_OBJECTS);
        e->writeback_slots[i] = WRITEBACK_VMS;
        e->stores[i] = store_open(e->loops[i], &conf, why);
        if (!e->stores[i])
            return -EINVAL;
    }
    return 0;
}

static void on_peer_request(void *arg, struct link_request *r)
{
    struct edge *e = arg;

    if (e->pair && r->peer == e->twin)
        edge_pair_request(e->pair, e->stopping ? NULL : e->target, r);
    else
        link_reply(&r, -ENOSYS, "an edge answers no requests of an on-prem daemon", NULL, 0);
}

static void on_peer_notice(void *arg, struct peer *peer, uint8_t type, const uint8_t *body, uint32_t len)
{
    struct edge *e = arg;
    struct proto_stat stat;

    if (e->pair && peer == e->twin)
        edge_pair_notice(e->pair, e->stopping ? NULL : e->target, type, body, len);
    else if (type == PROTO_DISK_CHANGED && proto_get_stat(body, len, &stat) == 0 && e->vms)
        vms_disk_changed(e->vms, peer, &stat);
    else
        log_warn(peer_name(peer), "a notice of type %u was not understood", type);
}

static void on_peer_state(void *arg, struct peer *peer, bool up)
{
    struct edge *e = arg;

    if (up && e->vms)
        vms_peer_up(e->vms, peer);
    if (up && e->target && !e->stopping && peer == e->twin)
        target_link_up(e->target);
    if (!up && e->pair && peer == e->twin)
        vms_pair_down(e->pair);
}

static int open_link(struct edge *e, struct why *why)
{
    const char *congestion = cfg_getstr(e->cfg, "link|congestion");
    struct link_conf conf = {.role = "edge",
                             .peer_role = "onprem",
                             .certificate = cfg_getstr(e->cfg, "link|certificate"),
                             .key = cfg_getstr(e->cfg, "link|key"),
                             .ca = cfg_getstr(e->cfg, "link|ca"),
                             .listen = cfg_getstr(e->cfg, "link|listen"),
                             .congestion = *congestion ? congestion : NULL,
                             .twin = edge_pair_peer(e->cfg)};
    struct link_handlers handlers = {
        .request = on_peer_request, .notice = on_peer_notice, .peer_state = on_peer_state, .arg = e};

    return link_new(&e->link, e->main, &conf, &handlers, why);
}

static int open_vms(struct edge *e, struct why *why)
{
    struct vms_conf conf = {.journal = e->journal,
                            .link = e->link,
                            .main = e->main,
                            .loops = e->loops,
                            .rams = e->rams,
                            .stores = e->stores,
                            .slots = e->slots,
                            .writeback_slots = e->writeback_slots,
                            .worker = e->worker,
                            .spool = e->spool,
                            .nloops = e->nloops,
                            .master = e->master,
                            .commit_age_ms = (unsigned)cfg_getint(e->cfg, "store|commit_age") * 1000,
                            .commit_bytes = conf_bytes(e->cfg, "store|commit_bytes"),
                            .writeback_bytes = conf_bytes(e->cfg, "writeback|bytes"),
                            .iqn_prefix = cfg_getstr(e->cfg, "iscsi|iqn_prefix"),
                            .edge = link_name(e->link),
                            .going = target_vm_going,
                            .lun_going = target_lun_going,
                            .lun_came = target_lun_came,
                            .taken = target_vm_taken,
                            .paths = target_vm_paths,
                            .mirrored = target_vm_mirrored,
                            .still = target_vm_still,
                            .go_on = target_vm_go_on,
                            .gate = edge_pair_peer(e->cfg) ? &e->gate : NULL,
                            .tiers = cfg_getstr(e->cfg, "cache|tiers")};
    uint64_t interval_ns = conf_ns(e->cfg, "writeback|interval");
    int rc = tier_wrap_check(conf.tiers, why);

    conf.writeback_interval_ms = (unsigned)(interval_ns / 1000000);
    memcpy(conf.writer, e->writer, sizeof conf.writer);
    if (rc == 0 && (conf.commit_age_ms < 1000 || conf.commit_age_ms > 30000))
        rc = why_set(why, -EINVAL, "store commit_age must be 1 to 30 seconds, not %u",
                     conf.commit_age_ms / 1000);
    if (rc == 0 && conf.commit_bytes < (1 << 20))
        rc = why_set(why, -EINVAL, "store commit_bytes must be at least 1M");
    if (rc == 0 && (interval_ns < WRITEBACK_MIN_NS || interval_ns > WRITEBACK_MAX_NS))
        rc = why_set(why, -EINVAL, "writeback interval must be 1s to 30m");
    if (rc == 0 && conf.writeback_bytes < (1 << 20))
        rc = why_set(why, -EINVAL, "writeback bytes must be at least 1M");
    return rc ? rc : vms_open(&e->vms, &conf, why);
}

/* Before initiators come: what had not ended may keep them out. */
static int open_tasks(struct edge *e, struct why *why)
{
    struct tasks_conf conf = {.vms = e->vms, .journal = e->journal, .main = e->main};
    int rc = tasks_open(&e->tasks, &conf, why);

    if (rc == 0)
        e->failback = edge_failback(e->cfg, &conf, e->tasks);
    return rc;
}

static int start_target(struct edge *e, struct why *why)
{
    struct target_conf conf = {
        .vms = e->vms, .journal = e->journal, .main = e->main, .loops = e->loops, .nloops = e->nloops};

    int rc = edge_pair_target(&conf, e->cfg, e->link, why);

    e->twin = conf.twin;
    return rc ? rc : edge_iscsi_start(&e->target, &conf, e->cfg, why);
}

static bool healthy(void *arg, struct why *why)
{
    struct edge *e = arg;

    if (journal_failed(e->journal))
        why_set(why, 0, "the journal's disk refuses writes: guests' writes wait");
    else if (e->stopping)
        why_set(why, 0, "the edge is stopping");
    else
        return vms_served(e->vms, why);
    return false;
}

static int start_http(struct edge *e, struct why *why)
{
    struct rest_conf conf = {.vms = e->vms,
                             .tasks = e->tasks,
                             .failback = e->failback,
                             .link = e->link,
                             .journal = e->journal,
                             .target = e->target,
                             .main = e->main,
                             .rams = e->rams,
                             .nrams = e->nloops,
                             .iqn_prefix = cfg_getstr(e->cfg, "iscsi|iqn_prefix"),
                             .portal = cfg_getstr(e->cfg, "http|portal"),
                             .token_file = cfg_getstr(e->cfg, "control|token_file")};
    int rc =
        http_start_control(&e->control, e->main, cfg_getstr(e->cfg, "control|listen"),
                           cfg_getstr(e->cfg, "control|certificate"), cfg_getstr(e->cfg, "control|key"), why);

    if (rc == 0)
        rc = http_start(&e->http, e->main, cfg_getstr(e->cfg, "http|listen"), why);
    if (rc == 0)
        rc = rest_start(&e->rest, e->control, e->http, &conf, why);
    if (rc == 0)
        http_metrics(e->http, healthy, e);
    return rc;
}

/* It ends rather than wait for what only an operator can mend. */
static void on_store_refused(void *arg, const struct why *why)
{
    struct edge *e = arg;

    log_error(NULL, "%s", why->text);
    e->failed = true;
    edge_stop(e);
}

/* The other edge goes on alone: not one more answer may leave this one. What was acknowledged is there, and
 * this edge comes back as no member. */
static void on_pair_lost(void *arg, const struct why *why)
{
    (void)arg;
    log_error(NULL, "%s", why->text);
    _exit(EDGE_EXIT_LOST);
}

static int start_pair(struct edge *e, struct why *why)
{
    struct edge_pair_conf conf = {.cfg = e->cfg,
                                  .vms = e->vms,
                                  .link = e->link,
                                  .main = e->main,
                                  .master = e->master,
                                  .writer = e->writer,
                                  .gate = &e->gate,
                                  .lost = on_pair_lost,
                                  .refused = on_store_refused,
                                  .arg = e};
    int rc = edge_pair_start(&e->pair, &e->pair_store, &conf, why);

    explicit_bzero(&conf.master, sizeof conf.master);
    return rc;
}

bool edge_failed(const struct edge *e)
{
    return e->failed;
}

int edge_start(struct edge **out, struct loop *main, cfg_t *cfg, struct why *why)
{
    struct edge *e = xcalloc(1, sizeof *e);
    int rc;

    *out = e;
    e->main = main;
    e->cfg = cfg;
    pool_start(POOL_THREADS);
    rc = open_journal(e, why);
    if (rc == 0)
        rc = edge_generation(e->journal, !edge_pair_peer(cfg), why);
    if (rc == 0)
        rc = make_loops(e, why);
    if (rc == 0)
        rc = open_stores(e, why);
    if (rc == 0)
        rc = open_link(e, why);
    if (rc == 0)
        rc = open_vms(e, why);
    if (rc == 0)
        rc = open_tasks(e, why);
    if (rc)
        return rc;
    for (unsigned i = 0; i < e->nloops; i++)
        loop_start(e->loops[i]);
    rc = start_target(e, why);
    if (rc == 0)
        rc = start_http(e, why);
    if (rc == 0 && edge_pair_peer(cfg))
        rc = start_pair(e, why);
    else if (rc == 0)
        vms_admit(e->vms, on_store_refused, e);
    if (rc == 0)
        log_info(
            NULL, "isthmus-edge %s serves: %u loop(s), iSCSI on port %u, link on port %u, http on port %u",
            ISTHMUS_VERSION, e->nloops, target_port(e->target, 0), link_port(e->link), http_port(e->http));
    return rc;
}

static void end_loops(struct edge *e)
{
    if (!e->target_gone || !e->vms_gone)
        return;
    worker_free(&e->worker); /* all who gave it work have been stopped */
    http_stop(&e->http);
    http_stop(&e->control);
    link_free(&e->link);
    for (unsigned i = 0; i < e->nloops; i++)
        loop_stop(e->loops[i]);
    loop_stop(e->main);
}

static void on_tasks_closed(void *arg)
{
    struct edge *e = arg;

    failback_free(&e->failback);
    e->vms_gone = true;
    end_loops(e);
}

static void on_vms_closed(void *arg)
{
    struct edge *e = arg;

    vms_pair_free(&e->pair);
    tasks_close(e->tasks, on_tasks_closed, e);
}

static void close_vms(void *arg)
{
    struct edge *e = arg;

    vms_close(e->vms, on_vms_closed, e);
    e->vms = NULL;
}

static void on_target_quiet(void *arg)
{
    struct edge *e = arg;

    if (e->pair)
        vms_pair_stop(e->pair, close_vms, e);
    else
        close_vms(e);
}

/* Its last commands may have come back only with the end of their volumes. */
static void on_target_gone(void *arg)
{
    struct edge *e = arg;

    e->target_gone = true;
    end_loops(e);
}

/* Writes may be waiting for a disk that is full: nobody was told that they are safe, and nothing that was
 * told so is lost by ending here. */
static void on_deadline(struct timer *t)
{
    struct edge *e = container_of(t, struct edge, deadline);

    log_warn(NULL, "not everything could be closed within %d s%s: ending all the same", STOP_MS / 1000,
             journal_failed(e->journal) ? ", because the journal's disk refuses writes" : "");
    _exit(1);
}

void edge_stop(struct edge *e)
{
    if (e->stopping)
        return;
    e->stopping = true;
    timer_init(&e->deadline, e->main, on_deadline);
    timer_set_ms(&e->deadline, STOP_MS);
    log_info(NULL, "stopping");
    rest_stop(&e->rest);
    failback_stop(e->failback);
    target_stop(e->target, on_target_quiet, on_target_gone, e);
}

void edge_free(struct edge **edge)
{
    struct edge *e = *edge;

    timer_free(&e->deadline);
    store_free(&e->pair_store);
    for (unsigned i = 0; i < e->nloops; i++) {
        loop_join(e->loops[i]);
        ram_free(&e->rams[i]);
        store_free(&e->stores[i]);
        loop_free(&e->loops[i]);
    }
    journal_close(&e->journal);
    pool_stop();
    free(e->spool);
    explicit_bzero(&e->master, sizeof e->master);
    free(e);
    *edge = NULL;
    log_info(NULL, "stopped");
}
