/* links: journal */
/* What a log promises while all is well: order, content, reopening, flushing, deleting, named values.
 */
#include "journal_fixture.h"
#include "metric.h"

static void what_was_written_is_read(void **state)
{
    struct fixture *f = fixture_new();

    (void)state;
    fixture_open(f);
    put(f, 100, 8, 1);
    put(f, 1000, 700, 2); /* six parts */
    put(f, 1100, 3, 3);
    put(f, 1050, 20, 0);
    expect_model(f, 100, 8);
    expect_model(f, 990, 720);
    expect_model(f, 1127, 2);
    fixture_close(f);
    fixture_free(f);
}

static void records_become_visible_in_order(void **state)
{
    enum { N = 500 };
    struct fixture *f = fixture_new();
    struct put *p[N];

    (void)state;
    fixture_open(f);
    for (unsigned i = 0; i < N; i++)
        p[i] = put_begin(f, i % 50 * 8, 8, i + 1, i % 7 == 0);
    for (unsigned i = 0; i < N; i++) {
        while (!atomic_load(&p[i]->finished))
            assert_true(put_finished_within(p[i], 10000));
        assert_int_equal(p[i]->visible_after, i + 1);
        assert_int_equal(put_end(p[i]), i + 1);
    }
    expect_model(f, 0, 400);
    fixture_close(f);
    fixture_free(f);
}

static void random_writes_survive_reopening(void **state)
{
    struct fixture *f = fixture_new();
    uint64_t last = 0;

    (void)state;
    srand(7);
    for (unsigned round = 0; round < 4; round++) {
        struct put *p[200];
        fixture_open(f);
        for (unsigned i = 0; i < 200; i++) {
            uint32_t n = 1 + (uint32_t)rand() % (i % 20 == 0 ? 1500 : 40);
            p[i] =
                put_begin(f, (uint64_t)rand() % (8192 - n), n, rand() % 10 ? round * 200 + i + 1 : 0, false);
        }
        for (unsigned i = 0; i < 200; i++)
            last = put_end(p[i]);
        assert_int_equal(last, (round + 1) * 200);
        for (uint64_t at = 0; at < 8192; at += 64)
            expect_model(f, at, 64);
        fixture_close(f);
        fixture_open(f);
        assert_int_equal(vmlog_last(f->log), last);
        for (uint64_t at = 0; at < 8192; at += 64)
            expect_model(f, at, 64);
        fixture_close(f);
    }
    fixture_free(f);
}

static void superseded_records_give_their_space_back(void **state)
{
    struct fixture *f = fixture_new();
    uint64_t one, after;

    (void)state;
    fixture_open(f);
    put(f, 0, 256, 1);
    one = journal_bytes(f->journal);
    for (unsigned i = 2; i < 300; i++)
        put(f, 0, 256, i);
    assert_int_equal(journal_bytes(f->journal), one);
    put(f, 0, 256, 0);
    after = journal_bytes(f->journal);
    assert_true(after < 512);
    fixture_close(f);
    fixture_open(f);
    assert_int_equal(journal_bytes(f->journal), after);
    assert_int_equal(vmlog_last(f->log), 300);
    expect_model(f, 0, 256);
    fixture_close(f);
    fixture_free(f);
}

static void a_flush_waits_for_stable_storage(void **state)
{
    struct fixture *f = fixture_new();
    struct flush fl;

    (void)state;
    f->fail = kv_fail_new(kv_rocks_new(f->dir));
    fixture_open(f);
    flush(f); /* nothing written: at once */
    put(f, 0, 8, 1);
    flush(f);
    kv_fail_set(f->fail, KV_FAULT_SYNC, -EIO);
    flush(f); /* stable already: not even asked */
    struct put *later = put_begin(f, 8, 8, 2, false);
    assert_true(put_finished_within(later, 10000));
    flush_begin(f, &fl);
    while (kv_fail_opened(f->fail) < 2) /* it fails, and the store is opened anew for another try */
        usleep(1000);
    usleep(200000);
    assert_int_equal(sem_trywait(&fl.done), -1);
    kv_fail_set(f->fail, 0, 0);
    flush_end(&fl);
    put_end(later);
    expect_model(f, 0, 16);
    fixture_close(f);
    fixture_free(f);
}

static void fua_is_done_when_stable_and_others_do_not_wait(void **state)
{
    struct fixture *f = fixture_new();
    struct put *fua, *plain;

    (void)state;
    f->fail = kv_fail_new(kv_rocks_new(f->dir));
    fixture_open(f);
    kv_fail_set(f->fail, KV_FAULT_SYNC | KV_FAULT_OPEN, -EIO);
    fua = put_begin(f, 0, 8, 1, true);
    plain = put_begin(f, 8, 8, 2, false);
    assert_false(put_finished_within(fua, 200));
    kv_fail_set(f->fail, 0, 0);
    put_end(fua);
    put_end(plain);
    put_end(put_begin(f, 16, 8, 3, true));
    expect_model(f, 0, 24);
    fixture_close(f);
    fixture_free(f);
}

static void deleting_a_vm_leaves_the_others(void **state)
{
    struct fixture *f = fixture_new();
    uint8_t other[VMLOG_ID_BYTES] = "another-vm";
    uint8_t out[8 * 512];
    unsigned absent;

    (void)state;
    fixture_open(f);
    put(f, 0, 300, 1);
    fixture_close(f);
    memcpy(f->id, other, sizeof other);
    fixture_open(f);
    put(f, 0, 300, 2);
    on_loop(f, close_log, NULL);
    assert_int_equal(vmlog_delete(f->journal, fixture_id, &f->why), 0);
    assert_int_equal(vmlog_open(&f->log, f->journal, f->loop, fixture_id, "vm", &f->why), 0);
    assert_int_equal(vmlog_last(f->log), 0);
    assert_int_equal(get(f, 0, 8, out, &absent), 0);
    assert_int_equal(absent, 8);
    fixture_close(f);
    fixture_open(f);
    expect_model(f, 0, 300);
    fixture_close(f);
    fixture_free(f);
}

struct seen {
    char text[200];
};

static int see(void *arg, const char *key, const void *value, size_t n)
{
    struct seen *s = arg;
    size_t at = strlen(s->text);

    snprintf(s->text + at, sizeof s->text - at, "%s=%.*s;", key, (int)n, (const char *)value);
    return 0;
}

static void named_values_are_kept(void **state)
{
    struct fixture *f = fixture_new();
    struct seen s = {""};

    (void)state;
    fixture_open(f);
    assert_int_equal(journal_meta_put(f->journal, "vm/b", "two", 3, &f->why), 0);
    assert_int_equal(journal_meta_put(f->journal, "vm/a", "one", 3, &f->why), 0);
    assert_int_equal(journal_meta_put(f->journal, "vn/a", "else", 4, &f->why), 0);
    assert_int_equal(journal_meta_put(f->journal, "vm/c", "", 0, &f->why), 0);
    assert_int_equal(journal_meta_put(f->journal, "vm/b", "2", 1, &f->why), 0);
    assert_int_equal(journal_meta_delete(f->journal, "vm/a", &f->why), 0);
    fixture_close(f);
    fixture_open(f);
    assert_int_equal(journal_meta_each(f->journal, "vm/", see, &s, &f->why), 0);
    assert_string_equal(s.text, "vm/b=2;vm/c=;");
    fixture_close(f);
    fixture_free(f);
}

static void two_vms_share_a_journal(void **state)
{
    struct fixture *f = fixture_new();
    uint8_t other[VMLOG_ID_BYTES] = "another-vm";
    struct vmlog *first;

    (void)state;
    fixture_open(f);
    put(f, 0, 8, 1);
    put(f, 8, 8, 2);
    first = f->log;
    assert_int_equal(vmlog_open(&f->log, f->journal, f->loop, other, "vm2", &f->why), 0);
    assert_int_equal(put(f, 16, 8, 3), 1);
    expect_model(f, 16, 8);
    on_loop(f, close_log, NULL);
    f->log = first;
    expect_model(f, 0, 16);
    fixture_close(f);
    fixture_free(f);
}

static void set_pace(struct fixture *f, void *arg)
{
    vmlog_pace(f->log, *(uint64_t *)arg);
}

static uint64_t ms_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void a_pace_holds_writes_back(void **state)
{
    struct fixture *f = fixture_new();
    uint64_t pace = 4 * MIB, none = 0, crawl = 1, since;
    struct put *puts[32];

    (void)state;
    fixture_open(f);
    on_loop(f, set_pace, &pace);
    since = ms_now();
    for (unsigned i = 0; i < 32; i++) /* 2 MiB */
        puts[i] = put_begin(f, i * 128, 128, i + 1, false);
    for (unsigned i = 0; i < 32; i++)
        put_end(puts[i]);
    assert_true(ms_now() - since >= 400);
    on_loop(f, set_pace, &crawl);
    puts[0] = put_begin(f, 0, 128, 100, false);
    puts[1] = put_begin(f, 128, 128, 101, false);
    assert_false(put_finished_within(puts[1], 100));
    on_loop(f, set_pace, &pace); /* what went at a crawl is not paid for at its rate */
    assert_true(put_finished_within(puts[1], 20000));
    on_loop(f, set_pace, &none);
    put_end(puts[0]);
    put_end(puts[1]);
    expect_model(f, 0, 4096);
    fixture_close(f);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pace_holds_writes_back),
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(records_become_visible_in_order),
        cmocka_unit_test(random_writes_survive_reopening),
        cmocka_unit_test(superseded_records_give_their_space_back),
        cmocka_unit_test(a_flush_waits_for_stable_storage),
        cmocka_unit_test(fua_is_done_when_stable_and_others_do_not_wait),
        cmocka_unit_test(deleting_a_vm_leaves_the_others),
        cmocka_unit_test(named_values_are_kept),
        cmocka_unit_test(two_vms_share_a_journal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
