/* tests/unit/pair_fixture.h - what a pair is for, in the world of pair_world.h: one VM, its guest's writes,
 * and whose it is. Whoever takes the VM over has every write of it that was acknowledged, can read what the
 * other has written, and nobody else can serve it any more.
 */
#ifndef ISTHMUS_PAIR_FIXTURE_H
#define ISTHMUS_PAIR_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pair_world.h"

/* No test needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

enum { SEEDS = 1000, TROUBLE_S = 60, LEASE_MS = 3000 };

static unsigned owner;
static uint64_t acknowledged, written;
static unsigned overtaken, joined, raised; /* how often: the test is not idle */
static bool given_up;                      /* the owner is lost for good: what only it has, is lost, too */

/* --- what a pair's moves mean --------------------------------------------------------------------------*/

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

/* --- the guest -----------------------------------------------------------------------------------------*/

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

/* --- the play ------------------------------------------------------------------------------------------*/

/* Edge a starts, then edge b, and a guest writes. */
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

static struct pair_status status_of(unsigned i)
{
    struct pair_status s = {0};

    if (edges[i].life)
        pair_status(edges[i].life->pair, &s);
    return s;
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

static void dies(void *arg)
{
    struct edge *e = arg;

    e->life->over = true;
    e->life = NULL;
}

#endif
