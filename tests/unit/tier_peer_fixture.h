/* tests/unit/tier_peer_fixture.h - two edges' memories with a link between them: what a VM has left in the
 * one's (remains.h) and the tier of the other that asks for it. Below that tier is "far", which always knows
 * what the disk is now, and counts who had to ask it.
 */
#ifndef ISTHMUS_TIER_PEER_FIXTURE_H
#define ISTHMUS_TIER_PEER_FIXTURE_H

#include "check.h"
#include "link_ends.h"
#include "metric.h"
#include "proto_pair.h"
#include "ram.h"
#include "remains.h"
#include "tier_peer.h"

#include <errno.h>
#include <string.h>

/* No test needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

enum { BLOCKS = 4096, BUDGET = 4 << 20, NUMBER = 3, EPOCH = 7, SEQ = 500, PATIENT_MS = 60000 };

static char *pki;
static struct loop *loop;
static struct link *owner, *other; /* the VM's now; and of the edge that had it */
static struct ram *owner_ram, *other_ram;
static struct tier *had, *has; /* the disk at the other, and at the owner */
static struct tier *asks;      /* in the latter, what is tested */
static struct remains *remains;
static struct remains_vm left;
static atomic_uint under_way;
static unsigned out; /* of remains_request */
static bool hold;    /* a question is not looked at */
static struct link_request *held;
static unsigned questions;
static uint32_t version[BLOCKS]; /* of what the disk is; 0: zeros */

/* --- the loop, run until something is so ---------------------------------------------------------------*/

static struct {
    struct timer poll;
    bool (*so)(void);
    uint64_t end_ns;
    bool ok, runs;
} wait;

static void on_poll(struct timer *t)
{
    wait.ok = wait.so();
    if (wait.ok || loop_now_ns(loop) >= wait.end_ns)
        loop_stop(loop);
    else
        timer_set_ms(t, 1);
}

static void until(bool (*so)(void))
{
    wait.so = so;
    wait.ok = so();
    if (wait.ok)
        return;
    wait.end_ns = loop_now_ns(loop) + 30 * UINT64_C(1000000000);
    timer_set_ms(&wait.poll, 0);
    wait.runs = true;
    loop_run(loop);
    wait.runs = false;
    timer_stop(&wait.poll);
    assert_true(wait.ok);
}

/* --- what is far: all of the disk as it is now ---------------------------------------------------------*/

static struct far {
    struct tier tier;
    uint64_t blocks;
    unsigned promoted;
    struct block_req *kept; /* the last one, if */
    bool keep;              /* it is not to be answered at once */
} far;

static void far_fill(const struct block_req *r)
{
    for (uint32_t i = 0; i < r->count; i++) {
        uint64_t block = r->first + i;
        uint8_t *p = r->blocks[i]->data;

        r->blocks[i]->zero = version[block] == 0;
        for (unsigned at = 0; at < BLOCK_BYTES && version[block]; at += 16) {
            memcpy(p + at, &block, 8);
            memcpy(p + at + 8, &version[block], 4);
            memcpy(p + at + 12, &at, 4);
        }
    }
}

static bool far_read(struct tier *t, struct block_req *r)
{
    struct far *f = container_of(t, struct far, tier);

    f->blocks += r->count;
    if (f->keep) {
        f->kept = r;
        return false;
    }
    far_fill(r);
    r->status = 0;
    return true;
}

static void far_promote(struct tier *t, struct block_req *r)
{
    struct far *f = container_of(t, struct far, tier);

    assert_ptr_equal(r, f->kept);
    f->promoted++;
}

static void far_free(struct tier *t)
{
    (void)t;
}

static const struct tier_ops far_ops = {
    .name = "far", .read = far_read, .promote = far_promote, .free = far_free};

/* --- both edges ----------------------------------------------------------------------------------------*/

static void begin(void *arg)
{
    (void)arg;
    out++;
}

static void end(void *arg)
{
    (void)arg;
    out--;
}

static void look_at(struct link_request *r)
{
    remains_request(remains, r, begin, end, NULL);
}

static void on_request(void *arg, struct link_request *r)
{
    (void)arg;
    assert_int_equal(r->type, PROTO_REMAINS_READ);
    assert_int_equal(r->class, LINK_PREFETCH);
    questions++;
    if (hold)
        held = r;
    else
        look_at(r);
}

static bool are_up(void)
{
    return peer_up(link_peer(owner, "edge-b")) && peer_up(link_peer(other, "edge-a"));
}

static struct tier_peer_conf conf_of(unsigned wait_ms)
{
    struct tier_peer_conf c = {.loop = loop,
                               .link_loop = loop,
                               .next = &far.tier,
                               .peer = link_peer(owner, "edge-b"),
                               .under_way = &under_way,
                               .wait_ms = wait_ms,
                               .epoch = EPOCH + 1,
                               .seq = SEQ,
                               .disk = NUMBER,
                               .nblocks = BLOCKS,
                               .vm = "vm1"};

    memset(c.id, 9, sizeof c.id);
    return c;
}

static bool idle;

static void on_idle(void *arg)
{
    (void)arg;
    idle = true;
}

static bool is_idle(void)
{
    return idle;
}

/* As a volume does. */
static void close_tiers(struct tier **t)
{
    idle = false;
    tier_stack_quiesce(*t);
    tier_ram_stop(*t, on_idle, NULL);
    until(is_idle);
    tier_stack_free(t);
}

static void close_has(void)
{
    close_tiers(&has);
}

static void open_has(const struct tier_peer_conf *c)
{
    asks = tier_peer_new(c);
    has = tier_ram_new(owner_ram, asks, 0, BLOCKS, NULL, "vm1");
}

static int setup(void **state)
{
    struct tier_peer_conf c;
    const struct link_handlers handlers = {.request = on_request};

    (void)state;
    pki = twins_pki();
    loop = loop_new("main");
    timer_init(&wait.poll, loop, on_poll);
    twin_open(&owner, loop, pki, "edge-a", "edge-b", false, &handlers);
    twin_open(&other, loop, pki, "edge-b", "edge-a", true, &handlers);
    end_dials(owner, other, "edge-b", 1);
    until(are_up);
    for (unsigned i = 0; i < BLOCKS; i++)
        version[i] = i % 5 ? 1 : 0;
    far = (struct far){.tier = {.ops = &far_ops, .loop = loop}};
    owner_ram = ram_new(loop, BUDGET);
    other_ram = ram_new(loop, BUDGET);
    had = tier_ram_new(other_ram, &far.tier, 0, BLOCKS, NULL, "vm1");
    c = conf_of(PATIENT_MS);
    open_has(&c);
    remains = remains_new(loop);
    questions = out = 0;
    under_way = 0;
    hold = false;
    return 0;
}

static bool nothing_is_out(void)
{
    return !out && !under_way;
}

static int teardown(void **state)
{
    (void)state;
    until(nothing_is_out);
    close_has();
    close_tiers(&had);
    link_free(&owner);
    link_free(&other);
    loop_stop(loop); /* what was posted runs */
    loop_run(loop);
    remains_free(&remains);
    ram_free(&owner_ram);
    ram_free(&other_ram);
    timer_free(&wait.poll);
    loop_free(&loop);
    pki_remove(&pki);
    return 0;
}

/* --- reads ---------------------------------------------------------------------------------------------*/

static struct {
    struct block_req req;
    struct block *blocks[256];
    bool done;
} one;

static void on_done(struct block_req *r)
{
    assert_ptr_equal(r, &one.req);
    one.done = true;
    wait.ok = wait.runs && wait.so();
    if (wait.ok)
        loop_stop(loop);
}

static bool is_done(void)
{
    return one.done;
}

static void ask(struct tier *t, uint64_t first, uint32_t count, enum tier_class class)
{
    memset(&one, 0, sizeof one);
    one.req = (struct block_req){
        .first = first, .count = count, .class = class, .blocks = one.blocks, .done = on_done};
    one.done = tier_read(t, &one.req);
}

/* What was read is what the disk is now. */
static void look(void)
{
    uint8_t want[BLOCK_BYTES];
    struct block b = {.data = want}, *blocks[] = {&b};

    until(is_done);
    assert_int_equal(one.req.status, 0);
    for (uint32_t i = 0; i < one.req.count; i++) {
        const struct block_req r = {.first = one.req.first + i, .count = 1, .blocks = blocks};

        memset(want, 0, sizeof want);
        far_fill(&r);
        assert_memory_equal(one.blocks[i]->data, want, sizeof want);
        block_unref(one.blocks[i]);
    }
}

static void read_at(struct tier *t, uint64_t first, uint32_t count)
{
    ask(t, first, count, TIER_DEMAND);
    look();
}

/* The VM goes to the owner, as it is. Far has not been asked by anybody yet. */
static void hand_over(uint64_t sectors)
{
    memset(&left, 0, sizeof left);
    memset(left.id, 9, sizeof left.id);
    left.epoch = EPOCH;
    left.seq = SEQ;
    left.loop = loop;
    left.disks[NUMBER] = tier_ram_remains(had, sectors / BLOCK_SECTORS);
    remains_add(remains, &left);
    far.blocks = 0;
}

static void write_at(struct tier *t, uint64_t block)
{
    uint8_t data[BLOCK_BYTES];
    struct block b = {.data = data}, *blocks[] = {&b};
    const struct block_req r = {.first = block, .count = 1, .blocks = blocks};

    if (t == has)
        tier_peer_written(asks, block * BLOCK_SECTORS, BLOCK_SECTORS);
    version[block]++;
    far_fill(&r);
    tier_ram_written(t, block * BLOCK_SECTORS, BLOCK_SECTORS, data);
}

static uint64_t count(const char *name)
{
    return metric_sum(name, "");
}

static bool is_held(void)
{
    return held != NULL;
}

static bool is_far_asked(void)
{
    return far.kept != NULL;
}

#endif
