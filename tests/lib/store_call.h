/* tests/lib/store_call.h - an object store for people who wait: each call runs the loop until it is answered.
 *
 * For tests and tools of one thread. The request stays in the call, so that answers can be looked at.
 */
#ifndef ISTHMUS_STORE_CALL_H
#define ISTHMUS_STORE_CALL_H

#include "check.h"
#include "store.h"

#include <string.h>

struct call {
    struct store_req req;
    struct iovec iov;
    const char *key;
    unsigned *left; /* calls not answered yet; the last one stops the loop */
    unsigned done;
};

static inline void call_done(struct store_req *r)
{
    struct call *c = container_of(r, struct call, req);

    c->done++;
    if (--*c->left == 0)
        loop_stop(r->store->loop);
}

/* Starts n calls and runs the loop until all are answered. */
static inline void call_all(struct store *s, struct call *calls, size_t n)
{
    unsigned left = (unsigned)n;

    for (size_t i = 0; i < n; i++) {
        calls[i].left = &left;
        calls[i].done = 0;
        calls[i].req.done = call_done;
        if (calls[i].req.timeout_ms == 0)
            calls[i].req.timeout_ms = 60000;
        store_submit(s, &calls[i].req);
    }
    loop_run(s->loop);
    CHECK(left == 0);
}

static inline void call_put_set(struct call *c, const char *key, const void *data, size_t n,
                                enum store_condition condition, const char *match)
{
    memset(c, 0, sizeof(*c));
    c->iov = (struct iovec){.iov_base = (void *)data, .iov_len = n};
    c->req.op = STORE_PUT;
    c->req.key = key;
    c->req.put.iov = &c->iov;
    c->req.put.niov = 1;
    c->req.put.condition = condition;
    c->req.put.match = match;
}

static inline int call_put(struct store *s, struct call *c, const char *key, const void *data, size_t n,
                           enum store_condition condition, const char *match)
{
    call_put_set(c, key, data, n, condition, match);
    call_all(s, c, 1);
    return c->req.status;
}

static inline int call_get(struct store *s, struct call *c, const char *key, void *buf, size_t cap,
                           uint64_t offset, bool whole)
{
    memset(c, 0, sizeof(*c));
    c->req.op = STORE_GET;
    c->req.key = key;
    c->req.get.buf = buf;
    c->req.get.cap = cap;
    c->req.get.offset = offset;
    c->req.get.whole = whole;
    call_all(s, c, 1);
    return c->req.status;
}

static inline int call_head(struct store *s, struct call *c, const char *key)
{
    memset(c, 0, sizeof(*c));
    c->req.op = STORE_HEAD;
    c->req.key = key;
    call_all(s, c, 1);
    return c->req.status;
}

/* The page is the caller's: store_page_free(&c->req.page). */
static inline int call_list(struct store *s, struct call *c, const char *prefix, const char *after,
                            const char *token, size_t limit)
{
    memset(c, 0, sizeof(*c));
    c->req.op = STORE_LIST;
    c->req.list.prefix = prefix;
    c->req.list.after = after;
    c->req.list.token = token;
    c->req.list.limit = limit;
    call_all(s, c, 1);
    return c->req.status;
}

static inline int call_delete_many(struct store *s, struct call *c, const char *const *keys, size_t nkeys)
{
    memset(c, 0, sizeof(*c));
    c->req.op = STORE_DELETE;
    c->req.del.keys = keys;
    c->req.del.nkeys = nkeys;
    call_all(s, c, 1);
    return c->req.status;
}

static inline int call_delete(struct store *s, struct call *c, const char *key)
{
    return call_delete_many(s, c, &key, 1);
}

#endif
