/* journal/store/store.h - objects in somebody else's keeping: the whole contract of an object store.
 *
 * A store belongs to one loop: everything here is called on its thread. The caller owns the request, its key,
 * its buffers and lists, and lends them from store_submit() until done(), which fires exactly once and
 * never before store_submit() has returned; by then nobody touches any of it any more, and the request may
 * be used again or freed. A request is never lost: it ends at the latest at its deadline (dir: as soon as the
 * kernel lets go of it). At most store->inflight_max requests run; the others wait in their own structs.
 *
 * What callers rely on: an object is there wholly or not at all; after a put was answered every get, head and
 * list sees it and it is on stable storage; of several puts under a condition at most one wins. A put that
 * failed with anything but -EEXIST, -ESTALE, -EACCES, -EINVAL or -EOPNOTSUPP may still have happened, or
 * may yet happen: use store_retry, and never overwrite a key without a condition when that could hurt.
 *
 * An etag may be the same again when the same bytes are put again (S3's is a hash of them): what is swapped
 * by if-match must hold something that never comes twice, such as a count and who wrote it.
 *
 * Statuses: 0, and each of these with a sentence in why:
 *   -ENOENT       no such object
 *   -EEXIST       put, if-absent: there is one
 *   -ESTALE       put, if-match: it is another one, or gone
 *   -EACCES       refused: credentials, permission, signature, clock
 *   -EINVAL       the store can never serve this (no such bucket, a key or size it cannot have)
 *   -EOPNOTSUPP   the store does not know how (conditions on a store without them)
 *   -EFBIG        get, whole: the object does not fit; `size` says how large it is
 *   -EBADMSG      what came back is not what was stored, or no answer at all of this protocol
 *   -ENOSPC       full
 *   -EAGAIN       told to slow down; retry_after_ms may say for how long
 *   -ENOTCONN     could not be reached, or no trust (TLS): nothing was sent
 *   -EIO          anything else: what happened is not known
 *   -ETIMEDOUT    the deadline passed       -ECANCELED    store_cancel
 */
#ifndef ISTHMUS_STORE_H
#define ISTHMUS_STORE_H

#include "loop.h"
#include "why.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

/* Keys: segments of printable ASCII without '/', '\' and blanks, at most STORE_SEGMENT_MAX each and not first
 * '.', joined by single '/'; no key is a directory of another ("a" and "a/b"). */
enum {
    STORE_KEY_MAX = 512,
    STORE_SEGMENT_MAX = 200,
    STORE_ETAG_MAX = 127,
    STORE_TOKEN_MAX = 2048,
    STORE_LIST_MAX = 1000,
    STORE_DELETE_MAX = 1000,
};
#define STORE_OBJECT_MAX (16ull << 30) /* bytes */

enum store_op { STORE_PUT, STORE_GET, STORE_HEAD, STORE_LIST, STORE_DELETE, STORE_OPS };
enum store_condition { STORE_ALWAYS, STORE_IF_ABSENT, STORE_IF_MATCH };

struct store_entry {
    const char *key; /* in the page's memory */
    uint64_t size;   /* bytes */
};

/* An answer to STORE_LIST. Belongs to the caller from done() on. */
struct store_page {
    size_t count;
    char *next; /* the token of the next page; NULL: this was the last */
    struct store_entry entries[];
};

struct store;

struct store_req {
    /* Set by the caller; op, key, the operation's part, timeout_ms and done at least, the rest 0. */
    enum store_op op;
    uint32_t timeout_ms; /* from store_submit(); never 0 */
    void (*done)(struct store_req *);
    const char *key; /* put, get, head */
    union {
        struct {
            const struct iovec *iov; /* the object; niov may be 0 */
            size_t niov;
            enum store_condition condition;
            const char *match; /* STORE_IF_MATCH: the etag that must be there */
        } put;
        struct {
            void *buf;
            size_t cap;
            uint64_t offset; /* as pread: less, or nothing, past the end */
            bool whole;      /* offset 0, the complete object, its checksum verified; else -EFBIG */
        } get;
        struct {
            const char *prefix; /* of characters, not segments; "" is all */
            const char *after;  /* keys greater than this; "" or NULL: from the first */
            const char
                *token;   /* a page's `next` for the same prefix (`after` is then not looked at), or NULL */
            size_t limit; /* entries a page: 1 to STORE_LIST_MAX; a page may have fewer, even none */
        } list;
        struct {
            const char *const *keys; /* it is no failure that one is not there */
            size_t nkeys;            /* 1 to STORE_DELETE_MAX */
        } del;
    };

    /* Set by the store before done(). */
    int status;
    struct why why;                /* if status is not 0 */
    char etag[STORE_ETAG_MAX + 1]; /* put, get, head: of the object; "" if the store gave none */
    uint64_t size;                 /* get, head: of the whole object; -EFBIG too */
    int64_t put_s;           /* get, head: when it was put, since 1970 by the store's clock; 0: not told */
    size_t len;              /* get: bytes in buf */
    struct store_page *page; /* list: rising by bytes; free with store_page_free() */
    size_t ndeleted;         /* delete: of the keys; on failure the others may be there still */
    uint32_t retry_after_ms; /* what the store asked for, 0: nothing */
    int64_t clock_s;         /* the store's own clock (seconds since 1970) in its answer, 0: not told */

    /* Private to store.c. */
    struct store *store;
    struct task task;
    struct timer timer;
    uint64_t deadline_ns;
    TAILQ_ENTRY(store_req) entry;
    uint8_t state;
    int ending;
    void *backend; /* private to the backend while it runs */
};

TAILQ_HEAD(store_reqs, store_req);

/* What a backend or a wrapper is made of (store_backend.h has what it calls back). */
struct store_ops {
    const char *name;
    /* Ends in store_finish(), at once or later. */
    void (*start)(struct store *, struct store_req *);
    /* A started request is wanted no more: ends soon, usually with -ECANCELED, or with what it had become. */
    void (*cancel)(struct store *, struct store_req *);
    void (*free)(struct store *); /* nothing is in flight */
};

struct store {
    const struct store_ops *ops;
    struct loop *loop;
    char *name; /* for the log and for sentences: the URL without anything secret */
    unsigned inflight_max;
    /* private to store.c */
    unsigned inflight;
    struct store_reqs waiting, running;
};

void store_submit(struct store *, struct store_req *);
/* done() still comes, soon, with -ECANCELED unless it had ended by itself. After done(): not allowed. */
void store_cancel(struct store_req *);
/* Every request must have had its done(). A wrapper frees what it wraps. Leaves NULL. */
void store_free(struct store **);

void store_page_free(struct store_page **);

/* May this be a key? A prefix is less strict: any start of a key. */
bool store_key_ok(const char *key);
bool store_prefix_ok(const char *prefix);
uint64_t store_put_bytes(const struct store_req *); /* of a put's iovec */
const char *store_op_name(enum store_op);           /* "put", "get", ... */

#endif
