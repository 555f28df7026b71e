/* journal/store/store_retry.c - see store_retry.h. One attempt is one request to the store below:
 *
 *      TRY ──► (done)
 *       │ ▲
 *       ▼ │                       a refused put under a condition:  TRY ──► COMPARE ──► (done)
 *      PAUSE                                                                  │ ▲
 *                                                                             PAUSE
 *
 * Loop thread.
 */
#include "store_retry.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "metric.h"
#include "store_backend.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "store";

enum { BAD_TRIES = 3, COMPARE_BYTES = 1 << 20, TOKEN = 10, REFILL_MS = 2000, MS_A_KIB = 4 };

struct retry {
    struct store store; /* first */
    struct store *inner;
    struct store_retry_conf conf;
    uint32_t tokens; /* in tenths */
    uint64_t refilled_ns, quiet_until_ns;
    struct metric *requests[STORE_OPS], *failures[STORE_OPS], *retries[STORE_OPS], *seconds[STORE_OPS];
    struct metric *throttled, *put_bytes, *get_bytes;
};

enum step { TRY, COMPARE, PAUSE };

struct attempt {
    struct retry *retry;
    struct store_req *req;
    struct store_req inner;
    struct timer timer;
    enum step step;
    bool comparing, unclear, cancelled;
    unsigned tries, bad;
    uint64_t began_ns;
    /* COMPARE: what the store said, and what is there */
    int refused;
    struct why refused_why;
    uint8_t *buf;
    uint64_t at;
};

static struct retry *of(struct store *s)
{
    return container_of(s, struct retry, store);
}

static uint64_t now_ns(const struct retry *t)
{
    return loop_now_ns(t->store.loop);
}

/* --- the end --- */

static void count(struct attempt *a, int status)
{
    struct retry *t = a->retry;
    enum store_op op = a->req->op;

    metric_add(t->requests[op], 1);
    metric_observe_ns(t->seconds[op], now_ns(t) - a->began_ns);
    if (status != 0 && status != -ENOENT && status != -EEXIST && status != -ESTALE && status != -ECANCELED)
        metric_add(t->failures[op], 1);
    if (status == 0 && op == STORE_PUT)
        metric_add(t->put_bytes, store_put_bytes(a->req));
    if (status == 0 && op == STORE_GET)
        metric_add(t->get_bytes, a->req->len);
}

static void end(struct attempt *a, int status)
{
    struct store_req *r = a->req;

    count(a, status);
    timer_free(&a->timer);
    free(a->buf);
    free(a);
    store_finish(r, status);
}

/* Nothing helps any more. What an earlier try may have done is not forgotten. */
static void give_up(struct attempt *a, int status)
{
    if (a->unclear && (status == -ENOTCONN || status == -EAGAIN))
        status = -EIO;
    end(a, status);
}

/* --- the budget --- */

static bool take_token(struct retry *t)
{
    uint64_t earned = (now_ns(t) - t->refilled_ns) / (REFILL_MS * 1000000ull);

    if (earned > 0) {
        t->refilled_ns += earned * REFILL_MS * 1000000ull;
        earned = earned * TOKEN + t->tokens;
        t->tokens = earned < t->conf.tokens * TOKEN ? (uint32_t)earned : t->conf.tokens * TOKEN;
    }
    if (t->tokens < TOKEN)
        return false;
    t->tokens -= TOKEN;
    return true;
}

static void earn(struct retry *t)
{
    if (t->tokens < t->conf.tokens * TOKEN)
        t->tokens++;
}

/* --- pauses --- */

/* Between half of ms and all of it. */
static uint64_t jitter(struct retry *t, uint64_t ms)
{
    uint32_t random;

    loop_random(t->store.loop, &random, sizeof(random));
    return ms / 2 + random % (ms / 2 + 1);
}

static void pause_for(struct attempt *a, uint64_t ms)
{
    a->step = PAUSE;
    timer_set_ms(&a->timer, ms);
}

static uint64_t backoff_ms(const struct attempt *a)
{
    const struct store_retry_conf *c = &a->retry->conf;
    uint64_t ms = c->first_ms;

    for (unsigned i = 1; i < a->tries && ms < c->longest_ms; i++)
        ms *= 2;
    return jitter(a->retry, ms < c->longest_ms ? ms : c->longest_ms);
}

static void slow_down(struct retry *t, uint64_t ms)
{
    uint64_t until = now_ns(t) + ms * 1000000;

    metric_add(t->throttled, 1);
    if (until > t->quiet_until_ns)
        t->quiet_until_ns = until;
}

/* A failed try: again after a while, if there is time. */
static void try_later(struct attempt *a)
{
    struct retry *t = a->retry;
    int status = a->inner.status;
    uint64_t ms = backoff_ms(a);

    if (status == -EAGAIN) {
        if (a->inner.retry_after_ms > ms)
            ms = a->inner.retry_after_ms;
        slow_down(t, ms);
    }
    log_debug(NULL, "%s: try %u failed: %s", t->store.name, a->tries, a->req->why.text);
    if (ms >= store_left_ms(a->req))
        give_up(a, status);
    else
        pause_for(a, ms);
}

static bool worth_it(struct attempt *a)
{
    switch (a->inner.status) {
    case -EAGAIN:
    case -EIO:
    case -ENOTCONN:
    case -ETIMEDOUT:
        return true;
    case -EBADMSG:
        return ++a->bad < BAD_TRIES;
    default:
        return false;
    }
}

/* --- tries --- */

static void submit(struct attempt *a, uint64_t bytes)
{
    uint64_t ms = a->retry->conf.try_ms + bytes / 1024 * MS_A_KIB;

    if (ms > store_left_ms(a->req))
        ms = store_left_ms(a->req);
    a->inner.timeout_ms = (uint32_t)ms;
    store_submit(a->retry->inner, &a->inner);
}

/* That a try was given up says nothing about why: what the one before it met does. */
static bool given_up(const struct attempt *a, const struct store_req *inner)
{
    return a->cancelled && inner->status == -ECANCELED;
}

static void on_compared(struct store_req *);

/* The next piece of what is there instead of what we put. */
static void compare(struct attempt *a)
{
    const struct store_req *r = a->req;
    uint64_t left = store_put_bytes(r) - a->at;

    if (!a->buf)
        a->buf = xmalloc(COMPARE_BYTES);
    a->step = COMPARE;
    memset(&a->inner, 0, sizeof(a->inner));
    a->inner.op = STORE_GET;
    a->inner.key = r->key;
    a->inner.done = on_compared;
    a->inner.get.buf = a->buf;
    a->inner.get.cap = left < COMPARE_BYTES ? (size_t)left : COMPARE_BYTES;
    a->inner.get.offset = a->at;
    submit(a, a->inner.get.cap);
}

static bool same_bytes(const struct store_req *r, uint64_t at, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < r->put.niov && n > 0; i++) {
        size_t some = r->put.iov[i].iov_len;

        if (at >= some) {
            at -= some;
            continue;
        }
        some -= (size_t)at;
        if (some > n)
            some = n;
        if (memcmp((const uint8_t *)r->put.iov[i].iov_base + at, bytes, some) != 0)
            return false;
        bytes += some;
        n -= some;
        at = 0;
    }
    return n == 0;
}

static void refuse(struct attempt *a)
{
    a->req->why = a->refused_why;
    end(a, a->refused);
}

static void on_compared(struct store_req *inner)
{
    struct attempt *a = container_of(inner, struct attempt, inner);
    struct store_req *r = a->req;
    uint64_t bytes = store_put_bytes(r);

    a->tries++;
    if (inner->status != 0 && !given_up(a, inner))
        r->why = inner->why;
    if (a->cancelled) {
        end(a, -ECANCELED);
    } else if (inner->status != 0 && worth_it(a)) {
        a->unclear = true;
        try_later(a);
    } else if (inner->status != 0 || inner->size != bytes || !same_bytes(r, a->at, a->buf, inner->len) ||
               (a->at > 0 && strcmp(r->etag, inner->etag) != 0) || (inner->len == 0 && a->at < bytes)) {
        refuse(a);
    } else {
        memcpy(r->etag, inner->etag, sizeof(r->etag));
        a->at += inner->len;
        if (a->at < bytes)
            compare(a);
        else
            end(a, 0);
    }
}

static void on_tried(struct store_req *inner)
{
    struct attempt *a = container_of(inner, struct attempt, inner);
    const struct why before = a->req->why;
    int status = inner->status;

    store_answer_move(a->req, inner);
    if (given_up(a, inner))
        a->req->why = before;
    a->tries++;
    if (status == 0)
        earn(a->retry);
    if (status == -EIO || status == -ETIMEDOUT || status == -EBADMSG)
        a->unclear = true;
    if (a->cancelled) {
        end(a, status == 0 ? 0 : -ECANCELED);
    } else if ((status == -EEXIST || status == -ESTALE) && a->req->op == STORE_PUT) {
        a->comparing = true;
        a->refused = status;
        a->refused_why = inner->why;
        compare(a);
    } else if (status != 0 && worth_it(a)) {
        try_later(a);
    } else {
        end(a, status);
    }
}

static void try_once(struct attempt *a)
{
    const struct store_req *r = a->req;

    a->step = TRY;
    store_ask_copy(&a->inner, r, on_tried);
    submit(a, r->op == STORE_PUT ? store_put_bytes(r) : r->op == STORE_GET ? r->get.cap : 0);
}

static void go_on(struct attempt *a)
{
    if (a->comparing) {
        a->at = 0;
        compare(a);
    } else {
        try_once(a);
    }
}

/* A pause is over, unless the store wants quiet still or the budget is used up. */
static void on_timer(struct timer *timer)
{
    struct attempt *a = container_of(timer, struct attempt, timer);
    struct retry *t = a->retry;
    uint64_t now = now_ns(t);

    if (now < t->quiet_until_ns) {
        pause_for(a, (t->quiet_until_ns - now) / 1000000 + 1 + jitter(t, t->conf.first_ms));
    } else if (a->tries > 0 && !take_token(t)) {
        pause_for(a, jitter(t, REFILL_MS));
    } else {
        if (a->tries > 0)
            metric_add(t->retries[a->req->op], 1);
        go_on(a);
    }
}

static void retry_start(struct store *s, struct store_req *r)
{
    struct attempt *a = xcalloc(1, sizeof(*a));
    struct retry *t = of(s);

    a->retry = t;
    a->req = r;
    a->began_ns = now_ns(t);
    timer_init(&a->timer, s->loop, on_timer);
    r->backend = a;
    if (a->began_ns < t->quiet_until_ns)
        pause_for(a, (t->quiet_until_ns - a->began_ns) / 1000000 + 1 + jitter(t, t->conf.first_ms));
    else
        try_once(a);
}

static void retry_cancel(struct store *s, struct store_req *r)
{
    struct attempt *a = r->backend;

    (void)s;
    a->cancelled = true;
    if (a->step == PAUSE)
        end(a, -ECANCELED);
    else
        store_cancel(&a->inner);
}

/* --- opening --- */

static void metrics_new(struct retry *t)
{
    int n = (int)strcspn(t->store.name, ":");
    const char *kind = t->store.name;

    for (int op = 0; op < STORE_OPS; op++) {
        const char *name = store_op_name((enum store_op)op);

        t->requests[op] =
            metric_new(METRIC_COUNTER, "isthmus_store_requests_total", "Requests to the object store.",
                       "store=\"%.*s\",op=\"%s\"", n, kind, name);
        t->failures[op] = metric_new(METRIC_COUNTER, "isthmus_store_failures_total",
                                     "Requests to the object store that failed after all tries.",
                                     "store=\"%.*s\",op=\"%s\"", n, kind, name);
        t->retries[op] = metric_new(METRIC_COUNTER, "isthmus_store_retries_total",
                                    "Further tries of requests to the object store.",
                                    "store=\"%.*s\",op=\"%s\"", n, kind, name);
        t->seconds[op] = metric_new(METRIC_HISTOGRAM, "isthmus_store_request_seconds",
                                    "How long requests to the object store took, with all tries.",
                                    "store=\"%.*s\",op=\"%s\"", n, kind, name);
    }
    t->throttled = metric_new(METRIC_COUNTER, "isthmus_store_throttled_total",
                              "How often the object store said to slow down.", "store=\"%.*s\"", n, kind);
    t->put_bytes = metric_new(METRIC_COUNTER, "isthmus_store_bytes_total", "Bytes of objects put and got.",
                              "store=\"%.*s\",op=\"put\"", n, kind);
    t->get_bytes = metric_new(METRIC_COUNTER, "isthmus_store_bytes_total", "Bytes of objects put and got.",
                              "store=\"%.*s\",op=\"get\"", n, kind);
}

static void retry_free(struct store *s)
{
    struct retry *t = of(s);

    for (int op = 0; op < STORE_OPS; op++) {
        metric_free(&t->requests[op]);
        metric_free(&t->failures[op]);
        metric_free(&t->retries[op]);
        metric_free(&t->seconds[op]);
    }
    metric_free(&t->throttled);
    metric_free(&t->put_bytes);
    metric_free(&t->get_bytes);
    store_free(&t->inner);
    free(t);
}

static const struct store_ops retry_ops = {
    .name = "retry", .start = retry_start, .cancel = retry_cancel, .free = retry_free};

struct store *store_retry_new(struct store *inner, const struct store_retry_conf *conf)
{
    static const struct store_retry_conf usual = {
        .try_ms = 10000, .first_ms = 100, .longest_ms = 5000, .tokens = 50};
    struct retry *t = xcalloc(1, sizeof(*t));

    store_init(&t->store, &retry_ops, inner->loop, inner->name, inner->inflight_max);
    t->inner = inner;
    t->conf = conf ? *conf : usual;
    t->tokens = t->conf.tokens * TOKEN;
    t->refilled_ns = now_ns(t);
    metrics_new(t);
    return &t->store;
}
