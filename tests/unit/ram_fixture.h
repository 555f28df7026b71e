/* tests/unit/ram_fixture.h - the RAM tier over a base whose answers come when the test says, in any order.
 */
#ifndef ISTHMUS_RAM_FIXTURE_H
#define ISTHMUS_RAM_FIXTURE_H

#include "fake_loop.h"

#include "check.h"
#include "mem.h"
#include "ram.h"
#include "readahead.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* No test needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

enum { DISK_BLOCKS = 1 << 16, FLYING_MAX = 4096, BUDGET = 4 << 20 };

/* ---- the base: a disk of versions; a block's content is its number and the version of each sector */

struct base {
    struct tier tier;
    uint32_t *version;                 /* by sector; 0: zeros */
    struct block_req *out[FLYING_MAX]; /* asked, not answered */
    uint32_t *taken[FLYING_MAX];       /* the versions when asked, by sector */
    unsigned n, reads, promoted;
    uint64_t blocks;
    int fail;     /* status of what is answered now, */
    uint64_t bad; /* or of reads that hold this block; UINT64_MAX: none */
    bool at_once;
    bool late; /* content as of the answer, not of the question: both are allowed */
};

static struct fake_loop loop;
static struct ram *ram;
static struct base base;
static struct tier *top;

static void sector_put(uint8_t *to, uint64_t sector, uint32_t version)
{
    memset(to, 0, SECTOR_BYTES);
    if (version == 0)
        return;
    memcpy(to, &sector, 8);
    memcpy(to + 8, &version, 4);
    memcpy(to + SECTOR_BYTES - 4, &version, 4);
}

static uint32_t sector_get(const uint8_t *p, uint64_t sector)
{
    uint64_t s;
    uint32_t version, end;

    memcpy(&s, p, 8);
    memcpy(&version, p + 8, 4);
    memcpy(&end, p + SECTOR_BYTES - 4, 4);
    assert_int_equal(version, end);
    assert_true(version == 0 || s == sector);
    return version;
}

static void base_fill(struct block_req *r, const uint32_t *versions)
{
    for (uint32_t i = 0; i < r->count; i++) {
        const uint32_t *v = versions + i * BLOCK_SECTORS;
        uint32_t any = 0;

        for (unsigned k = 0; k < BLOCK_SECTORS; k++)
            any |= v[k];
        r->blocks[i]->zero = any == 0;
        for (unsigned k = 0; k < BLOCK_SECTORS && any; k++)
            sector_put(r->blocks[i]->data + k * SECTOR_BYTES, (r->first + i) * BLOCK_SECTORS + k, v[k]);
    }
}

static bool base_finish(struct block_req *r, uint32_t *taken)
{
    bool bad = base.bad >= r->first && base.bad < r->first + r->count;

    r->status = base.fail ? base.fail : bad ? -EIO : 0;
    if (r->status == 0)
        base_fill(r, base.late ? base.version + r->first * BLOCK_SECTORS : taken);
    free(taken);
    return true;
}

static bool base_read(struct tier *t, struct block_req *r)
{
    size_t bytes = r->count * BLOCK_SECTORS * sizeof(uint32_t);
    uint32_t *taken = xmalloc(bytes);

    (void)t;
    base.reads++;
    base.blocks += r->count;
    assert_true(r->count <= 64);
    memcpy(taken, base.version + r->first * BLOCK_SECTORS, bytes);
    if (base.at_once)
        return base_finish(r, taken);
    assert_true(base.n < FLYING_MAX);
    base.out[base.n] = r;
    base.taken[base.n++] = taken;
    return false;
}

static void base_answer(unsigned i)
{
    struct block_req *r = base.out[i];
    uint32_t *taken = base.taken[i];

    assert_true(i < base.n);
    base.n--;
    memmove(base.out + i, base.out + i + 1, (base.n - i) * sizeof(base.out[0]));
    memmove(base.taken + i, base.taken + i + 1, (base.n - i) * sizeof(base.taken[0]));
    base_finish(r, taken);
    r->done(r);
}

static void base_answer_all(void)
{
    while (base.n > 0) {
        base_answer(0);
        fake_run_posted(&loop);
    }
}

static void base_promote(struct tier *t, struct block_req *r)
{
    (void)t;
    assert_int_equal(r->class, TIER_DEMAND);
    base.promoted++;
}

static void base_free(struct tier *t)
{
    (void)t;
}

static const struct tier_ops base_ops = {
    .name = "base",
    .read = base_read,
    .promote = base_promote,
    .free = base_free,
};

static void open_tiers(uint64_t seed, uint64_t budget, const struct readahead_limits *limits)
{
    fake_loop_init(&loop, seed);
    memset(&base, 0, sizeof(base));
    base.tier.ops = &base_ops;
    base.tier.loop = &loop.loop;
    base.bad = UINT64_MAX;
    base.version = xcalloc(DISK_BLOCKS * BLOCK_SECTORS, sizeof(uint32_t));
    ram = ram_new(&loop.loop, budget);
    top = tier_ram_new(ram, &base.tier, 0, DISK_BLOCKS, limits ? readahead_new(limits) : NULL, "vm");
}

static void close_tiers(void)
{
    base_answer_all();
    fake_run_posted(&loop);
    tier_stack_free(&top);
    fake_run_posted(&loop);
    ram_free(&ram);
    free(base.version);
}

/* ---- a read */

struct reader {
    struct block_req req;
    bool done, cancelled;
    uint32_t *floor; /* the oldest version each sector may show */
};

static void on_read(struct block_req *r)
{
    struct reader *d = container_of(r, struct reader, req);

    assert_false(d->done);
    d->done = true;
}

static struct reader *reader_new(uint64_t first, uint32_t count)
{
    struct reader *d = xcalloc(1, sizeof(*d));

    d->req.first = first;
    d->req.count = count;
    d->req.class = TIER_DEMAND;
    d->req.blocks = xcalloc(count, sizeof(struct block *));
    d->req.done = on_read;
    d->req.status = 1;
    return d;
}

static struct reader *start(uint64_t first, uint32_t count)
{
    struct reader *d = reader_new(first, count);

    if (tier_read(top, &d->req)) {
        assert_false(d->done);
        d->done = true;
    } else {
        assert_false(d->done); /* not before read() returned */
    }
    return d;
}

static void end(struct reader **reader)
{
    struct reader *d = *reader;

    assert_true(d->done);
    for (uint32_t i = 0; i < d->req.count; i++) {
        assert_true(d->req.status == 0 ? d->req.blocks[i] != NULL : d->req.blocks[i] == NULL);
        if (d->req.blocks[i])
            block_unref(d->req.blocks[i]);
    }
    free(d->req.blocks);
    free(d->floor);
    free(d);
    *reader = NULL;
}

static uint32_t version_read(const struct reader *d, uint64_t sector)
{
    const struct block *b = d->req.blocks[sector / BLOCK_SECTORS - d->req.first];

    return sector_get(b->data + sector % BLOCK_SECTORS * SECTOR_BYTES, sector);
}

/* Commits a write: the base holds it (as the journal would), then the RAM tier hears of it. */
static void commit(uint64_t sector, uint32_t n, uint32_t version)
{
    uint8_t *data = xmalloc(n * SECTOR_BYTES);

    for (uint32_t i = 0; i < n; i++) {
        base.version[sector + i] = version;
        sector_put(data + i * SECTOR_BYTES, sector + i, version);
    }
    tier_ram_written(top, sector, n, version ? data : NULL);
    free(data);
}

static void expect_version(uint64_t sector, uint32_t version)
{
    struct reader *d = start(sector / BLOCK_SECTORS, 1);

    base_answer_all();
    fake_run_posted(&loop);
    assert_true(d->done);
    assert_int_equal(d->req.status, 0);
    assert_int_equal(version_read(d, sector), version);
    end(&d);
}

#endif
