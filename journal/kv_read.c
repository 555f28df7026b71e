/* journal/kv_read.c - values of KV_DATA: found in the index, read from their segments.
 *
 * Of many, keys that follow each other are found by one walk through the index, and values that lie close to
 * each other are read at once: what a commit wants are the records of a log, nearly all of them, in order.
 */
#include "kv_rocks_impl.h"
#include "mem.h"

#include <errno.h>
#include <string.h>

enum {
    MANY = 64,             /* found by one walk; */
    FEW = 4,               /* fewer are looked up one by one, for a walk costs more to begin */
    STEPS_MAX = 8,         /* of a walk, then it seeks */
    GAP_BYTES = 8 << 10,   /* what nobody wants and is read, between two values; */
    CLOSE_BYTES = 64 << 10 /* what is read at once, but for one value that is larger */
};

int data_read(struct kv_rocks *r, const struct place *p, uint8_t **value)
{
    struct segment *s;
    int err;

    s = segments_use(r, p->segment, &err);
    if (!s)
        return err;
    *value = xmalloc(p->len + 1);
    err = read_at(s->fd, *value, p->len, p->at);
    segment_leave(r, s);
    return err;
}

/* A value may be moved, and its segment removed, between the look at the index and that at the file. */
int data_get(struct kv_rocks *r, const void *key, size_t key_len,
             int (*use)(void *arg, const void *value, size_t len), void *arg)
{
    struct place p, before = {0};

    for (;;) {
        CLEANUP_FREE uint8_t *value = NULL;
        int err = index_place(r, key, key_len, &p);

        if (err)
            return err;
        err = data_read(r, &p, &value);
        if (err == 0)
            return use(arg, value, p.len);
        if (err != -ENOENT)
            return err;
        if (p.segment == before.segment)
            return -EBADMSG;
        before = p;
    }
}

/* --- many: where they are -------------------------------------------------------------------------------*/

/* Of where it stands; behind the last key it is behind all. */
static int order_of(const rocksdb_iterator_t *it, const uint8_t *key, size_t len)
{
    size_t here_len;
    const char *here;
    int order;

    if (!rocksdb_iter_valid(it))
        return 1;
    here = rocksdb_iter_key(it, &here_len);
    order = memcmp(here, key, here_len < len ? here_len : len);
    return order ? order : (here_len > len) - (here_len < len);
}

/* true: it stands there. */
static bool walk_to(rocksdb_iterator_t *it, const uint8_t *key, size_t len)
{
    int order = order_of(it, key, len);

    if (order <= 0)
        for (unsigned i = 0; i < STEPS_MAX && order < 0; i++) {
            rocksdb_iter_next(it);
            order = order_of(it, key, len);
        }
    else
        order = -1; /* it may be before */
    if (order < 0) {
        rocksdb_iter_seek(it, (const char *)key, len);
        order = order_of(it, key, len);
    }
    return order == 0;
}

/* A place at 0 is none: that key is not there. */
static int walk(struct kv_rocks *r, const uint8_t *keys, size_t key_len, unsigned n, struct place *places)
{
    rocksdb_iterator_t *it = rocksdb_create_iterator(r->db, r->reading);
    uint8_t key[INDEX_KEY_MAX];
    char *text = NULL;
    int err = 0, failed;

    for (unsigned i = 0; i < n && err == 0; i++) {
        size_t full = index_key(key, KV_DATA, keys + i * key_len, key_len), len = 0;
        const char *value = walk_to(it, key, full) ? rocksdb_iter_value(it, &len) : NULL;

        places[i] = (struct place){0};
        if (value && len == PLACE_BYTES)
            place_decode((const uint8_t *)value, &places[i]);
        else if (value)
            err = -EBADMSG;
    }
    rocksdb_iter_get_error(it, &text);
    rocksdb_iter_destroy(it);
    failed = index_error(text, "walk");
    return err ? err : failed;
}

/* --- many: what they are --------------------------------------------------------------------------------*/

struct many {
    struct kv_rocks *r;
    const uint8_t *keys;
    size_t key_len;
    int (*use)(void *arg, unsigned i, const void *value, size_t len);
    void *arg;
    unsigned i; /* the next to be used */
};

static int use_one(void *arg, const void *value, size_t len)
{
    struct many *m = arg;

    return m->use(m->arg, m->i, value, len);
}

static int one_by_one(struct many *m, unsigned n)
{
    int err = 0;

    for (unsigned end = m->i + n; m->i < end && err == 0; m->i++)
        err = data_get(m->r, m->keys + m->i * m->key_len, m->key_len, use_one, m);
    return err;
}

/* How many, from the first on, lie close behind each other. */
static unsigned close_by(const struct place *p, unsigned n)
{
    unsigned i = 1;

    for (; i < n && p[i].segment == p->segment; i++) {
        uint64_t end = (uint64_t)p[i - 1].at + p[i - 1].len;

        if (p[i].at < end || p[i].at - end > GAP_BYTES || p[i].at + p[i].len - p->at > CLOSE_BYTES)
            break;
    }
    return i;
}

/* They are there; but if they are moved just now, or one of them cannot be read, each is got by itself. */
static int use_close(struct many *m, const struct place *p, unsigned n)
{
    struct place all = {.segment = p->segment, .at = p->at, .len = p[n - 1].at + p[n - 1].len - p->at};
    CLEANUP_FREE uint8_t *bytes = NULL;
    int err = data_read(m->r, &all, &bytes);

    if (err)
        return one_by_one(m, n);
    for (unsigned i = 0; i < n && err == 0; i++, m->i++)
        err = m->use(m->arg, m->i, bytes + (p[i].at - p->at), p[i].len);
    return err;
}

static int use_some(struct many *m, unsigned n)
{
    struct place places[MANY];
    int err = walk(m->r, m->keys + m->i * m->key_len, m->key_len, n, places);

    for (unsigned at = 0, close; at < n && err == 0; at += close) {
        close = close_by(places + at, n - at);
        err = places[at].at ? use_close(m, places + at, close) : -ENOENT;
    }
    return err;
}

int data_get_many(struct kv_rocks *r, const uint8_t *keys, size_t key_len, unsigned n,
                  int (*use)(void *arg, unsigned i, const void *value, size_t len), void *arg)
{
    struct many m = {.r = r, .keys = keys, .key_len = key_len, .use = use, .arg = arg};
    int err = 0;

    while (m.i < n && err == 0) {
        unsigned some = n - m.i < MANY ? n - m.i : MANY;

        err = some < FEW ? one_by_one(&m, some) : use_some(&m, some);
    }
    return err;
}
