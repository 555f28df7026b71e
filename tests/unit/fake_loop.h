/* tests/unit/fake_loop.h - a loop of simulated time for tests of what lives on one loop: nothing runs until
 * the test says so, time moves only from timer to timer, and randomness comes from a seed.
 */
#ifndef ISTHMUS_FAKE_LOOP_H
#define ISTHMUS_FAKE_LOOP_H

#include "loop.h"

#include <stdlib.h>
#include <string.h>

enum { FAKE_TIMERS = 64 };

struct fake_loop {
    struct loop loop;
    uint64_t now_ns, random;
    struct task *first, **last;
    struct {
        struct timer *timer; /* NULL: free */
        uint64_t due_ns;     /* UINT64_MAX: not armed */
    } timers[FAKE_TIMERS];
};

static inline uint64_t fake_random(struct fake_loop *f)
{
    f->random ^= f->random << 13;
    f->random ^= f->random >> 7;
    f->random ^= f->random << 17;
    return f->random * 0x2545F4914F6CDD1Du >> 16;
}

static inline uint64_t fake_now_ns(struct loop *l)
{
    return ((struct fake_loop *)l)->now_ns;
}

static inline void fake_random_bytes(struct loop *l, void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)fake_random((struct fake_loop *)l);
}

static inline void fake_post(struct loop *l, struct task *t)
{
    struct fake_loop *f = (struct fake_loop *)l;

    t->next = NULL;
    *f->last = t;
    f->last = &t->next;
}

static inline void fake_timer_set(struct timer *t, uint64_t after_ns)
{
    struct fake_loop *f = (struct fake_loop *)t->loop;
    int i = 0;

    while (i < FAKE_TIMERS && f->timers[i].timer != t)
        i++;
    if (i == FAKE_TIMERS)
        for (i = 0; f->timers[i].timer; i++)
            if (i == FAKE_TIMERS - 1)
                abort();
    f->timers[i].timer = t;
    f->timers[i].due_ns = f->now_ns + after_ns;
}

static inline void fake_timer_stop(struct timer *t)
{
    struct fake_loop *f = (struct fake_loop *)t->loop;

    for (int i = 0; i < FAKE_TIMERS; i++)
        if (f->timers[i].timer == t)
            f->timers[i].timer = NULL;
}

static inline bool fake_is_current(struct loop *l)
{
    (void)l;
    return true;
}

static inline void fake_loop_init(struct fake_loop *f, uint64_t seed)
{
    static const struct loop_ops ops = {
        .now_ns = fake_now_ns,
        .random = fake_random_bytes,
        .post = fake_post,
        .timer_set = fake_timer_set,
        .timer_stop = fake_timer_stop,
        .timer_free = fake_timer_stop,
        .is_current = fake_is_current,
    };

    memset(f, 0, sizeof(*f));
    f->loop.ops = &ops;
    f->loop.name = "fake";
    f->random = seed * 2 + 1;
    f->last = &f->first;
}

/* Runs what was posted, and what that posts. */
static inline void fake_run_posted(struct fake_loop *f)
{
    while (f->first) {
        struct task *t = f->first;

        f->first = t->next;
        if (!f->first)
            f->last = &f->first;
        t->run(t);
    }
}

/* Moves time to the next timer and fires it; false if there is none. */
static inline bool fake_run_timer(struct fake_loop *f)
{
    int next = -1;
    struct timer *t;

    for (int i = 0; i < FAKE_TIMERS; i++)
        if (f->timers[i].timer && (next < 0 || f->timers[i].due_ns < f->timers[next].due_ns))
            next = i;
    if (next < 0)
        return false;
    t = f->timers[next].timer;
    f->now_ns = f->timers[next].due_ns;
    f->timers[next].timer = NULL;
    t->fire(t);
    fake_run_posted(f);
    return true;
}

#endif
