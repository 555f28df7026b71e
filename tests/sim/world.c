/* tests/sim/world.c - a seed's life: put together, VMs made, a storm of faults, calm, and the last judgement.
 *
 * Every second seed is a pair of edges with two or three VMs; the others are one edge with one VM.
 */
#include "world_inside.h"

#include "check.h"
#include "mem.h"

#include <stdio.h>
#include <string.h>

struct world world;

static const char *const edges[] = {"edge", "edge2", NULL};

struct sim_disk *sim_world_disk(const struct sim_node *node)
{
    return node->user;
}

/* --- the VMs --- */

static void on_created(void *arg, struct vm *vm, const struct why *why)
{
    struct world_vm *v = arg;

    v->asked = false;
    if (vm)
        v->created = true;
    sim_say(&v->asked_edge->node, "%s is %s%s", v->name,
            vm ? "created" : "not created: ", vm ? "" : why->text);
}

static void on_recovered(void *arg, int status, unsigned recovered, const struct why *why)
{
    struct world_vm *v = arg;

    v->asked = false;
    if (status == 0 && recovered == 1)
        v->recover = false;
    sim_say(&v->asked_edge->node, "recovered %u: %s", recovered, status ? why->text : "good");
}

static void on_told(void *arg, const char *sentence)
{
    const struct world_vm *v = arg;

    sim_say(&v->asked_edge->node, "%s", sentence);
}

static void on_ask(struct task *t)
{
    struct world_vm *v = container_of(t, struct world_vm, ask);
    struct vm_spec spec = {.ndisks = v->ndisks};
    struct vms *vms = v->asked_edge->vms;

    if (v->recover && !vms_find(vms, v->name)) {
        vms_recover(vms, v->name, UINT64_MAX, on_told, on_recovered, v);
        return;
    }
    if ((v->recover || !world_passing_is(v)) &&
        vms_find(vms, v->name)) { /* an earlier life's creation, or recovery, went through */
        v->created = true;
        v->recover = false;
        v->asked = false;
        return;
    }
    snprintf(spec.name, sizeof spec.name, "%s", v->name);
    spec.storage = v->cloud_persist ? WB_CLOUD_PERSIST : WB_WRITE_BACK;
    for (unsigned i = 0; i < v->ndisks; i++) {
        snprintf(spec.disks[i].onprem, sizeof spec.disks[i].onprem, "onprem");
        snprintf(spec.disks[i].disk, sizeof spec.disks[i].disk, "disk%u", v->disk + i);
    }
    vms_create(vms, &spec, on_created, v);
}

static bool may_ask(const struct world_vm *v)
{
    struct why why;

    return v->home->ready && !v->asked && (!v->created || v->recover) && !world_passing_waits(v) &&
           (!world.pair || vms_admitted(v->home->vms, &why));
}

static void look_after_vm(struct world_vm *v)
{
    struct vm *vm = guest_vm(v->guest);
    const struct sim_edge *e = guest_edge(v->guest);
    struct vm_status status;

    if (world.pair && guest_running(v->guest))
        v->created = true; /* and taken over by the other since, perhaps */
    if (may_ask(v)) {
        v->asked = true;
        v->asked_edge = v->home;
        v->ask.run = on_ask;
        loop_post(v->home->main, &v->ask);
    }
    if (!vm || !e->ready || (world.pair && !world_pair_is_member(e)))
        return;
    vm_status(vm, &status);
    if (status.open && status.committed > v->committed)
        v->committed = status.committed;
    if (status.open && status.wb.applied > v->applied)
        v->applied = status.wb.applied;
}

/* Looks after what somebody would: VMs are made, and recovered after a loss. */
static void look_after(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < world.nvms; i++)
        look_after_vm(&world.vms[i]);
    world_operator_mends();
    world_hand_mends();
    world_passing_look();
    world_home_look();
    world_force_look();
    sim_after(NULL, 200 * SIM_MS, look_after, NULL);
}

static void on_going(struct sim_edge *e, struct vm *vm, enum vm_going going)
{
    (void)e, (void)going;
    for (unsigned i = 0; i < world.nvms; i++)
        guest_going(world.vms[i].guest, vm);
}

static void on_still(struct sim_edge *e, struct vm *vm, void (*quiet)(void *arg), void *arg)
{
    guest_still(vm, quiet, arg);
    world_hand_hurt(e);
}

static void on_go_on(struct sim_edge *e, struct vm *vm, struct vm *far)
{
    (void)e;
    guest_stillness_ends(vm);
    for (unsigned i = 0; i < world.nvms; i++)
        guest_go_on(world.vms[i].guest, vm, far);
}

static enum guest_must on_must(void *arg, const struct sim_edge *e, uint64_t *before_us)
{
    const struct world_vm *v = arg;

    *before_us = v->holds[world_index(e)].before_us;
    return v->holds[world_index(e)].must;
}

static void on_settled(void *arg, const struct sim_edge *e)
{
    struct world_vm *v = arg;

    v->holds[world_index(e)] = (struct holding){0};
}

/* --- putting together --- */

static void make_guest(struct world_vm *v, const char *stamps)
{
    struct guest_conf conf = {.vm = v->name,
                              .stamps = stamps,
                              .ndisks = v->ndisks,
                              .nsectors = v->nsectors,
                              .depth = (unsigned)sim_between(1, 6),
                              .think_ns = sim_between(5, sim_chance(200000) ? 100 : 600) * SIM_MS,
                              .nops = UINT32_MAX / 2,
                              .must = on_must,
                              .settled = on_settled,
                              .acknowledged = world.pair ? world_pair_acknowledged : NULL,
                              .arg = v};

    conf.path = xasprintf("%s/history.%s", world.conf.dir, stamps ? stamps : v->name);
    v->guest = guest_new(&conf);
}

void world_passing_guest(struct world_vm *v, unsigned life)
{
    make_guest(v, xasprintf("%s.%u", v->name, life));
}

static void make_vm(struct world_vm *v, unsigned i)
{
    snprintf(v->name, sizeof v->name, "vm%u", i + 1);
    v->home = &world.edges[world.pair ? i % WORLD_EDGES : 0];
    v->disk = world.ndisks;
    v->ndisks = (unsigned)sim_between(1, GUEST_DISKS);
    v->nsectors = 256U << sim_below(2);
    v->cloud_persist = sim_chance(250000) && !world_home_is(v);
    make_guest(v, NULL);
    for (unsigned d = 0; d < v->ndisks; d++) {
        struct sim_volume *volume = &world.volumes[world.ndisks++];
        char name[32];

        snprintf(name, sizeof name, "source%u", v->disk + d);
        sim_volume_init(volume, name, (size_t)v->nsectors * 512, sim_between(50, 5000) * SIM_US);
        guest_prepare(v->guest, d, volume->bytes);
    }
}

void world_edge_init(unsigned i)
{
    struct sim_edge *e = &world.edges[i];

    sim_edge_init(e, edges[i], world.bucket);
    e->going = on_going;
    e->opened = world_home_opened;
    e->still = on_still;
    e->go_on = on_go_on;
    e->conf.commit_age_ms = (unsigned)sim_between(1000, 4000);
    e->conf.writeback_interval_ms = (unsigned)sim_between(3000, 12000);
    e->conf.object_bytes = UINT32_C(4096) << sim_below(6);
    e->conf.checkpoint_objects = (unsigned)sim_between(2, 64);
    e->conf.spool = world.conf.dir;
    e->conf.twin = world.pair ? edges[1 - i] : NULL;
    e->conf.peer_wait_ms = (unsigned)sim_between(1, 100);
    e->conf.ram_blocks = world.pair && sim_chance(500000) ? (uint32_t)sim_between(52, 80) : 0;
}

static void make_world(void)
{
    world.bucket = sim_bucket_new(sim_between(1, 60) * SIM_MS);
    sim_net_begin(sim_between(100, world.pair ? 20000 : 80000) * SIM_US);
    world.nvms = world.pair ? (unsigned)sim_between(2, WORLD_VMS - 1) : 1;
    for (unsigned i = 0; i < world.nvms; i++)
        make_vm(&world.vms[i], i);
    world_edge_init(0);
    if (world.passes) {
        make_vm(&world.vms[world.nvms], world.nvms);
        world_passing_begin(&world.vms[world.nvms++]);
    }
    sim_onprem_init(&world.onprem, "onprem", world.volumes, world.ndisks, edges);
    fiber_preempt((uint32_t)sim_below(100000));
}

static void begin(void)
{
    make_world();
    sim_bucket_watch(world.bucket, world_entry_put);
    if (world.pair)
        world_pair_begin();
    else
        sim_edge_start(&world.edges[0]);
    sim_onprem_start(&world.onprem);
    look_after(NULL);
    for (unsigned i = 0; i < world.nvms; i++)
        if (!world_passing_is(&world.vms[i]))
            guest_target(world.vms[i].guest, &world.edges[0], world.pair ? &world.edges[1] : NULL);
}

/* --- phases --- */

static bool are_created(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < world.nvms; i++)
        if (!world.vms[i].created || !guest_running(world.vms[i].guest))
            return false;
    return true;
}

static bool is_quiet(const struct world_vm *v)
{
    const struct sim_edge *e = guest_edge(v->guest);
    struct vm_status status;

    if (!guest_content(v->guest) || !e->ready)
        return false;
    vm_status(guest_vm(v->guest), &status);
    return status.open && status.written >= guest_last(v->guest) && status.committed == status.written &&
           (v->cloud_persist || (status.has_wb && status.wb.applied == status.written));
}

static bool all_quiet(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < world.nvms; i++)
        if (!is_quiet(&world.vms[i]))
            return false;
    return world_judge_done() && (!world.pair || world_pair_whole()) && world_hand_done() &&
           world_passing_done() && world_home_done() && world_force_done();
}

static bool judged(void *arg)
{
    (void)arg;
    return world_judge_done();
}

static void say_why_not(const char *phase)
{
    if (world.pair && !world_pair_whole())
        sim_violation("%s: the edges are not both members", phase);
    if (!world_hand_done())
        sim_violation("%s: a VM is not handed over", phase);
    if (!world_force_done())
        sim_violation("%s: an edge is lost, or a VM nobody's", phase);
    if (!world_home_done())
        sim_violation("%s: a VM is home, or on its way", phase);
    world_passing_say_why_not(phase);
    for (unsigned i = 0; i < world.nvms; i++) {
        const struct world_vm *v = &world.vms[i];
        struct vm *vm = guest_vm(v->guest);
        struct vm_status s = {0};

        if (vm)
            vm_status(vm, &s);
        if (!vm || !is_quiet(v))
            sim_violation(
                "%s: %s is not done (guest %s, written %llu, committed %llu%s%s, applied %llu, step %d %s)",
                phase, v->name,
                !vm                       ? "without a target"
                : guest_content(v->guest) ? "content"
                : guest_running(v->guest) ? "running"
                                          : "looking",
                (unsigned long long)s.written, (unsigned long long)s.committed, *s.store_why.text ? ": " : "",
                s.store_why.text, (unsigned long long)s.wb.applied, (int)s.wb.step, s.wb.why.text);
    }
}

static void judge_disks(struct world_vm *v)
{
    uint8_t *disks[GUEST_DISKS] = {world.volumes[v->disk].bytes,
                                   world.volumes[v->disk + v->ndisks - 1].bytes};

    if (!v->cloud_persist) {
        guest_judge(v->guest, disks, UINT64_MAX, "the source disks at the end");
        return;
    }
    for (unsigned d = 0; d < v->ndisks; d++)
        if (world.volumes[v->disk + d].writes)
            sim_violation("a cloud-persist VM has written to disk %u", v->disk + d);
}

static void judge_the_end(void)
{
    for (unsigned i = 0; i < world.nvms; i++)
        judge_disks(&world.vms[i]);
    world_judge_begin("the store at the end", &world.vms[sim_below(world.nvms)]);
    if (sim_run(sim_now + 300 * SIM_S, judged, NULL) != SIM_STOPPED)
        sim_violation("the store at the end: its VM does not come back");
}

void world_run(uint64_t seed, const struct world_conf *conf)
{
    world = (struct world){.conf = *conf, .pair = conf->forcing || seed % 2 == 0, .passes = conf->deleting};
    sim_begin(seed);
    begin();
    if (sim_run(120 * SIM_S, are_created, NULL) != SIM_STOPPED) {
        say_why_not("the VMs are made");
        return;
    }
    if (conf->faults)
        world_storm_begin();
    sim_run(sim_now + sim_between(10, sim_chance(200000) ? 90 : 40) * SIM_S, NULL, NULL);
    if (conf->faults)
        world_storm_end();
    sim_say(NULL, "calm from here on");
    world.stormed = true;
    world_hand_want();
    for (unsigned i = 0; i < world.nvms; i++)
        guest_more(world.vms[i].guest, 20);
    if (sim_run(sim_now + 400 * SIM_S, all_quiet, NULL) != SIM_STOPPED) {
        say_why_not("calm");
        return;
    }
    judge_the_end();
}
