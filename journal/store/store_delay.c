/* journal/store/store_delay.c - a store that lets every request wait before it goes on: a far one, for tests
 * and demonstrations.
 *
 * Loop thread. Requests wait each by itself: they overlap.
 */
#include "check.h"
#include "conf.h"
#include "mem.h"
#include "store_backend.h"
#include "wrap_impl.h"

#include <errno.h>
#include <stddef.h>

enum { DELAY_S_MAX = 600 };

struct delay {
    struct store store; /* first */
    struct store *inner;
    uint64_t ms;
};

struct delayed {
    struct store_req *req;
    struct store_req inner;
    struct timer timer;
    bool below; /* it has gone on */
};

static void end(struct delayed *d, int status)
{
    struct store_req *r = d->req;

    timer_free(&d->timer);
    free(d);
    store_finish(r, status);
}

static void on_answer(struct store_req *inner)
{
    struct delayed *d = container_of(inner, struct delayed, inner);

    store_answer_move(d->req, inner);
    end(d, inner->status);
}

static void on_timer(struct timer *t)
{
    struct delayed *d = container_of(t, struct delayed, timer);

    d->below = true;
    store_ask_copy(&d->inner, d->req, on_answer);
    d->inner.timeout_ms = store_left_ms(d->req);
    store_submit(container_of(d->req->store, struct delay, store)->inner, &d->inner);
}

static void delay_start(struct store *s, struct store_req *r)
{
    struct delayed *d = xcalloc(1, sizeof(*d));

    d->req = r;
    r->backend = d;
    timer_init(&d->timer, s->loop, on_timer);
    timer_set_ms(&d->timer, container_of(s, struct delay, store)->ms);
}

static void delay_cancel(struct store *s, struct store_req *r)
{
    struct delayed *d = r->backend;

    (void)s;
    if (d->below)
        store_cancel(&d->inner);
    else
        end(d, -ECANCELED);
}

static void delay_free(struct store *s)
{
    struct delay *d = container_of(s, struct delay, store);

    store_free(&d->inner);
    free(d);
}

static const struct store_ops delay_ops = {
    .name = "delay", .start = delay_start, .cancel = delay_cancel, .free = delay_free};

int store_delay_check(const char *args, struct why *why)
{
    uint64_t ns;

    if (conf_parse_duration(args, &ns) && ns <= DELAY_S_MAX * 1000000000ull)
        return 0;
    return why_set(why, -EINVAL, "store layer 'delay:%s': say how long as in delay:50ms, at most %ds", args,
                   DELAY_S_MAX);
}

struct store *store_delay_new(struct store *inner, const char *args)
{
    struct delay *d = xcalloc(1, sizeof(*d));
    uint64_t ns;

    CHECK(conf_parse_duration(args, &ns));
    store_init(&d->store, &delay_ops, inner->loop, inner->name, inner->inflight_max);
    d->inner = inner;
    d->ms = ns / 1000000;
    return &d->store;
}
