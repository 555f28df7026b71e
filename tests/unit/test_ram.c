/* links: cache */
/* The RAM tier over a base whose answers come when the test says, in any order: what is held, shared, fetched
 * once, patched, replaced, evicted, refused; and a random run against a model of what each read may see.
 */
#include "fake_loop.h"

#include "check.h"
#include "mem.h"
#include "ram.h"
#include "readahead.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

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

/* ---- stories */

static void a_missing_block_is_fetched_once(void **state)
{
    struct reader *a, *b, *c;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    commit(80, 8, 7);
    base.version[0] = 3;
    a = start(0, 8);
    b = start(4, 8); /* half of it is on its way; 10 is held */
    assert_int_equal(base.reads, 3);
    assert_int_equal(base.blocks, 11);
    base_answer_all();
    assert_true(a->done && b->done);
    assert_int_equal(version_read(a, 0), 3);
    assert_int_equal(version_read(b, 80), 7);
    c = start(0, 12);
    assert_true(c->done);
    assert_int_equal(base.blocks, 11);
    assert_ptr_equal(c->req.blocks[5], a->req.blocks[5]);
    end(&a);
    end(&b);
    end(&c);
    close_tiers();
}

static void long_misses_go_down_in_few_requests_and_join_in_memory(void **state)
{
    struct reader *a;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    for (unsigned i = 0; i < 256 * 8; i++)
        base.version[i] = 1;
    a = start(0, 256);
    assert_int_equal(base.reads, 4);
    base_answer(3);
    base_answer(0);
    base_answer_all();
    assert_true(a->done);
    for (unsigned i = 1; i < 256; i++)
        assert_ptr_equal(a->req.blocks[i]->data, a->req.blocks[i - 1]->data + BLOCK_BYTES);
    end(&a);
    close_tiers();
}

static void zeros_cost_no_page(void **state)
{
    struct reader *a;
    uint64_t before;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    base.at_once = true;
    before = ram_used_bytes(ram);
    a = start(100, 200);
    assert_true(a->done);
    assert_int_equal(ram_used_bytes(ram), before);
    assert_ptr_equal(a->req.blocks[0]->data, a->req.blocks[199]->data);
    assert_true(a->req.blocks[7]->zero);
    commit(800, 8, 1); /* whole, while held as zeros */
    commit(809, 1, 2); /* a part of a block of zeros */
    assert_int_equal(ram_used_bytes(ram), before + 2 * BLOCK_BYTES);
    assert_int_equal(version_read(a, 800), 0);
    assert_int_equal(version_read(a, 809), 0);
    end(&a);
    commit(800, 8, 0);
    assert_int_equal(ram_used_bytes(ram), before + BLOCK_BYTES);
    base.fail = -EIO; /* nothing is asked below */
    expect_version(809, 2);
    expect_version(808, 0);
    expect_version(800, 0);
    base.fail = 0;
    close_tiers();
}

static void a_write_replaces_a_block_that_is_held(void **state)
{
    struct reader *a;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    commit(0, 16, 1);
    a = start(0, 2);
    commit(2, 1, 2);
    commit(8, 8, 3);
    assert_int_equal(version_read(a, 2), 1);
    assert_int_equal(version_read(a, 8), 1);
    expect_version(2, 2);
    expect_version(1, 1);
    expect_version(8, 3);
    end(&a);
    assert_int_equal(base.reads, 0);
    close_tiers();
}

static void a_write_is_laid_over_a_fill_in_flight(void **state)
{
    struct reader *a;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    for (unsigned i = 0; i < 32; i++)
        base.version[i] = 1;
    a = start(0, 3);
    commit(1, 2, 2);
    commit(2, 1, 3);
    commit(17, 3, 0); /* zeros over a part */
    base_answer_all();
    assert_true(a->done);
    assert_int_equal(version_read(a, 0), 1);
    assert_int_equal(version_read(a, 1), 2);
    assert_int_equal(version_read(a, 2), 3);
    assert_int_equal(version_read(a, 16), 1);
    assert_int_equal(version_read(a, 18), 0);
    end(&a);
    expect_version(2, 3);
    assert_int_equal(base.reads, 1);
    close_tiers();
}

static void a_whole_write_answers_who_waits_for_a_fill(void **state)
{
    struct reader *a, *b;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    a = start(0, 1);
    b = start(0, 2);
    commit(0, 8, 5);
    assert_false(a->done); /* not from within the write */
    fake_run_posted(&loop);
    assert_true(a->done);
    assert_false(b->done);
    assert_int_equal(version_read(a, 3), 5);
    base_answer_all();
    assert_true(b->done);
    assert_int_equal(version_read(b, 3), 5);
    end(&a);
    end(&b);
    expect_version(0, 5);
    close_tiers();
}

static void a_failed_fill_fails_its_readers_alone(void **state)
{
    struct reader *a, *b, *c;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    base.bad = 5;
    a = start(0, 16);
    b = start(2, 2); /* the bad block is none of his */
    c = start(20, 1);
    base_answer_all();
    assert_true(a->done && b->done && c->done);
    assert_int_equal(a->req.status, -EIO);
    assert_int_equal(b->req.status, 0);
    assert_int_equal(c->req.status, 0);
    end(&a);
    end(&b);
    end(&c);
    base.bad = UINT64_MAX;
    expect_version(5 * 8, 0); /* nothing bad was kept */
    close_tiers();
}

static void a_demand_read_promotes_the_prefetch_it_meets(void **state)
{
    struct readahead_limits limits = {.miss_blocks = 16, .max_blocks = 64};
    struct reader *a, *b;

    (void)state;
    open_tiers(1, BUDGET, &limits);
    a = start(20, 1);
    assert_int_equal(base.reads, 3); /* 20; 16 to 19; 21 to 31 */
    assert_int_equal(base.blocks, 16);
    assert_int_equal(base.out[0]->class, TIER_DEMAND);
    assert_int_equal(base.out[1]->class, TIER_PREFETCH);
    b = start(17, 1);
    assert_int_equal(base.promoted, 1);
    base_answer_all();
    assert_true(a->done && b->done);
    end(&a);
    end(&b);
    a = start(30, 1);
    assert_true(a->done);
    end(&a);
    close_tiers();
}

/* Everything is held by readers: the next one waits, prefetch is dropped, and all goes on when they let go.
 */
static void a_read_waits_for_memory_that_is_held(void **state)
{
    struct reader *held[64] = {NULL}, *late, *later, *ahead;
    unsigned n = 0;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    base.at_once = true;
    for (unsigned i = 0; i < DISK_BLOCKS * 8; i++)
        base.version[i] = 1;
    do {
        held[n] = start(n * 64, 64);
    } while (held[n]->done && ++n < 64);
    assert_in_range(n, 8, 63);
    late = start(60000, 256);
    later = start(50000, 1);
    assert_false(late->done || later->done);
    ahead = reader_new(30000, 8);
    ahead->req.class = TIER_PREFETCH;
    ahead->done = tier_read(top, &ahead->req);
    assert_true(ahead->done);
    assert_int_equal(ahead->req.status, -ECANCELED);
    end(&ahead);
    commit(40000 * 8, 8, 2); /* a write neither waits nor fails */
    for (unsigned i = 0; i < n; i++) {
        end(&held[i]);
        fake_run_posted(&loop);
    }
    assert_true(held[n]->done && late->done && later->done);
    end(&held[n]);
    end(&late);
    end(&later);
    expect_version(40000 * 8, 2);
    close_tiers();
}

/* Three readers find half of what they want and wait for memory for the rest. Kept, their halves would leave
 * too little for any of them. */
static void readers_that_wait_do_not_stop_each_other(void **state)
{
    struct reader *held[4], *d[3];

    (void)state;
    open_tiers(1, BUDGET, NULL);
    base.at_once = true;
    for (unsigned i = 0; i < DISK_BLOCKS * 8; i++)
        base.version[i] = 1;
    for (unsigned i = 0; i < 4; i++)
        held[i] = start(i * 1000, i < 3 ? 260 : 200);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(held[i]->done);
        d[i] = start(i * 1000, 490);
        assert_false(d[i]->done);
    }
    for (unsigned i = 0; i < 4; i++) {
        end(&held[i]);
        fake_run_posted(&loop);
    }
    for (unsigned i = 0; i < 3; i++) {
        assert_true(d[i]->done);
        end(&d[i]);
        fake_run_posted(&loop);
    }
    close_tiers();
}

/* One that waits for a fill beside another reader, and one that waits for memory with another behind it. */
static void a_read_that_nobody_wants_any_more_comes_back_at_once(void **state)
{
    struct reader *gone, *stays, *held[64] = {NULL}, *late, *later;
    unsigned n = 0;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    for (unsigned i = 0; i < DISK_BLOCKS * 8; i++)
        base.version[i] = 1;
    gone = start(0, 100);
    stays = start(50, 20);
    tier_ram_cancel(top, &gone->req);
    assert_false(gone->done);
    fake_run_posted(&loop);
    assert_true(gone->done && !stays->done);
    assert_int_equal(gone->req.status, -ECANCELED);
    end(&gone);
    base_answer_all();
    assert_true(stays->done && stays->req.status == 0);
    end(&stays);
    stays = start(0, 100); /* what was on its way has stayed */
    assert_true(stays->done);
    end(&stays);
    base.at_once = true;
    do {
        held[n] = start(1000 + n * 64, 64);
    } while (held[n]->done && ++n < 64);
    assert_in_range(n, 8, 63);
    late = start(60000, 256);
    later = start(0, 1);
    tier_ram_cancel(top, &late->req);
    tier_ram_cancel(top, &held[n]->req);
    fake_run_posted(&loop);
    assert_int_equal(late->req.status, -ECANCELED);
    assert_int_equal(held[n]->req.status, -ECANCELED);
    assert_true(later->done);
    end(&late);
    end(&later);
    for (unsigned i = 0; i <= n; i++)
        end(&held[i]);
    close_tiers();
}

static void a_scan_does_not_push_out_what_is_hot(void **state)
{
    struct reader *d;
    unsigned before;

    (void)state;
    open_tiers(1, BUDGET, NULL);
    base.at_once = true;
    for (unsigned i = 0; i < DISK_BLOCKS * 8; i++)
        base.version[i] = 1;
    for (unsigned round = 0; round < 4; round++)
        for (unsigned i = 0; i < 300; i++) {
            d = start(i * 3, 1);
            end(&d);
        }
    for (unsigned i = 0; i < 20000; i += 8) {
        d = start(2000 + i, 8);
        end(&d);
    }
    before = base.reads;
    for (unsigned i = 0; i < 300; i++) {
        d = start(i * 3, 1);
        end(&d);
    }
    assert_int_equal(base.reads, before);
    close_tiers();
}

static void memory_stays_within_its_budget(void **state)
{
    (void)state;
    open_tiers(1, BUDGET, NULL);
    for (unsigned i = 0; i < DISK_BLOCKS * 8; i++)
        base.version[i] = i % 3;
    for (unsigned i = 0; i < 3000; i++) {
        struct reader *d =
            start(fake_random(&loop) % (DISK_BLOCKS - 64), 1 + (uint32_t)(fake_random(&loop) % 64));

        base_answer_all();
        assert_true(d->done);
        assert_true(ram_used_bytes(ram) <= BUDGET);
        end(&d);
    }
    close_tiers();
}

static void a_huge_trim_changes_what_is_held(void **state)
{
    (void)state;
    open_tiers(1, BUDGET, NULL);
    base.at_once = true;
    commit(8 * 100, 16, 1);
    commit(8 * 5000, 8, 1);
    commit(8 * 101, 8 * 4000, 0);
    base.fail = -EIO;
    expect_version(8 * 100, 1);
    expect_version(8 * 101, 0);
    expect_version(8 * 5000, 1);
    base.fail = 0;
    close_tiers();
}

static void on_idle(void *arg)
{
    *(bool *)arg = true;
}

static void stopping_waits_for_what_is_in_flight(void **state)
{
    struct readahead_limits limits = {.miss_blocks = 16, .max_blocks = 64};
    struct reader *a;
    bool idle = false;

    (void)state;
    open_tiers(1, BUDGET, &limits);
    a = start(20, 1);
    base_answer(0);
    assert_true(a->done);
    end(&a);
    tier_ram_stop(top, on_idle, &idle);
    fake_run_posted(&loop);
    assert_false(idle);
    base_answer_all();
    assert_true(idle);
    close_tiers();
}

static void a_tier_may_go_while_a_prefetch_is_cancelled(void **state)
{
    struct readahead_limits limits = {.miss_blocks = 16, .max_blocks = 64};
    struct reader *a;

    (void)state;
    open_tiers(1, BUDGET, &limits);
    a = start(20, 1);
    base_answer(0);
    end(&a);
    tier_stack_free(&top);
    base.fail = -ECANCELED;
    base_answer_all();
    base.fail = 0;
    top = tier_ram_new(ram, &base.tier, 0, DISK_BLOCKS, NULL, "vm");
    expect_version(21 * 8, 0); /* asked anew: the first disk's blocks are not this one's */
    assert_int_equal(base.reads, 4);
    close_tiers();
}

static void a_grown_disk_reads_its_last_block_again(void **state)
{
    (void)state;
    open_tiers(1, BUDGET, NULL);
    tier_ram_set_nblocks(top, 100);
    expect_version(99 * 8, 0);
    base.version[99 * 8] = 4;
    tier_ram_set_nblocks(top, 200);
    expect_version(99 * 8, 4);
    close_tiers();
}

/* ---- the model: random reads, writes, trims, answers and failures in any order. A read shows no sector
 * older than what was committed before it was issued, nor older than what a finished read saw; and what a
 * reader holds never changes. */

enum { AREA = 1600, READERS = 40 };

static struct {
    uint32_t order;
    uint32_t last[AREA * BLOCK_SECTORS];   /* the newest commit of each sector */
    uint32_t zeroed[AREA * BLOCK_SECTORS]; /* its newest commit of zeros */
    uint32_t seen[AREA * BLOCK_SECTORS];
    struct reader *readers[READERS];
    uint32_t *held[READERS]; /* what a finished read showed, until it ends */
    unsigned checked, failed;
} model;

static uint32_t pick(uint32_t n)
{
    return (uint32_t)(fake_random(&loop) % n);
}

static uint64_t pick_block(uint32_t count)
{
    return pick(3) ? pick(40) : pick(AREA - count);
}

static void model_check(unsigned i)
{
    struct reader *d = model.readers[i];
    uint32_t n = d->req.count * BLOCK_SECTORS;

    if (d->req.status != 0) {
        assert_true(d->req.status == -EIO || (d->cancelled && d->req.status == -ECANCELED));
        model.failed++;
        end(&model.readers[i]);
        return;
    }
    model.held[i] = xmalloc(n * sizeof(uint32_t));
    for (uint32_t k = 0; k < n; k++) {
        uint64_t sector = d->req.first * BLOCK_SECTORS + k;
        uint32_t v = version_read(d, sector);

        model.held[i][k] = v;
        assert_true(v <= model.last[sector]);
        if (v == 0) {
            assert_true(d->floor[k] == 0 || model.zeroed[sector] >= d->floor[k]);
            v = d->floor[k];
        }
        assert_true(v >= d->floor[k]);
        if (model.seen[sector] < v)
            model.seen[sector] = v;
    }
    model.checked++;
}

static void model_read(unsigned i)
{
    uint32_t count = 1 + (pick(4) ? pick(4) : pick(100));
    struct reader *d = reader_new(pick_block(count), count);

    d->floor = xmalloc(count * BLOCK_SECTORS * sizeof(uint32_t));
    for (uint32_t k = 0; k < count * BLOCK_SECTORS; k++) {
        uint64_t sector = d->req.first * BLOCK_SECTORS + k;

        d->floor[k] = model.last[sector] > model.seen[sector] ? model.last[sector] : model.seen[sector];
    }
    model.readers[i] = d;
    d->done = tier_read(top, &d->req);
}

static void model_reader(unsigned i)
{
    struct reader *d = model.readers[i];

    if (!d) {
        model_read(i);
    } else if (!d->done && !pick(4)) {
        d->cancelled = true;
        tier_ram_cancel(top, &d->req);
    } else if (d->done && model.held[i]) {
        for (uint32_t k = 0; k < d->req.count * BLOCK_SECTORS; k++)
            assert_int_equal(version_read(d, d->req.first * BLOCK_SECTORS + k), model.held[i][k]);
        free(model.held[i]);
        model.held[i] = NULL;
        end(&model.readers[i]);
    }
}

static void model_collect(void)
{
    for (unsigned i = 0; i < READERS; i++)
        if (model.readers[i] && model.readers[i]->done && !model.held[i])
            model_check(i);
}

static void model_write(void)
{
    uint32_t n = 1 + (pick(3) ? pick(24) : 7 + pick(400));
    uint64_t sector = pick_block(60) * BLOCK_SECTORS;
    bool zeros = pick(5) == 0;

    sector += pick(2) ? pick(BLOCK_SECTORS) : 0;
    model.order++;
    for (uint32_t k = 0; k < n; k++) {
        model.last[sector + k] = model.order;
        if (zeros)
            model.zeroed[sector + k] = model.order;
    }
    if (!zeros) {
        commit(sector, n, model.order);
        return;
    }
    for (uint32_t k = 0; k < n; k++)
        base.version[sector + k] = 0;
    tier_ram_written(top, sector, n, NULL);
}

static void model_run(uint64_t seed, unsigned steps, const struct readahead_limits *limits)
{
    memset(&model, 0, sizeof(model));
    open_tiers(seed, BUDGET, limits);
    for (unsigned step = 0; step < steps; step++) {
        unsigned what = pick(10);

        base.late = pick(2);
        base.at_once = pick(30) == 0;
        if (what < 4)
            model_reader(pick(READERS));
        else if (what < 6)
            model_write();
        else if (what < 7)
            fake_run_posted(&loop);
        else if (base.n > 0 && step / 500 % 2) { /* now and then the line is cut */
            base.fail = pick(60) == 0 ? -EIO : 0;
            base_answer(pick(base.n));
            base.fail = 0;
        }
        model_collect();
    }
    base.at_once = base.late = false;
    for (unsigned round = 0, left = 1; left > 0; round++) { /* nobody is forgotten */
        assert_true(round < 2 * READERS);
        left = 0;
        base_answer_all();
        fake_run_posted(&loop);
        model_collect();
        for (unsigned i = 0; i < READERS; i++) {
            if (model.readers[i] && model.readers[i]->done)
                model_reader(i);
            left += model.readers[i] != NULL;
        }
    }
    assert_true(model.checked > steps / 20);
    close_tiers();
}

static void no_read_goes_back_in_time(void **state)
{
    struct readahead_limits limits = {.miss_blocks = 16, .max_blocks = 64};

    (void)state;
    for (uint64_t seed = 1; seed <= 24; seed++)
        model_run(seed, 20000, seed % 2 ? &limits : NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_block_is_fetched_once),
        cmocka_unit_test(long_misses_go_down_in_few_requests_and_join_in_memory),
        cmocka_unit_test(zeros_cost_no_page),
        cmocka_unit_test(a_write_replaces_a_block_that_is_held),
        cmocka_unit_test(a_write_is_laid_over_a_fill_in_flight),
        cmocka_unit_test(a_whole_write_answers_who_waits_for_a_fill),
        cmocka_unit_test(a_failed_fill_fails_its_readers_alone),
        cmocka_unit_test(a_demand_read_promotes_the_prefetch_it_meets),
        cmocka_unit_test(a_read_waits_for_memory_that_is_held),
        cmocka_unit_test(readers_that_wait_do_not_stop_each_other),
        cmocka_unit_test(a_read_that_nobody_wants_any_more_comes_back_at_once),
        cmocka_unit_test(a_scan_does_not_push_out_what_is_hot),
        cmocka_unit_test(memory_stays_within_its_budget),
        cmocka_unit_test(a_huge_trim_changes_what_is_held),
        cmocka_unit_test(stopping_waits_for_what_is_in_flight),
        cmocka_unit_test(a_tier_may_go_while_a_prefetch_is_cancelled),
        cmocka_unit_test(a_grown_disk_reads_its_last_block_again),
        cmocka_unit_test(no_read_goes_back_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
