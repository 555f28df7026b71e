/* tests/sim/sim_fiber.c - nodes and their fibers.
 *
 * A fiber runs until it waits; then the next event is looked for. So between two places where a thread would
 * wait nothing else happens, and what happens in between is in the queue of events, which the seed orders.
 */
#include "sim.h"
#include "sim_inside.h"

#include "check.h"
#include "mem.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__has_feature) /* clang */
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define FIBER_ASAN 1
#else
#define FIBER_ASAN 0
#endif

enum { STACK_BYTES = FIBER_ASAN ? 1 << 20 : 256 << 10 };

struct fiber {
    TAILQ_ENTRY(fiber) entry;
    jmp_buf where;      /* once it has begun */
    ucontext_t context; /* until then */
    bool begun;
    uint8_t *stack;
    struct sim_node *node;
    void (*run)(void *);
    void *arg;
    const void *waits_for; /* NULL: it runs, or will */
    struct sim_event *wake;
    uint64_t id;
    bool timed_out;
    void *fake_stack;
};
TAILQ_HEAD(fibers, fiber);

static jmp_buf scheduler;
static struct fiber *current;
static struct fibers spare = TAILQ_HEAD_INITIALIZER(spare);
static struct fiber *dying; /* its stack is in use until the scheduler runs */
static uint32_t preempt_ppm;
static uint64_t ids;
static unsigned lives;
unsigned fiber_atomic;

#if FIBER_ASAN
static void *scheduler_fake;
static const void *scheduler_bottom;
static size_t scheduler_bytes;
#endif

static void arrived(void)
{
#if FIBER_ASAN
    __sanitizer_finish_switch_fiber(current->fake_stack, &scheduler_bottom, &scheduler_bytes);
#endif
}

static void leave(bool for_ever)
{
    struct fiber *f = current;

    CHECK(fiber_atomic == 0 || for_ever);
#if FIBER_ASAN
    __sanitizer_start_switch_fiber(for_ever ? NULL : &f->fake_stack, scheduler_bottom, scheduler_bytes);
#endif
    if (_setjmp(f->where) == 0)
        _longjmp(scheduler, 1);
    arrived();
}

static void body(void)
{
    arrived();
    current->run(current->arg);
    current->id = 0;
    fiber_wake(current, true);
    dying = current;
    leave(true);
}

static void bury(struct fiber *f)
{
    TAILQ_REMOVE(&f->node->fibers, f, entry);
    sim_cancel(&f->wake);
#if FIBER_ASAN
    __asan_unpoison_memory_region(f->stack, STACK_BYTES);
#endif
    TAILQ_INSERT_HEAD(&spare, f, entry);
}

/* A context is what a fiber begins with; to set one asks the kernel for the signals' mask, to jump does not.
 */
static void go_on(struct fiber *f)
{
    if (f->begun)
        _longjmp(f->where, 1);
    f->begun = true;
    /* cppcheck-suppress setcontextCalled */
    setcontext(&f->context);
}

static void enter(void *arg)
{
    struct fiber *f = arg;

    CHECK(!current);
    f->wake = NULL;
    current = f;
#if FIBER_ASAN
    __sanitizer_start_switch_fiber(&scheduler_fake, f->stack, STACK_BYTES);
#endif
    if (_setjmp(scheduler) == 0)
        go_on(f);
#if FIBER_ASAN
    __sanitizer_finish_switch_fiber(scheduler_fake, NULL, NULL);
#endif
    current = NULL;
    if (dying)
        bury(dying);
    dying = NULL;
}

struct fiber *fiber_current(void)
{
    return current;
}

struct sim_node *sim_node_current(void)
{
    return current ? current->node : NULL;
}

static void context_make(ucontext_t *c, uint8_t *stack)
{
    /* cppcheck-suppress getcontextCalled */
    getcontext(c);
    c->uc_stack.ss_sp = stack;
    c->uc_stack.ss_size = STACK_BYTES;
    c->uc_link = NULL;
    /* cppcheck-suppress makecontextCalled */
    makecontext(c, body, 0);
}

struct fiber *fiber_start(struct sim_node *node, void (*run)(void *arg), void *arg, uint64_t after_ns)
{
    struct fiber *f = TAILQ_FIRST(&spare);
    uint8_t *stack;

    if (f) {
        TAILQ_REMOVE(&spare, f, entry);
        stack = f->stack;
    } else {
        f = xmalloc(sizeof *f);
        stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(stack != MAP_FAILED);
    }
    memset(f, 0, sizeof *f);
    f->id = ++ids;
    f->stack = stack;
    f->node = node;
    f->run = run;
    f->arg = arg;
    context_make(&f->context, stack);
    TAILQ_INSERT_TAIL(&node->fibers, f, entry);
    f->wake = sim_after(node, after_ns, enter, f);
    return f;
}

static void time_is_over(void *arg)
{
    struct fiber *f = arg;

    f->timed_out = f->waits_for != NULL;
    f->waits_for = NULL;
    enter(f);
}

bool fiber_wait(const void *what, uint64_t timeout_ns)
{
    struct fiber *f = current;

    CHECK(f && !f->wake);
    f->waits_for = what;
    f->timed_out = false;
    if (timeout_ns != UINT64_MAX)
        f->wake = sim_after(f->node, timeout_ns, time_is_over, f);
    leave(false);
    return !f->timed_out;
}

void fiber_sleep(uint64_t ns)
{
    struct fiber *f = current;

    CHECK(f && !f->wake);
    f->wake = sim_after(f->node, ns, enter, f);
    leave(false);
}

void fiber_wake(const void *what, bool all)
{
    struct sim_node *node = sim_node_current();
    struct fiber *f;

    if (!node)
        return;
    TAILQ_FOREACH (f, &node->fibers, entry) {
        if (f->waits_for != what)
            continue;
        f->waits_for = NULL;
        sim_cancel(&f->wake);
        f->wake = sim_after(node, sim_below(20 * SIM_US), enter, f);
        if (!all)
            break;
    }
}

void fiber_resume(struct fiber *f, uint64_t after_ns)
{
    f->waits_for = NULL;
    sim_cancel(&f->wake);
    f->wake = sim_after(f->node, after_ns, enter, f);
}

uint64_t fiber_id(const struct fiber *f)
{
    return f->id;
}

void fiber_join(uint64_t id)
{
    struct fiber *f;

    TAILQ_FOREACH (f, &current->node->fibers, entry)
        if (f->id == id)
            break;
    if (f)
        fiber_wait(f, UINT64_MAX);
}

void fiber_preempt(uint32_t per_million)
{
    preempt_ppm = per_million;
}

void fiber_maybe_preempt(void)
{
    if (current && !fiber_atomic && sim_chance(preempt_ppm))
        fiber_sleep(sim_below(50 * SIM_US));
}

/* --- nodes --- */

void sim_node_init(struct sim_node *n, const char *name)
{
    memset(n, 0, sizeof *n);
    snprintf(n->name, sizeof n->name, "%s", name);
    TAILQ_INIT(&n->fibers);
    n->clock_own = sim_between(1, 1000000) * SIM_S;
}

void sim_node_start(struct sim_node *n, void (*boot)(void *arg), void *arg)
{
    CHECK(!n->alive);
    n->alive = true;
    n->life = ++lives; /* another's was never the same */
    n->paused_until = 0;
    fiber_start(n, boot, arg, 0);
}

void sim_node_kill(struct sim_node *n)
{
    struct fiber *f;
    bool suicide = sim_node_current() == n;

    if (!n->alive)
        return;
    n->alive = false;
    fiber_atomic = 0;
    while ((f = TAILQ_FIRST(&n->fibers)))
        bury(f);
    if (suicide)
        leave(true);
}

void sim_node_pause(struct sim_node *n, uint64_t ns)
{
    n->paused_until = sim_now + ns;
}

static uint64_t scaled(uint64_t ns, int64_t ppm)
{
    return (uint64_t)((__int128)ns * (1000000 + ppm) / 1000000);
}

uint64_t sim_node_clock(const struct sim_node *n)
{
    return n->clock_own + scaled(sim_now - n->clock_sim, n->ppm);
}

void sim_node_rate(struct sim_node *n, int32_t ppm)
{
    n->clock_own = sim_node_clock(n);
    n->clock_sim = sim_now;
    n->ppm = ppm;
}

uint64_t sim_node_span(const struct sim_node *n, uint64_t ns)
{
    return (uint64_t)((__int128)ns * 1000000 / (1000000 + n->ppm)) + 1;
}

uint64_t sim_node_wall_ns(const struct sim_node *n)
{
    return UINT64_C(1800000000) * SIM_S + sim_now + (uint64_t)n->wall_ns;
}
