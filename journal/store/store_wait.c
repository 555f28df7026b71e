/* journal/store/store_wait.c - see store_wait.h.
 */
#include "store_wait.h"
#include "check.h"
#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

static const char part[] = "store";

enum { STOP_POLL_MS = 100, PAUSE_MIN_MS = 200, PAUSE_MAX_MS = 15000, TIMEOUT_MS = 60000 };

struct waiter {
    struct store *store;
    struct store_req req; /* the caller's, while it runs */
    struct task submit, cancel;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done, cancelled; /* lock; the cancel's task has run */
};

static void tell(struct waiter *w, bool *what)
{
    pthread_mutex_lock(&w->lock);
    *what = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void on_done(struct store_req *r)
{
    struct waiter *w = container_of(r, struct waiter, req);

    tell(w, &w->done);
}

static void on_submit(struct task *t)
{
    struct waiter *w = container_of(t, struct waiter, submit);

    store_submit(w->store, &w->req);
}

static void on_cancel(struct task *t)
{
    struct waiter *w = container_of(t, struct waiter, cancel);

    if (!w->done) /* set on this thread */
        store_cancel(&w->req);
    tell(w, &w->cancelled);
}

static struct timespec in_ms(long ms)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static bool stopped(const atomic_bool *stop)
{
    return stop && atomic_load(stop);
}

int store_wait(struct store *s, struct store_req *r, const atomic_bool *stop)
{
    struct waiter w = {.store = s, .req = *r, .submit = {.run = on_submit}, .cancel = {.run = on_cancel}};
    pthread_condattr_t monotonic;
    bool cancelling = false;

    CHECK(!loop_is_current(s->loop));
    w.req.done = on_done;
    pthread_mutex_init(&w.lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&w.changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    loop_post(s->loop, &w.submit);
    pthread_mutex_lock(&w.lock);
    while (!w.done || (cancelling && !w.cancelled)) {
        struct timespec until = in_ms(STOP_POLL_MS);

        pthread_cond_timedwait(&w.changed, &w.lock, &until);
        if (!w.done && !cancelling && stopped(stop)) {
            cancelling = true;
            loop_post(s->loop, &w.cancel);
        }
    }
    pthread_mutex_unlock(&w.lock);
    pthread_mutex_destroy(&w.lock);
    pthread_cond_destroy(&w.changed);
    w.req.done = r->done;
    *r = w.req;
    return r->status;
}

/* Asking again would not change the answer. */
static bool is_final(int status)
{
    return status == 0 || status == -ENOENT || status == -EEXIST || status == -ESTALE || status == -EINVAL ||
           status == -EOPNOTSUPP || status == -EFBIG || status == -EBADMSG || status == -ECANCELED;
}

int store_wait_through(struct store *s, struct store_req *r, const atomic_bool *stop, const char *what)
{
    long pause_ms = PAUSE_MIN_MS;
    bool told = false;

    for (;;) {
        struct store_req again = *r;
        struct timespec until;

        if (is_final(store_wait(s, &again, stop)) || stopped(stop)) {
            *r = again;
            return r->status;
        }
        if (!told)
            log_warn(NULL, "%s: %s; trying again", what, again.why.text);
        told = true;
        until = in_ms(pause_ms);
        for (long slept = 0; slept < pause_ms && !stopped(stop); slept += STOP_POLL_MS) {
            struct timespec step = in_ms(STOP_POLL_MS);

            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, pause_ms - slept < STOP_POLL_MS ? &until : &step,
                            NULL);
        }
        pause_ms = pause_ms * 2 < PAUSE_MAX_MS ? pause_ms * 2 : PAUSE_MAX_MS;
    }
}

int store_wait_delete(struct store *s, const char *const *keys, size_t n, const atomic_bool *stop,
                      const char *what, struct why *why)
{
    struct store_req r = {.op = STORE_DELETE, .timeout_ms = TIMEOUT_MS};
    char doing[128];
    int err = 0;

    CHECK(n <= STORE_DELETE_MAX);
    r.del.keys = keys;
    r.del.nkeys = n;
    snprintf(doing, sizeof doing, "removing %s", what);
    if (n)
        err = store_wait_through(s, &r, stop, doing);
    return err ? why_set(why, err, "%s cannot be removed: %s", what, r.why.text) : 0;
}

int store_wait_pages(struct store *s, const char *prefix, const char *after, const atomic_bool *stop,
                     const char *what, int (*each)(void *arg, const struct store_page *), void *arg,
                     struct why *why)
{
    char last[STORE_KEY_MAX + 1];
    bool more = true;
    int err = 0;

    snprintf(last, sizeof last, "%s", after);
    while (more && !err) {
        struct store_req r = {.op = STORE_LIST, .timeout_ms = TIMEOUT_MS};

        r.list.prefix = prefix;
        r.list.after = last;
        r.list.limit = STORE_LIST_MAX;
        err = store_wait_through(s, &r, stop, what);
        if (err)
            return why_set(why, err, "the object store cannot be listed: %s", r.why.text);
        more = r.page->next != NULL;
        if (r.page->count) {
            snprintf(last, sizeof last, "%s", r.page->entries[r.page->count - 1].key);
            err = each(arg, r.page);
        }
        store_page_free(&r.page);
    }
    return err;
}
