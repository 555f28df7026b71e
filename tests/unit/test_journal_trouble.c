/* links: journal */
/* What a log does when things go wrong: a wrong key, altered values, a newer format, a disk that fails or is
 * full, and its own bound.
 */
#include "journal_fixture.h"
#include "metric.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

static void pause_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* Waits for a condition that must come true. */
#define EVENTUALLY(x)                                                                                        \
    do {                                                                                                     \
        unsigned tries_ = 0;                                                                                 \
        while (!(x) && tries_++ < 2000)                                                                      \
            pause_ms(5);                                                                                     \
        assert_true(x);                                                                                      \
    } while (0)

static void a_wrong_key_is_refused(void **state)
{
    struct fixture *f = fixture_new();

    (void)state;
    fixture_open(f);
    put(f, 0, 8, 1);
    fixture_close(f);
    f->key = 9;
    assert_int_equal(fixture_open_journal(f), -EKEYREJECTED);
    assert_non_null(strstr(f->why.text, "the key does not open this journal"));
    f->key = 0;
    fixture_open(f);
    expect_model(f, 0, 8);
    fixture_close(f);
    fixture_free(f);
}

static void a_journal_in_use_is_refused(void **state)
{
    struct fixture *f = fixture_new();
    struct journal *first;

    (void)state;
    assert_int_equal(fixture_open_journal(f), 0);
    first = f->journal;
    assert_int_equal(fixture_open_journal(f), -EBUSY);
    assert_non_null(strstr(f->why.text, "in use"));
    f->journal = first;
    fixture_close(f);
    fixture_free(f);
}

/* Changes a stored value behind the journal's back. */
struct alter {
    struct kv *kv;
    enum kv_space space;
    size_t at; /* from the end; SIZE_MAX: the value is replaced by `with` */
    const char *key;
    const void *with;
    size_t with_len;
    unsigned altered;
};

static int alter_one(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t n)
{
    struct alter *a = arg;
    struct kv_batch *b = a->kv->ops->batch_new(a->kv);
    CLEANUP_FREE uint8_t *copy = xmalloc(n);

    memcpy(copy, value, n);
    if (a->at != SIZE_MAX)
        copy[n - 1 - a->at] ^= 1;
    if (!a->key || (key_len >= strlen(a->key) && memcmp(key, a->key, strlen(a->key)) == 0)) {
        a->kv->ops->batch_put(a->kv, b, a->space, key, key_len, a->with ? a->with : copy,
                              a->with ? a->with_len : n);
        assert_int_equal(a->kv->ops->write(a->kv, b), 0);
        a->altered++;
    }
    a->kv->ops->batch_free(a->kv, b);
    return 0;
}

static unsigned alter(struct fixture *f, struct alter a)
{
    static const uint8_t end[64] = {[0 ... 63] = 0xff};

    a.kv = kv_rocks_new(f->dir);
    assert_int_equal(a.kv->ops->open(a.kv, &f->why), 0);
    assert_int_equal(a.kv->ops->each(a.kv, a.space, "", 0, end, sizeof end, alter_one, &a), 0);
    a.kv->ops->close(a.kv);
    a.kv->ops->free(a.kv);
    return a.altered;
}

static void altered_payload_is_noticed(void **state)
{
    struct fixture *f = fixture_new();
    uint8_t out[8 * 512];
    uint64_t before = metric_sum("isthmus_journal_corrupt_total", "");

    (void)state;
    fixture_open(f);
    put(f, 0, 8, 1);
    fixture_close(f);
    assert_int_equal(alter(f, (struct alter){.space = KV_DATA, .at = 100}), 1);
    fixture_open(f);
    assert_int_equal(get(f, 0, 8, out, NULL), -EBADMSG);
    assert_int_equal(metric_sum("isthmus_journal_corrupt_total", ""), before + 1);
    fixture_close(f);
    fixture_free(f);
}

static void an_altered_header_is_noticed(void **state)
{
    struct fixture *f = fixture_new();

    (void)state;
    fixture_open(f);
    put(f, 0, 8, 1);
    fixture_close(f);
    assert_int_equal(alter(f, (struct alter){.space = KV_LOG, .at = 3}), 1);
    assert_int_equal(fixture_open_journal(f), 0);
    assert_int_equal(vmlog_open(&f->log, f->journal, f->loop, f->id, "vm", &f->why), -EBADMSG);
    assert_non_null(strstr(f->why.text, "record 1 of VM vm"));
    f->log = NULL;
    fixture_close(f);
    fixture_free(f);
}

static int see_nothing(void *arg, const char *key, const void *value, size_t n)
{
    (void)arg, (void)key, (void)value, (void)n;
    return 0;
}

static void an_altered_named_value_is_noticed(void **state)
{
    struct fixture *f = fixture_new();

    (void)state;
    fixture_open(f);
    assert_int_equal(journal_meta_put(f->journal, "vm/a", "one", 3, &f->why), 0);
    fixture_close(f);
    assert_int_equal(alter(f, (struct alter){.space = KV_META, .at = 1, .key = "meta/"}), 1);
    fixture_open(f);
    assert_int_equal(journal_meta_each(f->journal, "vm/", see_nothing, NULL, &f->why), -EBADMSG);
    assert_non_null(strstr(f->why.text, "vm/a"));
    fixture_close(f);
    fixture_free(f);
}

static void a_newer_format_is_refused(void **state)
{
    struct fixture *f = fixture_new();
    static const uint8_t three[4] = {0, 0, 0, 3};

    (void)state;
    fixture_open(f);
    fixture_close(f);
    assert_int_equal(
        alter(f,
              (struct alter){.space = KV_META, .at = SIZE_MAX, .key = "format", .with = three, .with_len = 4}),
        1);
    assert_int_equal(fixture_open_journal(f), -EPROTONOSUPPORT);
    assert_non_null(strstr(f->why.text, "has format 3, this isthmus-edge knows up to 2"));
    fixture_free(f);
}

static void the_path_must_be_a_directory(void **state)
{
    struct fixture *f = fixture_new();
    struct journal_conf conf = {.path = "/dev/null", .max_bytes = 64 * MIB};

    (void)state;
    assert_true(journal_open(&f->journal, &conf, &f->why) < 0);
    assert_non_null(strstr(f->why.text, "/dev/null"));
    conf.path = f->dir;
    conf.max_bytes = MIB;
    assert_int_equal(journal_open(&f->journal, &conf, &f->why), -EINVAL);
    fixture_free(f);
}

/* err for a while: nothing is acknowledged, everything is afterwards. */
static void fails_for_a_while(unsigned faults, int err)
{
    struct fixture *f = fixture_new();
    struct put *p[20];

    f->fail = kv_fail_new(kv_rocks_new(f->dir));
    fixture_open(f);
    put(f, 0, 8, 1);
    kv_fail_set(f->fail, faults, err);
    for (unsigned i = 0; i < 20; i++)
        p[i] = put_begin(f, 8 * (i + 1), 8, i + 2, false);
    EVENTUALLY(journal_failed(f->journal));
    for (unsigned i = 0; i < 20; i++)
        assert_false(atomic_load(&p[i]->finished));
    assert_true(journal_meta_put(f->journal, "x", "y", 1, &f->why) < 0);
    if (!(faults & KV_FAULT_OPEN))
        expect_model(f, 0, 8); /* reads go on */
    kv_fail_set(f->fail, 0, 0);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(put_end(p[i]), i + 2);
    EVENTUALLY(!journal_failed(f->journal));
    expect_model(f, 0, 168);
    assert_true(kv_fail_opened(f->fail) >= 2);
    fixture_close(f);
    fixture_open(f);
    expect_model(f, 0, 168);
    fixture_close(f);
    fixture_free(f);
}

static void writes_wait_for_a_failing_disk(void **state)
{
    (void)state;
    fails_for_a_while(KV_FAULT_WRITE, -EIO);
}

static void writes_wait_for_a_disk_that_cannot_be_opened(void **state)
{
    (void)state;
    fails_for_a_while(KV_FAULT_WRITE | KV_FAULT_OPEN, -EIO);
}

static void writes_wait_for_a_full_disk(void **state)
{
    (void)state;
    fails_for_a_while(KV_FAULT_WRITE, -ENOSPC);
}

static void little_room_stops_writes_before_the_disk_is_full(void **state)
{
    struct fixture *f = fixture_new();
    struct put *p;

    (void)state;
    f->fail = kv_fail_new(kv_rocks_new(f->dir));
    fixture_open(f);
    put(f, 0, 8, 1);
    pause_ms(150); /* room is looked at again after 100 ms */
    kv_fail_room(f->fail, 4096);
    p = put_begin(f, 8, 8, 2, false);
    EVENTUALLY(journal_failed(f->journal));
    assert_false(atomic_load(&p->finished));
    expect_model(f, 0, 8);
    kv_fail_room(f->fail, UINT64_MAX);
    put_end(p);
    assert_int_equal(kv_fail_opened(f->fail), 1); /* nothing had broken */
    expect_model(f, 0, 16);
    fixture_close(f);
    fixture_free(f);
}

static void closing_while_the_disk_fails_ends(void **state)
{
    struct fixture *f = fixture_new();

    (void)state;
    f->fail = kv_fail_new(kv_rocks_new(f->dir));
    fixture_open(f);
    for (unsigned i = 1; i < 20; i++)
        put(f, 0, 8, i); /* keys to be removed are queued */
    kv_fail_set(f->fail, KV_FAULT_WRITE | KV_FAULT_OPEN | KV_FAULT_SYNC, -EIO);
    fixture_close(f);
    fixture_open(f);
    expect_model(f, 0, 8);
    fixture_close(f);
    fixture_free(f);
}

static bool own_mounts; /* mounts are seen by this process only, and end with it */

/* A real file system that runs full. Guarded: the journal notices before RocksDB does; else RocksDB hits the
 * wall in the middle of a write, and is opened again. */
static void file_system_runs_full(bool guarded)
{
    struct fixture *f = fixture_new();
    CLEANUP_FREE char *ballast = xasprintf("%s/ballast", f->dir);
    CLEANUP_FREE char *fill = xasprintf("dd if=/dev/zero of=%s bs=1M 2>/dev/null", ballast);
    char outer[sizeof f->dir];
    struct put *p[120];

    if (!own_mounts || mount("isthmus", f->dir, "tmpfs", 0, "size=128m") < 0) {
        fixture_free(f);
        skip();
    }
    strcpy(outer, f->dir);
    snprintf(f->dir, sizeof f->dir, "%.40s/journal", outer);
    f->fail = kv_fail_new(kv_rocks_new(f->dir));
    if (!guarded)
        kv_fail_room(f->fail, UINT64_MAX - 1);
    fixture_open(f);
    put(f, 0, 8, 1);
    assert_int_not_equal(system(fill), 0);
    pause_ms(150); /* room is looked at again after 100 ms */
    for (unsigned i = 0; i < 120; i++)
        p[i] = put_begin(f, 1024 * (1 + i % 40), 1024, i + 2, false);
    EVENTUALLY(journal_failed(f->journal));
    assert_false(atomic_load(&p[119]->finished));
    assert_int_equal(remove(ballast), 0);
    for (unsigned i = 0; i < 120; i++)
        put_end(p[i]);
    assert_int_equal(kv_fail_opened(f->fail) == 1, guarded);
    expect_model(f, 0, 8);
    for (unsigned i = 1; i <= 40; i++)
        expect_model(f, 1024 * i, 1024);
    fixture_close(f);
    fixture_open(f);
    for (unsigned i = 1; i <= 40; i++)
        expect_model(f, 1024 * i, 1024);
    fixture_close(f);
    assert_int_equal(umount(outer), 0);
    strcpy(f->dir, outer);
    fixture_free(f);
}

static void a_full_file_system_is_noticed_in_time(void **state)
{
    (void)state;
    file_system_runs_full(true);
}

static void rocksdb_hits_the_end_of_the_file_system(void **state)
{
    (void)state;
    file_system_runs_full(false);
}

static void at_its_bound_writes_wait_and_rewrites_go_on(void **state)
{
    struct fixture *f = fixture_new();
    struct put *p;
    uint64_t lba = 0;
    unsigned tag = 1;

    (void)state;
    f->max_bytes = 32 * MIB;
    fixture_open(f);
    assert_false(journal_throttled(f->journal));
    while (journal_bytes(f->journal) + 1100 * 512 < f->max_bytes) {
        put(f, lba, 1024, tag++);
        lba += 1024;
    }
    assert_true(journal_throttled(f->journal));
    p = put_begin(f, lba, 4096, 1000, false);
    EVENTUALLY(metric_sum("isthmus_journal_stalled", "") == 1);
    assert_true(metric_sum("isthmus_journal_throttled_seconds_total", "") > 0);
    for (unsigned i = 0; i < 40; i++) /* far more than the reserve, one after the other */
        put(f, i % 8 * 1024, 1024, tag++);
    put(f, 8192, 8, tag++);
    assert_false(atomic_load(&p->finished));
    assert_true(journal_bytes(f->journal) <= f->max_bytes + 8 * 1024);
    put(f, 0, 8192, 0); /* makes room */
    put_end(p);
    assert_int_equal(metric_sum("isthmus_journal_stalled", ""), 0);
    expect_model(f, 0, 9000);
    expect_model(f, (uint32_t)lba, 4096);
    fixture_close(f);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_key_is_refused),
        cmocka_unit_test(a_journal_in_use_is_refused),
        cmocka_unit_test(altered_payload_is_noticed),
        cmocka_unit_test(an_altered_header_is_noticed),
        cmocka_unit_test(an_altered_named_value_is_noticed),
        cmocka_unit_test(a_newer_format_is_refused),
        cmocka_unit_test(the_path_must_be_a_directory),
        cmocka_unit_test(writes_wait_for_a_failing_disk),
        cmocka_unit_test(writes_wait_for_a_disk_that_cannot_be_opened),
        cmocka_unit_test(writes_wait_for_a_full_disk),
        cmocka_unit_test(little_room_stops_writes_before_the_disk_is_full),
        cmocka_unit_test(closing_while_the_disk_fails_ends),
        cmocka_unit_test(a_full_file_system_is_noticed_in_time),
        cmocka_unit_test(rocksdb_hits_the_end_of_the_file_system),
        cmocka_unit_test(at_its_bound_writes_wait_and_rewrites_go_on),
    };
    own_mounts = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
