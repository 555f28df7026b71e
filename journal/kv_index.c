/* journal/kv_index.c - RocksDB under the log: what each space holds, and where the values of KV_DATA are.
 *
 * It has no log of its own and never writes its memory to files by itself: index_switch() does, after the
 * segments were synced, together with the number of the segment at which a replay begins. So its files never
 * know of anything that the segments could lose. Every option and its reason stands in options_of().
 */
#include "check.h"
#include "kv_rocks_impl.h"
#include "log.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char part[] = "journal";

enum { INDEX_ROOM_BYTES = 2 << 20 };

/* Behind every space. */
static const char position_key[] = "\377position";

/* RocksDB's C API tells errors as text only. */
int index_error(char *text, const char *what)
{
    int err = -EIO;

    if (!text)
        return 0;
    if (strstr(text, "No space left") || strstr(text, "NoSpace") || strstr(text, "Disk quota"))
        err = -ENOSPC;
    else if (strncmp(text, "Corruption", 10) == 0)
        err = -EBADMSG;
    else if (strstr(text, "lock ") || strstr(text, "LOCK:"))
        err = -EBUSY;
    log_debug(NULL, "rocksdb %s: %s", what, text);
    rocksdb_free(text);
    return err;
}

static rocksdb_options_t *options_of(struct kv_rocks *r, const char *log_dir)
{
    rocksdb_options_t *o = rocksdb_options_create(), *told = rocksdb_options_create();
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    char *text = NULL;

    rocksdb_options_set_create_if_missing(o, 1);
    /* Its memory is written to files when index_switch says so, long before it is as large. */
    rocksdb_options_set_write_buffer_size(o, 1u << 30);
    rocksdb_options_set_arena_block_size(o, 1u << 20);
    rocksdb_options_set_max_write_buffer_number(o, 4);
    /* 8 MiB of block cache, 256 open files. */
    rocksdb_options_set_max_open_files(o, 256);
    rocksdb_block_based_options_set_block_cache(table, r->cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10));
    /* What is sealed does not compress. */
    rocksdb_options_set_compression(o, rocksdb_no_compression);
    rocksdb_options_set_bottommost_compression(o, rocksdb_no_compression);
    /* The loops own the processors: one thread flushes, one compacts. */
    rocksdb_options_set_max_background_jobs(o, 2);
    /* One thread writes: no need for the concurrent memtable's atomics. */
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0);
    /* Background writes reach the disk as they go, so that the fsync at a file's end is short. */
    rocksdb_options_set_bytes_per_sync(o, 1u << 20);
    /* RocksDB's own log says next to nothing (4: fatal). Errors come back to us as text anyway. */
    rocksdb_options_set_info_log_level(o, 4);
    rocksdb_options_set_db_log_dir(o, log_dir);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_skip_stats_update_on_db_open(o, 1);
    /* For isthmus_journal_index_written_bytes_total. */
    rocksdb_options_enable_statistics(o);
    rocksdb_options_set_block_based_table_factory(o, table);
    rocksdb_block_based_options_destroy(table);
    /* Closing must not write what was not synced. The C API has no call for it. */
    rocksdb_get_options_from_string(o, "avoid_flush_during_shutdown=true", told, &text);
    CHECK(!text);
    rocksdb_options_destroy(o);
    return told;
}

static int explain_open(struct kv_rocks *r, char *text, struct why *why)
{
    int err;

    if (strstr(text, "lock"))
        err = why_set(why, -EBUSY, "the journal at %s is in use by another process", r->path);
    else
        err = why_set(why, strstr(text, "No space left") ? -ENOSPC : -EIO,
                      "cannot open the journal at %s: %s", r->path, text);
    rocksdb_free(text);
    return err;
}

/* What needs room is not begun without it: it would fail later, on a thread of RocksDB's. */
bool index_has_room(const struct kv_rocks *r, uint64_t bytes)
{
    struct statvfs fs;

    return statvfs(r->path, &fs) < 0 || (uint64_t)fs.f_bavail * fs.f_frsize >= bytes + INDEX_ROOM_BYTES;
}

int index_open(struct kv_rocks *r, struct why *why)
{
    CLEANUP_FREE char *foreign = xasprintf("%s/CURRENT", r->path);
    CLEANUP_FREE char *log_dir = NULL;
    char *text = NULL;
    int err = 0;

    CHECK(!r->db);
    if (mkdir(r->path, 0700) < 0 && errno != EEXIST) {
        err = -errno;
        return why_set(why, err, "cannot make the journal's directory %s: %s", r->path, strerror(-err));
    }
    if (access(foreign, F_OK) == 0)
        return why_set(why, -EINVAL, "%s holds a database that is not a journal of Isthmus of this format",
                       r->path);
    if (!index_has_room(r, 0))
        return why_set(why, -ENOSPC, "the disk at %s is full", r->path);
    log_dir = own_log_new(why);
    if (!log_dir)
        return -EIO;
    r->options = options_of(r, log_dir);
    r->index_written = 0;
    r->db = rocksdb_open(r->options, r->index_path, &text);
    own_log_unname(log_dir);
    if (text) {
        r->db = NULL;
        rocksdb_options_destroy(r->options);
        err = explain_open(r, text, why);
    }
    return err;
}

void index_close(struct kv_rocks *r)
{
    if (!r->db)
        return;
    rocksdb_cancel_all_background_work(r->db, 1);
    count_index(r);
    rocksdb_close(r->db);
    rocksdb_options_destroy(r->options);
    r->db = NULL;
}

size_t index_key(uint8_t *to, enum kv_space space, const void *key, size_t key_len)
{
    CHECK(key_len < INDEX_KEY_MAX);
    to[0] = (uint8_t)space;
    memcpy(to + 1, key, key_len);
    return key_len + 1;
}

/* --- the position ---------------------------------------------------------------------------------------*/

int index_position(struct kv_rocks *r, uint64_t *segment, uint64_t *batch)
{
    char *text = NULL, *value;
    size_t n;
    int err = 0;

    value = rocksdb_get(r->db, r->reading, position_key, strlen(position_key), &n, &text);
    if (text)
        return index_error(text, "get");
    if (!value)
        return -ENOENT;
    if (n == 16) {
        *segment = get64((uint8_t *)value);
        *batch = get64((uint8_t *)value + 8);
    } else {
        err = -EBADMSG;
    }
    rocksdb_free(value);
    return err;
}

int index_switch(struct kv_rocks *r, uint64_t segment, bool wait)
{
    uint8_t value[16];
    char *text = NULL;
    int err;

    if (!index_has_room(r, 2 * r->index_bytes))
        return -ENOSPC;
    put64(value, segment);
    put64(value + 8, r->next_batch);
    rocksdb_put(r->db, r->writing, position_key, strlen(position_key), (char *)value, sizeof value, &text);
    err = index_error(text, "put");
    if (err)
        return err;
    text = NULL;
    rocksdb_flush(r->db, wait ? r->flushing_wait : r->flushing, &text);
    err = index_error(text, "flush");
    count_index(r);
    if (err == 0)
        r->switched = segment;
    if (err == 0 && wait)
        r->durable = segment;
    r->index_bytes = 0;
    return err;
}

bool index_flushed(struct kv_rocks *r)
{
    uint64_t waiting;

    if (r->durable == r->switched)
        return true;
    if (rocksdb_property_int(r->db, "rocksdb.num-immutable-mem-table", &waiting) != 0 || waiting > 0)
        return false;
    r->durable = r->switched;
    return true;
}

/* --- places ---------------------------------------------------------------------------------------------*/

static void place_encode(uint8_t *to, const struct place *p)
{
    put64(to, p->segment);
    put32(to + 8, p->at);
    put32(to + 12, p->len);
}

void place_decode(const uint8_t *from, struct place *p)
{
    p->segment = get64(from);
    p->at = get32(from + 8);
    p->len = get32(from + 12);
}

int index_place(struct kv_rocks *r, const void *key, size_t key_len, struct place *p)
{
    uint8_t full[INDEX_KEY_MAX];
    rocksdb_pinnableslice_t *slice;
    char *text = NULL;
    size_t n;
    const char *value;
    int err = 0;

    slice =
        rocksdb_get_pinned(r->db, r->reading, (char *)full, index_key(full, KV_DATA, key, key_len), &text);
    if (text)
        return index_error(text, "get");
    if (!slice)
        return -ENOENT;
    value = rocksdb_pinnableslice_value(slice, &n);
    if (n == PLACE_BYTES)
        place_decode((const uint8_t *)value, p);
    else
        err = -EBADMSG;
    rocksdb_pinnableslice_destroy(slice);
    return err;
}

/* --- scanning -------------------------------------------------------------------------------------------*/

int index_each(struct kv_rocks *r, enum kv_space space, const void *from, size_t from_len, const void *to,
               size_t to_len,
               int (*each)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len),
               void *arg)
{
    rocksdb_iterator_t *it = rocksdb_create_iterator(r->db, r->scanning);
    uint8_t first[INDEX_KEY_MAX], end[INDEX_KEY_MAX];
    size_t first_len = index_key(first, space, from, from_len), end_len = index_key(end, space, to, to_len);
    char *text = NULL;
    int err = 0, failed;

    for (rocksdb_iter_seek(it, (char *)first, first_len); err == 0 && rocksdb_iter_valid(it);
         rocksdb_iter_next(it)) {
        size_t key_len, len;
        const char *key = rocksdb_iter_key(it, &key_len), *value;
        int order = memcmp(key, end, key_len < end_len ? key_len : end_len);

        if (order > 0 || (order == 0 && key_len >= end_len))
            break;
        value = rocksdb_iter_value(it, &len);
        err = each(arg, (const uint8_t *)key + 1, key_len - 1, (const uint8_t *)value, len);
    }
    rocksdb_iter_get_error(it, &text);
    rocksdb_iter_destroy(it);
    failed = index_error(text, "scan");
    return err ? err : failed;
}

struct places {
    int (*each)(void *arg, const uint8_t *key, size_t key_len, const struct place *);
    void *arg;
};

static int each_place(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t n)
{
    struct places *all = arg;
    struct place p;

    if (n != PLACE_BYTES)
        return -EBADMSG;
    place_decode(value, &p);
    return all->each(all->arg, key, key_len, &p);
}

int index_places(struct kv_rocks *r, const void *from, size_t from_len, const void *to, size_t to_len,
                 int (*each)(void *arg, const uint8_t *key, size_t key_len, const struct place *), void *arg)
{
    struct places all = {each, arg};

    return index_each(r, KV_DATA, from, from_len, to, to_len, each_place, &all);
}

/* --- a batch becomes visible ----------------------------------------------------------------------------*/

static int forget_one(struct kv_rocks *r, const uint8_t *key, size_t key_len)
{
    struct place p;
    int err = index_place(r, key, key_len, &p);

    if (err == 0)
        live_drop(r, key, key_len, &p);
    return err == -ENOENT ? 0 : err;
}

static int apply_put(struct kv_rocks *r, struct segment *s, uint32_t at, const struct op *op,
                     enum apply_how how)
{
    uint8_t key[INDEX_KEY_MAX], value[PLACE_BYTES];
    size_t key_len = index_key(key, op->space, op->key, op->key_len);
    struct place p = {.segment = s->number, .at = at + op->value_at, .len = op->value_len};
    int err = 0;

    if (op->space != KV_DATA) {
        rocksdb_writebatch_put(r->changes, (char *)key, key_len, (const char *)op->value, op->value_len);
        return 0;
    }
    if (how == APPLY_REPLACING)
        err = forget_one(r, op->key, op->key_len);
    if (err == 0 && how != APPLY_REPLAY)
        live_add(s, op->key, op->key_len, p.len);
    place_encode(value, &p);
    rocksdb_writebatch_put(r->changes, (char *)key, key_len, (char *)value, sizeof value);
    return err;
}

static int apply(struct kv_rocks *r, struct segment *s, uint32_t at, const struct op *op, enum apply_how how)
{
    uint8_t key[INDEX_KEY_MAX], end[INDEX_KEY_MAX];
    size_t key_len, end_len;
    int err = 0;

    switch (op->what) {
    case OP_PUT:
        return apply_put(r, s, at, op, how);
    case OP_DELETE:
        if (how != APPLY_REPLAY && op->space == KV_DATA)
            err = forget_one(r, op->key, op->key_len);
        key_len = index_key(key, op->space, op->key, op->key_len);
        rocksdb_writebatch_delete(r->changes, (char *)key, key_len);
        return err;
    case OP_ERASE:
        if (op->value_len >= INDEX_KEY_MAX)
            return -EBADMSG;
        key_len = index_key(key, op->space, op->key, op->key_len);
        end_len = index_key(end, op->space, op->value, op->value_len);
        if (how != APPLY_REPLAY && op->space == KV_DATA)
            err = live_erase(r, op);
        rocksdb_writebatch_delete_range(r->changes, (char *)key, key_len, (char *)end, end_len);
        return err;
    }
    return -EBADMSG;
}

static int write_changes(struct kv_rocks *r)
{
    char *text = NULL;

    rocksdb_write(r->db, r->writing, r->changes, &text);
    rocksdb_writebatch_clear(r->changes);
    return index_error(text, "write");
}

int index_apply(struct kv_rocks *r, struct segment *s, uint32_t at, const uint8_t *batch, uint32_t len,
                enum apply_how how)
{
    uint32_t next = 0, nops = 0;
    uint64_t put = 0;
    struct op op;
    int err = 0;

    rocksdb_writebatch_clear(r->changes);
    while (err == 0 && next != len && batch_next(batch, len, &next, &op)) {
        /* What a range takes away is counted from the index: it must know of the batch so far, or a value
         * that was deleted just before is counted twice. */
        if (op.what == OP_ERASE && how != APPLY_REPLAY)
            err = write_changes(r);
        if (err == 0)
            err = apply(r, s, at, &op, how);
        put += op.key_len + (op.space == KV_DATA ? PLACE_BYTES : op.value_len);
        nops++;
    }
    r->index_bytes += put + UINT64_C(64) * nops;
    metric_add(r->m_put, put);
    if (err)
        return err;
    if (next != len || nops != get32(batch + 16))
        return -EBADMSG;
    return write_changes(r);
}
