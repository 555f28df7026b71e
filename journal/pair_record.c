/* journal/pair_record.c - the pair's record in the object store: read, and changed by compare-and-swap.
 *
 * One request at a time. A change whose answer was lost may have happened, or may yet: so after any failure
 * the record is read again before anything is believed, and a change goes by what was read.
 */
#include "check.h"
#include "mem.h"
#include "pair_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void submit(struct pair *p, enum store_op op, void (*done)(struct store_req *))
{
    p->req.op = op;
    p->req.timeout_ms = PAIR_TIMEOUT_MS;
    p->req.key = p->key;
    p->req.done = done;
    p->asking = true;
    metric_add(p->m_requests, 1);
    store_submit(p->conf.store, &p->req);
}

/* The request is back. false: the pair is being stopped. */
static bool back(struct store_req *r, struct pair **p)
{
    *p = container_of(r, struct pair, req);
    (*p)->asking = false;
    if (!(*p)->stopping)
        return true;
    pair_look_stopped(*p);
    return false;
}

static void put(struct pair *p, enum store_condition condition);

static void on_read(struct store_req *r)
{
    uint8_t change[sizeof((struct arbiter *)0)->change];
    struct arbiter_edge me;
    struct arbiter found;
    struct why why = r->why, reason;
    struct pair *p;
    int err = r->status;

    if (!back(r, &p))
        return;
    if (err == -ENOENT && p->record.epoch == 0) {
        me = pair_me(p);
        loop_random(p->conf.loop, change, sizeof change);
        arbiter_first(&p->wanted, &me, change);
        p->settles = true;
        put(p, STORE_IF_ABSENT);
        return;
    }
    if (err == 0) {
        err = arbiter_open(&p->conf.master, p->name, p->bytes, r->len, &found, &reason);
        if (err)
            why_set(&why, err, "%s", reason.text);
    }
    if (err == 0 && found.epoch < p->record.epoch)
        err = why_set(&why, -EBADMSG, "it is of epoch %lu, and epoch %lu was there before", found.epoch,
                      p->record.epoch);
    if (err == 0 && found.generation > p->conf.generation)
        err =
            why_set(&why, -ENOTSUP,
                    "its members write as generation %u and this program is of generation %u: it cannot read "
                    "that, a newer one must be installed here",
                    found.generation, p->conf.generation);
    if (err) {
        pair_record_failed(p, err, &why);
        return;
    }
    p->record = found;
    snprintf(p->etag, sizeof p->etag, "%s", r->etag);
    pair_record_is(p);
}

void pair_record_read(struct pair *p)
{
    CHECK(!p->asking);
    memset(&p->req, 0, sizeof p->req);
    p->req.get.buf = p->bytes;
    p->req.get.cap = sizeof p->bytes;
    submit(p, STORE_GET, on_read);
}

static void on_put(struct store_req *r)
{
    struct why why = r->why;
    struct pair *p;
    int err = r->status;

    if (!back(r, &p))
        return;
    if (err == 0) {
        p->record = p->wanted;
        if (p->settles)
            p->unsettled = p->fresh = false;
        snprintf(p->etag, sizeof p->etag, "%s", r->etag);
        pair_record_is(p);
    } else if (err == -ESTALE || err == -EEXIST) {
        pair_record_read(p);
    } else {
        pair_record_failed(p, err, &why);
    }
}

static void put(struct pair *p, enum store_condition condition)
{
    uint8_t salt[AEAD_SALT_BYTES];

    loop_random(p->conf.loop, salt, sizeof salt);
    arbiter_seal(&p->conf.master, p->name, salt, &p->wanted, p->bytes);
    memset(&p->req, 0, sizeof p->req);
    p->iov = (struct iovec){p->bytes, ARBITER_BYTES};
    p->req.put.iov = &p->iov;
    p->req.put.niov = 1;
    p->req.put.condition = condition;
    p->req.put.match = condition == STORE_IF_MATCH ? p->etag : NULL;
    submit(p, STORE_PUT, on_put);
}

void pair_record_swap(struct pair *p)
{
    p->settles = false;
    put(p, STORE_IF_MATCH);
}

void pair_record_alone(struct pair *p)
{
    uint8_t change[sizeof p->wanted.change];
    struct arbiter_edge me = pair_me(p);

    loop_random(p->conf.loop, change, sizeof change);
    p->wanted = p->record;
    arbiter_alone(&p->wanted, &me, change);
    p->settles = true;
    put(p, STORE_IF_MATCH);
}

void pair_record_join(struct pair *p)
{
    uint8_t change[sizeof p->wanted.change];
    struct arbiter_edge me = pair_me(p), other = {p->other, p->joining, p->theirs.generation};

    loop_random(p->conf.loop, change, sizeof change);
    p->wanted = p->record;
    arbiter_join(&p->wanted, &me, &other, change);
    pair_record_swap(p);
}
