/* tests/sim/world_operator.c - an operator, who asks for things at odd moments: flush, commit, pause, another
 * policy.
 *
 * What is asked for ends, or is lost with the edge; then nobody knows. In the end the operator wants it all
 * as it was.
 */
#include "world_inside.h"

#include "vm_verb.h"

#include "check.h"

#include <string.h>

static struct {
    struct sim_edge *edge; /* who was asked */
    bool busy;
    struct task task;
    struct vm_verb_ask ask;
    bool changed;    /* policy or pause may not be as they were */
    bool resumed;    /* after the storm; then the policy is set */
    bool watching;   /* it is cloud-persist for now, and nobody has asked for a commit since: */
    uint64_t writes; /* so the source disks have seen as many writes as then */
} desk;

/* The VM that the operator has. */
static struct world_vm *mine(void)
{
    return &world.vms[0];
}

static uint64_t writes(void)
{
    uint64_t sum = 0;

    for (unsigned d = 0; d < mine()->ndisks; d++)
        sum += world.volumes[mine()->disk + d].writes;
    return sum;
}

static bool is_written_back(void)
{
    const struct vm *vm = vms_find(desk.edge->vms, mine()->name);
    struct writeback_status status;

    writeback_status(vm->writeback, &status);
    return status.step != WRITEBACK_IDLE;
}

static void look_at_disks(void)
{
    if (desk.watching && writes() != desk.writes)
        sim_violation("the VM is cloud-persist, and its source disks were written to");
    desk.watching = false;
}

static void on_done(void *arg, int status, const struct why *why)
{
    (void)arg;
    desk.busy = false;
    sim_say(&desk.edge->node, "the operator's %s: %s", vm_verb_name(desk.ask.kind),
            status ? why->text : "done");
    if (status)
        return;
    if (desk.ask.kind == VERB_STORAGE && desk.ask.storage == WB_CLOUD_PERSIST) {
        desk.watching = !is_written_back(); /* what is staged already goes on */
        desk.writes = writes();
    } else if (desk.ask.kind == VERB_STORAGE && desk.resumed) {
        desk.changed = false;
    } else if (desk.ask.kind == VERB_RESUME && !world.storming) {
        desk.resumed = true;
        desk.changed = !mine()->cloud_persist;
    }
}

static void on_ask(struct task *t)
{
    (void)t;
    vm_verb_start(desk.edge->vms, &desk.ask, on_done, NULL);
}

static void ask(enum vm_verb_kind kind, enum wb_policy storage)
{
    struct sim_edge *e = world.pair ? guest_edge(mine()->guest) : mine()->home;

    if (desk.busy || !e || !e->ready || !mine()->created || mine()->recover)
        return;
    desk.edge = e;
    desk.busy = true;
    desk.ask = (struct vm_verb_ask){.kind = kind, .storage = storage};
    strcpy(desk.ask.vm, mine()->name);
    sim_say(NULL, "the operator asks for %s %s", vm_verb_name(kind),
            storage == WB_CLOUD_PERSIST ? "cloud-persist"
            : storage == WB_WRITE_BACK  ? "write-back"
                                        : "");
    desk.task.run = on_ask;
    loop_post(e->main, &desk.task);
}

void world_operator(void)
{
    static const enum vm_verb_kind kinds[] = {VERB_PAUSE, VERB_RESUME, VERB_STORAGE, VERB_COMMIT, VERB_FLUSH};
    enum vm_verb_kind kind = kinds[sim_below(mine()->cloud_persist ? 2 : 5)];
    enum wb_policy storage = sim_chance(500000) ? WB_CLOUD_PERSIST : WB_WRITE_BACK;

    if (desk.busy)
        return;
    look_at_disks();
    desk.changed |= kind == VERB_PAUSE || kind == VERB_STORAGE;
    ask(kind, kind == VERB_STORAGE ? storage : 0);
}

void world_operator_mends(void)
{
    if (desk.busy || !desk.changed || world.storming)
        return;
    look_at_disks();
    if (desk.resumed)
        ask(VERB_STORAGE, WB_WRITE_BACK);
    else
        ask(VERB_RESUME, 0);
}

/* What was asked for died with the edge, and what is seen from elsewhere may be otherwise. */
void world_operator_lost(const struct sim_edge *e)
{
    desk.watching = false;
    if (desk.edge == e)
        desk.busy = false;
}

bool world_operator_busy(void)
{
    return desk.busy;
}
