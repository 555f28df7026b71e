/* journal/kv_rocks_impl.h - what the files of the real store share: a log of our own with RocksDB as its
 * index.
 *
 * Everything that is written goes into segment files, once, in order (kv_segment.c). RocksDB, without a log
 * of its own, holds what the spaces hold, but of KV_DATA only where each value is (kv_index.c).
 * docs/journal.md specifies the files byte by byte and says why a crash leaves a prefix.
 */
#ifndef ISTHMUS_KV_ROCKS_IMPL_H
#define ISTHMUS_KV_ROCKS_IMPL_H

#include "kv.h"
#include "metric.h"

#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdbool.h>

enum {
    SEGMENT_MAX_BYTES = 32 << 20, /* a segment is closed when it would become larger; */
    SEGMENT_MIN_BYTES = 4 << 20,  /* on small disks earlier */
    SEGMENT_HEADER_BYTES = 16,
    BATCH_HEADER_BYTES = 32,
    OP_HEADER_BYTES = 8,
    PLACE_BYTES = 16,
    KEY_GROUP_BYTES = 16,
    KEY_HEAD_BYTES = KEY_GROUP_BYTES + 8
};

enum op_what { OP_PUT = 1, OP_DELETE = 2, OP_ERASE = 3 /* from the key up to, not including, the value */ };

struct op {
    enum op_what what;
    enum kv_space space;
    const uint8_t *key, *value;
    uint32_t key_len, value_len;
    uint32_t value_at; /* in the batch */
};

/* Grows by operations; the header is filled when it is written. */
struct kv_batch {
    uint8_t *bytes;
    size_t len, room;
    size_t summed; /* up to here crc covers it */
    uint32_t crc, nops;
};

/* Where a value of KV_DATA is. */
struct place {
    uint64_t segment;
    uint32_t at, len;
};

/* What lives in a segment of the keys that begin alike. */
struct group {
    uint8_t first[KEY_HEAD_BYTES], last[KEY_HEAD_BYTES]; /* the least and the greatest there were */
    uint64_t live;
};

struct segment {
    uint64_t number;
    int fd;         /* -1: not open now */
    uint32_t bytes; /* written and whole */
    uint64_t live;  /* bytes of values that the index points to */
    struct group *groups;
    size_t ngroups;
    uint64_t dead_in; /* live is 0 since a batch in that segment; 0: it is not */
    unsigned refs;    /* of those who use fd */
    uint64_t used;    /* when fd was wanted last: the order of closing */
    bool stuck;       /* cannot be read: never chosen again */
    bool removed;     /* goes with the last reference */
};

struct kv_rocks {
    struct kv kv;
    char *path, *index_path;
    uint32_t segment_bytes; /* 0: by the size of the disk, at opening */
    uint64_t spare_bytes;   /* so much may be dead on disk in any case */

    rocksdb_t *db;              /* NULL while closed */
    rocksdb_options_t *options; /* of db: they count what it writes */
    uint64_t index_written;     /* since it was opened */
    rocksdb_cache_t *cache;
    rocksdb_writeoptions_t *writing;
    rocksdb_readoptions_t *reading, *scanning;
    rocksdb_flushoptions_t *flushing, *flushing_wait;

    atomic_bool broken; /* an error: nothing can be relied on until closed and opened again */

    pthread_mutex_t lock;      /* the segments: which there are, their fds, refs and removed */
    struct segment **segments; /* numbers rise; the last one is written */
    size_t nsegments, room;
    unsigned nopen;
    uint64_t uses;

    /* who writes */
    uint64_t next_batch, index_bytes, started_bytes;
    uint64_t switched, durable; /* all before this segment is in RocksDB's memory, in its files */
    bool repeats;               /* the first batch after an error may be there already */
    bool some_dead;
    rocksdb_writebatch_t *changes;
    struct kv_batch moving;
    struct segment *victim;
    uint32_t victim_at;
    uint64_t move_bytes; /* of the victim that may be looked at by now */

    struct metric *m_segments, *m_moved, *m_put, *m_written;
};

/* kv_batch.c: pure */
void batch_init(struct kv_batch *);
void batch_reset(struct kv_batch *);
void *batch_add(struct kv_batch *, enum op_what, enum kv_space, const void *key, size_t key_len,
                size_t value_len);
void batch_seal(struct kv_batch *, uint64_t number);
/* Of BATCH_HEADER_BYTES: how long the whole batch is; 0: that is none, or not this number. */
uint32_t batch_length(const uint8_t *header, uint64_t number);
bool batch_whole(const uint8_t *bytes, uint32_t len);
/* The operation at *at, which moves on. False: there is no further one. */
bool batch_next(const uint8_t *bytes, uint32_t len, uint32_t *at, struct op *);

/* kv_segment.c */
int segments_create(struct kv_rocks *, uint64_t number); /* stable; becomes the last one */
struct segment *segments_add(struct kv_rocks *, uint64_t number, uint32_t bytes);
struct segment *segments_current(struct kv_rocks *);
struct segment *segments_use(struct kv_rocks *, uint64_t number,
                             int *err); /* fd is open until segment_leave */
void segment_leave(struct kv_rocks *, struct segment *);
char *segment_path(const struct kv_rocks *, uint64_t number);
int segment_sync(struct kv_rocks *, struct segment *);
void segments_remove(struct kv_rocks *, struct segment *);
void segments_close(struct kv_rocks *);
int segments_sync_directory(const struct kv_rocks *);
int read_at(int fd, void *to, size_t n, uint64_t at); /* 0, -EBADMSG: it is shorter, -EIO */
int write_at(int fd, const void *from, size_t n, uint64_t at);

/* kv_own_log.c: a folder for RocksDB's own log; NULL, with why. What was killed left one behind, perhaps: it
 * goes. */
char *own_log_new(struct why *);
/* The index is open: folder and file lose their names. */
void own_log_unname(const char *dir);

/* kv_index.c */
int index_open(struct kv_rocks *, struct why *);
void index_close(struct kv_rocks *);
bool index_has_room(const struct kv_rocks *, uint64_t bytes); /* for so much, and what it always needs */
int index_error(char *text, const char *what);                /* takes text */
int index_position(struct kv_rocks *, uint64_t *segment, uint64_t *batch); /* -ENOENT: never switched */
/* What is in memory goes to files, in the background; a replay then begins at that segment. */
int index_switch(struct kv_rocks *, uint64_t segment, bool wait);
bool index_flushed(struct kv_rocks *);
int index_place(struct kv_rocks *, const void *key, size_t key_len, struct place *);
/* Makes the batch at `at` of a segment visible, and counts what lives where. */
enum apply_how {
    APPLY_NEW,       /* no value of KV_DATA is put that is there already */
    APPLY_REPLACING, /* one may be */
    APPLY_REPLAY     /* counting comes later */
};
int index_apply(struct kv_rocks *, struct segment *, uint32_t at, const uint8_t *batch, uint32_t len,
                enum apply_how);
int index_places(struct kv_rocks *, const void *from, size_t from_len, const void *to, size_t to_len,
                 int (*each)(void *arg, const uint8_t *key, size_t key_len, const struct place *), void *arg);
int index_each(struct kv_rocks *, enum kv_space, const void *from, size_t from_len, const void *to,
               size_t to_len,
               int (*each)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len),
               void *arg);
void place_decode(const uint8_t *, struct place *);
size_t index_key(uint8_t *to, enum kv_space, const void *key, size_t key_len);

/* kv_read.c: any thread; see kv.h. */
int data_read(struct kv_rocks *, const struct place *,
              uint8_t **value); /* the caller's to free, also if it fails */
int data_get(struct kv_rocks *, const void *key, size_t key_len,
             int (*use)(void *arg, const void *value, size_t len), void *arg);
int data_get_many(struct kv_rocks *, const uint8_t *keys, size_t key_len, unsigned n,
                  int (*use)(void *arg, unsigned i, const void *value, size_t len), void *arg);

/* kv_count.c */
void count_new(struct kv_rocks *);
void count_free(struct kv_rocks *);
void count_index(struct kv_rocks *); /* what RocksDB has written by now; db is open */

/* kv_live.c */
void live_add(struct segment *, const uint8_t *key, size_t key_len, uint32_t bytes);
void live_drop(struct kv_rocks *, const uint8_t *key, size_t key_len, const struct place *);
int live_erase(struct kv_rocks *, const struct op *); /* before it is applied */

/* kv_replay.c */
int replay(struct kv_rocks *, struct why *);

/* kv_move.c */
void move_choose(struct kv_rocks *, bool in_need);
void move_some(struct kv_rocks *, uint64_t written);
void move_in_need(struct kv_rocks *);
void remove_dead(struct kv_rocks *);

/* kv_rocks.c */
int store_append(struct kv_rocks *, struct kv_batch *, enum apply_how);
int store_roll(struct kv_rocks *, bool wait);
int store_broken(struct kv_rocks *, int err); /* err; nothing works from now on */

enum { INDEX_KEY_MAX = 1 + 255 };

#endif
