/* initiator/datastore.h - where a source disk lives: an iSCSI LUN, an NBD export, a file. One contract.
 *
 * Everything on the loop given at open. A datastore that cannot be reached is tried again for ever, with
 * bounded jittered back-off; I/O waits meanwhile. An I/O ends with an error only when the datastore itself
 * gave a final answer about it (medium error, out of range): -EIO with a sentence naming the disk, what the
 * datastore said and what to do. Callbacks come from the loop, never from inside a call made here.
 */
#ifndef ISTHMUS_DATASTORE_H
#define ISTHMUS_DATASTORE_H

#include "loop.h"
#include "why.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct datastore;

struct datastore_info {
    uint64_t bytes; /* a multiple of block_bytes */
    uint32_t block_bytes;
    uint32_t max_io_bytes;   /* no read or write longer than this; at least 64 KiB */
    uint32_t max_zero_bytes; /* no zeroing longer than this; at least 64 KiB */
    bool read_only;
    bool reserves;      /* it has persistent reservations */
    char identity[128]; /* what the datastore calls it (NAA, serial, path), for people */
};

enum datastore_op {
    DATASTORE_READ,
    DATASTORE_WRITE,
    DATASTORE_ZERO,  /* reads as zeros afterwards; gives the space back where the datastore can */
    DATASTORE_FLUSH, /* offset and len 0: every write and zeroing that ended before is stable, if generation()
                      * is what it was when they were submitted */
    DATASTORE_MARK,  /* offset and len 0: `mark` is filled */
};

enum { DATASTORE_MARK_MAX = 64 };

/* Embedded in its owner, who fills the first part and must not touch it until done(). */
struct datastore_io {
    enum datastore_op op;
    uint64_t offset; /* bytes, a multiple of block_bytes; as is len */
    uint32_t len;
    uint8_t *data; /* read into or written from; borrowed until done() */
    void (*done)(struct datastore_io *);

    /* 0, -EIO with why, -EINVAL past the end, -ECANCELED (closed); of writes also -EROFS, -ENOSPC (said at
     * once, not retried: the owner tries again), -EBUSY (reserved by somebody else) */
    int status;
    struct why why;
    uint8_t mark[DATASTORE_MARK_MAX]; /* MARK: what is another when somebody else has written (a file's size
                                         and time); the same over restarts */
    uint8_t mark_len;                 /* 0: this datastore has no such thing */

    struct { /* private, for the datastore */
        TAILQ_ENTRY(datastore_io) entry;
        void *lane, *command; /* the session or connection that has it, and its handle there */
        uint64_t started_ns, issued_ns, retry_ns;
        unsigned tries; /* answers so far that were an error of this very I/O */
        int64_t cookie;
        uint64_t written;     /* by everybody, when it was issued */
        bool changing;        /* it is issued and no read */
        uint32_t part, zeros; /* of a ZERO that is done by writing zeros: bytes done; being written */
    } in;
};
TAILQ_HEAD(datastore_ios, datastore_io);

struct datastore_events {
    /* status 0, once: info is known. Before that, with -errno and why, whenever the datastore gave a
     * definite refusal (no such LUN, access denied, no such file); it is still retried, slowly. */
    void (*opened)(void *arg, int status, const struct why *);
    void (*resized)(void *arg, const struct datastore_info *);
    /* Somebody else holds or has removed our reservation: once for each time it is found so. While he holds
     * it, writes end with -EBUSY; when it is free it is taken again. May be NULL. */
    void (*taken)(void *arg, const struct why *);
    void *arg;
};

struct datastore_conf {
    const char *name;  /* the disk's name in the configuration: for sentences, logs and metrics */
    const char *url;   /* may hold a secret: never logged whole */
    unsigned sessions; /* iSCSI sessions or NBD connections at most; 0: 2 */
};

struct datastore_ops {
    const char *scheme; /* "iscsi", "nbd", "nbd+unix", "file" */
    /* Parses and starts. -EINVAL with why for a URL that cannot be meant. Copies conf. */
    int (*open)(struct datastore **, struct loop *, const struct datastore_conf *,
                const struct datastore_events *, struct why *);
    void (*submit)(struct datastore *, struct datastore_io *);
    /* Rises when writes that were not flushed may have been lost: a connection was lost with such writes, the
     * target was restarted. Who flushed compares it with before his first write. */
    uint64_t (*generation)(const struct datastore *);
    /* From now on, over reconnects: keep everybody else away, by a persistent reservation under `key`
     * (non-zero, the same over restarts of ours: call it at once after open, as a LUN that is reserved may
     * show itself to nobody else). With the same key again, while somebody else has it: asks at once whether
     * it is free now, and taken() tells if it is not. 0 gives it up: wait for !held() before close(). Where
     * there is none (info.reserves) nothing happens. */
    void (*hold)(struct datastore *, uint64_t key);
    bool (*held)(const struct datastore *);                         /* it is in effect */
    const struct datastore_info *(*info)(const struct datastore *); /* NULL until opened */
    /* What is wrong now, for people; NULL while it works. */
    const struct why *(*trouble)(const struct datastore *);
    /* No events from now on. Pending I/O ends soon, most of it with -ECANCELED; then it frees itself. */
    void (*close)(struct datastore *);
};

struct datastore {
    const struct datastore_ops *ops;
};

/* Chooses by scheme. */
int datastore_open(struct datastore **, struct loop *, const struct datastore_conf *,
                   const struct datastore_events *, struct why *);
/* Takes *d. */
void datastore_close(struct datastore **d);

/* Could this be opened? 0, or -EINVAL with why. Touches nothing outside the process. */
int datastore_url_check(const char *url, struct why *);
/* Does the url hold a secret? */
bool datastore_url_has_secret(const char *url);
/* The url with any secret replaced by ***, for people; the caller frees it. */
char *datastore_url_redact(const char *url);

extern const struct datastore_ops datastore_iscsi, datastore_nbd, datastore_nbd_unix, datastore_file;

#endif
