/* tests/sim/world_judge.c - what would be left: another edge without a disk, and an on-prem daemon, from
 * copies.
 *
 * First the on-prem daemon alone: what is staged goes on to the source disks, which then must be at a cut.
 * Then an edge that has nothing recovers the VM from the copy of the store, and its guest finds a cut, too.
 */
#include "world_inside.h"

#include "check.h"
#include "mem.h"

#include <stdio.h>
#include <string.h>

enum { ALONE_S = 15 };

static const char *const rescues[] = {"rescue", NULL};

static struct {
    bool busy, recovered, asked;
    const char *what;
    const struct world_vm *vm;
    unsigned round;
    struct sim_onprem onprem;
    struct sim_volume volumes[WORLD_VMS * GUEST_DISKS];
    struct sim_edge edge;
    struct guest *guest;
    struct task task;
    uint64_t committed_before_us, applied_before_us;
} rescue;

static void copy_onprem(void)
{
    sim_onprem_init(&rescue.onprem, "onprem2", rescue.volumes, world.ndisks, rescues);
    sim_table_copy(rescue.onprem.disk.table, world.onprem.disk.table);
    for (unsigned i = 0; i < world.ndisks; i++) {
        char name[32];

        snprintf(name, sizeof name, "copy%u", i);
        sim_volume_init(&rescue.volumes[i], name, world.volumes[i].n, world.volumes[i].latency_ns);
        sim_volume_copy(&rescue.volumes[i], &world.volumes[i]);
    }
}

static void on_recovered(void *arg, int status, unsigned recovered, const struct why *why)
{
    (void)arg;
    rescue.asked = false;
    rescue.recovered = status == 0 && recovered == 1;
    sim_say(&rescue.edge.node, "recovered %u: %s", recovered, status ? why->text : "good");
}

static void on_told(void *arg, const char *sentence)
{
    (void)arg;
    sim_say(&rescue.edge.node, "%s", sentence);
}

static void on_ask(struct task *t)
{
    (void)t;
    vms_recover(rescue.edge.vms, rescue.vm->name, UINT64_MAX, on_told, on_recovered, NULL);
}

static void end(void)
{
    sim_say(NULL, "%s: judged", rescue.what);
    sim_net_died(&rescue.edge.node, false);
    sim_node_kill(&rescue.edge.node);
    sim_net_died(&rescue.onprem.node, false);
    sim_node_kill(&rescue.onprem.node);
    rescue.busy = false;
}

static void look(void *arg)
{
    (void)arg;
    if (guest_running(rescue.guest)) {
        end();
        return;
    }
    if (rescue.edge.ready && !rescue.recovered && !rescue.asked) {
        rescue.asked = true;
        rescue.task.run = on_ask;
        loop_post(rescue.edge.main, &rescue.task);
    }
    sim_after(NULL, 200 * SIM_MS, look, NULL);
}

/* The on-prem daemon has had time to bring its disks to a cut. */
static void alone_long_enough(void *arg)
{
    uint8_t *disks[GUEST_DISKS] = {rescue.volumes[rescue.vm->disk].bytes,
                                   rescue.volumes[rescue.vm->disk + rescue.vm->ndisks - 1].bytes};
    char *what = xasprintf("%s: the source disks, by on-prem alone", rescue.what);

    (void)arg;
    guest_judge(rescue.guest, disks, rescue.applied_before_us, what);
    free(what);
    guest_target(rescue.guest, &rescue.edge, NULL);
    sim_edge_start(&rescue.edge);
    look(NULL);
}

void world_judge_begin(const char *what, struct world_vm *v)
{
    char *path;

    if (rescue.busy)
        return;
    rescue.busy = true;
    rescue.recovered = rescue.asked = false;
    rescue.what = what;
    rescue.vm = v;
    rescue.committed_before_us = guest_acknowledged_above(v->guest, v->committed);
    rescue.applied_before_us = v->cloud_persist ? 0 : guest_acknowledged_above(v->guest, v->applied);
    sim_say(NULL, "%s: copies are made, to be judged (%s, committed %llu, applied %llu)", what, v->name,
            (unsigned long long)v->committed, (unsigned long long)v->applied);
    path = xasprintf("%s/history.twin%u", world.conf.dir, ++rescue.round);
    rescue.guest = guest_twin(v->guest, path, rescue.committed_before_us);
    sim_edge_init(&rescue.edge, "rescue", sim_bucket_copy(world.bucket));
    rescue.edge.conf = world.edges[0].conf;
    rescue.edge.conf.twin = NULL;
    copy_onprem();
    sim_onprem_start(&rescue.onprem);
    sim_after(NULL, ALONE_S * SIM_S, alone_long_enough, NULL);
}

bool world_judge_done(void)
{
    return !rescue.busy;
}
