/* tests/unit/kv_fixture.h - a store in a temporary directory with small segments, changes at random, and what
 * it should hold.
 */
#ifndef ISTHMUS_KV_FIXTURE_H
#define ISTHMUS_KV_FIXTURE_H

#include "kv.h"
#include "mem.h"
#include "wire.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KEYS = 400, VALUE_MAX = 9000, SEGMENT = 256 << 10 };

struct store {
    char dir[40];
    struct kv *kv;
    struct kv_batch *batch;
    struct why why;
    uint32_t version[KEYS]; /* of the value that a key should have; 0: none */
    uint32_t newest;
};

static inline int try_open(struct store *s)
{
    int err;

    s->kv = kv_rocks_sized(s->dir, SEGMENT);
    s->batch = s->kv->ops->batch_new(s->kv);
    err = s->kv->ops->open(s->kv, &s->why);
    return err;
}

static inline void open_store(struct store *s)
{
    if (try_open(s) != 0)
        fail_msg("%s", s->why.text);
}

static inline void close_store(struct store *s)
{
    s->kv->ops->batch_free(s->kv, s->batch);
    s->kv->ops->close(s->kv);
    s->kv->ops->free(s->kv);
}

static inline void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static inline void run(const char *format, ...)
{
    char command[300];
    va_list args;

    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    assert_int_equal(system(command), 0);
}

static inline struct store *store_new(void)
{
    struct store *s = xcalloc(1, sizeof *s);

    strcpy(s->dir, "/tmp/isthmus-kv-XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    open_store(s);
    return s;
}

static inline void store_free(struct store *s)
{
    run("rm -rf %s", s->dir);
    free(s);
}

static inline size_t fill(uint8_t *value, uint32_t key, uint32_t version)
{
    size_t n = 100 + (key * 131 + version * 17) % (VALUE_MAX - 100);

    memset(value, (int)(key + version), n);
    put32(value, key);
    put32(value + 4, version);
    return n;
}

enum { KEY_BYTES = 28 };

/* As a log's: a group, and a number that rises: the version, for a key of KV_DATA is put once. */
static inline void data_key(uint8_t key[KEY_BYTES], uint32_t number, uint32_t version)
{
    memset(key, 0, KEY_BYTES);
    put32(key, number % 5);
    put64(key + 16, version);
    put32(key + 24, number);
}

/* One batch: the new value, its row in KV_LOG, and the old value goes. */
static inline void change(struct store *s, uint32_t number, bool remove)
{
    uint8_t key[KEY_BYTES], log_key[4], row[4], value[VALUE_MAX];
    uint32_t old = s->version[number];

    s->kv->ops->batch_clear(s->kv, s->batch);
    s->newest++;
    put32(row, s->newest);
    put32(log_key, number);
    data_key(key, number, s->newest);
    if (remove) {
        s->kv->ops->batch_delete(s->kv, s->batch, KV_LOG, log_key, 4);
    } else {
        s->kv->ops->batch_put(s->kv, s->batch, KV_DATA, key, KEY_BYTES, value,
                              fill(value, number, s->newest));
        s->kv->ops->batch_put(s->kv, s->batch, KV_LOG, log_key, 4, row, sizeof row);
    }
    if (old) {
        data_key(key, number, old);
        s->kv->ops->batch_delete(s->kv, s->batch, KV_DATA, key, KEY_BYTES);
    }
    put32(row, s->newest);
    s->kv->ops->batch_put(s->kv, s->batch, KV_META, "newest", 6, row, sizeof row);
    assert_int_equal(s->kv->ops->write(s->kv, s->batch), 0);
    s->version[number] = remove ? 0 : s->newest;
}

static inline void change_many(struct store *s, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        change(s, (uint32_t)rand() % KEYS, rand() % 8 == 0);
}

struct seen {
    uint8_t bytes[VALUE_MAX];
    size_t n;
};

static inline int see(void *arg, const void *value, size_t n)
{
    struct seen *seen = arg;

    assert_true(n <= VALUE_MAX);
    memcpy(seen->bytes, value, n);
    seen->n = n;
    return 0;
}

static inline uint32_t newest_in(struct store *s)
{
    struct seen seen;
    int err = s->kv->ops->get(s->kv, KV_META, "newest", 6, see, &seen);

    assert_true(err == 0 || err == -ENOENT);
    return err ? 0 : get32(seen.bytes);
}

static inline void expect_key(struct store *s, uint32_t number)
{
    struct seen seen;
    uint8_t key[KEY_BYTES], log_key[4], value[VALUE_MAX];
    int err;

    put32(log_key, number);
    data_key(key, number, s->version[number]);
    err = s->kv->ops->get(s->kv, KV_LOG, log_key, 4, see, &seen);
    assert_int_equal(err, s->version[number] ? 0 : -ENOENT);
    if (err)
        return;
    assert_int_equal(get32(seen.bytes), s->version[number]);
    assert_int_equal(s->kv->ops->get(s->kv, KV_DATA, key, KEY_BYTES, see, &seen), 0);
    assert_int_equal(seen.n, fill(value, number, s->version[number]));
    assert_memory_equal(seen.bytes, value, seen.n);
}

/* Many at once: keys side by side, and how many of them came. */
struct many {
    uint8_t keys[KEYS][KEY_BYTES];
    unsigned n, came;
    bool wrong; /* one of them, or its number */
};

static inline int see_one_of(void *arg, unsigned i, const void *got, size_t n)
{
    struct many *m = arg;
    uint8_t value[VALUE_MAX];
    const uint8_t *key = m->keys[i];

    m->wrong |= i != m->came++ || n != fill(value, get32(key + 24), (uint32_t)get64(key + 16)) ||
                memcmp(got, value, n) != 0;
    return 0;
}

/* Those from that number on which are there. */
static inline void name_many(const struct store *s, struct many *m, uint32_t from)
{
    m->n = 0;
    for (uint32_t i = from; i < KEYS; i++)
        if (s->version[i])
            data_key(m->keys[m->n++], i, s->version[i]);
}

static inline int get_many(const struct store *s, struct many *m)
{
    m->came = 0;
    m->wrong = false;
    return s->kv->ops->get_many(s->kv, m->keys[0], KEY_BYTES, m->n, see_one_of, m);
}

static inline int key_order(const void *a, const void *b)
{
    return memcmp(a, b, KEY_BYTES);
}

static inline void expect_many(const struct store *s)
{
    struct many m;

    name_many(s, &m, 0);
    for (unsigned sorted = 0; sorted < 2; sorted++) {
        assert_int_equal(get_many(s, &m), 0);
        assert_int_equal(m.came, m.n);
        assert_false(m.wrong);
        qsort(m.keys, m.n, KEY_BYTES, key_order);
    }
}

static inline int count_one(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t n)
{
    (void)key, (void)key_len, (void)value, (void)n;
    ++*(unsigned *)arg;
    return 0;
}

static inline void expect_all(struct store *s)
{
    static const uint8_t end[32] = {[0 ... 31] = 0xff};
    unsigned wanted = 0, rows = 0, values = 0;

    for (uint32_t i = 0; i < KEYS; i++) {
        expect_key(s, i);
        wanted += s->version[i] != 0;
    }
    assert_int_equal(s->kv->ops->each(s->kv, KV_LOG, "", 0, end, sizeof end, count_one, &rows), 0);
    assert_int_equal(s->kv->ops->each(s->kv, KV_DATA, "", 0, end, sizeof end, count_one, &values), 0);
    assert_int_equal(rows, wanted);
    assert_int_equal(values, wanted);
    expect_many(s);
}

/* --- the segment files ---*/

struct files {
    unsigned n;
    uint64_t bytes;
    char first[64], last[64]; /* paths */
};

static inline struct files files_of(const char *dir_name)
{
    struct files f = {0};
    DIR *dir = opendir(dir_name);
    struct dirent *e;

    while ((e = readdir(dir))) {
        CLEANUP_FREE char *path = xasprintf("%s/%s", dir_name, e->d_name);
        struct stat st;

        if (!strstr(e->d_name, ".log") || stat(path, &st) < 0)
            continue;
        f.n++;
        f.bytes += (uint64_t)st.st_size;
        if (f.n == 1 || strcmp(path, f.first) < 0)
            snprintf(f.first, sizeof f.first, "%s", path);
        if (strcmp(path, f.last) > 0)
            snprintf(f.last, sizeof f.last, "%s", path);
    }
    closedir(dir);
    return f;
}

static inline uint64_t size_of(const char *path)
{
    struct stat st;

    assert_int_equal(stat(path, &st), 0);
    return (uint64_t)st.st_size;
}

static inline void flip(const char *path, uint64_t at)
{
    int fd = open(path, O_RDWR);
    uint8_t byte;

    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

#endif
