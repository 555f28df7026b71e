/* links: journal */
/* Two edges' halves of a pair, on simulated time, from a seed: clocks of different rates, pings and answers
 * that are late or lost (one way, too), a store that is away or loses its answers, edges that are stopped,
 * killed and started again. Whoever takes a VM over has every write of it that was acknowledged, and nobody
 * else can serve it any more; and when the trouble is over both are members again. And an edge that an
 * operator makes the only member by force: never while the other lives and sees the store.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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

enum { SEEDS = 1000, TROUBLE_S = 60, CALM_S = 60, EVENTS = 4096, LIVES = 64, LEASE_MS = 3000, SHOW = 0 };

/* --- the world -------------------------------------------------------------------------------------------*/

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
static unsigned owner;
static uint64_t acknowledged, written;
static unsigned overtaken, joined, raised; /* how often: the test is not idle */
static bool given_up;                      /* the owner is lost for good: what only it has, is lost, too */

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

/* --- the loop --------------------------------------------------------------------------------------------*/

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

/* --- the link: what pair.c uses of it
 * ---------------------------------------------------------------------*/

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

/* --- the store: one object
 * ---------------------------------------------------------------------------------*/

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

/* --- what a pair's moves mean
 * -------------------------------------------------------------------------------*/

static void start(void *arg);

static void on_sole(void *arg)
{
    struct life *l = arg;

    l->mirrored = false;
}

static void on_both(void *arg)
{
    (void)arg;
    joined++;
}

static void inherited(void *arg)
{
    pair_inherited(((struct life *)arg)->pair);
}

/* The moment of truth. */
static void on_inherit(void *arg, const uint8_t *writer)
{
    struct life *l = arg, *other = edges[1 - index_of(l)].life;

    (void)writer;
    if (owner != index_of(l)) {
        if (other && !other->over && lease_gate_open(&other->gate, clock_now(&other->loop)))
            fail_msg("at %lu ms edge %s takes over what the other still serves", (unsigned long)(now / MS),
                     l->edge->name);
        if (edges[1 - index_of(l)].wrote > l->generation)
            fail_msg("at %lu ms edge %s takes over what it cannot read", (unsigned long)(now / MS),
                     l->edge->name);
        if (given_up)
            acknowledged = l->edge->has;
        if (l->edge->has < acknowledged)
            fail_msg("at %lu ms edge %s takes over at write %lu, and %lu was acknowledged",
                     (unsigned long)(now / MS), l->edge->name, (unsigned long)l->edge->has,
                     (unsigned long)acknowledged);
        overtaken++;
    }
    owner = index_of(l);
    after(l, rnd(500) * MS, inherited, l);
}

static void prepared(void *arg)
{
    struct life *l = arg;

    if (!l->mirrored)
        return;
    if (runs(l->partner) && !cut[index_of(l)] && pair_keeps(l->partner->pair)) {
        l->partner->edge->has = l->edge->has;
        pair_prepared(l->pair, true);
    } else {
        pair_prepared(l->pair, false);
    }
}

static void on_prepare(void *arg)
{
    struct life *l = arg;

    l->mirrored = true;
    l->partner = edges[1 - index_of(l)].life;
    after(l, (1 + rnd(800)) * MS, prepared, l);
}

static void on_unprepare(void *arg)
{
    ((struct life *)arg)->mirrored = false;
}

static void end_life(struct edge *e)
{
    e->life->over = true;
    e->life = NULL;
    /* It comes back as another program; rarely as one that is too old by now. */
    if (version && now <= TROUBLE_S * 1000 * MS && rnd(3) == 0)
        e->generation = rnd(2) && (object[11] < 2 || rnd(8) == 0) ? 1 : 2;
    e->stopped_until = 0;
    after(NULL, (200 + rnd(8000)) * MS, start, e);
}

static void on_lost(void *arg, const struct why *why)
{
    struct life *l = arg;

    (void)why;
    assert_false(lease_gate_open(&l->gate, clock_now(&l->loop)));
    end_life(l->edge);
}

static void on_out(void *arg)
{
    (void)arg;
}

static void cleared(void *arg)
{
    struct why why = {""};

    pair_cleared(((struct life *)arg)->pair, 0, &why);
}

static void on_clear(void *arg)
{
    after(arg, rnd(500) * MS, cleared, arg);
}

static void on_writes(void *arg, unsigned generation)
{
    struct life *l = arg;

    assert_true(generation <= l->generation && generation >= l->edge->wrote);
    raised += generation > l->edge->wrote && generation > 1;
    l->edge->wrote = generation;
}

static bool is_idle(void *arg)
{
    return owner != index_of(arg);
}

static bool is_fit(void *arg)
{
    (void)arg;
    return true;
}

static void start(void *arg)
{
    struct edge *e = arg;
    struct life *l = &lives[nlives++];
    struct pair_conf conf = {.loop = &l->loop,
                             .store = &l->store,
                             .peer = (struct peer *)l,
                             .name = "p",
                             .self = e->name,
                             .other = edges[e == edges].name,
                             .lease_ns = LEASE_MS * MS,
                             .generation = e->generation,
                             .gate = &l->gate,
                             .writes = on_writes,
                             .sole = on_sole,
                             .both = on_both,
                             .out = on_out,
                             .inherit = on_inherit,
                             .prepare = on_prepare,
                             .unprepare = on_unprepare,
                             .lost = on_lost,
                             .clear = on_clear,
                             .idle = is_idle,
                             .fit = is_fit,
                             .arg = l};

    CHECK(nlives <= sizeof lives / sizeof *lives);
    memset(l, 0, sizeof *l);
    l->loop.ops = &loop_ops;
    l->edge = e;
    l->generation = e->generation;
    e->life = l;
    memcpy(conf.writer, e->writer, sizeof conf.writer);
    l->pair = pair_new(&conf);
}

/* --- guests and trouble
 * ---------------------------------------------------------------------------------------*/

struct mirroring {
    struct life *from;
    uint64_t write;
};

static void mirrored(void *arg)
{
    struct mirroring *m = arg;

    if (m->from->mirrored && m->write > m->from->edge->has) {
        m->from->edge->has = m->write;
        acknowledged = m->write;
    }
    free(m);
}

/* A write: acknowledged when all who must have it do. */
static void guest(void *arg)
{
    struct life *l = edges[owner].life;
    struct pair_status s;

    after(NULL, (1 + rnd(40)) * MS, guest, arg);
    if (!runs(l))
        return;
    pair_status(l->pair, &s);
    if (s.role == PAIR_SOLE && !l->mirrored) {
        l->edge->has = acknowledged = ++written;
    } else if (l->mirrored && !cut[owner] && runs(l->partner) && pair_keeps(l->partner->pair)) {
        struct mirroring *m = xcalloc(1, sizeof *m);

        m->from = l;
        m->write = l->partner->edge->has = ++written;
        if (cut[1 - owner])
            free(m);
        else
            after(l, (1 + rnd(30)) * MS, mirrored, m);
    }
}

/* At the end both have the newer program: what was begun with the older one may have been raised since. */
static void update_all(void)
{
    for (unsigned i = 0; i < 2; i++) {
        edges[i].generation = 2;
        if (edges[i].life && edges[i].life->generation < 2)
            end_life(&edges[i]);
        edges[i].generation = 2;
    }
}

static void trouble(void *arg)
{
    unsigned i = (unsigned)rnd(2);
    struct edge *e = &edges[i];

    if (now > TROUBLE_S * 1000 * MS) {
        cut[0] = cut[1] = slow[0] = slow[1] = edges[0].store_away = edges[1].store_away = false;
        update_all();
        return;
    }
    after(NULL, (200 + rnd(5000)) * MS, trouble, arg);
    switch (rnd(10)) {
    case 0:
        cut[i] = true;
        break;
    case 1:
        cut[0] = cut[1] = true;
        break;
    case 2:
    case 3:
        cut[0] = cut[1] = false;
        break;
    case 8:
    case 9:
        slow[i] = !slow[i];
        break;
    case 4:
        e->store_away = !e->store_away;
        break;
    case 5:
        if (e->life && runs(e->life))
            e->stopped_until = now + (100 + rnd(9000)) * MS;
        break;
    case 6:
        if (e->life)
            end_life(e);
        break;
    default:
        edges[0].store_away = edges[1].store_away = false;
    }
}

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

static bool is_whole(void)
{
    struct pair_status s[2];

    for (int i = 0; i < 2; i++) {
        if (!edges[i].life)
            return false;
        pair_status(edges[i].life->pair, &s[i]);
    }
    return s[0].role == PAIR_BOTH && s[1].role == PAIR_BOTH && !s[0].blocked && !s[1].blocked;
}

static void not_whole(uint64_t number)
{
    struct pair_status s = {0};

    for (int i = 0; i < 2; i++) {
        if (edges[i].life)
            pair_status(edges[i].life->pair, &s);
        print_error("%s: %s, epoch %lu, blocked %d, other answers %d, %s\n", edges[i].name,
                    edges[i].life ? pair_role_name(s.role) : "dead", (unsigned long)s.epoch, s.blocked,
                    s.other_answers, s.why.text);
    }
    fail_msg("seed %lu: the pair is not whole again", (unsigned long)number);
}

static void begin(uint64_t number)
{
    now = norders = nevents = nlives = 0;
    seed = number * 2654435761u + 1;
    version = acknowledged = written = owner = 0;
    given_up = false;
    cut[0] = cut[1] = slow[0] = slow[1] = false;
    for (unsigned i = 0; i < 2; i++) {
        edges[i] = (struct edge){
            .name = i ? "edge-b" : "edge-a", .generation = 1, .percent = 9900 + (unsigned)rnd(201)};
        edges[i].writer[0] = (uint8_t)(i + 1);
    }
    after(NULL, 0, start, &edges[0]);
    after(NULL, 1000 * MS, start, &edges[1]);
    after(NULL, 2000 * MS, guest, NULL);
}

static void play(uint64_t number)
{
    begin(number);
    after(NULL, 8000 * MS, trouble, NULL);
    while (run_one((TROUBLE_S + CALM_S) * 1000 * MS))
        ;
    if (!is_whole())
        not_whole(number);
    assert_true(acknowledged > 0);
}

static void two_edges_in_trouble(void **state)
{
    const char *one = getenv("SEED");

    (void)state;
    for (uint64_t s = one ? strtoull(one, NULL, 10) : 1; s <= (one ? strtoull(one, NULL, 10) : SEEDS); s++) {
        play(s);
    }
    print_message("%u VMs taken over, %u times taken in, %u times written as a newer generation\n", overtaken,
                  joined, raised);
    assert_true(one || (overtaken > SEEDS / 4 && joined > SEEDS && raised > SEEDS));
}

/* --- by force --------------------------------------------------------------------------------------------*/

static unsigned refused, taken;

static void dies(void *arg)
{
    struct edge *e = arg;

    e->life->over = true;
    e->life = NULL;
}

static void store_back(void *arg)
{
    ((struct edge *)arg)->store_away = false;
}

/* At edge b, until it has begun. Edge a may live, and not see the store for a while. */
static void operator_forces(void *arg)
{
    struct life *l = edges[1].life;
    struct why why;

    if (l && runs(l) && pair_force(l->pair, &why) == 0) {
        assert_int_equal(pair_force(l->pair, &why), -EALREADY);
        if (edges[0].life && rnd(2)) {
            edges[0].store_away = true;
            after(NULL, rnd(6000) * MS, store_back, &edges[0]);
        }
        return;
    }
    after(NULL, 500 * MS, operator_forces, arg);
}

static struct pair_status status_of(unsigned i)
{
    struct pair_status s = {0};

    if (edges[i].life)
        pair_status(edges[i].life->pair, &s);
    return s;
}

/* Edge b is away when edge a, by then the only member, is lost, or is not; they do not hear of each other. */
static void play_force(uint64_t number, bool alive)
{
    begin(number);
    while (run_one((5000 + rnd(8000)) * MS))
        ;
    assert_true(is_whole());
    dies(&edges[1]);
    while (run_one((20000 + rnd(3000)) * MS))
        ;
    assert_int_equal(status_of(0).role, PAIR_SOLE);
    cut[0] = cut[1] = true;
    if (!alive)
        dies(&edges[0]);
    given_up = !alive;
    start(&edges[1]);
    after(NULL, rnd(5000) * MS, operator_forces, NULL);
    while (run_one(90000 * MS))
        ;
    if (alive) {
        assert_int_equal(status_of(0).role, PAIR_SOLE);
        assert_int_equal(status_of(1).role, PAIR_OUT);
        assert_false(status_of(1).forcing);
        assert_non_null(strstr(status_of(1).refused.text, "has answered"));
        refused++;
    } else {
        assert_int_equal(status_of(1).role, PAIR_SOLE);
        assert_int_equal(owner, 1);
        assert_string_equal(status_of(1).forced_edge, "edge-b");
        start(&edges[0]); /* with its disks, after all */
        taken++;
    }
    cut[0] = cut[1] = false;
    while (run_one(120000 * MS))
        ;
    if (!is_whole())
        not_whole(number);
    assert_int_equal(owner, alive ? 0 : 1);
}

static void by_force(void **state)
{
    (void)state;
    for (uint64_t s = 1; s <= SEEDS / 4; s++) {
        play_force(s, true);
        play_force(s, false);
    }
    print_message("%u times refused, %u times taken\n", refused, taken);
}

static void stopped(void *arg)
{
    struct life *l = arg;

    assert_false(lease_gate_open(&l->gate, clock_now(&l->loop)));
    dies(l->edge);
}

/* The other is the only member long before a lease is over. */
static void a_member_that_is_stopped_says_so(void **state)
{
    (void)state;
    for (uint64_t s = 1; s <= SEEDS / 10; s++) {
        begin(s);
        while (run_one(8000 * MS))
            ;
        assert_true(is_whole());
        pair_stop(edges[1].life->pair, stopped, edges[1].life);
        while (run_one(8500 * MS))
            ;
        assert_null(edges[1].life);
        assert_int_equal(status_of(0).role, PAIR_SOLE);
        start(&edges[1]);
        while (run_one(30000 * MS))
            ;
        assert_true(is_whole());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(two_edges_in_trouble), cmocka_unit_test(by_force),
                                       cmocka_unit_test(a_member_that_is_stopped_says_so)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
