/* links: cache */
/* The RAM tier against a model: random reads, writes, trims, answers and failures in any order. A read shows
 * no sector older than what was committed before it was issued, nor older than what a finished read saw; and
 * what a reader holds never changes. */
#include "ram_fixture.h"

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
        cmocka_unit_test(no_read_goes_back_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
