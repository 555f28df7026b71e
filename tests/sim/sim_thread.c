/* tests/sim/sim_thread.c - what the C library does for threads and clocks, done by fibers on simulated time.
 *
 * The linker turns our libraries' calls of these functions into calls of __wrap_... (CMakeLists.txt);
 * libraries of others keep the real ones. A lock is one pointer: who has it. Outside of a fiber nothing
 * contends.
 */
#include "sim.h"

#include "check.h"
#include "step.h"

#include <errno.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <semaphore.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

/* --- threads --- */

struct thread_arg {
    void *(*run)(void *);
    void *arg;
};

static void run_thread(void *arg)
{
    struct thread_arg t = *(struct thread_arg *)arg;

    free(arg);
    t.run(t.arg);
}

int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    struct thread_arg *t = malloc(sizeof *t);

    (void)attr;
    CHECK(t && fiber_current());
    *t = (struct thread_arg){run, arg};
    *out = (pthread_t)fiber_id(fiber_start(sim_node_current(), run_thread, t, sim_below(50 * SIM_US)));
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_pthread_join(pthread_t thread, void **result)
{
    CHECK(!result);
    fiber_join((uint64_t)thread);
    return 0;
}

pthread_t __wrap_pthread_self(void);
pthread_t __wrap_pthread_self(void)
{
    return fiber_current() ? (pthread_t)fiber_id(fiber_current()) : 0;
}

int __wrap_pthread_setname_np(pthread_t thread, const char *name);
int __wrap_pthread_setname_np(pthread_t thread, const char *name)
{
    (void)thread, (void)name;
    return 0;
}

/* --- mutexes --- */

struct lock {
    struct fiber *owner;
};
_Static_assert(sizeof(struct lock) <= sizeof(pthread_mutex_t), "it lives in there");

static struct lock *lock_of(pthread_mutex_t *m)
{
    return (struct lock *)m;
}

int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr);
int __wrap_pthread_mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *attr)
{
    (void)attr;
    memset(m, 0, sizeof *m);
    return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *m);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *m)
{
    CHECK(!lock_of(m)->owner);
    return 0;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m);
int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
    struct fiber *me = fiber_current();

    if (!me)
        return 0;
    fiber_maybe_preempt();
    CHECK(lock_of(m)->owner != me);
    while (lock_of(m)->owner)
        fiber_wait(m, UINT64_MAX);
    lock_of(m)->owner = me;
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
    if (!fiber_current())
        return 0;
    CHECK(lock_of(m)->owner == fiber_current());
    lock_of(m)->owner = NULL;
    fiber_wake(m, false);
    return 0;
}

/* --- conditions --- */

int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr);
int __wrap_pthread_cond_init(pthread_cond_t *c, const pthread_condattr_t *attr)
{
    (void)attr;
    memset(c, 0, sizeof *c);
    return 0;
}

int __wrap_pthread_cond_destroy(pthread_cond_t *c);
int __wrap_pthread_cond_destroy(pthread_cond_t *c)
{
    (void)c;
    return 0;
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m);
int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    __wrap_pthread_mutex_unlock(m);
    fiber_wait(c, UINT64_MAX);
    return __wrap_pthread_mutex_lock(m);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until);
int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *until)
{
    const struct sim_node *node = sim_node_current();
    uint64_t at = (uint64_t)until->tv_sec * SIM_S + (uint64_t)until->tv_nsec, now = sim_node_clock(node);
    bool woken;

    __wrap_pthread_mutex_unlock(m);
    woken = fiber_wait(c, at > now ? sim_node_span(node, at - now) : 0);
    __wrap_pthread_mutex_lock(m);
    return woken ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_signal(pthread_cond_t *c);
int __wrap_pthread_cond_signal(pthread_cond_t *c)
{
    fiber_wake(c, false);
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *c);
int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
    fiber_wake(c, true);
    return 0;
}

/* --- locks of readers and writers --- */

struct rwlock {
    struct fiber *writer;
    unsigned readers, writers_waiting;
};
_Static_assert(sizeof(struct rwlock) <= sizeof(pthread_rwlock_t), "it lives in there");

static struct rwlock *rw_of(pthread_rwlock_t *l)
{
    return (struct rwlock *)l;
}

int __wrap_pthread_rwlock_init(pthread_rwlock_t *l, const pthread_rwlockattr_t *attr);
int __wrap_pthread_rwlock_init(pthread_rwlock_t *l, const pthread_rwlockattr_t *attr)
{
    (void)attr;
    memset(l, 0, sizeof *l);
    return 0;
}

int __wrap_pthread_rwlock_destroy(pthread_rwlock_t *l);
int __wrap_pthread_rwlock_destroy(pthread_rwlock_t *l)
{
    CHECK(!rw_of(l)->writer && rw_of(l)->readers == 0);
    return 0;
}

int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *l);
int __wrap_pthread_rwlock_rdlock(pthread_rwlock_t *l)
{
    if (!fiber_current())
        return 0;
    fiber_maybe_preempt();
    while (rw_of(l)->writer || rw_of(l)->writers_waiting)
        fiber_wait(l, UINT64_MAX);
    rw_of(l)->readers++;
    return 0;
}

int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *l);
int __wrap_pthread_rwlock_wrlock(pthread_rwlock_t *l)
{
    if (!fiber_current())
        return 0;
    fiber_maybe_preempt();
    rw_of(l)->writers_waiting++;
    while (rw_of(l)->writer || rw_of(l)->readers)
        fiber_wait(l, UINT64_MAX);
    rw_of(l)->writers_waiting--;
    rw_of(l)->writer = fiber_current();
    return 0;
}

int __wrap_pthread_rwlock_unlock(pthread_rwlock_t *l);
int __wrap_pthread_rwlock_unlock(pthread_rwlock_t *l)
{
    if (!fiber_current())
        return 0;
    if (rw_of(l)->writer) {
        CHECK(rw_of(l)->writer == fiber_current());
        rw_of(l)->writer = NULL;
    } else {
        CHECK(rw_of(l)->readers > 0);
        rw_of(l)->readers--;
    }
    fiber_wake(l, true);
    return 0;
}

/* --- semaphores --- */

int __wrap_sem_init(sem_t *s, int shared, unsigned value);
int __wrap_sem_init(sem_t *s, int shared, unsigned value)
{
    (void)shared;
    memset(s, 0, sizeof *s);
    memcpy(s, &value, sizeof value);
    return 0;
}

int __wrap_sem_destroy(sem_t *s);
int __wrap_sem_destroy(sem_t *s)
{
    (void)s;
    return 0;
}

int __wrap_sem_post(sem_t *s);
int __wrap_sem_post(sem_t *s)
{
    unsigned value;

    memcpy(&value, s, sizeof value);
    value++;
    memcpy(s, &value, sizeof value);
    fiber_wake(s, false);
    return 0;
}

int __wrap_sem_wait(sem_t *s);
int __wrap_sem_wait(sem_t *s)
{
    unsigned value;

    for (memcpy(&value, s, sizeof value); value == 0; memcpy(&value, s, sizeof value))
        fiber_wait(s, UINT64_MAX);
    value--;
    memcpy(s, &value, sizeof value);
    return 0;
}

/* --- clocks and randomness --- */

int __wrap_clock_gettime(clockid_t clock, struct timespec *t);
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
    const struct sim_node *node = sim_node_current();
    uint64_t ns = !node ? sim_now : clock == CLOCK_REALTIME ? sim_node_wall_ns(node) : sim_node_clock(node);

    t->tv_sec = (time_t)(ns / SIM_S);
    t->tv_nsec = (long)(ns % SIM_S);
    return 0;
}

time_t __wrap_time(time_t *out);
time_t __wrap_time(time_t *out)
{
    struct timespec t;

    __wrap_clock_gettime(CLOCK_REALTIME, &t);
    if (out)
        *out = t.tv_sec;
    return t.tv_sec;
}

int __wrap_gettimeofday(struct timeval *t, void *zone);
int __wrap_gettimeofday(struct timeval *t, void *zone)
{
    (void)zone;
    t->tv_sec = (time_t)(sim_now / SIM_S);
    t->tv_usec = (suseconds_t)(sim_now % SIM_S / 1000);
    return 0;
}

int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *t, struct timespec *left);
int __wrap_clock_nanosleep(clockid_t clock, int flags, const struct timespec *t, struct timespec *left)
{
    const struct sim_node *node = sim_node_current();
    uint64_t at = (uint64_t)t->tv_sec * SIM_S + (uint64_t)t->tv_nsec, now = sim_node_clock(node);

    (void)left;
    CHECK(clock == CLOCK_MONOTONIC && flags == TIMER_ABSTIME);
    fiber_sleep(at > now ? sim_node_span(node, at - now) : 0);
    return 0;
}

int __wrap_RAND_bytes(unsigned char *bytes, int n);
int __wrap_RAND_bytes(unsigned char *bytes, int n)
{
    sim_random_bytes(bytes, (size_t)n);
    return 1;
}
