/* tests/sim/world_pair.c - two edges that are a pair: what the record says, and what may never be
 * (docs/pair.md).
 *
 * The world sees each change of the record when it happens in the store. From there it knows what each edge
 * has of each VM: when both become members, everything that the sole one had; what a crash of the machine or
 * the loss of its disks takes, goes. So whichever edge goes on with a VM, what its guest must find there is
 * known.
 */
#include "world_inside.h"

#include "arbiter.h"
#include "check.h"

#include <string.h>

#define RECORD   "pairs/sim"
#define LOOK     (20 * SIM_MS)
#define AIM_PPM  250000
#define DARK_PPM 600000
#define RATE_PPM (10000 * LEASE_RATE_PERCENT)

static struct arbiter record;            /* as it is in the store; epoch 0: there is none */
static uint64_t dropped_ns[WORLD_EDGES]; /* when it said so first that this edge is no member; 0: it is */

static const struct arbiter_place *place_of(const struct sim_edge *e)
{
    for (int i = 0; i < ARBITER_PLACES; i++)
        if (strcmp(record.places[i].name, e->node.name) == 0)
            return &record.places[i];
    return NULL;
}

bool world_pair_is_member(const struct sim_edge *e)
{
    const struct arbiter_place *p = place_of(e);

    return p && p->member && memcmp(p->writer, e->writer, sizeof e->writer) == 0;
}

bool world_pair_is_named(const struct sim_edge *e)
{
    const struct arbiter_place *p = place_of(e);

    return p && p->member;
}

static bool are_both(void)
{
    return record.places[0].member && record.places[1].member;
}

static bool status_of(const struct sim_edge *e, struct pair_status *s)
{
    return e->ready && e->vms && vms_pair_status(e->vms, s);
}

bool world_pair_whole(void)
{
    for (unsigned i = 0; i < WORLD_EDGES; i++) {
        struct pair_status s;

        if (!status_of(&world.edges[i], &s) || s.role != PAIR_BOTH || s.blocked || s.preparing)
            return false;
    }
    return true;
}

/* Not while the other may yet find itself out: its place in the record would be of no use to anybody. */
bool world_pair_may_lose(const struct sim_edge *e)
{
    const struct sim_edge *other = &world.edges[1 - world_index(e)];
    struct pair_status s;

    if (!world_pair_is_member(e) || !world_pair_is_member(other) ||
        sim_bucket_awaits(world.bucket, &e->node, RECORD))
        return false;
    if (status_of(e, &s) && s.preparing)
        return false;
    return !status_of(other, &s) || s.role != PAIR_OUT;
}

/* --- trouble just after the record has changed ---- where it hurts most */

static void strike(void *arg)
{
    struct sim_edge *e = &world.edges[sim_below(WORLD_EDGES)], *other = &world.edges[1 - world_index(e)];
    uint64_t how = sim_below(6);

    (void)arg;
    if (!world.storming)
        return;
    if (how == 0) {
        sim_say(&e->node, "is stopped");
        sim_node_pause(&e->node, sim_between(1, 2 * e->conf.lease_ns / SIM_MS) * SIM_MS);
    } else if (how == 1) {
        sim_say(&e->node, "is not heard by the other any more");
        sim_net_cut(&e->node, &other->node, true);
        sim_after(NULL, sim_between(1, 10000) * SIM_MS, world_mend_cables, NULL);
    } else if (how == 2 && world_pair_may_lose(e)) {
        world_edge_dies(e, GUEST_LOST_DISKS);
    } else {
        world_edge_dies(e, how == 3 ? GUEST_LOST_POWER : GUEST_WAS_KILLED);
    }
}

/* One edge is alone by the record, and the other is stopped. Neither hears of it until that has gone on for a
 * while. */
static bool keep_dark(void)
{
    struct sim_edge *sole = &world.edges[world_pair_is_named(&world.edges[1])], *other;
    uint64_t ms;

    other = &world.edges[1 - world_index(sole)];
    if (!world.storming || other->node.paused_until <= sim_now || !sim_chance(DARK_PPM))
        return false;
    ms = (other->node.paused_until - sim_now) / SIM_MS;
    world_cut_from_store(sole, 2, ms + 500, ms + 2000);
    world_cut_from_store(other, 2, ms + 500, ms + 2000);
    return true;
}

/* --- the record -----------------------------------------------------------------------------------------*/

static void say_record(void)
{
    const struct arbiter_place *p = record.places;

    sim_say(NULL, "the record, epoch %llu: %s%s%s", (unsigned long long)record.epoch,
            p[0].member ? p[0].name : "", are_both() ? " and " : "", p[1].member ? p[1].name : "");
}

/* By force it is the only member: it has what the store has. */
static void give_up(unsigned forced)
{
    for (unsigned i = 0; i < world.nvms; i++) {
        struct world_vm *v = &world.vms[i];

        v->holds[forced] =
            (struct holding){GUEST_LOST_DISKS, guest_acknowledged_above(v->guest, v->committed)};
    }
}

static void on_put(const char *key, const void *bytes, size_t n)
{
    const struct aead_key *master = &world.edges[0].master;
    bool were_both = are_both(), were = record.epoch > 0;
    unsigned sole = world_pair_is_named(&world.edges[1]);
    struct why why;

    world_entry_put(key, bytes, n);
    if (strcmp(key, RECORD) != 0)
        return;
    CHECK(arbiter_open(master, "sim", bytes, n, &record, &why) == 0);
    say_record();
    for (unsigned i = 0; i < WORLD_EDGES; i++)
        dropped_ns[i] = world_pair_is_named(&world.edges[i]) ? 0 : dropped_ns[i] ? dropped_ns[i] : sim_now;
    for (unsigned i = 0; i < world.nvms && are_both() && !were_both; i++)
        world.vms[i].holds[1 - sole] = world.vms[i].holds[sole];
    if (were && !were_both && !are_both() && sole != world_pair_is_named(&world.edges[1]))
        give_up(1 - sole);
    if (were_both && !are_both() && keep_dark())
        return;
    if (world.storming && sim_chance(AIM_PPM))
        sim_after(NULL, sim_below(world.edges[0].conf.lease_ns * 3 / 2), strike, NULL);
}

/* --- who serves -----------------------------------------------------------------------------------------*/

/* What came after the other had the record is not acknowledged: the other keeps nothing any more. */
void world_pair_acknowledged(void *vm, const struct sim_edge *e, uint64_t begun_ns)
{
    const struct world_vm *v = vm;
    uint64_t dropped = dropped_ns[world_index(e)];

    if (dropped && begun_ns > dropped)
        sim_violation("%s acknowledges a write to %s that began after it was no member any more",
                      e->node.name, v->name);
}

/* A lease is given before the swap is sent, and counted from before that. */
static void look_at_gate(const struct sim_edge *e)
{
    uint64_t dropped = dropped_ns[world_index(e)],
             lease = e->conf.lease_ns + e->conf.lease_ns / 100 * LEASE_RATE_PERCENT * 2;

    if (e->node.alive && dropped && sim_now > dropped + lease &&
        lease_gate_open(&e->gate, sim_node_clock(&e->node)))
        sim_violation("%s serves reads more than a lease after it was no member any more", e->node.name);
}

bool world_is_live(const struct vm *vm)
{
    return atomic_load(&vm->admitted) && !atomic_load(&vm->fenced) && !atomic_load(&vm->deleting);
}

struct sim_edge *world_find_live(const char *name, struct vm **vm)
{
    for (unsigned i = 0; i < WORLD_EDGES; i++) {
        struct sim_edge *e = &world.edges[i];

        *vm = e->ready && e->vms ? vms_find(e->vms, name) : NULL;
        if (*vm && world_is_live(*vm) && (!world.pair || world_pair_is_member(e)))
            return e;
    }
    return NULL;
}

/* May a read of that VM be answered there now? */
static bool serves(const struct sim_edge *e, const struct world_vm *v)
{
    const struct vm *vm = e->node.alive && e->vms ? vms_find(e->vms, v->name) : NULL;

    return vm && world_is_live(vm) && lease_gate_open(&e->gate, sim_node_clock(&e->node)) &&
           !guest_is_quiet_at(vm);
}

static void look(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < WORLD_EDGES; i++)
        look_at_gate(&world.edges[i]);
    for (unsigned i = 0; i < world.nvms; i++)
        if (serves(&world.edges[0], &world.vms[i]) && serves(&world.edges[1], &world.vms[i]))
            sim_violation("both edges serve %s", world.vms[i].name);
    sim_after(NULL, LOOK, look, NULL);
}

static void on_lost(struct sim_edge *e)
{
    world_edge_dies(e, GUEST_WAS_KILLED);
}

void world_pair_begin(void)
{
    uint64_t lease_ns = sim_between(1000, 4000) * SIM_MS;
    bool skewed = sim_chance(500000);

    world_edge_init(1);
    sim_bucket_watch(world.bucket, on_put);
    for (unsigned i = 0; i < WORLD_EDGES; i++) {
        struct sim_edge *e = &world.edges[i];

        e->conf.lease_ns = lease_ns;
        e->lost = on_lost;
        if (skewed)
            sim_node_rate(&e->node, (int32_t)sim_below(2 * RATE_PPM + 1) - RATE_PPM);
        sim_edge_start(e);
    }
    look(NULL);
}
