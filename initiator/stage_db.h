/* initiator/stage_db.h - the database of the stage: RocksDB, opened, asked, written, closed and opened again.
 *
 * Keys and values are bytes here; stage.c seals. Everything blocks: on the pool or a worker. Any thread;
 * writes one at a time. After a failed write nothing is written before the database was closed and opened
 * again (stage_db_again), for RocksDB refuses everything once its log or a file could not be written.
 */
#ifndef ISTHMUS_STAGE_DB_H
#define ISTHMUS_STAGE_DB_H

#include "why.h"

#include <pthread.h>
#include <rocksdb/c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum stage_family { FAMILY_STATE, FAMILY_PIECES, FAMILY_HASHES, FAMILY_CONTENT, FAMILIES };

/* STABLE: fsynced, with all that was written before. LATER: survives the process. HINT: may be lost. */
enum stage_how { STAGE_STABLE, STAGE_LATER, STAGE_HINT };

struct stage_db {
    char *dir, *path; /* ours, and the database's in it */
    rocksdb_t *db;    /* NULL: closed after an error */
    rocksdb_column_family_handle_t *family[FAMILIES];
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *writing[STAGE_HINT + 1];
    rocksdb_readoptions_t *reading, *scanning;
    pthread_rwlock_t lock; /* read: who uses db; write: who closes and opens it */
    uint64_t reserve;      /* bytes of the file system that pieces may not take */
    bool broken;           /* under write's own order */
};

/* 0 or -errno with why: the directory, another process's, a newer format, a damaged database. */
int stage_db_open(struct stage_db *, const char *dir, struct why *);
void stage_db_close(struct stage_db *);
/* After an error of a write: 0 when it is open again. */
int stage_db_again(struct stage_db *, struct why *);

/* Writes the batch. -ENOSPC, -EIO, -EBADMSG with why. */
int stage_db_write(struct stage_db *, rocksdb_writebatch_t *, enum stage_how, struct why *);
/* see() with the value. 0, -ENOENT, what see() returned, or -EIO, -EBADMSG with why. */
int stage_db_get(struct stage_db *, enum stage_family, const uint8_t *key, size_t n,
                 int (*see)(void *arg, const uint8_t *value, size_t len), void *arg, struct why *);
/* Every pair from `from` on whose key is below `to`, in order, until each() returns other than 0; returns
 * that. */
int stage_db_each(struct stage_db *, enum stage_family, const uint8_t *from, size_t from_len,
                  const uint8_t *to, size_t to_len,
                  int (*each)(void *arg, const uint8_t *key, size_t n, const uint8_t *value, size_t len),
                  void *arg, struct why *);
/* Files that hold nothing but keys of the range, which are deleted already, go at once. */
void stage_db_drop_files(struct stage_db *, enum stage_family, const uint8_t *from, const uint8_t *to,
                         size_t n);

/* 0, or -ENOSPC with why when so many bytes more would use up what is kept free. */
int stage_db_room(struct stage_db *, uint64_t bytes, struct why *);
uint64_t stage_db_bytes(struct stage_db *); /* on the disk */

#endif
