/* initiator/stage_db.c - see stage_db.h. docs/writeback.md says why the families are what they are. */
#include "stage_db.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static const char part[] = "stage";

enum {
    FORMAT = 1,
    FORMAT_BYTES = 8 + 4,
    BUFFER_BYTES = 32 << 20,
    BUFFER_MIN_BYTES = 1 << 20,
    CONTENT_BYTES = 128 << 20, /* of the index of contents: about 1.3 million blocks */
    CACHE_BYTES = 16 << 20,
    RESERVE_BYTES = 128 << 20,
    OPEN_ROOM_BYTES = 1 << 20,
};
static const char magic[] = "ISTHSTAG";

/* ---- errors ---- */

static int error_of(const struct stage_db *d, const char *what, char *text, struct why *why)
{
    int err = -EIO;

    if (strstr(text, "No space left") || strstr(text, "NoSpace") || strstr(text, "Disk quota"))
        err = why_set(why, -ENOSPC, "the disk at %s is full", d->dir);
    else if (strncmp(text, "Corruption", 10) == 0)
        err = why_set(why, -EBADMSG, "the stage at %s is damaged (%s): %s", d->dir, what, text);
    else if (strstr(text, "lock ") || strstr(text, "LOCK:"))
        err = why_set(why, -EBUSY, "the stage at %s is in use by another process", d->dir);
    else
        why_set(why, err, "the stage at %s cannot be used (%s): %s", d->dir, what, text);
    rocksdb_free(text);
    return err;
}

/* ---- the format ---- */

static int write_format(const struct stage_db *d, const char *path, struct why *why)
{
    CLEANUP_FREE char *temporary = xasprintf("%s.new", path);
    uint8_t bytes[FORMAT_BYTES];
    int fd = open(temporary, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600), dir = -1, err = 0;

    memcpy(bytes, magic, 8);
    put32(bytes + 8, FORMAT);
    if (fd < 0 || write(fd, bytes, sizeof bytes) != sizeof bytes || fsync(fd) != 0 ||
        rename(temporary, path) != 0 || (dir = open(d->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ||
        fsync(dir) != 0)
        err = errno ? -errno : -EIO;
    if (fd >= 0)
        close(fd);
    if (dir >= 0)
        close(dir);
    return err ? why_set(why, err, "cannot write %s: %s", path, strerror(-err)) : 0;
}

/* A file beside the database, so that one of a newer format is not even opened. */
static int check_format(const struct stage_db *d, struct why *why)
{
    CLEANUP_FREE char *path = xasprintf("%s/format", d->dir);
    uint8_t bytes[FORMAT_BYTES + 1];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0 && errno == ENOENT)
        return write_format(d, path, why);
    n = fd < 0 ? -1 : read(fd, bytes, sizeof bytes);
    if (fd >= 0)
        close(fd);
    if (n != FORMAT_BYTES || memcmp(bytes, magic, 8) != 0)
        return why_set(why, -EBADMSG, "%s is not the format of a stage of Isthmus", path);
    if (get32(bytes + 8) > FORMAT)
        return why_set(why, -EINVAL,
                       "the stage at %s has format %u, this isthmus-onprem knows %u: install the newer one",
                       d->dir, get32(bytes + 8), FORMAT);
    return 0;
}

/* ---- options ---- */

static rocksdb_options_t *options_of(struct stage_db *d, enum stage_family family, size_t buffer)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();

    /* What is sealed does not compress. */
    rocksdb_options_set_compression(o, rocksdb_no_compression);
    rocksdb_options_set_bottommost_compression(o, rocksdb_no_compression);
    /* A stage is put in order of its keys and under a number that only rises: its files do not overlap, so
     * that compaction moves them without writing them again, and they go whole when the stage goes. */
    rocksdb_options_set_write_buffer_size(o, family == FAMILY_PIECES ? buffer : buffer / 4);
    rocksdb_options_set_max_write_buffer_number(o, 2);
    /* Indexes and filters are in the cache, not beside it: memory is buffers and cache, and nothing else. */
    rocksdb_block_based_options_set_block_cache(table, d->cache);
    rocksdb_block_based_options_set_cache_index_and_filter_blocks(table, 1);
    rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom_full(10));
    rocksdb_options_set_block_based_table_factory(o, table);
    rocksdb_block_based_options_destroy(table);
    if (family == FAMILY_CONTENT) { /* hints: the oldest file goes when there are too many */
        rocksdb_fifo_compaction_options_t *fifo = rocksdb_fifo_compaction_options_create();

        rocksdb_fifo_compaction_options_set_max_table_files_size(fifo, CONTENT_BYTES);
        rocksdb_options_set_compaction_style(o, rocksdb_fifo_compaction);
        rocksdb_options_set_fifo_compaction_options(o, fifo);
        rocksdb_fifo_compaction_options_destroy(fifo);
    }
    return o;
}

static rocksdb_options_t *database_options(struct stage_db *d, size_t buffer)
{
    rocksdb_options_t *o = options_of(d, FAMILY_STATE, buffer), *told = rocksdb_options_create();
    char *text = NULL;

    rocksdb_options_set_create_if_missing(o, 1);
    rocksdb_options_set_create_missing_column_families(o, 1);
    /* All of them: the index of contents needs that. One for each 32 MiB that are staged. */
    rocksdb_options_set_max_open_files(o, -1);
    /* All of a stage is in the log first: a bound on it, and so on what a start has to play back. */
    rocksdb_options_set_max_total_wal_size(o, 4 * (uint64_t)buffer);
    rocksdb_options_set_max_background_jobs(o, 2);
    rocksdb_options_set_allow_concurrent_memtable_write(o, 0);
    /* Written as it comes, so that the fsync at `end` is short. */
    rocksdb_options_set_bytes_per_sync(o, 1u << 20);
    rocksdb_options_set_wal_bytes_per_sync(o, 1u << 20);
    rocksdb_options_set_info_log_level(o, 4); /* fatal: errors come back to us as text */
    rocksdb_options_set_max_log_file_size(o, 1u << 20);
    rocksdb_options_set_keep_log_file_num(o, 2);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    /* Closing writes nothing: it is in the log. The C API has no call for it. */
    rocksdb_get_options_from_string(o, "avoid_flush_during_shutdown=true", told, &text);
    CHECK(!text);
    rocksdb_options_destroy(o);
    return told;
}

/* ---- opening and closing ---- */

static uint64_t free_bytes(const struct stage_db *d, uint64_t *total)
{
    struct statvfs fs;

    *total = UINT64_MAX;
    if (statvfs(d->dir, &fs) < 0)
        return UINT64_MAX;
    *total = (uint64_t)fs.f_blocks * fs.f_frsize;
    return (uint64_t)fs.f_bavail * fs.f_frsize;
}

static size_t buffer_bytes(uint64_t total)
{
    if (total / 64 >= BUFFER_BYTES)
        return BUFFER_BYTES;
    return total / 64 < BUFFER_MIN_BYTES ? BUFFER_MIN_BYTES : (size_t)(total / 64);
}

static int open_database(struct stage_db *d, struct why *why)
{
    static const char *const names[] = {"default", "pieces", "hashes", "content"};
    const rocksdb_options_t *options[FAMILIES];
    rocksdb_options_t *made[FAMILIES], *o;
    uint64_t total;
    size_t buffer;
    char *text = NULL;

    /* RocksDB 7.8 ends the process when its own log does not fit on the disk. */
    if (free_bytes(d, &total) < OPEN_ROOM_BYTES)
        return why_set(why, -ENOSPC, "the disk at %s is full", d->dir);
    d->reserve = total / 20 < RESERVE_BYTES ? total / 20 : RESERVE_BYTES;
    buffer = buffer_bytes(total);
    o = database_options(d, buffer);
    for (int i = 0; i < FAMILIES; i++)
        options[i] = made[i] = options_of(d, (enum stage_family)i, buffer);
    d->db = rocksdb_open_column_families(o, d->path, FAMILIES, names, options, d->family, &text);
    rocksdb_options_destroy(o);
    for (int i = 0; i < FAMILIES; i++)
        rocksdb_options_destroy(made[i]);
    if (!text)
        return 0;
    d->db = NULL;
    return error_of(d, "opening", text, why);
}

static void close_database(struct stage_db *d)
{
    if (!d->db)
        return;
    rocksdb_cancel_all_background_work(d->db, 1);
    for (int i = 0; i < FAMILIES; i++)
        rocksdb_column_family_handle_destroy(d->family[i]);
    rocksdb_close(d->db);
    d->db = NULL;
}

static void make_options(struct stage_db *d)
{
    d->cache = rocksdb_cache_create_lru(CACHE_BYTES);
    for (int i = 0; i <= STAGE_HINT; i++)
        d->writing[i] = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(d->writing[STAGE_STABLE], 1);
    rocksdb_writeoptions_disable_WAL(d->writing[STAGE_HINT], 1);
    d->reading = rocksdb_readoptions_create();
    d->scanning = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(d->scanning, 0);
}

int stage_db_open(struct stage_db *d, const char *dir, struct why *why)
{
    int err;

    *d = (struct stage_db){.dir = xasprintf("%s/stage", dir), .path = xasprintf("%s/stage/db", dir)};
    pthread_rwlock_init(&d->lock, NULL);
    make_options(d);
    if (mkdir(d->dir, 0700) < 0 && errno != EEXIST) {
        err = -errno;
        why_set(why, err, "cannot make %s: %s", d->dir, strerror(-err));
    } else {
        err = check_format(d, why);
    }
    if (!err)
        err = open_database(d, why);
    if (err)
        stage_db_close(d);
    return err;
}

void stage_db_close(struct stage_db *d)
{
    close_database(d);
    rocksdb_cache_destroy(d->cache);
    for (int i = 0; i <= STAGE_HINT; i++)
        rocksdb_writeoptions_destroy(d->writing[i]);
    rocksdb_readoptions_destroy(d->reading);
    rocksdb_readoptions_destroy(d->scanning);
    pthread_rwlock_destroy(&d->lock);
    free(d->path);
    free(d->dir);
}

int stage_db_again(struct stage_db *d, struct why *why)
{
    int err = 0;

    if (!d->broken)
        return 0;
    pthread_rwlock_wrlock(&d->lock);
    close_database(d);
    err = open_database(d, why);
    d->broken = err != 0;
    pthread_rwlock_unlock(&d->lock);
    if (!err)
        log_info(NULL, "the stage at %s works again", d->dir);
    return err;
}

/* ---- reading and writing ---- */

static int closed(const struct stage_db *d, struct why *why)
{
    return why_set(why, -EIO, "the stage at %s is closed after an error", d->dir);
}

int stage_db_write(struct stage_db *d, rocksdb_writebatch_t *batch, enum stage_how how, struct why *why)
{
    char *text = NULL;
    int err = stage_db_again(d, why);

    if (err)
        return err;
    pthread_rwlock_rdlock(&d->lock);
    rocksdb_write(d->db, d->writing[how], batch, &text);
    pthread_rwlock_unlock(&d->lock);
    if (!text)
        return 0;
    d->broken = true;
    err = error_of(d, "writing", text, why);
    log_error(NULL, "%s", why->text);
    return err;
}

int stage_db_get(struct stage_db *d, enum stage_family family, const uint8_t *key, size_t n,
                 int (*see)(void *arg, const uint8_t *value, size_t len), void *arg, struct why *why)
{
    rocksdb_pinnableslice_t *slice = NULL;
    char *text = NULL;
    size_t len = 0;
    int err = 0;

    pthread_rwlock_rdlock(&d->lock);
    if (!d->db)
        err = closed(d, why);
    else
        slice = rocksdb_get_pinned_cf(d->db, d->reading, d->family[family], (const char *)key, n, &text);
    if (text)
        err = error_of(d, "reading", text, why);
    else if (!err && !slice)
        err = -ENOENT;
    else if (!err) {
        const char *value = rocksdb_pinnableslice_value(slice, &len);

        err = see(arg, (const uint8_t *)value, len);
    }
    if (slice)
        rocksdb_pinnableslice_destroy(slice);
    pthread_rwlock_unlock(&d->lock);
    return err;
}

static int iterate(struct stage_db *d, rocksdb_iterator_t *it, const uint8_t *from, size_t from_len,
                   const uint8_t *to, size_t to_len,
                   int (*each)(void *arg, const uint8_t *key, size_t n, const uint8_t *value, size_t len),
                   void *arg, struct why *why)
{
    char *text = NULL;
    int err = 0;

    for (rocksdb_iter_seek(it, (const char *)from, from_len); !err && rocksdb_iter_valid(it);
         rocksdb_iter_next(it)) {
        size_t n, len;
        const char *key = rocksdb_iter_key(it, &n), *value;
        int order = memcmp(key, to, n < to_len ? n : to_len);

        if (order > 0 || (order == 0 && n >= to_len))
            break;
        value = rocksdb_iter_value(it, &len);
        err = each(arg, (const uint8_t *)key, n, (const uint8_t *)value, len);
    }
    rocksdb_iter_get_error(it, &text);
    return text ? error_of(d, "reading", text, why) : err;
}

int stage_db_each(struct stage_db *d, enum stage_family family, const uint8_t *from, size_t from_len,
                  const uint8_t *to, size_t to_len,
                  int (*each)(void *arg, const uint8_t *key, size_t n, const uint8_t *value, size_t len),
                  void *arg, struct why *why)
{
    int err;

    pthread_rwlock_rdlock(&d->lock);
    if (d->db) {
        rocksdb_iterator_t *it = rocksdb_create_iterator_cf(d->db, d->scanning, d->family[family]);

        err = iterate(d, it, from, from_len, to, to_len, each, arg, why);
        rocksdb_iter_destroy(it);
    } else {
        err = closed(d, why);
    }
    pthread_rwlock_unlock(&d->lock);
    return err;
}

void stage_db_drop_files(struct stage_db *d, enum stage_family family, const uint8_t *from, const uint8_t *to,
                         size_t n)
{
    char *text = NULL;

    pthread_rwlock_rdlock(&d->lock);
    if (d->db)
        rocksdb_delete_file_in_range_cf(d->db, d->family[family], (const char *)from, n, (const char *)to, n,
                                        &text);
    pthread_rwlock_unlock(&d->lock);
    if (text) /* they go with a compaction then */
        log_warn(NULL, "files of the stage could not be removed at once: %s", text);
    rocksdb_free(text);
}

/* ---- room ---- */

static uint64_t property(struct stage_db *d, enum stage_family family, const char *name)
{
    uint64_t value = 0;

    return rocksdb_property_int_cf(d->db, d->family[family], name, &value) == 0 ? value : 0;
}

static uint64_t in_memory(struct stage_db *d)
{
    uint64_t bytes = 0;

    for (int i = 0; i < FAMILIES; i++)
        bytes += property(d, (enum stage_family)i, "rocksdb.size-all-mem-tables");
    return bytes;
}

int stage_db_room(struct stage_db *d, uint64_t bytes, struct why *why)
{
    uint64_t total, is_free = free_bytes(d, &total), kept;

    pthread_rwlock_rdlock(&d->lock);
    /* What is in memory and in the log will be written to files, too. */
    kept = d->reserve + (d->db ? in_memory(d) : 0);
    pthread_rwlock_unlock(&d->lock);
    if (is_free >= kept && is_free - kept >= bytes)
        return 0;
    return why_set(why, -ENOSPC, "the disk at %s is full (%llu MiB free): what a VM wrote cannot be staged",
                   d->dir, (unsigned long long)(is_free >> 20));
}

uint64_t stage_db_bytes(struct stage_db *d)
{
    uint64_t bytes = 0;

    pthread_rwlock_rdlock(&d->lock);
    if (d->db) {
        bytes = in_memory(d);
        for (int i = 0; i < FAMILIES; i++)
            bytes += property(d, (enum stage_family)i, "rocksdb.total-sst-files-size");
    }
    pthread_rwlock_unlock(&d->lock);
    return bytes;
}
