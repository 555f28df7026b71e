/* tests/sim/world_hand.c - VMs of a pair are handed to the other edge, by an operator, at odd moments; and
 * often something happens while they are.
 *
 * What is asked for ends, or is lost with the edge. In calm, with the pair whole, it must come true.
 */
#include "world_inside.h"

#include "vm_verb.h"

#include "check.h"

#include <string.h>

enum { WANT_PPM = 300000, STEP_PPM = 500000, LAST_PPM = 150000, HURT_PPM = 400000, OFTEN_PPM = 250000 };
#define HURT_NS (600 * SIM_MS) /* within this, from when commands wait */

static struct hand {
    struct sim_edge *edge; /* who was asked */
    bool busy;
    struct task task;
    struct vm_verb_ask ask;
} hands[WORLD_VMS];

static bool wanted; /* the first VM's */
static bool often;  /* this seed's are handed over again and again, and mostly let alone */

static void on_done(void *arg, int status, const struct why *why)
{
    struct hand *h = arg;

    h->busy = false;
    sim_say(&h->edge->node, "%s is %s%s", h->ask.vm, status ? "not handed over: " : "handed over",
            status ? why->text : "");
    if (status == 0 && h == hands)
        wanted = false;
}

static void on_ask(struct task *t)
{
    struct hand *h = container_of(t, struct hand, task);

    vm_verb_start(h->edge->vms, &h->ask, on_done, h);
}

static bool ask(unsigned i)
{
    struct hand *h = &hands[i];
    struct sim_edge *e = guest_edge(world.vms[i].guest);

    if (h->busy || !e || !e->ready || !guest_vm(world.vms[i].guest))
        return false;
    h->edge = e;
    h->busy = true;
    h->ask = (struct vm_verb_ask){.kind = VERB_HAND_OVER};
    strcpy(h->ask.vm, world.vms[i].name);
    sim_say(&e->node, "is asked to hand %s over", h->ask.vm);
    h->task.run = on_ask;
    loop_post(e->main, &h->task);
    return true;
}

/* --- trouble --------------------------------------------------------------------------------------------*/

static void cut(struct sim_edge *giver, struct sim_edge *taker)
{
    uint64_t which = sim_between(1, 3);

    sim_say(NULL, "the link is cut:%s%s", which & 1 ? " to who takes" : "", which & 2 ? " to who gives" : "");
    sim_net_cut(&giver->node, &taker->node, which & 1);
    sim_net_cut(&taker->node, &giver->node, which & 2);
    sim_after(NULL, sim_between(100, 10000) * SIM_MS, world_mend_cables, NULL);
}

static void cut_from_store(struct sim_edge *e)
{
    world_cut_from_store(e, sim_between(1, 3), 100, 9000);
}

static void pause_edge(struct sim_edge *e)
{
    uint64_t ns = sim_between(1, 2 * e->conf.lease_ns / SIM_MS) * SIM_MS;

    sim_say(&e->node, "is stopped for %.3f s", (double)ns / 1e9);
    sim_node_pause(&e->node, ns);
}

/* Whoever gets to a step of it. */
static void at_step(void *arg, struct sim_node *node, const char *name)
{
    struct sim_edge *e = container_of(node, struct sim_edge, node);

    if (e != &world.edges[0] && e != &world.edges[1]) /* one that judges a copy */
        return;
    if (sim_chance(400000) && world.storming) {
        sim_say(node, "at the step %s", name);
        if (sim_chance(700000))
            cut_from_store(e);
        else
            cut(e, &world.edges[1 - world_index(e)]);
    } else {
        world_at_step(arg, node, name);
    }
}

/* Who takes has looked at everything, and swaps the entry when who gives has long asked whose the VM is. */
static void at_last_step(void *arg, struct sim_node *node, const char *name)
{
    struct sim_edge *e = container_of(node, struct sim_edge, node);

    (void)arg, (void)name;
    if (world.storming)
        world_cut_from_store(e, 1, 4000, 8000);
}

void world_hand_over(void)
{
    if (!ask((unsigned)sim_below(world.nvms)) || !sim_chance(STEP_PPM))
        return;
    if (sim_chance(LAST_PPM))
        world_arm_step("hand.rest_map", at_last_step);
    else
        world_arm_step(sim_chance(800000)   ? "hand."
                       : sim_chance(500000) ? "recover.take"
                                            : "recover.open",
                       at_step);
}

static void hurt(void *arg)
{
    struct sim_edge *giver = arg, *taker = &world.edges[1 - world_index(giver)];
    struct sim_edge *one = sim_chance(500000) ? giver : taker;
    uint64_t how = sim_below(8);
    enum guest_must must = sim_chance(400000) ? GUEST_LOST_POWER : GUEST_WAS_KILLED;

    if (!world.storming)
        return;
    if (how < 2) {
        cut(giver, taker);
    } else if (how == 2) {
        cut_from_store(taker);
    } else if (how == 3) {
        cut_from_store(one);
    } else if (how == 4) {
        pause_edge(one);
    } else if (how == 5) {
        world_edge_dies(giver, GUEST_LOST_POWER);
        world_edge_dies(taker, must);
    } else if (how == 6 && world_pair_may_lose(one)) {
        world_edge_dies(one, GUEST_LOST_DISKS);
    } else {
        world_edge_dies(one, must);
    }
}

void world_hand_hurt(struct sim_edge *giver)
{
    if (world.storming && sim_chance(often ? HURT_PPM / 8 : HURT_PPM))
        sim_after(NULL, sim_below(HURT_NS), hurt, giver);
}

/* --- again and again ------------------------------------------------------------------------------------*/

static void ask_again(void *arg)
{
    (void)arg;
    if (!world.storming)
        return;
    if (ask((unsigned)sim_below(world.nvms)) && sim_chance(LAST_PPM))
        world_arm_step("hand.rest_map", at_last_step);
    sim_after(NULL, sim_between(500, 6000) * SIM_MS, ask_again, NULL);
}

bool world_hand_often(void)
{
    often = world.pair && sim_chance(OFTEN_PPM);
    if (often)
        sim_after(NULL, sim_between(0, 2000) * SIM_MS, ask_again, NULL);
    return often;
}

/* --- in calm --------------------------------------------------------------------------------------------*/

void world_hand_want(void)
{
    wanted = world.pair && sim_chance(WANT_PPM);
}

void world_hand_mends(void)
{
    if (wanted && !world.storming && world_pair_whole())
        ask(0);
}

void world_hand_lost(const struct sim_edge *e)
{
    for (unsigned i = 0; i < WORLD_VMS; i++)
        if (hands[i].edge == e)
            hands[i].busy = false;
}

bool world_hand_done(void)
{
    for (unsigned i = 0; i < WORLD_VMS; i++)
        if (hands[i].busy)
            return false;
    return !wanted;
}
