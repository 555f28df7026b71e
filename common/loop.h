/* common/loop.h - one thread's event loop, and the seam for time, randomness and blocking work.
 *
 * A part of Isthmus belongs to one loop: its state is touched only by callbacks of that loop, so the data
 * path takes no lock. Other threads reach it by loop_post(). Rules that every part keeps:
 *   - a callback fires exactly once, and never before the call that asked for it has returned;
 *   - nothing that blocks runs on a loop: it goes through loop_work().
 *
 * Log, pair, cache and link code uses only what is declared here (not libevent), so that tests/sim can give
 * them a loop of simulated time. Socket code (target, link/conn, datastores, HTTP) asks loop_base().
 */
#ifndef ISTHMUS_LOOP_H
#define ISTHMUS_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event_base;
struct loop;

/* A callback to be queued; embedded in its owner, who must not free or queue it again until it ran. */
struct task {
    void (*run)(struct task *);
    struct task *next;
};

/* A one-shot timer, embedded. Loop thread only. Fields are private. */
struct timer {
    struct loop *loop;
    void (*fire)(struct timer *);
    void *impl;
};

/* A piece of blocking work, embedded: run() on a pool thread, then done() on the loop that gave it. */
struct work {
    void (*run)(struct work *);
    void (*done)(struct work *);
    struct loop *loop; /* set by loop_work */
    struct task reply; /* private */
    struct work *next; /* private */
};

/* What a loop is made of. The real one is loop_new(); a simulation fills its own. */
struct loop_ops {
    uint64_t (*now_ns)(struct loop *);
    void (*random)(struct loop *, void *bytes, size_t n);
    void (*post)(struct loop *, struct task *);
    void (*timer_set)(struct timer *, uint64_t after_ns);
    void (*timer_stop)(struct timer *);
    void (*timer_free)(struct timer *);
    void (*work)(struct loop *, struct work *);
    bool (*is_current)(struct loop *);
};

struct loop {
    const struct loop_ops *ops;
    const char *name; /* for logs and thread names */
};

/* The real loop, on libevent. name is borrowed for its life; at most 15 characters. */
struct loop *loop_new(const char *name);
/* Runs on the calling thread until loop_stop(). */
void loop_run(struct loop *);
/* Runs on a thread of its own; loop_stop() ends it and loop_join() waits for that. */
void loop_start(struct loop *);
void loop_stop(struct loop *); /* any thread; tasks queued before it still run */
void loop_join(struct loop *);
void loop_free(struct loop **);
/* libevent's base, for sockets only. */
struct event_base *loop_base(struct loop *);

/* Monotonic nanoseconds; never wall clock. Any thread. */
static inline uint64_t loop_now_ns(struct loop *l)
{
    return l->ops->now_ns(l);
}

/* Unpredictable bytes (a CSPRNG in the real loop, the seed's stream in a simulation). Any thread. */
static inline void loop_random(struct loop *l, void *bytes, size_t n)
{
    l->ops->random(l, bytes, n);
}

/* Run t on l, in the order posted by each thread. Any thread, the loop's own too (then: after the current
 * callback has returned, this turn or the next). Never blocks, never allocates. */
static inline void loop_post(struct loop *l, struct task *t)
{
    l->ops->post(l, t);
}

static inline bool loop_is_current(struct loop *l)
{
    return l->ops->is_current(l);
}

/* Blocking work on the shared pool (pool_start). w is owned by the pool until done() runs. Unbounded by
 * itself: whoever calls bounds how much work it has out. */
static inline void loop_work(struct loop *l, struct work *w)
{
    l->ops->work(l, w);
}

/* timer_init once, then set/stop at will; setting an armed timer moves it. timer_free before the owner goes.
 */
static inline void timer_init(struct timer *t, struct loop *l, void (*fire)(struct timer *))
{
    t->loop = l;
    t->fire = fire;
    t->impl = NULL;
}

static inline void timer_set_ms(struct timer *t, uint64_t ms)
{
    t->loop->ops->timer_set(t, ms * 1000000);
}

static inline void timer_stop(struct timer *t)
{
    t->loop->ops->timer_stop(t);
}

static inline void timer_free(struct timer *t)
{
    t->loop->ops->timer_free(t);
}

/* The pool of real loops: start before the first loop_work, stop (drains) after the last loop ended. */
void pool_start(unsigned nthreads);
void pool_stop(void);

#endif
