/* tests/sim/world_faults.c - what goes wrong: at random moments, one after the other, and each is mended in
 * time.
 */
#include "world_inside.h"

#include "check.h"

#include <errno.h>
#include <string.h>

enum { RATE_PPM = 10000 * LEASE_RATE_PERCENT };

/* How often a seed sees each: a seed has its own taste. */
static struct {
    uint64_t mean_ns;
    uint32_t tastes;
} storm;

/* Any of a pair's; else the one that has the VM. */
static struct sim_edge *some_edge(void)
{
    return world.pair ? &world.edges[sim_below(WORLD_EDGES)] : world.vms[0].home;
}

static void start_edge(void *arg)
{
    struct sim_edge *e = arg;

    if (!e->node.alive && *e->node.name && !world_force_keeps_off(e))
        sim_edge_start(e);
}

static void start_onprem(void *arg)
{
    (void)arg;
    if (!world.onprem.node.alive)
        sim_onprem_start(&world.onprem);
}

static void note_loss(struct world_vm *v, struct sim_edge *e, enum guest_must must)
{
    struct holding *h = &v->holds[world_index(e)];
    uint64_t before_us = guest_acknowledged_above(v->guest, v->committed);

    /* Lost once more, before the guest has seen what was left: what the store got since is not its history.
     */
    if (must == GUEST_LOST_DISKS && (h->must != GUEST_LOST_DISKS || before_us < h->before_us))
        h->before_us = before_us;
    if (must > h->must)
        h->must = must;
    guest_lost(v->guest, e);
    if (v->asked_edge == e)
        v->asked = false;
    if (must == GUEST_LOST_DISKS && !world.pair)
        v->recover = true;
}

void world_edge_dies(struct sim_edge *e, enum guest_must must)
{
    if (!e->node.alive)
        return;
    if (must == GUEST_LOST_DISKS)
        sim_say(&e->node, "loses its disks; %llu of vm1 is committed",
                (unsigned long long)world.vms[0].committed);
    for (unsigned i = 0; i < world.nvms; i++)
        note_loss(&world.vms[i], e, must);
    world_operator_lost(e);
    world_hand_lost(e);
    world_passing_lost(e, must);
    world_home_lost(e, must);
    world_force_died(e);
    sim_after(NULL, sim_between(10, sim_chance(300000) ? 20000 : 5000) * SIM_MS, start_edge, e);
    if (must == GUEST_LOST_DISKS) {
        sim_table_wipe(e->disk.table);
        memset(e->writer, 0, sizeof e->writer);
    }
    sim_edge_kill(e, must != GUEST_WAS_KILLED);
}

void world_onprem_dies(bool machine)
{
    if (!world.onprem.node.alive)
        return;
    sim_after(NULL, sim_between(10, 10000) * SIM_MS, start_onprem, NULL);
    sim_onprem_kill(&world.onprem, machine);
}

static void restart_volumes(void)
{
    for (unsigned i = 0; i < world.ndisks; i++)
        sim_volume_restart(&world.volumes[i]);
}

void world_at_step(void *arg, struct sim_node *node, const char *name)
{
    bool machine = sim_chance(300000);

    (void)arg;
    if (node == &world.edges[0].node || node == &world.edges[1].node) {
        sim_say(node, "dies at the step %s", name);
        world_edge_dies(container_of(node, struct sim_edge, node),
                        machine ? GUEST_LOST_POWER : GUEST_WAS_KILLED);
    } else if (node == &world.onprem.node && sim_chance(300000)) {
        sim_say(node, "at the step %s the datastore's machine restarts", name);
        restart_volumes();
    } else if (node == &world.onprem.node) {
        sim_say(node, "dies at the step %s", name);
        world_onprem_dies(machine);
    }
}

/* --- what is mended after a while --- */

static void mend_store(void *arg)
{
    (void)arg;
    sim_say(NULL, "the store answers again");
    sim_bucket_faults(world.bucket)->down = sim_bucket_faults(world.bucket)->full = false;
}

static struct sim_node *node(unsigned i)
{
    return i < WORLD_EDGES ? &world.edges[i].node : &world.onprem.node;
}

void world_mend_cables(void *arg)
{
    (void)arg;
    sim_say(NULL, "the cables are mended");
    for (unsigned i = 0; i <= WORLD_EDGES; i++)
        for (unsigned k = 0; k <= WORLD_EDGES; k++)
            if (i != k)
                sim_net_cut(node(i), node(k), false);
    for (unsigned i = 0; i < WORLD_EDGES; i++)
        sim_bucket_cut(world.bucket, node(i), false, false);
}

static void mend_disk(struct sim_disk *d)
{
    d->fails = 0;
    d->room_bytes = UINT64_C(100) << 30;
}

static void mend_disks(void *arg)
{
    (void)arg;
    sim_say(NULL, "the disks work again");
    for (unsigned i = 0; i < WORLD_EDGES; i++)
        mend_disk(&world.edges[i].disk);
    mend_disk(&world.onprem.disk);
}

static void mend_volumes(void *arg)
{
    (void)arg;
    sim_say(NULL, "the datastore works again");
    for (unsigned i = 0; i < world.ndisks; i++) {
        world.volumes[i].down = false;
        world.volumes[i].fails = 0;
    }
}

/* --- faults --- */

static void kill_edge(void)
{
    world_edge_dies(some_edge(), GUEST_WAS_KILLED);
}

static void cut_edges_power(void)
{
    world_edge_dies(some_edge(), GUEST_LOST_POWER);
}

static void lose_edges_disks(void)
{
    struct sim_edge *e = some_edge();
    const struct world_vm *v = &world.vms[0];

    if (world.pair ? world_pair_may_lose(e) : v->created && !v->recover)
        world_edge_dies(e, GUEST_LOST_DISKS);
}

/* Another edge, that has nothing, takes the VM over while the first one lives and knows nothing of it. Only
 * what is cloud-persist: else the first one may yet bring the source disks to a cut of its own. */
static void take_over(void)
{
    struct sim_edge *e = &world.edges[1];
    struct world_vm *v = &world.vms[0];

    if (world.passes || !v->cloud_persist || !v->created || v->recover || v->asked || v->home == e ||
        world_operator_busy() || !v->home->node.alive)
        return;
    sim_say(&v->home->node, "another edge takes the VM over; %llu is committed",
            (unsigned long long)v->committed);
    guest_lost(v->guest, v->home);
    v->holds[1] = (struct holding){GUEST_LOST_DISKS, guest_acknowledged_above(v->guest, v->committed)};
    v->recover = true;
    v->home = e;
    world_edge_init(1);
    guest_target(v->guest, e, NULL);
    sim_edge_start(e);
}

/* Both at once, but one of them keeps its disks. */
static void kill_both(void)
{
    unsigned first = (unsigned)sim_below(WORLD_EDGES);
    struct sim_edge *e = &world.edges[first];
    bool disks = sim_chance(600000) && world_pair_may_lose(e);

    world_edge_dies(e, disks ? GUEST_LOST_DISKS : sim_chance(500000) ? GUEST_LOST_POWER : GUEST_WAS_KILLED);
    world_edge_dies(&world.edges[1 - first], sim_chance(700000) ? GUEST_LOST_POWER : GUEST_WAS_KILLED);
}

static void kill_onprem(void)
{
    world_onprem_dies(sim_chance(400000));
}

static bool is_of(size_t step, const char *prefix)
{
    return strncmp(sim_step_name(step), prefix, strlen(prefix)) == 0;
}

/* One edge alone hands nothing over. */
static bool may_be_reached(size_t step)
{
    return world.pair || !is_of(step, "hand.");
}

static size_t some_step(void)
{
    size_t n = 0, at, step;

    for (step = 0; step < sim_steps(); step++)
        n += may_be_reached(step);
    at = sim_below(n);
    for (step = 0; !may_be_reached(step) || at-- > 0;)
        step++;
    return step;
}

static void arm_step(void)
{
    bool onprem = sim_chance(400000);
    size_t step;

    do
        step = some_step();
    while (is_of(step, "onprem.") != onprem);
    sim_step_arm(step, (unsigned)sim_between(1, 4), world_at_step, NULL);
}

void world_arm_step(const char *prefix, void (*at)(void *arg, struct sim_node *, const char *name))
{
    size_t step;

    do
        step = sim_below(sim_steps());
    while (!is_of(step, prefix));
    sim_step_arm(step, 1, at, NULL);
}

static void stop_store(void)
{
    if (sim_chance(800000))
        sim_bucket_faults(world.bucket)->down = true;
    else
        sim_bucket_faults(world.bucket)->full = true;
    sim_say(NULL, "the store is %s", sim_bucket_faults(world.bucket)->down ? "away" : "full");
    sim_after(NULL, sim_between(1, sim_chance(200000) ? 80000 : 20000) * SIM_MS, mend_store, NULL);
}

static void cut_cables(void)
{
    uint64_t which = sim_between(1, 3);
    unsigned a = world.pair ? (unsigned)sim_below(WORLD_EDGES + 1) : world_index(world.vms[0].home);
    unsigned b = world.pair ? (a + 1) % (WORLD_EDGES + 1) : WORLD_EDGES;

    sim_say(NULL, "the link is cut: %s%s%s", which & 1 ? node(a)->name : node(b)->name,
            which == 3 ? " and " : " to ", which & 1 ? node(b)->name : node(a)->name);
    if (which & 1)
        sim_net_cut(node(a), node(b), true);
    if (which & 2)
        sim_net_cut(node(b), node(a), true);
    sim_after(NULL, sim_between(1, 20000) * SIM_MS, world_mend_cables, NULL);
}

void world_cut_from_store(struct sim_edge *e, uint64_t which, uint64_t from_ms, uint64_t to_ms)
{
    sim_say(&e->node, "is cut off from the store: %s",
            which == 1   ? "requests"
            : which == 2 ? "answers"
                         : "both ways");
    sim_bucket_cut(world.bucket, &e->node, which & 1, which & 2);
    sim_after(NULL, sim_between(from_ms, to_ms) * SIM_MS, world_mend_cables, NULL);
}

static void cut_from_store(void)
{
    uint64_t which = sim_between(1, 3);

    world_cut_from_store(some_edge(), which, 1, 20000);
}

/* An edge's network: the other edge and the store, each way or not. */
static void isolate_edge(void)
{
    unsigned i = (unsigned)sim_below(WORLD_EDGES);
    uint64_t ways = sim_between(1, 15);

    sim_say(node(i), "is cut off:%s%s%s%s", ways & 1 ? " to the other" : "",
            ways & 2 ? " from the other" : "", ways & 4 ? " requests" : "", ways & 8 ? " answers" : "");
    sim_net_cut(node(i), node(1 - i), ways & 1);
    sim_net_cut(node(1 - i), node(i), ways & 2);
    sim_bucket_cut(world.bucket, node(i), ways & 4, ways & 8);
    sim_after(NULL, sim_between(500, 9000) * SIM_MS, world_mend_cables, NULL);
}

static void reset_links(void)
{
    sim_say(NULL, "connections are reset");
    for (unsigned i = 0; i < WORLD_EDGES; i++)
        sim_net_reset(node(i), node(i + 1));
    sim_net_reset(node(0), node(WORLD_EDGES));
}

static struct sim_node *some_node(void)
{
    return sim_chance(world.pair ? 850000 : 600000) ? &some_edge()->node : &world.onprem.node;
}

static void pause_somebody(void)
{
    struct sim_node *n = some_node();
    uint64_t ns = sim_between(1, sim_chance(world.pair ? 500000 : 200000) ? 15000 : 1000) * SIM_MS;

    sim_say(n, "is stopped for %.3f s", (double)ns / 1e9);
    sim_node_pause(n, ns);
}

/* So long that the other goes on alone, and not much longer. */
static void stop_for_a_lease(void)
{
    struct sim_edge *e = some_edge();
    uint64_t ns = e->conf.lease_ns + sim_below(e->conf.lease_ns);

    sim_say(&e->node, "is stopped for %.3f s", (double)ns / 1e9);
    sim_node_pause(&e->node, ns);
}

static void skew_clocks(void)
{
    struct sim_node *n = some_node();

    sim_node_rate(n, (int32_t)sim_below(2 * RATE_PPM + 1) - RATE_PPM);
    n->wall_ns += (int64_t)sim_below(7200 * SIM_S) - (int64_t)(3600 * SIM_S);
    sim_say(n, "its clock runs %d ppm fast, its wall clock jumps", n->ppm);
}

static void break_disk(void)
{
    struct sim_edge *e = some_edge();
    bool at_edge = sim_chance(700000);
    struct sim_disk *d = at_edge ? &e->disk : &world.onprem.disk;
    uint64_t how = sim_below(3);

    if (how == 0)
        d->room_bytes = 0;
    else
        d->fails = how == 1 ? -EIO : -ENOSPC;
    sim_say(at_edge ? &e->node : &world.onprem.node, "its disk is %s", how == 1 ? "failing" : "full");
    sim_after(NULL, sim_between(1, 8000) * SIM_MS, mend_disks, NULL);
}

static void trouble_volume(void)
{
    struct sim_volume *v = &world.volumes[sim_below(world.ndisks)];
    uint64_t how = sim_below(3);

    if (how == 0) {
        sim_say(NULL, "%s's machine restarts", v->name);
        sim_volume_restart(v);
        v->down = true;
    } else if (how == 1) {
        sim_say(NULL, "%s does not answer", v->name);
        v->down = true;
    } else {
        sim_say(NULL, "%s takes no writes", v->name);
        v->fails = sim_chance(500000) ? -EIO : -ENOSPC;
    }
    sim_after(NULL, sim_between(1, 10000) * SIM_MS, mend_volumes, NULL);
}

static void judge_a_copy(void)
{
    struct world_vm *v = &world.vms[sim_below(world.nvms)];

    if (v->created && world_passing_stays(v) && world_home_here(v))
        world_judge_begin("a copy", v);
}

enum { LONE = 1, PAIR = 2, ANY = LONE | PAIR };

static const struct {
    void (*happen)(void);
    unsigned weight, where;
} faults[] = {{kill_edge, 10, ANY},        {cut_edges_power, 10, ANY}, {lose_edges_disks, 3, LONE},
              {kill_onprem, 8, LONE},      {arm_step, 20, ANY},        {stop_store, 8, ANY},
              {cut_cables, 8, LONE},       {reset_links, 5, ANY},      {pause_somebody, 6, LONE},
              {skew_clocks, 4, ANY},       {break_disk, 6, ANY},       {trouble_volume, 8, LONE},
              {judge_a_copy, 8, ANY},      {world_operator, 10, ANY},  {take_over, 12, LONE},
              {lose_edges_disks, 8, PAIR}, {kill_onprem, 3, PAIR},     {cut_cables, 14, PAIR},
              {pause_somebody, 12, PAIR},  {trouble_volume, 3, PAIR},  {cut_from_store, 8, PAIR},
              {kill_both, 10, PAIR},       {isolate_edge, 14, PAIR},   {world_hand_over, 20, PAIR},
              {stop_for_a_lease, 10, PAIR}};
enum { FAULTS = sizeof faults / sizeof *faults };

static bool may_happen(unsigned i)
{
    return (storm.tastes >> i & 1) && (faults[i].where & (world.pair ? PAIR : LONE));
}

static void strike(void *arg)
{
    unsigned total = 0, at;

    (void)arg;
    if (!world.storming)
        return;
    for (unsigned i = 0; i < FAULTS; i++)
        if (may_happen(i))
            total += faults[i].weight;
    at = total ? (unsigned)sim_below(total) : 0;
    for (unsigned i = 0; i < FAULTS; i++) {
        if (!may_happen(i))
            continue;
        if (at < faults[i].weight) {
            sim_after(NULL, sim_below(2 * storm.mean_ns), strike, NULL);
            faults[i].happen();
            return;
        }
        at -= faults[i].weight;
    }
}

void world_storm_begin(void)
{
    struct sim_store_faults *f = sim_bucket_faults(world.bucket);

    world.storming = true;
    storm.mean_ns = sim_between(1000, 8000) * (world_hand_often() ? 4 : 1) * SIM_MS;
    storm.tastes = (uint32_t)sim_random();
    storm.tastes |= (uint32_t)sim_random();
    if (sim_chance(600000)) {
        f->refused = (uint32_t)sim_below(50000);
        f->lost = (uint32_t)sim_below(50000);
        f->late = (uint32_t)sim_below(20000);
    }
    sim_after(NULL, sim_below(2 * storm.mean_ns), strike, NULL);
}

void world_storm_end(void)
{
    struct sim_store_faults *f = sim_bucket_faults(world.bucket);

    world.storming = false;
    *f = (struct sim_store_faults){0};
    world_mend_cables(NULL);
    mend_disks(NULL);
    mend_volumes(NULL);
    for (unsigned i = 0; i < WORLD_EDGES; i++) {
        if (world.edges[i].node.paused_until > sim_now)
            world.edges[i].node.paused_until = sim_now;
        start_edge(&world.edges[i]);
    }
    start_onprem(NULL);
}
