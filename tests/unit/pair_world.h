/* tests/unit/pair_world.h - two edges' processes, the link between them and the pair's record in a store, on
 * simulated time, from a seed: clocks of different rates, messages that are late or lost (one way, too), a
 * store that is away or loses its answers, processes that are stopped and killed. Stands in for loop.h,
 * link.h and store.h.
 */
#ifndef ISTHMUS_PAIR_WORLD_H
#define ISTHMUS_PAIR_WORLD_H

#include "check.h"
#include "loop.h"
#include "mem.h"
#include "pair.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A process that is killed frees nothing: what it had is left here, too. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return 1;
}

#define MS UINT64_C(1000000)

enum { EVENTS = 4096, LIVES = 64 };

static uint64_t now, seed; /* true time; randomness */

static uint64_t rnd(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (seed * UINT64_C(0x2545F4914F6CDD1D) >> 20) % n;
}

struct life; /* one run of one edge's process */

static struct event {
    uint64_t at, order;
    struct life *life; /* nothing happens if it is over; NULL: the world's */
    void (*run)(void *);
    void *arg;
} events[EVENTS];
static unsigned nevents;
static uint64_t norders;

static void after(struct life *life, uint64_t ns, void (*run)(void *), void *arg)
{
    CHECK(nevents < EVENTS);
    events[nevents++] = (struct event){now + ns, norders++, life, run, arg};
}

static struct edge {
    const char *name;
    uint8_t writer[16];
    unsigned lives, percent; /* how fast its clock is, in hundredths of a percent */
    uint64_t stopped_until;
    bool store_away;
    struct life *life;
    uint64_t has;        /* the newest write in its journal */
    unsigned generation; /* of the program that is installed there */
    unsigned wrote;      /* as which generation it has written, at most */
} edges[2];
static bool cut[2];  /* nothing comes from that edge */
static bool slow[2]; /* what comes from it is late */

struct life {
    struct loop loop; /* first */
    struct edge *edge;
    bool over;
    unsigned generation;
    struct pair *pair;
    struct lease_gate gate;
    struct store store;
    bool mirrored; /* what is written goes to the partner, too */
    struct life *partner;
    struct { /* the only timer */
        struct timer *timer;
        uint64_t order;
    } timer;
};
static struct life lives[2 * LIVES];
static unsigned nlives;

static struct life *life_of(struct loop *l)
{
    return (struct life *)l;
}

static unsigned index_of(const struct life *l)
{
    return (unsigned)(l->edge - edges);
}

static uint64_t latency(unsigned from)
{
    return (1 + rnd(slow[from] ? 7000 : 50)) * MS;
}

static bool runs(const struct life *l)
{
    return l && !l->over && l->edge->stopped_until <= now;
}

/* --- the loop ------------------------------------------------------------------------------------------*/

static uint64_t clock_now(struct loop *l)
{
    return 5000 * MS + now / 10000 * life_of(l)->edge->percent;
}

static void random_bytes(struct loop *l, void *bytes, size_t n)
{
    (void)l;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)rnd(256);
}

static void run_task(void *arg)
{
    struct task *t = arg;

    t->run(t);
}

static void post(struct loop *l, struct task *t)
{
    after(life_of(l), 0, run_task, t);
}

struct firing {
    struct life *life;
    uint64_t order;
};

static void fire(void *arg)
{
    struct firing *f = arg;
    struct timer *t = f->life->timer.timer;

    if (f->order == f->life->timer.order && t)
        t->fire(t);
    free(f);
}

static void timer_set(struct timer *t, uint64_t ns)
{
    struct life *l = life_of(t->loop);
    struct firing *f = xcalloc(1, sizeof *f);

    l->timer.timer = t;
    f->life = l;
    f->order = ++l->timer.order;
    after(l, ns / l->edge->percent * 10000, fire, f);
}

static void timer_off(struct timer *t)
{
    life_of(t->loop)->timer.order++;
}

static const struct loop_ops loop_ops = {.now_ns = clock_now,
                                         .random = random_bytes,
                                         .post = post,
                                         .timer_set = timer_set,
                                         .timer_stop = timer_off,
                                         .timer_free = timer_off};

/* --- the link: what pair.c uses of it ------------------------------------------------------------------*/

struct letter {
    struct life *from, *to;
    struct link_call *call;
    struct link_request request;
    uint8_t bytes[64], answer[64];
    uint32_t len, answer_len;
    int status;
};

static void arrive_back(void *arg)
{
    struct letter *m = arg;

    m->call->status = m->status;
    m->call->reply = NULL;
    if (m->status == 0) {
        m->call->reply = buf_new(m->answer_len);
        memcpy(m->call->reply->data, m->answer, m->answer_len);
    }
    m->call->done(m->call);
    free(m);
}

void link_reply(struct link_request **r, int status, const char *why, const struct iovec *iov, int niov)
{
    struct letter *m = container_of(*r, struct letter, request);

    (void)why;
    *r = NULL;
    m->status = status;
    if (niov) {
        m->answer_len = (uint32_t)iov->iov_len;
        memcpy(m->answer, iov->iov_base, iov->iov_len);
    }
    after(m->from, cut[index_of(m->to)] ? 20000 * MS : latency(index_of(m->to)), arrive_back, m);
}

static void arrive(void *arg)
{
    struct letter *m = arg;

    m->to = edges[1 - index_of(m->from)].life;
    if (cut[index_of(m->from)] || !runs(m->to)) { /* it is sent again until somebody answers */
        after(m->from, 100 * MS, arrive, m);
        return;
    }
    m->request = (struct link_request){.type = m->call->type, .body = m->bytes, .len = m->len};
    pair_request(m->to->pair, &m->request);
}

void link_call(struct peer *p, struct link_call *call)
{
    struct letter *m = xcalloc(1, sizeof *m);

    m->from = (struct life *)p;
    m->call = call;
    m->len = call->body->len;
    memcpy(m->bytes, call->body->data, m->len);
    after(m->from, latency(index_of(m->from)), arrive, m);
}

void link_call_cancel(struct link_call *call)
{
    (void)call;
}

/* --- the store: one object -----------------------------------------------------------------------------*/

static uint8_t object[ARBITER_BYTES];
static uint64_t version; /* 0: it is not there */

struct asking {
    struct life *life;
    struct store_req *req;
    uint8_t bytes[ARBITER_BYTES];
    uint64_t match;
    int status;
    uint64_t version;
    bool lost; /* the answer is */
};

static void store_answers(void *arg)
{
    struct asking *a = arg;

    a->req->status = a->lost ? -ETIMEDOUT : a->status;
    why_set(&a->req->why, 0, "%s", strerror(-a->req->status));
    if (a->req->op == STORE_GET && a->req->status == 0) {
        memcpy(a->req->get.buf, a->bytes, ARBITER_BYTES);
        a->req->len = ARBITER_BYTES;
    }
    snprintf(a->req->etag, sizeof a->req->etag, "%lu", (unsigned long)a->version);
    a->req->done(a->req);
    free(a);
}

static void store_does(void *arg)
{
    struct asking *a = arg;

    if (a->req->op == STORE_GET) {
        a->status = version ? 0 : -ENOENT;
        memcpy(a->bytes, object, sizeof object);
        a->version = version;
    } else if (a->match != version) {
        a->status = a->match ? -ESTALE : -EEXIST;
    } else {
        memcpy(object, a->bytes, sizeof object);
        a->version = ++version;
    }
    after(a->life, (1 + rnd(60)) * MS, store_answers, a);
}

/* The answer is given up before what was asked for happens, as it may for a put. */
static void store_late(void *arg)
{
    struct asking *a = arg;

    if (a->match == version) {
        memcpy(object, a->bytes, sizeof object);
        version++;
    }
    free(a);
}

void store_submit(struct store *s, struct store_req *r)
{
    struct asking *a = xcalloc(1, sizeof *a);

    a->life = container_of(s, struct life, store);
    a->req = r;
    if (r->op == STORE_PUT) {
        memcpy(a->bytes, r->put.iov->iov_base, ARBITER_BYTES);
        a->match = r->put.condition == STORE_IF_MATCH ? strtoull(r->put.match, NULL, 10) : 0;
    }
    a->lost = a->life->edge->store_away;
    if (a->lost && r->op == STORE_PUT && rnd(2)) {
        struct asking *late = xcalloc(1, sizeof *late);

        *late = *a;
        after(NULL, (100 + rnd(9000)) * MS, store_late, late);
    }
    after(a->lost ? a->life : NULL, a->lost ? 5000 * MS : (1 + rnd(60)) * MS,
          a->lost ? store_answers : store_does, a);
}

void store_cancel(struct store_req *r)
{
    (void)r;
}

/* --- time ----------------------------------------------------------------------------------------------*/

/* The next event whose process runs. */
static bool run_one(uint64_t until)
{
    struct event e;
    unsigned next = 0;

    for (;;) {
        if (!nevents)
            return false;
        next = 0;
        for (unsigned i = 1; i < nevents; i++)
            if (events[i].at < events[next].at ||
                (events[i].at == events[next].at && events[i].order < events[next].order))
                next = i;
        e = events[next];
        if (e.at > until)
            return false;
        if (!e.life || e.life->over || e.life->edge->stopped_until <= e.at)
            break;
        events[next].at = e.life->edge->stopped_until; /* it is stopped */
    }
    events[next] = events[--nevents];
    now = e.at;
    if (!e.life || !e.life->over)
        e.run(e.arg);
    return true;
}

#endif
