/* links: journal */
/* The store under the journal: what it holds after changes, reopening, and moving about of what lives.
 */
#include "kv_fixture.h"

#include "metric.h"

#include <time.h>

static void what_was_put_is_there(void **state)
{
    struct store *s = store_new();

    (void)state;
    srand(1);
    for (unsigned round = 0; round < 6; round++) {
        change_many(s, 700);
        expect_all(s);
        close_store(s);
        open_store(s);
        expect_all(s);
    }
    close_store(s);
    store_free(s);
}

/* The index's files are written in the background, so not at once. */
static void dead_space_is_given_back(void **state)
{
    const uint64_t live = KEYS * (VALUE_MAX + 100) / 2, bound = 2 * live + 40 * SEGMENT;
    const struct timespec brief = {.tv_nsec = 5000000};
    struct store *s = store_new();

    (void)state;
    srand(2);
    for (unsigned round = 0; round < 10; round++) {
        change_many(s, 4000); /* 18 MB */
        for (unsigned i = 0; i < 2000 && files_of(s->dir).bytes > bound; i++) {
            nanosleep(&brief, NULL);
            change_many(s, 1);
        }
        assert_true(files_of(s->dir).bytes <= bound);
    }
    expect_all(s);
    close_store(s);
    open_store(s);
    expect_all(s);
    close_store(s);
    store_free(s);
}

static uint64_t counted(const char *what)
{
    CLEANUP_FREE char *name = xasprintf("isthmus_journal_%s_bytes_total", what);

    return metric_sum(name, "");
}

static void what_it_writes_is_counted(void **state)
{
    struct store *s = store_new();

    (void)state;
    srand(5);
    change_many(s, 2000);
    assert_int_equal(counted("moved"), 0);
    s->kv->ops->reclaim(s->kv); /* moves a part of the values, and writes the index */
    change_many(s, 100);
    s->kv->ops->reclaim(s->kv);
    assert_in_range(counted("segment"), counted("moved") + 2000 * 100, 2 * 2100 * (VALUE_MAX + 300));
    assert_true(counted("moved") > 0);
    assert_in_range(counted("index_put"), 2100 * (KEY_BYTES + 16), 2 * 2100 * 250);
    assert_in_range(counted("index_written"), 1, 10 * counted("index_put"));
    close_store(s);
    store_free(s);
}

static void what_nobody_wants_is_removed_wholly(void **state)
{
    static const uint8_t end[32] = {[0 ... 31] = 0xff};
    struct store *s = store_new();

    (void)state;
    srand(3);
    change_many(s, 2000);
    s->kv->ops->batch_clear(s->kv, s->batch);
    s->kv->ops->batch_delete_range(s->kv, s->batch, KV_DATA, "", 0, end, sizeof end);
    s->kv->ops->batch_delete_range(s->kv, s->batch, KV_LOG, "", 0, end, sizeof end);
    assert_int_equal(s->kv->ops->write(s->kv, s->batch), 0);
    memset(s->version, 0, sizeof s->version);
    expect_all(s);
    close_store(s);
    assert_true(files_of(s->dir).bytes < 64);
    open_store(s);
    expect_all(s);
    close_store(s);
    store_free(s);
}

/* As a log is trimmed: everything of a group up to a number, again and again. */
static void what_is_trimmed_is_removed(void **state)
{
    struct store *s = store_new();

    (void)state;
    srand(9);
    for (unsigned round = 0; round < 20; round++) {
        uint8_t from[KEY_BYTES] = {0}, to[KEY_BYTES] = {0};
        uint32_t group = round % 5, through;

        change_many(s, 400);
        through = s->newest - (uint32_t)rand() % 600;
        put32(from, group);
        put32(to, group);
        put64(to + 16, through + 1);
        s->kv->ops->batch_clear(s->kv, s->batch);
        for (uint32_t i = group; i < KEYS; i += 5)
            if (s->version[i] <= through) {
                uint8_t log_key[4];

                put32(log_key, i);
                s->kv->ops->batch_delete(s->kv, s->batch, KV_LOG, log_key, 4);
                if (i % 2 && s->version[i]) { /* superseded just before: in the same batch as the range */
                    uint8_t key[KEY_BYTES];

                    data_key(key, i, s->version[i]);
                    s->kv->ops->batch_delete(s->kv, s->batch, KV_DATA, key, KEY_BYTES);
                }
                s->version[i] = 0;
            }
        s->kv->ops->batch_delete_range(s->kv, s->batch, KV_DATA, from, 24, to, round % 2 ? 24 : KEY_BYTES);
        assert_int_equal(s->kv->ops->write(s->kv, s->batch), 0);
        expect_all(s);
    }
    for (uint32_t i = 0; i < KEYS; i++)
        change(s, i, true);
    expect_all(s);
    close_store(s);
    assert_true(files_of(s->dir).bytes < 64); /* what was counted as living was all of it */
    store_free(s);
}

/* One value of each segment lives, so none is dead; the disk being full, they are brought together. */
static void a_full_disk_brings_together_what_lives(void **state)
{
    struct store *s = store_new();
    uint64_t before;

    (void)state;
    for (uint32_t i = 0; i < 1600; i++)
        change(s, i % 50 == 0 ? 100 + i / 50 : i % 3, false);
    before = files_of(s->dir).bytes;
    assert_true(before > 5 << 20);
    for (unsigned i = 0; i < 40; i++)
        s->kv->ops->reclaim(s->kv);
    assert_true(files_of(s->dir).bytes < before / 4);
    expect_all(s);
    close_store(s);
    open_store(s);
    expect_all(s);
    close_store(s);
    store_free(s);
}

/* Files that this process has open, by a part of their names and the folder. */
static unsigned open_files(const char *of, const char *in)
{
    DIR *d = opendir("/proc/self/fd");
    const struct dirent *e;
    unsigned n = 0;

    while ((e = readdir(d))) {
        char path[300];
        ssize_t len = readlinkat(dirfd(d), e->d_name, path, sizeof path - 1);

        path[len > 0 ? len : 0] = '\0';
        n += strstr(path, of) && strncmp(path, in, strlen(in)) == 0;
    }
    closedir(d);
    return n;
}

/* A full disk that RocksDB's own log is on ends the process. */
static void its_own_log_is_in_memory(void **state)
{
    struct store *s = store_new();

    (void)state;
    assert_int_equal(open_files("LOG", s->dir), 0);
    assert_int_equal(open_files("LOG (deleted)", "/dev/shm/isthmus-"), 1);
    close_store(s);
    assert_int_equal(open_files("LOG", "/dev/shm/isthmus-"), 0);
    store_free(s);
}

/* Of processes that were killed while they opened their index: of this moment, and of an hour ago. */
static void what_a_killed_one_left_in_memory_goes(void **state)
{
    char young[] = "/dev/shm/isthmus-log-XXXXXX", old[] = "/dev/shm/isthmus-log-XXXXXX";
    const struct timespec hour_ago[2] = {{.tv_sec = time(NULL) - 3600}, {.tv_sec = time(NULL) - 3600}};
    char path[sizeof old + 4];
    struct store *s;

    (void)state;
    assert_non_null(mkdtemp(young));
    assert_non_null(mkdtemp(old));
    snprintf(path, sizeof path, "%s/LOG", old);
    assert_int_equal(close(open(path, O_WRONLY | O_CREAT, 0600)), 0);
    assert_int_equal(utimensat(AT_FDCWD, old, hour_ago, 0), 0);
    s = store_new();
    assert_int_equal(access(old, F_OK), -1);
    assert_int_equal(rmdir(young), 0);
    close_store(s);
    store_free(s);
}

static void the_first_that_is_missing_ends_it(void **state)
{
    struct store *s = store_new();
    struct many m;

    (void)state;
    srand(11);
    change_many(s, 2000);
    for (unsigned sorted = 0; sorted < 2; sorted++) {
        name_many(s, &m, 0);
        if (sorted)
            qsort(m.keys, m.n, KEY_BYTES, key_order);
        for (unsigned last = m.n; last > 0; last -= last > 9 ? 9 : last) {
            put64(m.keys[last - 1] + 16, s->newest + 1);
            assert_int_equal(get_many(s, &m), -ENOENT);
            assert_int_equal(m.came, last - 1);
            assert_false(m.wrong);
        }
    }
    close_store(s);
    store_free(s);
}

struct moved_under {
    struct store *s;
    struct many m;
};

static int move_all(void *arg, unsigned i, const void *value, size_t n)
{
    struct moved_under *w = arg;
    struct files before = files_of(w->s->dir);

    while (i == 0 && strcmp(files_of(w->s->dir).first, before.last) <= 0) {
        for (unsigned k = 0; k < 10; k++)
            change(w->s, (uint32_t)rand() % (KEYS / 2), false);
        w->s->kv->ops->reclaim(w->s->kv);
    }
    return see_one_of(&w->m, i, value, n);
}

/* What lives is moved, and the segments that it was found in are removed, before it is read. */
static void many_are_got_while_they_are_moved(void **state)
{
    struct moved_under w = {.s = store_new()};
    struct store *s = w.s;

    (void)state;
    srand(12);
    for (uint32_t i = 0; i < 20 * KEYS / 2; i++) /* a twentieth of each segment lives */
        change(s, i % 20 ? i % (KEYS / 2) : KEYS / 2 + i / 20, false);
    name_many(s, &w.m, KEYS / 2);
    qsort(w.m.keys, w.m.n, KEY_BYTES, key_order);
    assert_int_equal(s->kv->ops->get_many(s->kv, w.m.keys[0], KEY_BYTES, w.m.n, move_all, &w), 0);
    assert_int_equal(w.m.came, KEYS - KEYS / 2);
    assert_false(w.m.wrong);
    expect_all(s);
    close_store(s);
    store_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_put_is_there),
        cmocka_unit_test(its_own_log_is_in_memory),
        cmocka_unit_test(what_a_killed_one_left_in_memory_goes),
        cmocka_unit_test(dead_space_is_given_back),
        cmocka_unit_test(what_it_writes_is_counted),
        cmocka_unit_test(what_nobody_wants_is_removed_wholly),
        cmocka_unit_test(what_is_trimmed_is_removed),
        cmocka_unit_test(a_full_disk_brings_together_what_lives),
        cmocka_unit_test(the_first_that_is_missing_ends_it),
        cmocka_unit_test(many_are_got_while_they_are_moved),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
