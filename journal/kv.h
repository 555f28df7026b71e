/* journal/kv.h - the seam under the journal: an ordered store of keys with atomic batches and one log.
 *
 * kv_rocks is the real one (a log in files, RocksDB as its index); kv_fail wraps another and fails on demand.
 * What the journal relies on: a batch is there wholly or not at all; batches survive a crash of the process
 * in the order written; after sync() everything written before survives a crash of the machine, and without
 * it a prefix does.
 *
 * Threads: write() from one thread at a time; get(), get_many(), each() and sync() from any, also during
 * write(); open() and close() alone.
 */
#ifndef ISTHMUS_KV_H
#define ISTHMUS_KV_H

#include "why.h"

#include <stddef.h>
#include <stdint.h>

enum kv_space { KV_META, KV_LOG, KV_DATA, KV_MAP, KV_OBJECT, KV_PLAN, KV_SPACES };

struct kv;
struct kv_batch; /* belongs to the implementation; outlives close() and open() of its store */

struct kv_ops {
    /* Blocking; may be called again after close(). 0 or -errno with why. */
    int (*open)(struct kv *, struct why *);
    void (*close)(struct kv *);
    void (*free)(struct kv *); /* closed before */

    struct kv_batch *(*batch_new)(struct kv *);
    void (*batch_free)(struct kv *, struct kv_batch *);
    void (*batch_clear)(struct kv *, struct kv_batch *);
    /* Keys of KV_DATA begin with 16 bytes that group them (a VM) and 8 that mostly rise (a record). Each is
     * put once (but for writing a batch again), and not deleted by the same batch. */
    void (*batch_put)(struct kv *, struct kv_batch *, enum kv_space, const void *key, size_t key_len,
                      const void *value, size_t len);
    /* The same; the value is filled in there before the next call for this batch. */
    void *(*batch_value)(struct kv *, struct kv_batch *, enum kv_space, const void *key, size_t key_len,
                         size_t len);
    void (*batch_delete)(struct kv *, struct kv_batch *, enum kv_space, const void *key, size_t key_len);
    /* Every key in [from, to). */
    void (*batch_delete_range)(struct kv *, struct kv_batch *, enum kv_space, const void *from,
                               size_t from_len, const void *to, size_t to_len);

    /* 0; -ENOSPC, -EIO: nothing can be relied on until the store was closed and opened again. A batch may
     * be written again: that changes nothing. */
    int (*write)(struct kv *, struct kv_batch *);
    /* The disk is full: gives back now what is dead. Where write() may be called. */
    void (*reclaim)(struct kv *);
    int (*sync)(struct kv *);
    /* use() sees the value in place. 0 or what use() returned; -ENOENT; -EBADMSG, -EIO. */
    int (*get)(struct kv *, enum kv_space, const void *key, size_t key_len,
               int (*use)(void *arg, const void *value, size_t len), void *arg);
    /* Many values of KV_DATA; keys: n of key_len, side by side. use() gets the number of each, in order; the
     * first that is not there, or whose use() fails, ends it, as get() would. Keys that rise are found
     * together, and values that lie side by side are read together. */
    int (*get_many)(struct kv *, const uint8_t *keys, size_t key_len, unsigned n,
                    int (*use)(void *arg, unsigned i, const void *value, size_t len), void *arg);
    /* Every key in [from, to), rising; non-zero from each() stops and is returned. */
    int (*each)(struct kv *, enum kv_space, const void *from, size_t from_len, const void *to, size_t to_len,
                int (*each)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len),
                void *arg);
    /* Of the file system below. */
    int (*room)(struct kv *, uint64_t *free_bytes, uint64_t *total_bytes);
    /* A range was deleted: give its space back soon. */
    void (*trim)(struct kv *, enum kv_space, const void *from, size_t from_len, const void *to,
                 size_t to_len);
};

struct kv {
    const struct kv_ops *ops;
};

struct kv *kv_rocks_new(const char *path);
/* The same with small segment files: tests. */
struct kv *kv_rocks_sized(const char *path, uint32_t segment_bytes);

/* Fails on demand. Takes `inner`. */
struct kv *kv_fail_new(struct kv *inner);
enum kv_fault { KV_FAULT_WRITE = 1, KV_FAULT_SYNC = 2, KV_FAULT_OPEN = 4, KV_FAULT_GET = 8 };
/* From now on these calls return err (-EIO, ...); err 0 ends it. Any thread. */
void kv_fail_set(struct kv *, unsigned faults, int err);
/* What room() answers from now on; UINT64_MAX: the truth. Any thread. */
void kv_fail_room(struct kv *, uint64_t free_bytes);
uint64_t kv_fail_opened(struct kv *); /* how often it was opened */

#endif
