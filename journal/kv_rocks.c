/* journal/kv_rocks.c - the store of kv.h on RocksDB.
 *
 * One database with a column family per space. Every option and its reason stands in options_of(). RocksDB
 * latches itself read-only after an error of the disk and the C API cannot resume it: the journal closes and
 * opens it again. No encryption here: values arrive sealed.
 */
#include "check.h"
#include "kv.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <rocksdb/c.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char part[] = "journal";

static const char *const space_names[KV_SPACES] = {"default", "log", "data", "map", "object", "plan"};

struct kv_rocks {
    struct kv kv;
    char *path;
    rocksdb_t *db; /* NULL while closed */
    rocksdb_column_family_handle_t *cf[KV_SPACES];
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *writing;
    rocksdb_readoptions_t *reading, *scanning;
};

static struct kv_rocks *rocks_of(struct kv *kv)
{
    return container_of(kv, struct kv_rocks, kv);
}

/* RocksDB's C API tells errors as text only. Takes and frees it. */
static int error_of(char *text, const char *what)
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

static rocksdb_options_t *options_of(struct kv_rocks *r, enum kv_space space)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();

    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_create_missing_column_families(o, 1);
    /* After a power cut the log ends at the first torn entry: a prefix, never a hole. */
    rocksdb_options_set_wal_recovery_mode(o, rocksdb_point_in_time_recovery);
    /* Memory: 64 MiB of memtables together, 8 MiB of block cache, 256 open files. */
    rocksdb_options_set_db_write_buffer_size(o, 64u << 20);
    rocksdb_options_set_write_buffer_size(o, space == KV_DATA ? 32u << 20 : 8u << 20);
    rocksdb_options_set_max_write_buffer_number(o, 3);
    rocksdb_options_set_max_open_files(o, 256);
    rocksdb_block_based_options_set_block_cache(table, r->cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    /* A log that is not flushed yet is read again at start-up: this bounds how long that takes. */
    rocksdb_options_set_max_total_wal_size(o, 256u << 20);
    /* What is sealed does not compress. */
    rocksdb_options_set_compression(o, rocksdb_no_compression);
    rocksdb_options_set_bottommost_compression(o, rocksdb_no_compression);
    /* The loops own the processors: one thread flushes, one compacts. */
    rocksdb_options_set_max_background_jobs(o, 2);
    /* One thread writes: no need for the concurrent memtable's atomics. */
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0);
    /* Background writes reach the disk as they go, so that the fsync at a file's end is short. */
    rocksdb_options_set_bytes_per_sync(o, 1u << 20);
    /* RocksDB's own log says next to nothing (4: fatal): on a full disk the second line of it that fails
     * ends the process by an assertion (7.8). Errors come back to us as text anyway. */
    rocksdb_options_set_info_log_level(o, 4);
    rocksdb_options_set_max_log_file_size(o, 1u << 20);
    rocksdb_options_set_keep_log_file_num(o, 2);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_skip_stats_update_on_db_open(o, 1);
    if (space == KV_DATA) {
        /* Payloads stay where they were written; compaction moves only keys. A file wholly superseded is
         * deleted without being read; what lives in the oldest quarter is moved on when its keys are
         * compacted. */
        rocksdb_options_set_enable_blob_files(o, 1);
        rocksdb_options_set_min_blob_size(o, 0);
        rocksdb_options_set_blob_file_size(o, 64u << 20);
        rocksdb_options_set_enable_blob_gc(o, 1);
        rocksdb_options_set_blob_gc_age_cutoff(o, 0.25);
        rocksdb_options_set_blob_gc_force_threshold(o, 1.0);
        /* Its tables hold only keys: let many come together before they are merged (measured: a quarter
         * less CPU, at most about 1 GiB more on disk); filters spare reads. */
        rocksdb_options_set_level0_file_num_compaction_trigger(o, 16);
        rocksdb_options_set_level0_slowdown_writes_trigger(o, 40);
        rocksdb_options_set_level0_stop_writes_trigger(o, 64);
        rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10));
    }
    rocksdb_options_set_block_based_table_factory(o, table);
    rocksdb_block_based_options_destroy(table);
    return o;
}

/* Somebody else's database is not ours to add column families to. */
static int check_families(struct kv_rocks *r, const rocksdb_options_t *o, struct why *why)
{
    CLEANUP_FREE char *current = xasprintf("%s/CURRENT", r->path);
    char *text = NULL, **names;
    size_t n = 0;
    bool foreign = false;

    if (access(current, F_OK) < 0)
        return 0;
    names = rocksdb_list_column_families(o, r->path, &n, &text);
    if (text) {
        int err = why_set(why, -EIO, "cannot read the journal at %s: %s", r->path, text);
        rocksdb_free(text);
        return err;
    }
    for (size_t i = 0; i < n; i++) {
        bool known = false;
        for (int s = 0; s < KV_SPACES; s++)
            known |= strcmp(names[i], space_names[s]) == 0;
        foreign |= !known;
    }
    rocksdb_list_column_families_destroy(names, n);
    if (foreign)
        return why_set(why, -EINVAL, "%s holds a database that is not a journal of Isthmus", r->path);
    return 0;
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

static int rocks_open(struct kv *kv, struct why *why)
{
    struct kv_rocks *r = rocks_of(kv);
    rocksdb_options_t *options[KV_SPACES];
    char *text = NULL;
    int err;

    CHECK(!r->db);
    if (mkdir(r->path, 0700) < 0 && errno != EEXIST) {
        err = -errno;
        return why_set(why, err, "cannot make the journal's directory %s: %s", r->path, strerror(-err));
    }
    for (int s = 0; s < KV_SPACES; s++)
        options[s] = options_of(r, (enum kv_space)s);
    err = check_families(r, options[KV_META], why);
    if (err == 0) {
        r->db = rocksdb_open_column_families(options[KV_META], r->path, KV_SPACES, space_names,
                                             (const rocksdb_options_t *const *)options, r->cf, &text);
        if (text) {
            r->db = NULL;
            err = explain_open(r, text, why);
        }
    }
    for (int s = 0; s < KV_SPACES; s++)
        rocksdb_options_destroy(options[s]);
    return err;
}

static void rocks_close(struct kv *kv)
{
    struct kv_rocks *r = rocks_of(kv);

    if (!r->db)
        return;
    rocksdb_cancel_all_background_work(r->db, 1);
    for (int s = 0; s < KV_SPACES; s++)
        rocksdb_column_family_handle_destroy(r->cf[s]);
    rocksdb_close(r->db);
    r->db = NULL;
}

static void rocks_free(struct kv *kv)
{
    struct kv_rocks *r = rocks_of(kv);

    CHECK(!r->db);
    rocksdb_cache_destroy(r->cache);
    rocksdb_writeoptions_destroy(r->writing);
    rocksdb_readoptions_destroy(r->reading);
    rocksdb_readoptions_destroy(r->scanning);
    free(r->path);
    free(r);
}

/* A batch names column families by number (the order in which they are made: that of enum kv_space), so
 * it stays valid over close() and open(). */
static struct kv_batch *rocks_batch_new(struct kv *kv)
{
    (void)kv;
    return (struct kv_batch *)rocksdb_writebatch_create();
}

static rocksdb_writebatch_t *batch_of(struct kv_batch *b)
{
    return (rocksdb_writebatch_t *)b;
}

static void rocks_batch_free(struct kv *kv, struct kv_batch *b)
{
    (void)kv;
    rocksdb_writebatch_destroy(batch_of(b));
}

static void rocks_batch_clear(struct kv *kv, struct kv_batch *b)
{
    (void)kv;
    rocksdb_writebatch_clear(batch_of(b));
}

static void rocks_batch_put(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *key,
                            size_t key_len, const void *value, size_t len)
{
    rocksdb_writebatch_put_cf(batch_of(b), rocks_of(kv)->cf[space], key, key_len, value, len);
}

static void rocks_batch_delete(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *key,
                               size_t key_len)
{
    rocksdb_writebatch_delete_cf(batch_of(b), rocks_of(kv)->cf[space], key, key_len);
}

static void rocks_batch_delete_range(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *from,
                                     size_t from_len, const void *to, size_t to_len)
{
    rocksdb_writebatch_delete_range_cf(batch_of(b), rocks_of(kv)->cf[space], from, from_len, to, to_len);
}

static int rocks_write(struct kv *kv, struct kv_batch *b)
{
    struct kv_rocks *r = rocks_of(kv);
    char *text = NULL;

    rocksdb_write(r->db, r->writing, batch_of(b), &text);
    return error_of(text, "write");
}

static int rocks_sync(struct kv *kv)
{
    char *text = NULL;

    rocksdb_flush_wal(rocks_of(kv)->db, 1, &text);
    return error_of(text, "sync");
}

static int rocks_get(struct kv *kv, enum kv_space space, const void *key, size_t key_len,
                     int (*use)(void *arg, const void *value, size_t len), void *arg)
{
    struct kv_rocks *r = rocks_of(kv);
    rocksdb_pinnableslice_t *slice;
    const char *value;
    char *text = NULL;
    size_t len = 0;
    int err;

    slice = rocksdb_get_pinned_cf(r->db, r->reading, r->cf[space], key, key_len, &text);
    if (text)
        return error_of(text, "get");
    if (!slice)
        return -ENOENT;
    value = rocksdb_pinnableslice_value(slice, &len);
    err = use(arg, value, len);
    rocksdb_pinnableslice_destroy(slice);
    return err;
}

static int rocks_each(
    struct kv *kv, enum kv_space space, const void *from, size_t from_len, const void *to, size_t to_len,
    int (*each)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len), void *arg)
{
    struct kv_rocks *r = rocks_of(kv);
    rocksdb_iterator_t *it = rocksdb_create_iterator_cf(r->db, r->scanning, r->cf[space]);
    char *text = NULL;
    int err = 0;

    for (rocksdb_iter_seek(it, from, from_len); err == 0 && rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
        size_t key_len, len;
        const char *key = rocksdb_iter_key(it, &key_len);
        size_t shorter = key_len < to_len ? key_len : to_len;
        int order = memcmp(key, to, shorter);

        if (order > 0 || (order == 0 && key_len >= to_len))
            break;
        const char *value = rocksdb_iter_value(it, &len);
        err = each(arg, (const uint8_t *)key, key_len, (const uint8_t *)value, len);
    }
    rocksdb_iter_get_error(it, &text);
    rocksdb_iter_destroy(it);
    if (text) {
        int failed = error_of(text, "scan");
        return err ? err : failed;
    }
    return err;
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
    struct kv_rocks *r = rocks_of(kv);
    char *text = NULL;

    rocksdb_delete_file_in_range_cf(r->db, r->cf[space], from, from_len, to, to_len, &text);
    error_of(text, "delete files in range");
    text = NULL;
    rocksdb_suggest_compact_range_cf(r->db, r->cf[space], from, from_len, to, to_len, &text);
    error_of(text, "suggest compaction");
}

static const struct kv_ops rocks_ops = {
    .open = rocks_open,
    .close = rocks_close,
    .free = rocks_free,
    .batch_new = rocks_batch_new,
    .batch_free = rocks_batch_free,
    .batch_clear = rocks_batch_clear,
    .batch_put = rocks_batch_put,
    .batch_delete = rocks_batch_delete,
    .batch_delete_range = rocks_batch_delete_range,
    .write = rocks_write,
    .sync = rocks_sync,
    .get = rocks_get,
    .each = rocks_each,
    .room = rocks_room,
    .trim = rocks_trim,
};

struct kv *kv_rocks_new(const char *path)
{
    struct kv_rocks *r = xcalloc(1, sizeof *r);

    r->kv.ops = &rocks_ops;
    r->path = xstrdup(path);
    r->cache = rocksdb_cache_create_lru(8u << 20);
    r->writing = rocksdb_writeoptions_create();
    r->reading = rocksdb_readoptions_create();
    r->scanning = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(r->scanning, 0);
    rocksdb_readoptions_set_readahead_size(r->scanning, 1u << 20);
    return &r->kv;
}
