/* tests/sim/sim_loop.c - loops (loop.h) and their pool on fibers; the daemons' steps (step.h).
 */
#include "sim.h"
#include "sim_inside.h"

#include "check.h"
#include "mem.h"
#include "step.h"

#include <string.h>

struct sim_timer {
    TAILQ_ENTRY(sim_timer) entry; /* of due */
    struct timer *timer;
    struct sim_event *event;
    bool due;
};

struct sim_loop {
    struct loop loop; /* first */
    struct sim_node *node;
    struct fiber *fiber;
    bool idle;
    struct task *first, **last;
    TAILQ_HEAD(, sim_timer) due;
};

static struct sim_loop *of(struct loop *l)
{
    return (struct sim_loop *)l;
}

struct sim_node *sim_loop_node(struct loop *l)
{
    return of(l)->node;
}

static void wake(struct sim_loop *l)
{
    if (!l->idle)
        return;
    l->idle = false;
    fiber_resume(l->fiber, sim_below(10 * SIM_US));
}

static uint64_t sim_now_ns(struct loop *l)
{
    return sim_node_clock(of(l)->node);
}

static void sim_bytes(struct loop *l, void *bytes, size_t n)
{
    (void)l;
    sim_random_bytes(bytes, n);
}

static void sim_post(struct loop *loop, struct task *t)
{
    struct sim_loop *l = of(loop);

    t->next = NULL;
    *l->last = t;
    l->last = &t->next;
    wake(l);
}

static void timer_due(void *arg)
{
    struct sim_timer *t = arg;
    struct sim_loop *l = of(t->timer->loop);

    t->event = NULL;
    t->due = true;
    TAILQ_INSERT_TAIL(&l->due, t, entry);
    wake(l);
}

static void sim_timer_stop(struct timer *timer)
{
    struct sim_timer *t = timer->impl;

    if (!t)
        return;
    sim_cancel(&t->event);
    if (t->due)
        TAILQ_REMOVE(&of(timer->loop)->due, t, entry);
    t->due = false;
}

static void sim_timer_set(struct timer *timer, uint64_t after_ns)
{
    struct sim_node *node = of(timer->loop)->node;
    struct sim_timer *t = timer->impl;

    if (!t) {
        timer->impl = t = xcalloc(1, sizeof *t);
        t->timer = timer;
    }
    sim_timer_stop(timer);
    t->event = sim_after(node, sim_node_span(node, after_ns) + sim_below(100 * SIM_US), timer_due, t);
}

static void sim_timer_free(struct timer *timer)
{
    sim_timer_stop(timer);
    free(timer->impl);
    timer->impl = NULL;
}

static void reply(struct task *t)
{
    struct work *w = container_of(t, struct work, reply);

    w->done(w);
}

static void run_work(void *arg)
{
    struct work *w = arg;

    w->run(w);
    loop_post(w->loop, &w->reply);
}

static void sim_work(struct loop *l, struct work *w)
{
    w->loop = l;
    w->reply.run = reply;
    w->next = NULL;
    fiber_start(of(l)->node, run_work, w, sim_latency(20 * SIM_US));
}

static bool sim_is_current(struct loop *l)
{
    return fiber_current() && fiber_current() == of(l)->fiber;
}

static const struct loop_ops sim_ops = {
    .now_ns = sim_now_ns,
    .random = sim_bytes,
    .post = sim_post,
    .timer_set = sim_timer_set,
    .timer_stop = sim_timer_stop,
    .timer_free = sim_timer_free,
    .work = sim_work,
    .is_current = sim_is_current,
};

struct loop *sim_loop_new(struct sim_node *node, const char *name)
{
    struct sim_loop *l = xcalloc(1, sizeof *l);

    l->loop = (struct loop){.ops = &sim_ops, .name = name};
    l->node = node;
    l->last = &l->first;
    TAILQ_INIT(&l->due);
    return &l->loop;
}

/* What is in the inbox now; what that posts comes in the next turn. */
static void run_inbox(struct sim_loop *l)
{
    struct task *t = l->first;

    l->first = NULL;
    l->last = &l->first;
    while (t) {
        struct task *next = t->next;

        t->run(t);
        t = next;
    }
}

static void run_due(struct sim_loop *l)
{
    struct sim_timer *t = TAILQ_FIRST(&l->due);

    if (!t)
        return;
    TAILQ_REMOVE(&l->due, t, entry);
    t->due = false;
    t->timer->fire(t->timer);
}

void sim_loop_run(struct loop *loop)
{
    struct sim_loop *l = of(loop);

    l->fiber = fiber_current();
    for (;;) {
        run_due(l);
        run_inbox(l);
        if (l->first || !TAILQ_EMPTY(&l->due)) {
            fiber_sleep(sim_below(5 * SIM_US));
            continue;
        }
        l->idle = true;
        fiber_wait(l, UINT64_MAX);
    }
}

static void run_started(void *arg)
{
    sim_loop_run(arg);
}

void sim_loop_start(struct loop *loop)
{
    of(loop)->fiber = fiber_start(of(loop)->node, run_started, loop, 0);
}

/* --- steps --- */

extern struct step *const __start_isthmus_steps[] __attribute__((weak));
extern struct step *const __stop_isthmus_steps[] __attribute__((weak));

static struct {
    const char *name;
    unsigned left;
    void (*kill)(void *arg, struct sim_node *, const char *name);
    void *arg;
} armed;

size_t sim_steps(void)
{
    return ((uintptr_t)__stop_isthmus_steps - (uintptr_t)__start_isthmus_steps) / sizeof(struct step *);
}

const char *sim_step_name(size_t i)
{
    return __start_isthmus_steps[i]->name;
}

void sim_step_arm(size_t step, unsigned times, void (*kill)(void *arg, struct sim_node *, const char *name),
                  void *arg)
{
    armed.name = sim_step_name(step);
    armed.left = times;
    armed.kill = kill;
    armed.arg = arg;
    for (size_t i = 0; i < sim_steps(); i++)
        atomic_store(&__start_isthmus_steps[i]->armed, strcmp(sim_step_name(i), armed.name) == 0);
}

/* Instead of step.c's. */
void step_reached(void)
{
    if (armed.left == 0 || !fiber_current() || --armed.left > 0)
        return;
    armed.kill(armed.arg, sim_node_current(), armed.name);
}
