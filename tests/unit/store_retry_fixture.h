/* tests/unit/store_retry_fixture.h - a store that is asked again until it answers, above one that answers
 * what the test wrote down, above one in memory; on simulated time.
 */
#ifndef ISTHMUS_STORE_RETRY_FIXTURE_H
#define ISTHMUS_STORE_RETRY_FIXTURE_H

#include "fake_loop.h"

#include "check.h"
#include "mem.h"
#include "store_backend.h"
#include "store_ram.h"
#include "store_retry.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* No test needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

/* A store that answers what the test wrote down, after doing it or not, and then as the one in memory. */
struct told {
    int status;
    bool done; /* it happens, but this is the answer */
    uint32_t retry_after_ms;
    bool hangs; /* no answer until it is cancelled */
};

struct liar {
    struct store store; /* first */
    struct store *inner;
    struct told told[32];
    size_t ntold, asked;
    uint64_t asked_ns[4096];
    bool outage; /* everything is -EIO */
};

struct lie {
    struct store_req *req, inner;
    struct told told;
};

static struct fake_loop loop;
static struct ram_bucket *bucket;
static struct liar *liar;
static struct store *store;

static void on_lied(struct store_req *inner)
{
    struct lie *l = container_of(inner, struct lie, inner);
    struct store_req *r = l->req;
    struct told told = l->told;
    int status = inner->status;

    store_answer_move(r, inner);
    free(l);
    if (told.status == 0) {
        store_finish(r, status);
        return;
    }
    r->etag[0] = '\0';
    r->retry_after_ms = told.retry_after_ms;
    store_refuse(r, told.status, "told to say %d", told.status);
}

static void liar_start(struct store *s, struct store_req *r)
{
    struct liar *f = container_of(s, struct liar, store);
    struct told told = f->asked < f->ntold ? f->told[f->asked] : (struct told){.done = true};
    struct lie *l;

    f->asked_ns[f->asked++] = loop.now_ns;
    CHECK(f->asked < 4096);
    if (told.hangs)
        return;
    if (f->outage)
        told = (struct told){.status = -EIO};
    if (told.status && !told.done) {
        r->retry_after_ms = told.retry_after_ms;
        store_refuse(r, told.status, "told to say %d", told.status);
        return;
    }
    l = xcalloc(1, sizeof(*l));
    l->req = r;
    l->told = told;
    store_ask_copy(&l->inner, r, on_lied);
    l->inner.timeout_ms = 1000;
    store_submit(f->inner, &l->inner);
}

static void liar_cancel(struct store *s, struct store_req *r)
{
    (void)s;
    store_finish(r, -ECANCELED);
}

static void liar_free(struct store *s)
{
    struct liar *f = container_of(s, struct liar, store);

    store_free(&f->inner);
    free(f);
}

static const struct store_ops liar_ops = {
    .name = "liar", .start = liar_start, .cancel = liar_cancel, .free = liar_free};

static int setup(void **state)
{
    (void)state;
    fake_loop_init(&loop, 7);
    bucket = ram_bucket_new();
    liar = xcalloc(1, sizeof(*liar));
    store_init(&liar->store, &liar_ops, &loop.loop, "ram:", 16);
    liar->inner = store_ram_new(&loop.loop, bucket, 16);
    store = store_retry_new(&liar->store, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_free(&store);
    ram_bucket_free(&bucket);
    return 0;
}

static void tell(struct told t)
{
    liar->told[liar->ntold++] = t;
}

struct client {
    struct store_req req;
    struct iovec iov;
    unsigned done;
};

static void on_done(struct store_req *r)
{
    container_of(r, struct client, req)->done++;
}

static void start(struct client *c, enum store_op op, uint32_t timeout_ms)
{
    c->req.op = op;
    c->req.key = "log/1";
    c->req.done = on_done;
    c->req.timeout_ms = timeout_ms;
    store_submit(store, &c->req);
    assert_int_equal(c->done, 0);
}

static void start_put(struct client *c, const void *bytes, size_t n, enum store_condition condition,
                      const char *match)
{
    memset(c, 0, sizeof(*c));
    c->iov = (struct iovec){.iov_base = (void *)bytes, .iov_len = n};
    c->req.put.iov = &c->iov;
    c->req.put.niov = 1;
    c->req.put.condition = condition;
    c->req.put.match = match;
    start(c, STORE_PUT, 60000);
}

static int finish(struct client *c)
{
    fake_run_posted(&loop);
    while (!c->done)
        assert_true(fake_run_timer(&loop));
    assert_int_equal(c->done, 1);
    return c->req.status;
}

static int put(struct client *c, const char *text, enum store_condition condition, const char *match)
{
    start_put(c, text, strlen(text), condition, match);
    return finish(c);
}

#endif
