/* tests/sim/world_faults.c - what goes wrong: at random moments, one after the other, and each is mended in
 * time.
 */
#include "world_inside.h"

#include "check.h"

#include <errno.h>
#include <string.h>

/* How often a seed sees each: a seed has its own taste. */
static struct {
    uint64_t mean_ns;
    uint32_t tastes;
} storm;

static void start_edge(void *arg)
{
    (void)arg;
    if (!world.edge.node.alive)
        sim_edge_start(&world.edge);
}

static void start_onprem(void *arg)
{
    (void)arg;
    if (!world.onprem.node.alive)
        sim_onprem_start(&world.onprem);
}

void world_edge_dies(enum guest_must must)
{
    if (!world.edge.node.alive)
        return;
    if (must == GUEST_LOST_DISKS)
        sim_say(&world.edge.node, "loses its disks; %llu is committed", (unsigned long long)world.committed);
    guest_lost(world.guest, must, guest_acknowledged_above(world.guest, world.committed));
    world.asked = false;
    world_operator_lost();
    sim_after(NULL, sim_between(10, 5000) * SIM_MS, start_edge, NULL);
    if (must == GUEST_LOST_DISKS) {
        sim_table_wipe(world.edge.disk.table);
        world.recover = true;
    }
    sim_edge_kill(&world.edge, must != GUEST_WAS_KILLED);
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

static void at_step(void *arg, struct sim_node *node, const char *name)
{
    bool machine = sim_chance(300000);

    (void)arg;
    if (node == &world.edge.node) {
        sim_say(node, "dies at the step %s", name);
        world_edge_dies(machine ? GUEST_LOST_POWER : GUEST_WAS_KILLED);
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

static void mend_cables(void *arg)
{
    (void)arg;
    sim_say(NULL, "the link's cables are mended");
    sim_net_cut(&world.edge.node, &world.onprem.node, false);
    sim_net_cut(&world.onprem.node, &world.edge.node, false);
}

static void mend_disks(void *arg)
{
    (void)arg;
    sim_say(NULL, "the disks work again");
    world.edge.disk.fails = world.onprem.disk.fails = 0;
    world.edge.disk.room_bytes = world.onprem.disk.room_bytes = UINT64_C(100) << 30;
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
    world_edge_dies(GUEST_WAS_KILLED);
}

static void cut_edges_power(void)
{
    world_edge_dies(GUEST_LOST_POWER);
}

static void lose_edges_disks(void)
{
    if (world.created && !world.recover)
        world_edge_dies(GUEST_LOST_DISKS);
}

static void kill_onprem(void)
{
    world_onprem_dies(sim_chance(400000));
}

static void arm_step(void)
{
    bool onprem = sim_chance(400000);
    size_t step;

    do
        step = sim_below(sim_steps());
    while ((strncmp(sim_step_name(step), "onprem.", 7) == 0) != onprem);
    sim_step_arm(step, (unsigned)sim_between(1, 4), at_step, NULL);
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

    sim_say(NULL, "the link is cut: %s",
            which == 1   ? "to on-prem"
            : which == 2 ? "to the edge"
                         : "both ways");
    if (which & 1)
        sim_net_cut(&world.edge.node, &world.onprem.node, true);
    if (which & 2)
        sim_net_cut(&world.onprem.node, &world.edge.node, true);
    sim_after(NULL, sim_between(1, 20000) * SIM_MS, mend_cables, NULL);
}

static void reset_links(void)
{
    sim_say(NULL, "the link's connections are reset");
    sim_net_reset(&world.edge.node, &world.onprem.node);
}

static void pause_somebody(void)
{
    struct sim_node *n = sim_chance(600000) ? &world.edge.node : &world.onprem.node;
    uint64_t ns = sim_between(1, sim_chance(200000) ? 15000 : 1000) * SIM_MS;

    sim_say(n, "is stopped for %.3f s", (double)ns / 1e9);
    sim_node_pause(n, ns);
}

static void skew_clocks(void)
{
    struct sim_node *n = sim_chance(600000) ? &world.edge.node : &world.onprem.node;

    sim_node_rate(n, (int32_t)sim_below(2001) - 1000);
    n->wall_ns += (int64_t)sim_below(7200 * SIM_S) - (int64_t)(3600 * SIM_S);
    sim_say(n, "its clock runs %d ppm fast, its wall clock jumps", n->ppm);
}

static void break_disk(void)
{
    struct sim_disk *d = sim_chance(700000) ? &world.edge.disk : &world.onprem.disk;
    uint64_t how = sim_below(3);

    if (how == 0)
        d->room_bytes = 0;
    else
        d->fails = how == 1 ? -EIO : -ENOSPC;
    sim_say(d == &world.edge.disk ? &world.edge.node : &world.onprem.node, "its disk is %s",
            how == 1 ? "failing" : "full");
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
    if (world.created)
        world_judge_begin("a copy");
}

static const struct {
    void (*happen)(void);
    unsigned weight;
} faults[] = {{kill_edge, 10},     {cut_edges_power, 10}, {lose_edges_disks, 3}, {kill_onprem, 8},
              {arm_step, 20},      {stop_store, 8},       {cut_cables, 8},       {reset_links, 5},
              {pause_somebody, 6}, {skew_clocks, 4},      {break_disk, 6},       {trouble_volume, 8},
              {judge_a_copy, 8},   {world_operator, 10}};
enum { FAULTS = sizeof faults / sizeof *faults };

static void strike(void *arg)
{
    unsigned total = 0, at;

    (void)arg;
    if (!world.storming)
        return;
    for (unsigned i = 0; i < FAULTS; i++)
        if (storm.tastes >> i & 1)
            total += faults[i].weight;
    at = total ? (unsigned)sim_below(total) : 0;
    for (unsigned i = 0; i < FAULTS; i++) {
        if (!(storm.tastes >> i & 1))
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

    storm.mean_ns = sim_between(1000, 8000) * SIM_MS;
    storm.tastes = (uint32_t)sim_random();
    storm.tastes |= (uint32_t)sim_random();
    world.storming = true;
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
    mend_cables(NULL);
    mend_disks(NULL);
    mend_volumes(NULL);
    if (world.edge.node.paused_until > sim_now)
        world.edge.node.paused_until = sim_now;
    start_edge(NULL);
    start_onprem(NULL);
}
