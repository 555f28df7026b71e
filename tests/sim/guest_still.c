/* tests/sim/guest_still.c - what guests have sent to a VM that is being handed to the other edge.
 *
 * In the place of target/still.c, for a guest has no session: from still() on, what comes is put aside, and
 * what is under way ends. Then it all goes on, in its order: at that VM; or the guest goes to the other edge
 * with it, as if the edge forwarded it. That is no loss: whatever was acknowledged must be seen there.
 */
#include "guest_inside.h"

#include "check.h"
#include "mem.h"

#include <string.h>

/* A VM that has been sent something. */
struct seat {
    TAILQ_ENTRY(seat) entry;
    struct vm *vm;
    struct sim_edge *edge;
    unsigned under_way;
    bool still;
    void (*quiet)(void *arg); /* who waits for that */
    void *arg;
    struct task task;
    bool out; /* that is */
};

static TAILQ_HEAD(, seat) seats = TAILQ_HEAD_INITIALIZER(seats);

static struct seat *find(const struct vm *vm)
{
    struct seat *s;

    TAILQ_FOREACH (s, &seats, entry)
        if (s->vm == vm)
            break;
    return s;
}

static struct seat *seat_of(struct vm *vm)
{
    struct sim_node *node = sim_loop_node(vm->loop);
    struct seat *s = find(vm);

    if (s)
        return s;
    s = xcalloc(1, sizeof *s);
    s->vm = vm;
    s->edge = container_of(node, struct sim_edge, node);
    TAILQ_INSERT_TAIL(&seats, s, entry);
    return s;
}

static void leave_if_empty(struct seat *s)
{
    if (s->under_way || s->still || s->out)
        return;
    TAILQ_REMOVE(&seats, s, entry);
    free(s);
}

static void on_quiet(struct task *t)
{
    struct seat *s = container_of(t, struct seat, task);
    void (*quiet)(void *arg) = s->quiet;

    s->out = false;
    s->quiet = NULL;
    if (quiet)
        quiet(s->arg);
    leave_if_empty(s);
}

static void look_quiet(struct seat *s)
{
    if (!s->quiet || s->under_way || s->out)
        return;
    s->out = true;
    s->task.run = on_quiet;
    loop_post(s->vm->loop, &s->task);
}

void guest_seat_begin(struct vm *vm)
{
    seat_of(vm)->under_way++;
}

void guest_seat_end(struct vm *vm)
{
    struct seat *s = find(vm);

    if (!s) /* its edge has died */
        return;
    s->under_way--;
    look_quiet(s);
    leave_if_empty(s);
}

void guest_seats_lost(const struct sim_edge *e)
{
    struct seat *s, *next;

    for (s = TAILQ_FIRST(&seats); s; s = next) {
        next = TAILQ_NEXT(s, entry);
        if (s->edge == e)
            TAILQ_REMOVE(&seats, s, entry);
    }
}

bool guest_waits_at(const struct vm *vm)
{
    const struct seat *s = find(vm);

    return s && s->still && atomic_load(&vm->handing);
}

bool guest_is_quiet_at(const struct vm *vm)
{
    const struct seat *s = find(vm);

    return guest_waits_at(vm) && s->under_way == 0;
}

void guest_still(struct vm *vm, void (*quiet)(void *arg), void *arg)
{
    struct seat *s = seat_of(vm);

    s->still = true;
    s->quiet = quiet;
    s->arg = arg;
    look_quiet(s);
}

/* --- and then -------------------------------------------------------------------------------------------*/

void guest_stillness_ends(struct vm *vm)
{
    struct seat *s = find(vm);

    if (!s)
        return;
    s->still = false;
    s->quiet = NULL;
    leave_if_empty(s);
}

static void go_on_here(struct ops *ops, const struct vm *vm)
{
    struct op *op;

    TAILQ_FOREACH (op, ops, entry)
        if (op->waits && op->vm == vm)
            guest_post(op);
}

/* With everything that is under way. */
static void move(struct guest *g)
{
    struct ops ops = TAILQ_HEAD_INITIALIZER(ops);
    struct op *op;

    TAILQ_CONCAT(&ops, &g->path.ops, entry); /* nobody forgets them */
    guest_leave(&g->path);
    TAILQ_CONCAT(&g->path.ops, &ops, entry);
    TAILQ_FOREACH (op, &g->path.ops, entry) {
        CHECK(op->waits || op->loop);
        op->vm = NULL;
    }
    g->moves = true;
    guest_plan(g, 0);
}

void guest_go_on(struct guest *g, struct vm *vm, bool far)
{
    if (!far) {
        go_on_here(&g->path.ops, vm);
        go_on_here(&g->old.ops, vm);
        return;
    }
    if (g->old.vm == vm)
        guest_leave(&g->old);
    if (g->path.vm == vm)
        move(g);
}

void guest_take_along(struct guest *g)
{
    struct op *op;

    g->moves = false;
    TAILQ_FOREACH (op, &g->path.ops, entry) {
        op->vm = g->path.vm;
        if (op->waits)
            guest_post(op);
    }
}

void guest_sent_in_vain(struct guest *g, const struct sim_edge *e)
{
    struct op *op;

    TAILQ_FOREACH (op, &g->path.ops, entry) {
        if (!op->loop || sim_loop_node(op->loop) != &e->node)
            continue;
        op->loop = NULL;
        op->waits = !op->vm;
        if (op->vm)
            guest_post(op);
    }
}
