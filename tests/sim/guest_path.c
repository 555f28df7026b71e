/* tests/sim/guest_path.c - where a guest's target is: logins, another way when one is silent, and what the
 * way it came from still answers.
 */
#include "guest_inside.h"

#include "check.h"
#include "mem.h"

enum { SILENT_MS = 1000, LOOK_OVER_MS = 1000, WATCH_MS = 250, STRAY_PPM = 300000 };
#define STRAY_FIRST                                                                                          \
    UINT32_C(0xf0000000) /* numbers of writes that are in no history: nobody may ever see them */

/* A login that is being tried. */
struct look {
    struct task task;
    struct guest *guest;
    unsigned number;
    struct sim_edge *edge;
    struct vm *vm;
    bool check;
    struct io io; /* check: must be answered, too */
};

/* One that is the other edge's is not open here. */
static bool admits(struct vm *vm)
{
    return vm->log && !atomic_load(&vm->deleting) && !atomic_load(&vm->fenced) &&
           atomic_load(&vm->admitted) && !atomic_load(&vm->handing) && atomic_load(&vm->shut) == VM_OPEN &&
           atomic_load(&vm->place) != WRITEBACK_OTHER && atomic_load(&vm->place) != WRITEBACK_UNKNOWN;
}

/* --- leaving --------------------------------------------------------------------------------------------*/

/* Nobody waits for what is under way there. */
static void forget_ops(struct path *p)
{
    struct op *op;

    while ((op = TAILQ_FIRST(&p->ops))) {
        TAILQ_REMOVE(&p->ops, op, entry);
        op->guest = NULL;
        if (op->waits)
            guest_op_drop(op);
    }
}

void guest_leave(struct path *p)
{
    struct vm *vm = p->vm;

    forget_ops(p);
    p->vm = NULL;
    p->leaving = false;
    if (!vm)
        return;
    atomic_fetch_sub(&vm->sessions, 1);
    vm_unref(vm);
}

/* Its edge's process is no more. */
static void path_died(struct path *p)
{
    forget_ops(p);
    p->vm = NULL;
    p->leaving = false;
}

void guest_lost(struct guest *g, const struct sim_edge *e)
{
    guest_seats_lost(e);
    if (g->old.edge == e)
        path_died(&g->old);
    if (g->path.edge != e) {
        guest_sent_in_vain(g, e);
        return;
    }
    g->moves = false;
    g->looked_ns = 0;
    g->look++;
    path_died(&g->path);
    g->nops = 0;
    g->lost = true;
    g->auditing = g->flushing = false;
    guest_plan(g, 0);
}

void guest_end(struct guest *g)
{
    g->edges[0] = g->edges[1] = NULL;
    g->look++;
    g->looked_ns = 0;
    g->moves = g->auditing = g->flushing = false;
    guest_leave(&g->old);
    guest_leave(&g->path);
    g->nops = 0;
    g->lost = true;
}

void guest_going(struct guest *g, struct vm *vm)
{
    if (g->old.vm == vm)
        g->old.leaving = true;
    if (g->path.vm == vm) {
        g->path.leaving = true;
        guest_plan(g, 0);
    }
}

/* --- coming ---------------------------------------------------------------------------------------------*/

/* From the way it has, if it has one, to another. */
static void take(struct guest *g, struct sim_edge *e, struct vm *vm)
{
    g->looked_ns = 0;
    g->look++;
    if (g->old.edge == e || g->path.vm)
        guest_leave(&g->old);
    if (g->path.vm) {
        g->old.edge = g->path.edge;
        g->old.vm = g->path.vm;
        g->old.leaving = g->path.leaving;
        forget_ops(&g->path);
        g->nops = 0;
        g->lost = true;
        g->flushing = false;
    }
    g->path.edge = e;
    g->path.vm = vm;
    g->path.leaving = false;
    g->heard_ns = sim_now;
    atomic_fetch_add(&vm->sessions, 1);
    sim_say(&e->node, "the guest of %s is logged in", g->conf.vm);
    if (g->moves)
        guest_take_along(g);
    else if (g->lost)
        guest_audit_begin(g);
    guest_plan(g, 0);
}

static bool counts(const struct look *l)
{
    return l->number == l->guest->look;
}

static void on_checked(struct io *io)
{
    struct look *l = container_of(io, struct look, io);

    guest_seat_end(l->vm);
    if (io->status == 0)
        io_release(io);
    if (io->status == 0 && counts(l) && admits(l->vm))
        take(l->guest, l->edge, l->vm);
    else
        vm_unref(l->vm);
    free(l);
}

/* On the VM's loop. */
static void on_look(struct task *t)
{
    struct look *l = container_of(t, struct look, task);
    CLEANUP_FREE char *iqn = xasprintf("iqn.sim:%s", l->guest->conf.vm);

    l->vm = counts(l) && l->edge->vms ? vms_find_iqn(l->edge->vms, iqn) : NULL;
    if (l->vm && admits(l->vm) && l->check) {
        l->io = (struct io){.op = IO_READ, .nsectors = 8, .done = on_checked};
        guest_seat_begin(l->vm);
        if (volume_submit(l->vm->volumes[0], &l->io))
            on_checked(&l->io);
        return;
    }
    if (counts(l))
        l->guest->looked_ns = 0;
    if (l->vm && admits(l->vm))
        take(l->guest, l->edge, l->vm);
    else if (l->vm)
        vm_unref(l->vm);
    free(l);
}

/* Where to look next. */
static struct sim_edge *another(const struct guest *g, bool check)
{
    unsigned i = g->edges[1] ? (unsigned)sim_below(2) : 0;

    if (check)
        i = g->path.edge == g->edges[0];
    return g->edges[i];
}

void guest_look(struct guest *g, bool check)
{
    struct sim_edge *e;
    struct look *l;

    if (!g->edges[0] || (g->looked_ns && sim_now - g->looked_ns < LOOK_OVER_MS * SIM_MS))
        return;
    e = another(g, check);
    if (!e->ready)
        return;
    g->looked_ns = sim_now;
    l = xmalloc(sizeof *l);
    *l = (struct look){.task = {.run = on_look}, .guest = g, .edge = e, .number = ++g->look, .check = check};
    loop_post(e->loop, &l->task);
}

void guest_target(struct guest *g, struct sim_edge *e, struct sim_edge *other)
{
    g->edges[0] = e;
    g->edges[1] = other;
    guest_plan(g, 0);
    if (other)
        guest_watch(g);
}

/* --- the old way ----------------------------------------------------------------------------------------*/

static void on_stray(struct io *io)
{
    struct op *op = container_of(io, struct op, io);
    struct guest *g = op->guest;

    if (g)
        TAILQ_REMOVE(&g->old.ops, op, entry);
    if (g && io->status == 0 && io->op == IO_WRITE)
        sim_violation("an edge that has lost %s acknowledges a write to it", g->conf.vm);
    if (g && io->status == 0 && io->op == IO_READ && op->history == g->history) {
        guest_judge_read(g, op);
        guest_op_free(op);
        return;
    }
    guest_op_drop(op);
}

/* A read, which must be true if it is answered, or a write, which must not be. */
static void stray(struct guest *g)
{
    struct op *op = xcalloc(1, sizeof *op);

    op->disk = (uint8_t)sim_below(g->conf.ndisks);
    op->nsectors = 8;
    op->lba = (uint32_t)sim_below(g->conf.nsectors / 8) * 8;
    op->io.done = on_stray;
    if (sim_chance(800000)) {
        guest_read(g, op);
    } else {
        op->io.op = IO_WRITE;
        op->number = STRAY_FIRST + g->strays++;
        guest_stamp(g, op);
    }
    guest_send(g, &g->old, op);
}

static bool is_silent(const struct guest *g)
{
    return g->path.vm && g->nops > 0 && sim_now - g->heard_ns > SILENT_MS * SIM_MS;
}

void guest_watch(void *guest)
{
    struct guest *g = guest;

    if (g->old.vm && g->old.leaving)
        guest_leave(&g->old);
    if (g->old.vm && !g->lost && sim_chance(STRAY_PPM))
        stray(g);
    if (is_silent(g))
        guest_look(g, true);
    sim_after(NULL, WATCH_MS * SIM_MS, guest_watch, g);
}
