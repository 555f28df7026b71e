/* tests/sim/world_home.c - the first VM goes home and comes back, again and again, at whichever edge has it.
 *
 * When it is home its source disks hold all that was acknowledged, and on-prem holds them no more: somebody
 * writes to them there, and what comes back has that. A task outlives its edge's process, as it does in
 * control/tasks.c, but not its disks.
 */
#include "world_inside.h"

#include "check.h"
#include "vm_life.h"
#include "vm_verb.h"

#include <errno.h>
#include <string.h>

enum { CANCEL_PPM = 60000, AGAIN_PPM = 250000, STEP_PPM = 400000 };

static struct {
    bool away;             /* it is home, as far as anybody was told, or can see */
    struct sim_edge *edge; /* who was asked last */
    bool busy;             /* that has not ended, or waits for the edge to be there again */
    struct vm_verb *verb;  /* NULL: it is not under way just now */
    struct task task, cancel;
    bool cancelling; /* that is on its way */
    struct vm_verb_ask ask;
    uint64_t asks;
    uint64_t until;               /* then something is asked for again */
    uint64_t writes[GUEST_DISKS]; /* away: to each of its disks, so far */
    bool watching;                /* and nobody but us writes to them */
    bool sure;                    /* on-prem has let go of them, and who asked since has seen to it */
    uint8_t id[VMLOG_ID_BYTES];
    bool entry; /* in the store says that it is home */
} h;

static struct world_vm *mine(void)
{
    return &world.vms[0];
}

static struct sim_volume *volume(unsigned disk)
{
    return &world.volumes[mine()->disk + disk];
}

bool world_home_is(const struct world_vm *v)
{
    return world.conf.homing && v == mine();
}

bool world_home_here(const struct world_vm *v)
{
    return !world_home_is(v) || (!h.away && !h.busy);
}

/* --- home -----------------------------------------------------------------------------------------------*/

static void look_at_disks(void)
{
    for (unsigned d = 0; h.watching && d < mine()->ndisks; d++)
        if (volume(d)->writes != h.writes[d]) {
            sim_violation("VM %s is home, and its disk %u was written to", mine()->name, d);
            h.watching = false;
        }
}

static void write_there(void)
{
    uint8_t *disks[GUEST_DISKS] = {volume(0)->bytes, volume(mine()->ndisks - 1)->bytes};

    guest_write_elsewhere(mine()->guest, disks);
    for (unsigned d = 0; d < mine()->ndisks; d++) {
        sim_volume_fill(volume(d), volume(d)->bytes);
        h.writes[d] = ++volume(d)->writes;
    }
}

/* What was acknowledged before must be there, if nothing was lost that may be. */
static uint64_t holds_before_us(void)
{
    uint64_t before_us = UINT64_MAX;

    for (unsigned i = 0; i < WORLD_EDGES; i++)
        if (mine()->holds[i].must == GUEST_LOST_POWER)
            before_us = 0;
        else if (mine()->holds[i].must == GUEST_LOST_DISKS && mine()->holds[i].before_us < before_us)
            before_us = mine()->holds[i].before_us;
    return before_us;
}

static void came_home(void)
{
    uint8_t *disks[GUEST_DISKS] = {volume(0)->bytes, volume(mine()->ndisks - 1)->bytes};

    h.away = h.watching = true;
    for (unsigned d = 0; d < mine()->ndisks; d++)
        h.writes[d] = volume(d)->writes;
    guest_judge(mine()->guest, disks, holds_before_us(), "the source disks of a VM that is home");
    sim_say(NULL, "%s is home", mine()->name);
    if (holds_before_us() == UINT64_MAX && sim_chance(700000))
        write_there();
}

static void came_back(void)
{
    h.away = h.watching = false;
    sim_say(NULL, "%s is back", mine()->name);
}

/* Somebody was told that the VM is, or stays, home. */
static void expect_let_go(void)
{
    if (h.sure && sim_onprem_has(&world.onprem, h.id))
        sim_violation("VM %s is home, and on-prem holds its disks", mine()->name);
}

void world_home_entry(const struct vm_spec *spec)
{
    if (strcmp(spec->name, mine()->name) == 0)
        h.entry = spec->home;
}

/* Whoever lost this edge now would take the VM for one that is home, and what was acknowledged for nothing.
 */
static void expect_out(const struct sim_edge *e, const struct vm *vm)
{
    if (h.entry && atomic_load(&vm->shut) == VM_OPEN)
        sim_violation("%s lets initiators in, and the entry of %s says that it is home", e->node.name,
                      mine()->name);
}

/* --- asking ---------------------------------------------------------------------------------------------*/

static void rest(void)
{
    h.until = sim_now + sim_between(200, sim_chance(500000) ? 2000 : 10000) * SIM_MS;
}

static void on_done(void *arg, int status, const struct why *why)
{
    struct vm *vm;

    (void)arg;
    h.busy = false;
    h.verb = NULL;
    sim_say(&h.edge->node, "%s: %s", vm_verb_name(h.ask.kind), status ? why->text : "done");
    rest();
    if ((status && status != -ECANCELED) || world_find_live(h.ask.vm, &vm) != h.edge)
        h.sure = false; /* it is nobody's, or another edge's: one that knows nothing of what was asked */
    if (h.ask.kind == VERB_RUN_ON_PREM && status == 0) {
        h.sure = true;
        expect_let_go();
        if (!h.away)
            came_home();
    } else if (h.ask.kind == VERB_RUN_IN_CLOUD && status == 0) {
        came_back();
    } else if (h.ask.kind == VERB_RUN_IN_CLOUD && status == -ECANCELED) {
        expect_let_go();
    }
}

static void on_ask(struct task *t)
{
    (void)t;
    h.verb = vm_verb_start(h.edge->vms, &h.ask, on_done, NULL);
}

static void ask(struct sim_edge *e, const struct vm *vm)
{
    bool back = vm->spec.home && !(world.storming && sim_chance(AGAIN_PPM));

    h.edge = e;
    h.busy = true;
    h.ask = (struct vm_verb_ask){.kind = back ? VERB_RUN_IN_CLOUD : VERB_RUN_ON_PREM, .task = ++h.asks};
    if (back)
        h.ask.storage = WB_WRITE_BACK;
    else
        h.ask.force = h.ask.commit = true; /* an operator may have made it cloud-persist */
    strcpy(h.ask.vm, mine()->name);
    memcpy(h.id, vm->spec.id, sizeof h.id);
    sim_say(&e->node, "is asked for %s of %s", vm_verb_name(h.ask.kind), h.ask.vm);
    world_operator_lost(NULL);
    if (world.storming && sim_chance(STEP_PPM))
        world_arm_step("verb.", world_at_step);
    h.watching = false; /* an edge that has the VM may write */
    h.task.run = on_ask;
    loop_post(e->main, &h.task);
}

static void on_cancel(struct task *t)
{
    struct why why;

    (void)t;
    h.cancelling = false;
    if (h.verb && vm_verb_cancel(h.verb, &why) == 0)
        sim_say(&h.edge->node, "%s is called off", vm_verb_name(h.ask.kind));
}

static void may_cancel(void)
{
    if (h.verb && !h.cancelling && world.storming && sim_chance(CANCEL_PPM)) {
        h.cancelling = true;
        h.cancel.run = on_cancel;
        loop_post(h.edge->main, &h.cancel);
    }
}

/* --- all the time ---------------------------------------------------------------------------------------*/

void world_home_look(void)
{
    struct vm *vm;
    struct sim_edge *e;

    if (!world.conf.homing || !mine()->created)
        return;
    e = mine()->recover ? NULL : world_find_live(mine()->name, &vm);
    if (e)
        expect_out(e, vm);
    if (h.busy)
        may_cancel();
    if (h.busy || !e)
        return;
    if (vm->spec.home && !h.away)
        came_home();
    else if (!vm->spec.home && h.away)
        came_back();
    look_at_disks();
    if (world.storming ? sim_now > h.until : vm->spec.home)
        ask(e, vm);
}

/* What its process left undone goes on before anybody can ask for anything, or log in (target/edge.c). */
void world_home_opened(struct sim_edge *e)
{
    if (h.edge != e || !h.busy)
        return;
    sim_say(&e->node, "goes on with %s", vm_verb_name(h.ask.kind));
    h.verb = vm_verb_start(e->vms, &h.ask, on_done, NULL);
}

void world_home_lost(const struct sim_edge *e, enum guest_must must)
{
    if (h.edge != e || !h.busy)
        return;
    h.verb = NULL;
    h.cancelling = false;
    h.ask.again = true;
    if (must == GUEST_LOST_DISKS)
        h.busy = h.sure = false;
}

bool world_home_done(void)
{
    return !world.conf.homing || (!h.away && !h.busy);
}
