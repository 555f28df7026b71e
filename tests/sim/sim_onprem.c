/* tests/sim/sim_onprem.c - the on-prem daemon: initiator/main.c's parts in its order, on simulated ones.
 */
#include "sim_onprem.h"

#include "check.h"
#include "mem.h"
#include "serve.h"
#include "stage.h"
#include "wb_impl.h"

#include <errno.h>
#include <string.h>

void sim_onprem_init(struct sim_onprem *o, const char *name, struct sim_volume *volumes, unsigned nvolumes,
                     const char *const *edges)
{
    memset(o, 0, sizeof *o);
    sim_node_init(&o->node, name);
    o->node.user = &o->disk;
    sim_disk_init(&o->disk);
    o->volumes = volumes;
    o->nvolumes = nvolumes;
    o->edges = edges;
    memset(o->key.bytes, 0xa5, sizeof o->key.bytes);
}

static int start_disks(struct sim_onprem *o, struct why *why)
{
    for (unsigned i = 0; i < o->nvolumes; i++) {
        char url[64];
        char name[32];
        struct datastore_conf conf = {.name = name, .url = url};
        int err;

        snprintf(name, sizeof name, "disk%u", i);
        snprintf(url, sizeof url, "file:/%s", o->volumes[i].name);
        err = serve_add(o->serve, &conf, why);
        if (err)
            return err;
    }
    return 0;
}

static int start_writeback(struct sim_onprem *o, struct why *why)
{
    struct wb_disks disks = serve_disks(o->serve);
    struct writeback *writeback;
    struct stage *stage = NULL;
    int err;

    while ((err = stage_open(&stage, "sim", &o->key, why)) == -EIO || err == -ENOSPC)
        fiber_sleep(SIM_S);
    if (!err)
        err = writeback_open(&writeback, o->loop, &stage, &disks, why);
    if (!err)
        serve_writeback(o->serve, writeback);
    o->writeback = err ? NULL : writeback;
    return err;
}

static void boot(void *arg)
{
    struct sim_onprem *o = arg;
    struct link_handlers handlers;
    struct why why;
    int err;

    o->loop = sim_loop_new(&o->node, "onprem");
    o->serve = serve_new(o->loop, 128 << 20, false);
    err = start_disks(o, &why);
    if (!err)
        err = start_writeback(o, &why);
    if (err) {
        sim_violation("%s does not start: %s", o->node.name, why.text);
        return;
    }
    handlers = serve_handlers(o->serve);
    o->link = sim_link_new(o->loop, "onprem", &handlers);
    for (unsigned i = 0; o->edges[i]; i++)
        sim_link_dial(o->link, link_peer(o->link, o->edges[i]), 2);
    sim_say(&o->node, "serves");
    sim_loop_run(o->loop);
}

void sim_onprem_start(struct sim_onprem *o)
{
    o->writeback = NULL;
    sim_say(&o->node, "starts");
    sim_node_start(&o->node, boot, o);
}

void sim_onprem_kill(struct sim_onprem *o, bool machine)
{
    sim_disk_crash(&o->disk, &o->node, machine);
    sim_net_died(&o->node, machine);
    sim_node_kill(&o->node);
}

bool sim_onprem_has(const struct sim_onprem *o, const uint8_t id[16])
{
    const struct writeback *wb = o->node.alive ? o->writeback : NULL;
    const struct wb_vm *vm;

    if (!wb)
        return false;
    TAILQ_FOREACH (vm, &wb->vms, entry)
        if (vm->rec.attached && memcmp(vm->rec.vm, id, sizeof vm->rec.vm) == 0)
            return true;
    return false;
}
