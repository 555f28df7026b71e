/* tests/sim/sim_edge.c - an edge without its portal: target/edge.c's parts in its order, on simulated ones.
 *
 * Two loops, as a small edge has: main, and one for VMs.
 */
#include "sim_edge.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "ram.h"
#include "store_retry.h"
#include "worker.h"

#include <errno.h>
#include <string.h>

enum { COMMIT_OBJECTS = 6, WRITEBACK_VMS = 4 };

void sim_edge_init(struct sim_edge *e, const char *name, struct sim_bucket *bucket)
{
    memset(e, 0, sizeof *e);
    sim_node_init(&e->node, name);
    e->node.user = &e->disk;
    sim_disk_init(&e->disk);
    e->bucket = bucket;
    memset(e->master.bytes, 0x5a, sizeof e->master.bytes);
    e->conf = (struct sim_edge_conf){.commit_age_ms = 1000,
                                     .writeback_interval_ms = 10000,
                                     .commit_bytes = 64 << 20,
                                     .writeback_bytes = UINT64_C(4) << 30,
                                     .ram_bytes = 4 << 20,
                                     .journal_bytes = 32 << 20,
                                     .spool = "/dev/shm"};
}

static int on_writer(void *arg, const char *key, const void *value, size_t n)
{
    struct sim_edge *e = arg;

    (void)key;
    CHECK(n == sizeof e->writer);
    memcpy(e->writer, value, n);
    return 1;
}

static int know_writer(struct sim_edge *e, struct why *why)
{
    int rc = journal_meta_each(e->journal, "writer", on_writer, e, why);

    if (rc)
        return rc > 0 ? 0 : rc;
    loop_random(e->main, e->writer, sizeof e->writer);
    return journal_meta_put(e->journal, "writer", e->writer, sizeof e->writer, why);
}

static void on_request(void *arg, struct link_request *r)
{
    struct sim_edge *e = arg;

    if (e->pair && r->peer == e->twin)
        vms_pair_request(e->pair, r);
    else
        link_reply(&r, -ENOSYS, "an edge answers no requests of an on-prem daemon", NULL, 0);
}

static void on_notice(void *arg, struct peer *peer, uint8_t type, const uint8_t *body, uint32_t len)
{
    struct sim_edge *e = arg;
    struct proto_stat stat;

    if (e->pair && peer == e->twin)
        vms_pair_notice(e->pair, type, body, len);
    else if (type == PROTO_DISK_CHANGED && proto_get_stat(body, len, &stat) == 0 && e->vms)
        vms_disk_changed(e->vms, peer, &stat);
}

static void on_peer_state(void *arg, struct peer *peer, bool up)
{
    struct sim_edge *e = arg;

    sim_say(&e->node, "%s is %s", peer_name(peer), up ? "up" : "down");
    if (up && e->vms)
        vms_peer_up(e->vms, peer);
}

static struct sim_edge *edge_of(const struct vm *vm)
{
    struct sim_node *node = sim_loop_node(vm->loop);

    return container_of(node, struct sim_edge, node);
}

static void on_going(struct vm *vm, enum vm_going going)
{
    struct sim_edge *e = edge_of(vm);

    sim_say(&e->node, "initiators of %s are to go (%d)", vm->spec.name, (int)going);
    if (e->going)
        e->going(e, vm, going);
}

static void on_still(struct vm *vm, void (*quiet)(void *arg), void *arg)
{
    struct sim_edge *e = edge_of(vm);

    sim_say(&e->node, "commands of %s wait", vm->spec.name);
    e->still(e, vm, quiet, arg);
}

static void on_go_on(struct vm *vm, struct vm *far)
{
    struct sim_edge *e = edge_of(vm);

    sim_say(&e->node, "commands of %s go on%s", vm->spec.name, far ? " at the other edge" : "");
    e->go_on(e, vm, far);
}

static void on_refused(void *arg, const struct why *why)
{
    struct sim_edge *e = arg;

    sim_violation("%s: the store is refused for ever: %s", e->node.name, why->text);
}

static int open_vms(struct sim_edge *e, struct why *why)
{
    struct vms_conf conf = {.journal = e->journal,
                            .link = e->link,
                            .main = e->main,
                            .loops = &e->loop,
                            .rams = &e->ram,
                            .stores = &e->store,
                            .slots = &e->slots,
                            .writeback_slots = &e->writeback_slots,
                            .worker = e->worker,
                            .spool = e->conf.spool,
                            .nloops = 1,
                            .master = e->master,
                            .commit_age_ms = e->conf.commit_age_ms,
                            .commit_bytes = e->conf.commit_bytes,
                            .writeback_interval_ms = e->conf.writeback_interval_ms,
                            .writeback_bytes = e->conf.writeback_bytes,
                            .iqn_prefix = "iqn.sim",
                            .going = on_going,
                            .still = on_still,
                            .go_on = on_go_on,
                            .gate = e->conf.twin ? &e->gate : NULL,
                            .tiers = ""};

    memcpy(conf.writer, e->writer, sizeof conf.writer);
    return vms_open(&e->vms, &conf, why);
}

static void on_lost(void *arg, const struct why *why)
{
    struct sim_edge *e = arg;

    sim_say(&e->node, "ends: %s", why->text);
    e->lost(e);
}

static void start_pair(struct sim_edge *e)
{
    struct pair_conf conf = {.loop = e->main,
                             .store = store_retry_new(sim_store_new(e->main, e->bucket), NULL),
                             .master = e->master,
                             .name = "sim",
                             .self = e->node.name,
                             .other = e->conf.twin,
                             .lease_ns = e->conf.lease_ns,
                             .gate = &e->gate,
                             .lost = on_lost};

    e->twin = link_peer(e->link, e->conf.twin);
    conf.peer = e->twin;
    memcpy(conf.writer, e->writer, sizeof conf.writer);
    if (strcmp(e->node.name, e->conf.twin) < 0)
        sim_link_dial(e->link, e->twin, 1);
    e->pair = vms_pair_new(e->vms, &conf, on_refused, e);
    vms_pair_peer_wait(e->pair, e->conf.peer_wait_ms);
}

static void boot(void *arg)
{
    struct sim_edge *e = arg;
    struct journal_conf conf = {.path = "sim", .key = e->master, .max_bytes = e->conf.journal_bytes};
    struct link_handlers handlers = {
        .request = on_request, .notice = on_notice, .peer_state = on_peer_state, .arg = e};
    struct why why;
    int rc;

    e->main = sim_loop_new(&e->node, "main");
    e->loop = sim_loop_new(&e->node, "vm0");
    while ((rc = journal_open_on(&e->journal, &conf, sim_kv_new(&e->disk), &why)) == -EIO || rc == -ENOSPC)
        fiber_sleep(SIM_S); /* systemd starts it again */
    if (rc == 0)
        rc = know_writer(e, &why);
    if (rc) {
        sim_violation("%s does not start: %s", e->node.name, why.text);
        return;
    }
    e->ram = ram_new(e->loop, e->conf.ram_bytes);
    e->worker = worker_new("store");
    commit_slots_init(&e->slots, COMMIT_OBJECTS);
    e->writeback_slots = WRITEBACK_VMS;
    e->store = store_retry_new(sim_store_new(e->loop, e->bucket), NULL);
    e->link = sim_link_new(e->main, e->node.name, &handlers);
    rc = open_vms(e, &why);
    if (rc) {
        sim_violation("%s does not open its VMs: %s", e->node.name, why.text);
        return;
    }
    if (e->opened)
        e->opened(e);
    sim_loop_start(e->loop);
    if (e->conf.twin)
        start_pair(e);
    else
        vms_admit(e->vms, on_refused, e);
    e->ready = true;
    sim_say(&e->node, "serves");
    sim_loop_run(e->main);
}

void sim_edge_start(struct sim_edge *e)
{
    e->journal = NULL;
    e->vms = NULL;
    e->link = NULL;
    e->twin = NULL;
    e->pair = NULL;
    atomic_store(&e->gate.until_ns, 0);
    sim_say(&e->node, "starts");
    sim_node_start(&e->node, boot, e);
}

void sim_edge_kill(struct sim_edge *e, bool machine)
{
    e->ready = false;
    e->vms = NULL;
    e->pair = NULL;
    sim_disk_crash(&e->disk, &e->node, machine);
    sim_net_died(&e->node, machine);
    sim_node_kill(&e->node);
}
