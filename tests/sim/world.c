/* tests/sim/world.c - a seed's life: put together, a VM made, a storm of faults, calm, and the last
 * judgement.
 */
#include "world_inside.h"

#include "check.h"
#include "mem.h"

#include <stdio.h>
#include <string.h>

struct world world;

static const char *const edges[] = {"edge", NULL};

struct sim_disk *sim_world_disk(const struct sim_node *node)
{
    return node->user;
}

/* --- the VM --- */

static void on_created(void *arg, struct vm *vm, const struct why *why)
{
    (void)arg;
    world.asked = false;
    if (vm)
        world.created = true;
    sim_say(&world.edge.node, "the VM is %s%s", vm ? "created" : "not created: ", vm ? "" : why->text);
}

static void on_recovered(void *arg, int status, unsigned recovered, const struct why *why)
{
    (void)arg;
    world.asked = false;
    if (status == 0 && recovered == 1)
        world.recover = false;
    sim_say(&world.edge.node, "recovered %u: %s", recovered, status ? why->text : "good");
}

static void on_told(void *arg, const char *sentence)
{
    (void)arg;
    sim_say(&world.edge.node, "%s", sentence);
}

static void on_ask(struct task *t)
{
    struct vm_spec spec = {.name = "vm1", .ndisks = world.ndisks};

    (void)t;
    if (world.recover && !vms_find(world.edge.vms, "vm1")) {
        vms_recover(world.edge.vms, "vm1", UINT64_MAX, on_told, on_recovered, NULL);
        return;
    }
    if (vms_find(world.edge.vms, "vm1")) { /* an earlier life's creation, or recovery, went through */
        world.created = true;
        world.recover = false;
        world.asked = false;
        return;
    }
    spec.storage = world.cloud_persist ? WB_CLOUD_PERSIST : WB_WRITE_BACK;
    for (unsigned i = 0; i < world.ndisks; i++) {
        snprintf(spec.disks[i].onprem, sizeof spec.disks[i].onprem, "onprem");
        snprintf(spec.disks[i].disk, sizeof spec.disks[i].disk, "disk%u", i);
    }
    vms_create(world.edge.vms, &spec, on_created, NULL);
}

/* Looks after what somebody would: the VM is made, and recovered after a loss. */
static void look_after(void *arg)
{
    struct vm *vm = guest_vm(world.guest);
    struct vm_status status;

    (void)arg;
    if (world.edge.ready && !world.asked && (!world.created || world.recover)) {
        world.asked = true;
        world.ask.run = on_ask;
        loop_post(world.edge.main, &world.ask);
    }
    world_operator_mends();
    if (vm && world.edge.ready) {
        vm_status(vm, &status);
        if (status.open && status.committed > world.committed)
            world.committed = status.committed;
        if (status.open && status.wb.applied > world.applied)
            world.applied = status.wb.applied;
    }
    sim_after(NULL, 200 * SIM_MS, look_after, NULL);
}

static void on_going(struct sim_edge *e, struct vm *vm, enum vm_going going)
{
    (void)e, (void)going;
    guest_going(world.guest, vm);
}

/* --- putting together --- */

static void make_guest(void)
{
    struct guest_conf conf = {.vm = "vm1",
                              .ndisks = world.ndisks,
                              .nsectors = world.nsectors,
                              .depth = (unsigned)sim_between(1, 6),
                              .think_ns = sim_between(5, sim_chance(200000) ? 100 : 600) * SIM_MS,
                              .nops = UINT32_MAX / 2};

    conf.path = xasprintf("%s/history", world.conf.dir);
    world.guest = guest_new(&conf);
}

static void make_world(void)
{
    world.ndisks = (unsigned)sim_between(1, GUEST_DISKS);
    world.nsectors = 256U << sim_below(2);
    world.cloud_persist = sim_chance(250000);
    world.bucket = sim_bucket_new(sim_between(1, 60) * SIM_MS);
    sim_net_begin(sim_between(100, 80000) * SIM_US);
    make_guest();
    for (unsigned i = 0; i < world.ndisks; i++) {
        char name[32];

        snprintf(name, sizeof name, "source%u", i);
        sim_volume_init(&world.volumes[i], name, (size_t)world.nsectors * 512,
                        sim_between(50, 5000) * SIM_US);
        guest_prepare(world.guest, i, world.volumes[i].bytes);
    }
    sim_edge_init(&world.edge, "edge", world.bucket);
    world.edge.going = on_going;
    world.edge.conf.commit_age_ms = (unsigned)sim_between(1000, 4000);
    world.edge.conf.writeback_interval_ms = (unsigned)sim_between(3000, 12000);
    world.edge.conf.object_bytes = UINT32_C(4096) << sim_below(6);
    world.edge.conf.checkpoint_objects = (unsigned)sim_between(2, 64);
    world.edge.conf.spool = world.conf.dir;
    sim_onprem_init(&world.onprem, "onprem", world.volumes, world.ndisks, edges);
    fiber_preempt((uint32_t)sim_below(100000));
}

/* --- phases --- */

static bool is_created(void *arg)
{
    (void)arg;
    return world.created && guest_running(world.guest);
}

static bool is_quiet(void *arg)
{
    struct vm_status status;

    (void)arg;
    if (!guest_content(world.guest) || !world.edge.ready || !world_judge_done())
        return false;
    vm_status(guest_vm(world.guest), &status);
    return status.open && status.written >= guest_last(world.guest) && status.committed == status.written &&
           (world.cloud_persist || (status.has_wb && status.wb.applied == status.written));
}

static bool judged(void *arg)
{
    (void)arg;
    return world_judge_done();
}

static void say_why_not(const char *phase)
{
    struct vm *vm = world.edge.ready ? guest_vm(world.guest) : NULL;
    struct vm_status s = {0};

    if (vm)
        vm_status(vm, &s);
    sim_violation(
        "%s: not done (guest %s, written %llu, committed %llu%s%s, applied %llu, step %d %s)", phase,
        !vm                          ? "without a target"
        : guest_content(world.guest) ? "content"
        : guest_running(world.guest) ? "running"
                                     : "looking",
        (unsigned long long)s.written, (unsigned long long)s.committed, *s.store_why.text ? ": " : "",
        s.store_why.text, (unsigned long long)s.wb.applied, (int)s.wb.step, s.wb.why.text);
}

static void judge_the_end(void)
{
    uint8_t *disks[GUEST_DISKS] = {world.volumes[0].bytes, world.volumes[1].bytes};

    if (world.cloud_persist) {
        for (unsigned i = 0; i < world.ndisks; i++)
            if (world.volumes[i].writes)
                sim_violation("a cloud-persist VM has written to disk %u", i);
    } else {
        guest_judge(world.guest, disks, UINT64_MAX, "the source disks at the end");
    }
    world_judge_begin("the store at the end");
    if (sim_run(sim_now + 300 * SIM_S, judged, NULL) != SIM_STOPPED)
        sim_violation("the store at the end: its VM does not come back");
}

void world_run(uint64_t seed, const struct world_conf *conf)
{
    world = (struct world){.conf = *conf};
    sim_begin(seed);
    make_world();
    sim_edge_start(&world.edge);
    sim_onprem_start(&world.onprem);
    look_after(NULL);
    guest_target(world.guest, &world.edge);
    if (sim_run(120 * SIM_S, is_created, NULL) != SIM_STOPPED) {
        say_why_not("the VM is made");
        return;
    }
    if (conf->faults)
        world_storm_begin();
    sim_run(sim_now + sim_between(10, sim_chance(200000) ? 90 : 40) * SIM_S, NULL, NULL);
    if (conf->faults)
        world_storm_end();
    sim_say(NULL, "calm from here on");
    guest_more(world.guest, 20);
    if (sim_run(sim_now + 400 * SIM_S, is_quiet, NULL) != SIM_STOPPED) {
        say_why_not("calm");
        return;
    }
    judge_the_end();
}
