/* tests/sim/world_force.c - the only member of the pair is lost for good, and an operator makes the other
 * edge, which is out, the only member by force (docs/pair.md).
 *
 * It is off until the record counts the other, and then comes back: with empty disks, or with those that it
 * had. What was committed must be there at the other; what was acknowledged after that may be.
 */
#include "world_inside.h"

#include <string.h>

enum { LOSE_PPM = 60000, RECOVER_PPM = 20000, DISKS_PPM = 700000, ASK_MS = 1500 };

static struct {
    struct sim_edge *lost;   /* NULL: nobody is */
    struct sim_edge *asked;  /* something is under way there that the operator wants */
    bool nobodys[WORLD_VMS]; /* VMs of which an edge that was asked said so: they have to be recovered */
    unsigned which;          /* the one that is being recovered */
    struct task task;
    uint64_t until;
} f;

static struct sim_edge *other_of(const struct sim_edge *e)
{
    return &world.edges[1 - world_index(e)];
}

bool world_force_keeps_off(const struct sim_edge *e)
{
    return f.lost == e;
}

/* --- lost -----------------------------------------------------------------------------------------------*/

static void lose_sole(void)
{
    for (unsigned i = 0; i < WORLD_EDGES; i++) {
        struct sim_edge *e = &world.edges[i];

        if (!e->node.alive || !world_pair_is_member(e) || world_pair_is_named(other_of(e)) ||
            !sim_chance(LOSE_PPM))
            continue;
        f.lost = e;
        f.until = sim_now + sim_between(100, 20000) * SIM_MS;
        sim_say(&e->node, "is lost for good");
        world_edge_dies(e, sim_chance(DISKS_PPM) ? GUEST_LOST_DISKS
                           : sim_chance(500000)  ? GUEST_LOST_POWER
                                                 : GUEST_WAS_KILLED);
        return;
    }
}

static void come_back(void *arg)
{
    struct sim_edge *e = arg;

    if (!e->node.alive && f.lost != e)
        sim_edge_start(e);
}

/* The record counts the other again; by force, or because the lost one had put that before it was. */
static void found(void)
{
    struct sim_edge *e = f.lost;

    f.lost = NULL;
    sim_after(NULL, sim_between(10, 20000) * SIM_MS, come_back, e);
}

/* --- the operator ---------------------------------------------------------------------------------------*/

static void note_nobodys(const struct vms_losses *losses)
{
    for (size_t i = 0; i < losses->n; i++)
        for (unsigned k = 0; k < world.nvms; k++)
            if (losses->list[i].deleting)
                world_passing_is_left();
            else if (strcmp(losses->list[i].vm, world.vms[k].name) == 0)
                f.nobodys[k] = losses->list[i].whose == VMS_LOSS_NOBODYS;
}

static void on_losses(void *arg, int status, const struct vms_losses *losses, const struct why *why)
{
    struct sim_edge *e = arg;
    struct why refusal;
    int err;

    f.asked = NULL;
    if (status) {
        sim_say(&e->node, "cannot say what would be lost: %s", why->text);
        return;
    }
    note_nobodys(losses);
    err = vms_pair_force(e->vms, losses, &refusal);
    sim_say(&e->node, "is to be the only member by force: %s", err ? refusal.text : "begun");
}

static void on_ask(struct task *t)
{
    struct sim_edge *e = f.asked;
    struct why why;

    (void)t;
    if (vms_pair_losses(e->vms, on_losses, e, &why) != 0)
        f.asked = NULL;
}

static void ask(struct sim_edge *e)
{
    if (!e->ready || f.asked || sim_now < f.until)
        return;
    f.until = sim_now + ASK_MS * SIM_MS;
    f.asked = e;
    f.task.run = on_ask;
    loop_post(e->main, &f.task);
}

static void on_told(void *arg, const char *sentence)
{
    struct sim_edge *e = arg;

    sim_say(&e->node, "%s", sentence);
}

static void on_recovered(void *arg, int status, unsigned recovered, const struct why *why)
{
    struct sim_edge *e = arg;

    f.asked = NULL;
    f.nobodys[f.which] = status != 0;
    sim_say(&e->node, "recovered %u of %s: %s", recovered, world.vms[f.which].name,
            status ? why->text : "good");
}

static void on_recover(struct task *t)
{
    struct sim_edge *e = f.asked;

    (void)t;
    vms_recover(e->vms, world.vms[f.which].name, UINT64_MAX, on_told, on_recovered, e);
}

static void on_any_recovered(void *arg, int status, unsigned recovered, const struct why *why)
{
    struct sim_edge *e = arg;

    f.asked = NULL;
    sim_say(&e->node, "recovered %u of all there are: %s", recovered, status ? why->text : "good");
}

static void on_recover_any(struct task *t)
{
    struct sim_edge *e = f.asked;

    (void)t;
    vms_recover(e->vms, NULL, UINT64_MAX, on_told, on_any_recovered, e);
}

/* Somebody asks for it who has no reason to. */
static void recover_any(void)
{
    struct sim_edge *e = &world.edges[sim_below(WORLD_EDGES)];

    if (f.asked || !e->ready || !sim_chance(RECOVER_PPM))
        return;
    f.asked = e;
    f.task.run = on_recover_any;
    loop_post(e->main, &f.task);
}

/* VMs of neither edge, as they are now. */
static void recover_some(void)
{
    struct vm *vm;
    struct why why;

    for (unsigned i = 0; i < world.nvms && !f.asked; i++) {
        if (f.nobodys[i] && world_find_live(world.vms[i].name, &vm))
            f.nobodys[i] = false; /* a recovery went through before its edge died */
        for (unsigned k = 0; k < WORLD_EDGES && f.nobodys[i]; k++) {
            struct sim_edge *e = &world.edges[k];

            if (!e->ready || !world_pair_is_member(e) || !vms_admitted(e->vms, &why))
                continue;
            f.asked = e;
            f.which = i;
            f.task.run = on_recover;
            loop_post(e->main, &f.task);
            break;
        }
    }
}

/* --- all the time ---------------------------------------------------------------------------------------*/

void world_force_look(void)
{
    if (!world.conf.forcing)
        return;
    if (!f.lost)
        recover_some();
    if (world.storming)
        recover_any();
    if (!f.lost && world.storming)
        lose_sole();
    else if (f.lost && world_pair_is_named(other_of(f.lost)))
        found();
    else if (f.lost)
        ask(other_of(f.lost));
}

void world_force_died(const struct sim_edge *e)
{
    if (f.asked == e)
        f.asked = NULL;
}

bool world_force_done(void)
{
    bool left = f.lost || f.asked;

    for (unsigned i = 0; i < world.nvms; i++)
        left |= f.nobodys[i];
    return !left;
}
