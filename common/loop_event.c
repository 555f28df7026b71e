/* common/loop_event.c - the real loop: libevent, a lock-free mailbox, an eventfd to wake it.
 *
 * Posting pushes onto a stack that the loop takes whole and reverses, so tasks of one thread run in the
 * order posted. The eventfd is written only when the mailbox was empty and another thread posts; the loop's
 * own posts cost no system call. Each libevent base is used by its own thread only, so libevent's locking
 * stays off.
 */
#include "check.h"
#include "loop.h"
#include "mem.h"
#include "pool.h"

#include <event2/event.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

struct event_loop {
    struct loop loop; /* first */
    struct event_base *base;
    struct event *wake;  /* somebody else has posted */
    struct event *local; /* we have posted ourselves */
    int wake_fd;
    _Atomic(struct task *) inbox;
    atomic_bool stopping;
    pthread_t thread;
    bool threaded;
};

static _Thread_local struct loop *current;

static struct event_loop *of(struct loop *l)
{
    return container_of(l, struct event_loop, loop);
}

static uint64_t event_now_ns(struct loop *l)
{
    struct timespec t;

    (void)l;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void event_random(struct loop *l, void *bytes, size_t n)
{
    (void)l;
    CHECK(n <= INT32_MAX && RAND_bytes(bytes, (int)n) == 1);
}

static void event_post(struct loop *l, struct task *t)
{
    struct event_loop *el = of(l);
    struct task *top = atomic_load_explicit(&el->inbox, memory_order_relaxed);
    const uint64_t one = 1;

    do
        t->next = top;
    while (!atomic_compare_exchange_weak_explicit(&el->inbox, &top, t, memory_order_acq_rel,
                                                  memory_order_relaxed));
    if (top)
        return; /* whoever found it empty has seen to the waking */
    if (current == l)
        event_active(el->local, EV_TIMEOUT, 0);
    else
        CHECK(write(el->wake_fd, &one, sizeof one) == sizeof one);
}

/* Runs what is in the mailbox now; what these tasks post waits for the next turn, so sockets get theirs. A
 * loop told to stop ends once the mailbox is empty. */
static void run_inbox(struct event_loop *el)
{
    struct task *t = atomic_exchange_explicit(&el->inbox, NULL, memory_order_acq_rel), *list = NULL;

    while (t) {
        struct task *next = t->next;
        t->next = list;
        list = t;
        t = next;
    }
    while (list) {
        t = list;
        list = t->next;
        t->run(t);
    }
    if (atomic_load(&el->stopping) && !atomic_load(&el->inbox))
        event_base_loopbreak(el->base);
}

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    struct event_loop *el = arg;
    uint64_t count;

    (void)what;
    CHECK(read((int)fd, &count, sizeof count) == sizeof count);
    run_inbox(el);
}

static void on_local(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    run_inbox(arg);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct timer *t = arg;

    (void)fd;
    (void)what;
    t->fire(t);
}

static void event_timer_set(struct timer *t, uint64_t after_ns)
{
    struct timeval tv = {.tv_sec = (time_t)(after_ns / 1000000000),
                         .tv_usec = (suseconds_t)(after_ns / 1000 % 1000000)};

    if (!t->impl) {
        t->impl = evtimer_new(of(t->loop)->base, on_timer, t);
        CHECK(t->impl);
    }
    CHECK(evtimer_add((struct event *)t->impl, &tv) == 0);
}

static void event_timer_stop(struct timer *t)
{
    if (t->impl)
        evtimer_del((struct event *)t->impl);
}

static void event_timer_free(struct timer *t)
{
    if (t->impl)
        event_free(t->impl);
    t->impl = NULL;
}

static bool event_is_current(struct loop *l)
{
    return current == l;
}

static const struct loop_ops event_ops = {
    .now_ns = event_now_ns,
    .random = event_random,
    .post = event_post,
    .timer_set = event_timer_set,
    .timer_stop = event_timer_stop,
    .timer_free = event_timer_free,
    .work = pool_work,
    .is_current = event_is_current,
};

struct loop *loop_new(const char *name)
{
    struct event_loop *el = xcalloc(1, sizeof *el);

    el->loop = (struct loop){.ops = &event_ops, .name = name};
    el->base = event_base_new();
    CHECK(el->base);
    el->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(el->wake_fd >= 0);
    el->wake = event_new(el->base, el->wake_fd, EV_READ | EV_PERSIST, on_wake, el);
    el->local = event_new(el->base, -1, 0, on_local, el);
    CHECK(el->local && el->wake && event_add(el->wake, NULL) == 0);
    return &el->loop;
}

void loop_run(struct loop *l)
{
    current = l;
    CHECK(event_base_loop(of(l)->base, EVLOOP_NO_EXIT_ON_EMPTY) >= 0);
    atomic_store(&of(l)->stopping, false); /* it may run again */
    current = NULL;
}

static void *thread_main(void *arg)
{
    struct loop *l = arg;

    pthread_setname_np(pthread_self(), l->name);
    loop_run(l);
    return NULL;
}

void loop_start(struct loop *l)
{
    CHECK(pthread_create(&of(l)->thread, NULL, thread_main, l) == 0);
    of(l)->threaded = true;
}

void loop_stop(struct loop *l)
{
    const uint64_t one = 1;

    atomic_store(&of(l)->stopping, true);
    CHECK(write(of(l)->wake_fd, &one, sizeof one) == sizeof one);
}

void loop_join(struct loop *l)
{
    if (of(l)->threaded)
        CHECK(pthread_join(of(l)->thread, NULL) == 0);
    of(l)->threaded = false;
}

void loop_free(struct loop **l)
{
    struct event_loop *el;

    if (!*l)
        return;
    el = of(*l);
    CHECK(!el->threaded && !atomic_load(&el->inbox));
    event_free(el->wake);
    event_free(el->local);
    event_base_free(el->base);
    close(el->wake_fd);
    free(el);
    *l = NULL;
}

struct event_base *loop_base(struct loop *l)
{
    CHECK(l->ops == &event_ops);
    return of(l)->base;
}
