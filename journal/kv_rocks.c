/* journal/kv_rocks.c - the store of kv.h: a log in segment files, and RocksDB as its index.
 *
 * A batch is one write to the newest segment, then it is applied to the index. A value of KV_DATA stays where
 * it was written and is read from there. After any error nothing is tried any more until the journal has
 * closed and opened the store. No encryption here: values arrive sealed.
 */
#include "check.h"
#include "kv_rocks_impl.h"
#include "mem.h"
#include "step.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
    WRITE_BACK_BYTES = 4 << 20, /* the kernel begins to write as much to the disk, so that syncs are short */
    SPARE_SEGMENTS = 32,
    INDEX_BYTES = 8 << 20,            /* not in its files: worth writing */
    INDEX_MAX_BYTES = 8 * INDEX_BYTES /* even if that must wait */
};

static struct kv_rocks *rocks_of(struct kv *kv)
{
    return container_of(kv, struct kv_rocks, kv);
}

/* --- opening and closing --------------------------------------------------------------------------------*/

static void set_sizes(struct kv_rocks *r)
{
    struct statvfs fs;
    uint64_t total = statvfs(r->path, &fs) < 0 ? UINT64_MAX : (uint64_t)fs.f_blocks * fs.f_frsize;

    if (r->segment_bytes == 0) {
        r->segment_bytes = total / 64 < SEGMENT_MAX_BYTES ? (uint32_t)(total / 64) : SEGMENT_MAX_BYTES;
        if (r->segment_bytes < SEGMENT_MIN_BYTES)
            r->segment_bytes = SEGMENT_MIN_BYTES;
    }
    r->spare_bytes = SPARE_SEGMENTS * (uint64_t)r->segment_bytes;
    if (r->spare_bytes > total / 8)
        r->spare_bytes = total / 8;
}

static int rocks_open(struct kv *kv, struct why *why)
{
    struct kv_rocks *r = rocks_of(kv);
    int err = index_open(r, why);

    if (err)
        return err;
    set_sizes(r);
    atomic_store(&r->broken, false);
    r->index_bytes = r->started_bytes = r->move_bytes = 0;
    r->some_dead = false;
    r->victim = NULL;
    err = replay(r, why);
    r->repeats = true;
    if (err) {
        index_close(r);
        segments_close(r);
    }
    return err;
}

/* What is in the index's memory goes to its files; or else it is replayed. */
static void rocks_close(struct kv *kv)
{
    struct kv_rocks *r = rocks_of(kv);

    if (!r->db)
        return;
    if (!atomic_load(&r->broken) &&
        (segments_current(r)->number != r->switched || segments_current(r)->bytes > SEGMENT_HEADER_BYTES) &&
        store_roll(r, true) == 0)
        remove_dead(r);
    index_close(r);
    segments_close(r);
}

static void rocks_free(struct kv *kv)
{
    struct kv_rocks *r = rocks_of(kv);

    CHECK(!r->db);
    rocksdb_cache_destroy(r->cache);
    rocksdb_writeoptions_destroy(r->writing);
    rocksdb_readoptions_destroy(r->reading);
    rocksdb_readoptions_destroy(r->scanning);
    rocksdb_flushoptions_destroy(r->flushing);
    rocksdb_flushoptions_destroy(r->flushing_wait);
    rocksdb_writebatch_destroy(r->changes);
    pthread_mutex_destroy(&r->lock);
    count_free(r);
    free(r->moving.bytes);
    free(r->index_path);
    free(r->path);
    free(r);
}

/* --- batches --------------------------------------------------------------------------------------------*/

static struct kv_batch *rocks_batch_new(struct kv *kv)
{
    struct kv_batch *b = xcalloc(1, sizeof *b);

    (void)kv;
    batch_reset(b);
    return b;
}

static void rocks_batch_free(struct kv *kv, struct kv_batch *b)
{
    (void)kv;
    free(b->bytes);
    free(b);
}

static void rocks_batch_clear(struct kv *kv, struct kv_batch *b)
{
    (void)kv;
    batch_reset(b);
}

static void *rocks_batch_value(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *key,
                               size_t key_len, size_t len)
{
    (void)kv;
    return batch_add(b, OP_PUT, space, key, key_len, len);
}

static void rocks_batch_put(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *key,
                            size_t key_len, const void *value, size_t len)
{
    void *to = rocks_batch_value(kv, b, space, key, key_len, len);

    if (len)
        memcpy(to, value, len);
}

static void rocks_batch_delete(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *key,
                               size_t key_len)
{
    (void)kv;
    batch_add(b, OP_DELETE, space, key, key_len, 0);
}

static void rocks_batch_delete_range(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *from,
                                     size_t from_len, const void *to, size_t to_len)
{
    (void)kv;
    memcpy(batch_add(b, OP_ERASE, space, from, from_len, to_len), to, to_len);
}

/* --- writing --------------------------------------------------------------------------------------------*/

int store_broken(struct kv_rocks *r, int err)
{
    atomic_store(&r->broken, true);
    return err;
}

/* The next segment. Everything before it is stable before the index may write it to its files, which it does
 * unless it is still at it. */
int store_roll(struct kv_rocks *r, bool wait)
{
    bool now = wait || index_flushed(r) || r->index_bytes >= INDEX_MAX_BYTES;
    struct segment *s = segments_current(r);
    int err = segment_sync(r, s);

    STEP("journal.close", "a full segment is synced");
    if (err == 0)
        err = segments_create(r, s->number + 1);
    STEP("journal.next", "the next segment is made");
    if (err == 0 && now)
        err = index_switch(r, s->number + 1, wait);
    STEP("journal.switch", "the index was told to write its memory to files");
    if (err)
        return store_broken(r, err);
    r->started_bytes = 0;
    if (s->live == 0) {
        s->dead_in = s->number;
        r->some_dead = true;
    }
    if (!r->victim)
        move_choose(r, false);
    return 0;
}

static int write_back(struct kv_rocks *r, const struct segment *s)
{
    uint32_t from = (uint32_t)r->started_bytes;

    if (s->bytes - from < WRITE_BACK_BYTES)
        return 0;
    r->started_bytes = s->bytes;
    return sync_file_range(s->fd, from, s->bytes - from, SYNC_FILE_RANGE_WRITE) < 0 ? -errno : 0;
}

static int append(struct kv_rocks *r, struct segment *s, struct kv_batch *b, enum apply_how how)
{
    uint32_t at = s->bytes;
    int err;

    batch_seal(b, r->next_batch);
    err = write_at(s->fd, b->bytes, b->len, at);
    if (err)
        return err;
    STEP("journal.write", "a batch is in its segment, and not in the index");
    s->bytes += (uint32_t)b->len;
    metric_add(r->m_segments, b->len);
    r->next_batch++;
    err = write_back(r, s);
    if (err == 0)
        err = index_apply(r, s, at, b->bytes, (uint32_t)b->len, how);
    STEP("journal.index", "a batch is in the index");
    return err;
}

static bool index_is_large(struct kv_rocks *r)
{
    return r->index_bytes >= INDEX_MAX_BYTES || (r->index_bytes >= INDEX_BYTES && index_flushed(r));
}

int store_append(struct kv_rocks *r, struct kv_batch *b, enum apply_how how)
{
    struct segment *s = segments_current(r);
    int err = 0;

    if ((s->bytes + b->len > r->segment_bytes || index_is_large(r)) && s->bytes > SEGMENT_HEADER_BYTES)
        err = store_roll(r, false);
    if (err == 0)
        s = segments_use(r, segments_current(r)->number, &err);
    if (err)
        return store_broken(r, err);
    err = append(r, s, b, how);
    segment_leave(r, s);
    return err ? store_broken(r, err) : 0;
}

static int rocks_write(struct kv *kv, struct kv_batch *b)
{
    struct kv_rocks *r = rocks_of(kv);
    int err;

    if (atomic_load(&r->broken))
        return -EIO;
    if (b->nops == 0)
        return 0;
    err = store_append(r, b, r->repeats ? APPLY_REPLACING : APPLY_NEW);
    if (err)
        return err;
    r->repeats = false;
    move_some(r, b->len);
    remove_dead(r);
    return 0;
}

static void rocks_reclaim(struct kv *kv)
{
    struct kv_rocks *r = rocks_of(kv);

    if (!atomic_load(&r->broken))
        move_in_need(r);
}

static int rocks_sync(struct kv *kv)
{
    struct kv_rocks *r = rocks_of(kv);
    struct segment *s;
    uint64_t newest;
    int err;

    if (atomic_load(&r->broken))
        return -EIO;
    pthread_mutex_lock(&r->lock);
    newest = segments_current(r)->number;
    pthread_mutex_unlock(&r->lock);
    s = segments_use(r, newest, &err);
    if (s) {
        err = fdatasync(s->fd) < 0 ? -errno : 0;
        segment_leave(r, s);
    }
    STEP("journal.sync", "the journal is fsynced");
    return err ? store_broken(r, err) : 0;
}

/* --- reading --------------------------------------------------------------------------------------------*/

static int rocks_get(struct kv *kv, enum kv_space space, const void *key, size_t key_len,
                     int (*use)(void *arg, const void *value, size_t len), void *arg)
{
    struct kv_rocks *r = rocks_of(kv);
    uint8_t full[INDEX_KEY_MAX];
    rocksdb_pinnableslice_t *slice;
    const char *value;
    char *text = NULL;
    size_t len = 0;
    int err;

    if (space == KV_DATA)
        return data_get(r, key, key_len, use, arg);
    slice = rocksdb_get_pinned(r->db, r->reading, (char *)full, index_key(full, space, key, key_len), &text);
    if (text)
        return index_error(text, "get");
    if (!slice)
        return -ENOENT;
    value = rocksdb_pinnableslice_value(slice, &len);
    err = use(arg, value, len);
    rocksdb_pinnableslice_destroy(slice);
    return err;
}

static int rocks_get_many(struct kv *kv, const uint8_t *keys, size_t key_len, unsigned n,
                          int (*use)(void *arg, unsigned i, const void *value, size_t len), void *arg)
{
    return data_get_many(rocks_of(kv), keys, key_len, n, use, arg);
}

struct scan {
    struct kv_rocks *r;
    enum kv_space space;
    int (*each)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len);
    void *arg;
};

static int scan_one(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len)
{
    struct scan *s = arg;
    CLEANUP_FREE uint8_t *data = NULL;
    struct place p;
    int err;

    if (s->space != KV_DATA)
        return s->each(s->arg, key, key_len, value, len);
    if (len != PLACE_BYTES)
        return -EBADMSG;
    place_decode(value, &p);
    err = data_read(s->r, &p, &data);
    return err ? err : s->each(s->arg, key, key_len, data, p.len);
}

static int rocks_each(
    struct kv *kv, enum kv_space space, const void *from, size_t from_len, const void *to, size_t to_len,
    int (*each)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len), void *arg)
{
    struct scan s = {.r = rocks_of(kv), .space = space, .each = each, .arg = arg};

    return index_each(s.r, space, from, from_len, to, to_len, scan_one, &s);
}

static int rocks_room(struct kv *kv, uint64_t *free_bytes, uint64_t *total_bytes)
{
    struct statvfs fs;

    if (statvfs(rocks_of(kv)->path, &fs) < 0)
        return -errno;
    *free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    *total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
    return 0;
}

static void rocks_trim(struct kv *kv, enum kv_space space, const void *from, size_t from_len, const void *to,
                       size_t to_len)
{
    uint8_t first[INDEX_KEY_MAX], end[INDEX_KEY_MAX];
    size_t first_len = index_key(first, space, from, from_len), end_len = index_key(end, space, to, to_len);
    char *text = NULL;

    rocksdb_suggest_compact_range(rocks_of(kv)->db, (char *)first, first_len, (char *)end, end_len, &text);
    index_error(text, "suggest compaction");
}

static const struct kv_ops rocks_ops = {
    .open = rocks_open,
    .close = rocks_close,
    .free = rocks_free,
    .batch_new = rocks_batch_new,
    .batch_free = rocks_batch_free,
    .batch_clear = rocks_batch_clear,
    .batch_put = rocks_batch_put,
    .batch_value = rocks_batch_value,
    .batch_delete = rocks_batch_delete,
    .batch_delete_range = rocks_batch_delete_range,
    .write = rocks_write,
    .reclaim = rocks_reclaim,
    .sync = rocks_sync,
    .get = rocks_get,
    .get_many = rocks_get_many,
    .each = rocks_each,
    .room = rocks_room,
    .trim = rocks_trim,
};

struct kv *kv_rocks_sized(const char *path, uint32_t segment_bytes)
{
    struct kv_rocks *r = xcalloc(1, sizeof *r);

    r->kv.ops = &rocks_ops;
    r->path = xstrdup(path);
    r->segment_bytes = segment_bytes;
    r->index_path = xasprintf("%s/index", path);
    r->cache = rocksdb_cache_create_lru(8u << 20);
    r->writing = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(r->writing, 1);
    r->reading = rocksdb_readoptions_create();
    r->scanning = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(r->scanning, 0);
    rocksdb_readoptions_set_readahead_size(r->scanning, 1u << 20);
    r->flushing = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(r->flushing, 0);
    r->flushing_wait = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(r->flushing_wait, 1);
    r->changes = rocksdb_writebatch_create();
    batch_init(&r->moving);
    count_new(r);
    pthread_mutex_init(&r->lock, NULL);
    return &r->kv;
}

struct kv *kv_rocks_new(const char *path)
{
    return kv_rocks_sized(path, 0);
}
