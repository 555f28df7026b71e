/* links: journal */
/* A cut holds still what the guest goes on to overwrite; once it is committed the journal lets go of it.
 */
#include "journal_fixture.h"

#include "cut.h"

struct open_cut {
    struct cut cut;
    sem_t opened, closed;
    uint64_t seq_when_open; /* the newest visible then */
    struct fixture *fixture;
    unsigned pause_us;
    bool committed;
};

static void on_opened(struct cut *c)
{
    struct open_cut *o = container_of(c, struct open_cut, cut);

    o->seq_when_open = vmlog_last(o->fixture->log);
    sem_post(&o->opened);
}

static void open_it(struct fixture *f, void *arg)
{
    struct open_cut *o = arg;

    o->fixture = f;
    cut_open(&o->cut, f->log, on_opened);
    usleep(o->pause_us); /* the writer gets ahead */
}

static void on_closed(struct cut *c)
{
    sem_post(&container_of(c, struct open_cut, cut)->closed);
}

static void close_it(struct fixture *f, void *arg)
{
    struct open_cut *o = arg;

    (void)f;
    cut_close(&o->cut, o->committed, on_closed);
}

static void cut_begin(struct fixture *f, struct open_cut *o)
{
    sem_init(&o->opened, 0, 0);
    sem_init(&o->closed, 0, 0);
    on_loop(f, open_it, o);
}

static void cut_wait(struct open_cut *o)
{
    while (sem_wait(&o->opened) < 0)
        ;
    sem_destroy(&o->opened);
    cut_sort(&o->cut);
}

static void cut_end(struct fixture *f, struct open_cut *o, bool committed)
{
    o->committed = committed;
    on_loop(f, close_it, o);
    while (sem_wait(&o->closed) < 0)
        ;
    sem_destroy(&o->closed);
}

/* Reads some of them, from the first on, which is not zero; returns how many. */
static size_t read_some(const struct cut *c, const struct cut_extent *e, size_t n, uint8_t *disk)
{
    CLEANUP_FREE uint8_t *bytes = xmalloc(CUT_READ_SECTORS * 512);
    size_t most = 1 + (size_t)rand() % CUT_READ_EXTENTS, some = 0;
    uint32_t sectors = 0;

    for (; some < n && some < most && !e[some].zero && sectors + e[some].nsectors <= CUT_READ_SECTORS; some++)
        sectors += e[some].nsectors;
    assert_int_equal(cut_read(c, e, (unsigned)some, bytes), 0);
    sectors = 0;
    for (size_t i = 0; i < some; i++) {
        memcpy(disk + e[i].lba * 512, bytes + (size_t)sectors * 512, (size_t)e[i].nsectors * 512);
        sectors += e[i].nsectors;
    }
    return some;
}

/* The cut's content over zeros. */
static void expect_cut(const struct open_cut *o, const uint8_t *model, uint32_t nsectors)
{
    CLEANUP_FREE uint8_t *disk = xcalloc(nsectors, 512);
    uint64_t before = 0;

    for (size_t i = 0; i < o->cut.n; i++) {
        assert_true(o->cut.extents[i].seq >= before && o->cut.extents[i].seq <= o->cut.seq);
        before = o->cut.extents[i].seq;
    }
    for (size_t i = 0; i < o->cut.n;)
        i += o->cut.extents[i].zero ? 1 : read_some(&o->cut, o->cut.extents + i, o->cut.n - i, disk);
    assert_memory_equal(disk, model, (size_t)nsectors * 512);
}

enum { AREA = 8192 };

static void random_puts(struct fixture *f, unsigned n, unsigned tag)
{
    for (unsigned i = 0; i < n; i++) {
        uint32_t sectors = 1 + (uint32_t)rand() % (i % 20 == 0 ? 1500 : 40);

        put(f, (uint64_t)rand() % (AREA - sectors), sectors, rand() % 8 ? tag + i + 1 : 0);
    }
}

static void overwriting_does_not_touch_it(void **state)
{
    struct fixture *f = fixture_new();
    CLEANUP_FREE uint8_t *then = xmalloc(AREA * 512);
    struct open_cut o = {.pause_us = 0};
    uint64_t bytes;

    (void)state;
    srand(21);
    fixture_open(f);
    random_puts(f, 200, 0);
    memcpy(then, f->model, AREA * 512);
    cut_begin(f, &o);
    cut_wait(&o);
    assert_int_equal(o.cut.seq, 200);
    random_puts(f, 300, 1000);
    put(f, 0, AREA, 77); /* nothing of the cut is newest any more */
    flush(f);
    expect_cut(&o, then, AREA);
    cut_end(f, &o, false);
    expect_model(f, 0, AREA);
    bytes = journal_bytes(f->journal);
    assert_in_range(bytes, AREA * 512, AREA * 512 + 4096); /* what was held has been given back */
    fixture_close(f);
    fixture_open(f);
    expect_model(f, 0, AREA);
    fixture_close(f);
    fixture_free(f);
}

/* Writes of 1 to 2000 sectors that begin before the cut is opened; those in it are put into `then`. */
static void put_around(struct fixture *f, struct open_cut *o, uint8_t *then, unsigned tag)
{
    enum { PUTS = 20 };
    struct put *puts[PUTS];

    for (unsigned i = 0; i < PUTS; i++) {
        uint32_t n = 1 + (uint32_t)rand() % (i % 4 ? 20 : 2000);

        puts[i] = put_begin(f, (uint64_t)rand() % (AREA - n), n, rand() % 8 ? tag + i + 1 : 0, false);
    }
    cut_begin(f, o);
    cut_wait(o);
    for (unsigned i = 0; i < PUTS; i++) {
        /* the writer may still be at the rest of it */
        struct vmlog_append a = {
            .lba = puts[i]->append.lba, .nsectors = puts[i]->append.nsectors, .data = puts[i]->append.data};
        bool in_cut;

        if (a.data)
            buf_ref(a.data);
        in_cut = put_end(puts[i]) <= o->cut.seq;
        if (in_cut && a.data)
            memcpy(then + a.lba * 512, a.data->data, (size_t)a.nsectors * 512);
        else if (in_cut)
            memset(then + a.lba * 512, 0, (size_t)a.nsectors * 512);
        buf_unref(&a.data);
    }
}

/* Many small pieces, so that it takes many turns of the loop. */
static void writes_go_on_while_it_is_gathered(void **state)
{
    struct fixture *f = fixture_new();
    CLEANUP_FREE uint8_t *then = xmalloc(AREA * 512);
    CLEANUP_FREE struct put **puts = xcalloc(AREA, sizeof(struct put *));
    struct open_cut o = {.pause_us = 0};
    unsigned met = 0;

    (void)state;
    srand(23);
    fixture_open(f);
    for (unsigned round = 0; met < 2; round++) {
        assert_true(round < 50);
        for (unsigned i = 0; i < AREA; i++)
            puts[i] = put_begin(f, i, 1, round * 10000 + i + 1, false);
        for (unsigned i = 0; i < AREA; i++)
            put_end(puts[i]);
        memcpy(then, f->model, AREA * 512);
        o.pause_us = 10000 * (round + 1);
        put_around(f, &o, then, round * 10000 + AREA);
        met += o.seq_when_open > o.cut.seq;
        expect_cut(&o, then, AREA);
        cut_end(f, &o, false);
        for (unsigned i = 0; i < AREA; i += 128)
            expect_model(f, i, 128);
    }
    fixture_close(f);
    fixture_free(f);
}

static void absent_where_committed(struct fixture *f, uint64_t lba, uint32_t n)
{
    CLEANUP_FREE uint8_t *out = xmalloc((size_t)n * 512);
    unsigned absent;

    assert_int_equal(get(f, lba, n, out, &absent), 0);
    assert_int_equal(absent, n);
}

static void discard_disk_0(struct fixture *f, void *arg)
{
    (void)arg;
    vmlog_discard(f->log, 0);
}

/* With a cut open that has it, and again. Every byte is given back, and nothing of it comes after a start. */
static void a_disk_that_is_gone_goes(void **state)
{
    struct fixture *f = fixture_new();
    CLEANUP_FREE uint8_t *then = xmalloc(AREA * 512);
    struct open_cut o = {.pause_us = 0};

    (void)state;
    srand(23);
    for (int committed = 0; committed < 2; committed++) {
        fixture_open(f);
        random_puts(f, 100, 0);
        memcpy(then, f->model, AREA * 512);
        cut_begin(f, &o);
        cut_wait(&o);
        random_puts(f, 50, 500);
        on_loop(f, discard_disk_0, NULL);
        absent_where_committed(f, 0, AREA);
        if (!committed)
            expect_cut(&o, then, AREA); /* it was taken before */
        cut_end(f, &o, committed);
        on_loop(f, discard_disk_0, NULL);
        assert_int_equal(journal_bytes(f->journal), 0);
        flush(f);
        fixture_close(f);
        memset(f->model, 0, AREA * 512);
    }
    fixture_open(f);
    on_loop(f, discard_disk_0, NULL);
    absent_where_committed(f, 0, AREA);
    assert_int_equal(journal_bytes(f->journal), 0);
    fixture_close(f);
    fixture_free(f);
}

static void resume_at(struct fixture *f, void *arg)
{
    cut_resume(f->log, *(uint64_t *)arg);
}

static void what_is_committed_goes(void **state)
{
    struct fixture *f = fixture_new();
    struct open_cut o = {.pause_us = 0};
    uint64_t seq;

    (void)state;
    srand(22);
    fixture_open(f);
    random_puts(f, 200, 0);
    cut_begin(f, &o);
    cut_wait(&o);
    put(f, 100, 50, 5000);
    put(f, 4000, 8, 5001);
    seq = o.cut.seq;
    cut_end(f, &o, true);
    expect_model(f, 100, 50);
    expect_model(f, 4000, 8);
    absent_where_committed(f, 0, 100);
    absent_where_committed(f, 150, 3850);
    assert_in_range(journal_bytes(f->journal), 58 * 512, 58 * 512 + 2048);
    fixture_close(f);
    fixture_open(f); /* the range is gone from the disk, too */
    expect_model(f, 100, 50);
    absent_where_committed(f, 150, 3850);
    on_loop(f, resume_at, &seq);
    assert_int_equal(put(f, 0, 8, 9), seq + 3);
    fixture_close(f);
    fixture_free(f);
}

static void numbers_go_on_above_what_the_store_has(void **state)
{
    struct fixture *f = fixture_new();
    uint64_t seq = 5000;

    (void)state;
    fixture_open(f);
    put(f, 0, 8, 1);
    on_loop(f, resume_at, &seq);
    absent_where_committed(f, 0, 8);
    assert_int_equal(journal_bytes(f->journal), 0);
    assert_int_equal(put(f, 0, 8, 2), 5001);
    expect_model(f, 0, 8);
    fixture_close(f);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overwriting_does_not_touch_it),
        cmocka_unit_test(writes_go_on_while_it_is_gathered),
        cmocka_unit_test(what_is_committed_goes),
        cmocka_unit_test(a_disk_that_is_gone_goes),
        cmocka_unit_test(numbers_go_on_above_what_the_store_has),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
