/* cache/tier_onprem.c - reads of the source disk over the link.
 *
 * A read is cut into calls of at most CALL_BLOCKS, so that a demand read never queues behind much. The VM's
 * loop hands it to the link's loop as one task; answers are decoded there, straight into the pages of the
 * blocks (ours alone until answered), and the last one posts the read back. Two loops touch a read, never
 * at once: the VM's loop before the hand-over and after the answer, the link's loop between. A promotion
 * crosses on its own: the read is kept by a reference until both are through.
 *
 * What comes back damaged is counted and asked for again. An on-prem daemon that answers anything but data
 * or "this block is bad" (-EIO) - it lost the disk from its configuration, its datastore is being looked for
 * - is asked again every RETRY_MS, with one line in the log: to the guest that is an outage.
 */
#include "check.h"
#include "link.h"
#include "log.h"
#include "mem.h"
#include "metric.h"
#include "onprem.h"
#include "readahead.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "onprem";

enum { CALL_BLOCKS = 16, RETRY_MS = 1000 };

struct tier_onprem {
    struct tier tier;
    struct loop *link_loop;
    struct peer *peer;
    struct readahead *readahead;
    char disk[PROTO_NAME_MAX + 1];
    char *vm;
    TAILQ_HEAD(, onprem_read) reads; /* VM's loop */
    atomic_bool complained;          /* the outage has been logged */
    struct metric *blocks, *demand_blocks, *reply_bytes, *read_bytes, *seconds, *damaged;
};

struct onprem_call {
    struct link_call call;
    struct onprem_read *read;
    struct timer retry;
    uint32_t at, count; /* blocks of the read */
    bool out;           /* with the link */
};

struct onprem_read {
    TAILQ_ENTRY(onprem_read) entry;
    struct tier_onprem *tier;
    struct block_req *req;
    struct task task;
    struct loop *loop, *link_loop; /* an urge may outlive the tier */
    struct task urge;              /* promotion or cancellation on its way to the link's loop */
    bool urging;                   /* VM's loop: urge is in use */
    atomic_uint refs;
    atomic_bool cancelled;
    atomic_bool cancel_sent; /* by an urge that saw cancelled */
    bool demand;
    uint64_t since_ns, bdp;
    unsigned calls_left;
    int status;
    bool *zero;
    uint8_t **pages;
    unsigned ncalls;
    struct onprem_call calls[];
};

static void read_unref(struct onprem_read *r)
{
    if (atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    free(r->zero);
    free(r->pages);
    free(r);
}

/* VM's loop: every call is answered. */
static void on_read_back(struct task *t)
{
    struct onprem_read *r = container_of(t, struct onprem_read, task);
    struct tier_onprem *o = r->tier;
    struct block_req *req = r->req;

    TAILQ_REMOVE(&o->reads, r, entry);
    for (uint32_t i = 0; i < req->count; i++)
        req->blocks[i]->zero = r->zero[i];
    req->status = r->status;
    if (req->status == 0)
        metric_add(o->read_bytes, (uint64_t)req->count * BLOCK_BYTES);
    metric_observe_ns(o->seconds, loop_now_ns(o->tier.loop) - r->since_ns);
    if (o->readahead && r->bdp)
        readahead_set_bdp(o->readahead, r->bdp);
    read_unref(r);
    req->done(req);
}

static void call_finished(struct onprem_call *c, int status)
{
    struct onprem_read *r = c->read;

    timer_free(&c->retry);
    buf_unref(&c->call.body);
    if (status)
        r->status = status;
    if (--r->calls_left)
        return;
    r->bdp = (uint64_t)((double)peer_rtt_ns(r->tier->peer) / 1e9 * (double)peer_bytes_per_s(r->tier->peer));
    r->task.run = on_read_back;
    loop_post(r->tier->tier.loop, &r->task);
}

static void ask(struct onprem_call *c)
{
    c->out = true;
    link_call(c->read->tier->peer, &c->call);
}

static void on_retry(struct timer *t)
{
    struct onprem_call *c = container_of(t, struct onprem_call, retry);

    if (atomic_load(&c->read->cancelled))
        call_finished(c, -ECANCELED);
    else
        ask(c);
}

/* Decodes an answer; -EBADMSG if it is not what was asked for. */
static int take_answer(struct onprem_call *c)
{
    struct onprem_read *r = c->read;
    struct buf *reply = c->call.reply;
    int rc = runs_decode(reply->data, reply->len, r->pages + c->at, r->zero + c->at, c->count);

    if (rc == 0) {
        metric_add(r->tier->reply_bytes, reply->len);
        if (atomic_exchange(&r->tier->complained, false))
            log_info(r->tier->vm, "%s answers again for disk %s", peer_name(r->tier->peer), r->tier->disk);
    } else {
        metric_add(r->tier->damaged, 1);
        log_error(r->tier->vm, "%s sent damaged blocks %lu+%u of disk %s: asked again",
                  peer_name(r->tier->peer), r->req->first + c->at, c->count, r->tier->disk);
    }
    buf_unref(&c->call.reply);
    return rc;
}

static void on_answer(struct link_call *call)
{
    struct onprem_call *c = container_of(call, struct onprem_call, call);
    struct onprem_read *r = c->read;

    c->out = false;
    if (call->status == 0 && take_answer(c) == 0) {
        call_finished(c, 0);
    } else if (call->status == -EIO || atomic_load(&r->cancelled)) {
        if (call->status == -EIO)
            log_error(r->tier->vm, "blocks %lu+%u of disk %s cannot be read: %s", r->req->first + c->at,
                      c->count, r->tier->disk, call->why.text);
        call_finished(c, call->status == -EIO ? -EIO : -ECANCELED);
    } else {
        if (call->status && !atomic_exchange(&r->tier->complained, true))
            log_warn(r->tier->vm, "%s cannot serve disk %s: %s: reads wait", peer_name(r->tier->peer),
                     r->tier->disk, call->why.text);
        timer_set_ms(&c->retry, call->status ? RETRY_MS : 0);
    }
}

/* Link's loop: asks for every part. */
static void on_link_loop(struct task *t)
{
    struct onprem_read *r = container_of(t, struct onprem_read, task);
    for (unsigned i = 0; i < r->ncalls; i++) {
        struct onprem_call *c = &r->calls[i];
        struct proto_read read = {.offset = (r->req->first + c->at) * BLOCK_BYTES,
                                  .bytes = c->count * BLOCK_BYTES};

        snprintf(read.name, sizeof read.name, "%s", r->tier->disk);
        c->call = (struct link_call){.type = PROTO_DISK_READ,
                                     .class = r->demand ? LINK_DEMAND : LINK_PREFETCH,
                                     .body = proto_put_read(&read),
                                     .done = on_answer};
        timer_init(&c->retry, r->tier->link_loop, on_retry);
        ask(c);
    }
}

static bool onprem_read(struct tier *t, struct block_req *req)
{
    struct tier_onprem *o = container_of(t, struct tier_onprem, tier);
    unsigned ncalls = (req->count + CALL_BLOCKS - 1) / CALL_BLOCKS;
    struct onprem_read *r = xcalloc(1, sizeof *r + ncalls * sizeof r->calls[0]);

    r->tier = o;
    r->loop = t->loop;
    r->link_loop = o->link_loop;
    r->req = req;
    r->since_ns = loop_now_ns(t->loop);
    r->ncalls = r->calls_left = ncalls;
    r->demand = req->class == TIER_DEMAND;
    r->zero = xcalloc(req->count, sizeof *r->zero);
    r->pages = xcalloc(req->count, sizeof *r->pages);
    for (uint32_t i = 0; i < req->count; i++)
        r->pages[i] = req->blocks[i]->data;
    for (unsigned i = 0; i < ncalls; i++) {
        r->calls[i].read = r;
        r->calls[i].at = i * CALL_BLOCKS;
        r->calls[i].count = i + 1 < ncalls ? CALL_BLOCKS : req->count - i * CALL_BLOCKS;
    }
    atomic_init(&r->refs, 1);
    req->tier_private = r;
    TAILQ_INSERT_TAIL(&o->reads, r, entry);
    metric_add(o->blocks, req->count);
    if (r->demand)
        metric_add(o->demand_blocks, req->count);
    r->task.run = on_link_loop;
    loop_post(o->link_loop, &r->task);
    return false;
}

static void urge(struct onprem_read *r);

/* VM's loop: the urge is through, and may be used again. */
static void on_urged(struct task *t)
{
    struct onprem_read *r = container_of(t, struct onprem_read, urge);

    r->urging = false;
    if (atomic_load(&r->cancelled) && !atomic_load(&r->cancel_sent))
        urge(r);
    read_unref(r);
}

/* Link's loop: moves up, or ends, what is still unanswered. */
static void on_urge(struct task *t)
{
    struct onprem_read *r = container_of(t, struct onprem_read, urge);
    bool cancel = atomic_load(&r->cancelled);

    atomic_store(&r->cancel_sent, cancel);
    for (unsigned i = 0; i < r->ncalls; i++) {
        struct onprem_call *c = &r->calls[i];

        if (c->out && cancel)
            link_call_cancel(&c->call);
        else if (c->out)
            link_call_promote(&c->call, LINK_DEMAND);
    }
    r->urge.run = on_urged;
    loop_post(r->loop, &r->urge);
}

static void urge(struct onprem_read *r)
{
    if (r->urging)
        return;
    r->urging = true;
    atomic_fetch_add(&r->refs, 1);
    r->urge.run = on_urge;
    loop_post(r->link_loop, &r->urge);
}

static void onprem_promote(struct tier *t, struct block_req *req)
{
    (void)t;
    if (req->class == TIER_DEMAND)
        return;
    req->class = TIER_DEMAND;
    urge(req->tier_private);
}

static void onprem_quiesce(struct tier *t)
{
    struct tier_onprem *o = container_of(t, struct tier_onprem, tier);
    struct onprem_read *r;

    TAILQ_FOREACH (r, &o->reads, entry) {
        atomic_store(&r->cancelled, true);
        urge(r);
    }
}

static void onprem_free(struct tier *t)
{
    struct tier_onprem *o = container_of(t, struct tier_onprem, tier);

    CHECK(TAILQ_EMPTY(&o->reads));
    metric_free(&o->blocks);
    metric_free(&o->demand_blocks);
    metric_free(&o->reply_bytes);
    metric_free(&o->read_bytes);
    metric_free(&o->seconds);
    metric_free(&o->damaged);
    free(o->vm);
    free(o);
}

static const struct tier_ops onprem_ops = {.name = "onprem",
                                           .read = onprem_read,
                                           .promote = onprem_promote,
                                           .quiesce = onprem_quiesce,
                                           .free = onprem_free};

struct tier *tier_onprem_new(struct loop *loop, struct loop *link_loop, struct peer *peer, const char *disk,
                             const char *vm, struct readahead *readahead)
{
    static const char blocks[] = "isthmus_tier_blocks_total", blocks_help[] = "Blocks asked of a tier";
    struct tier_onprem *o = xcalloc(1, sizeof *o);

    o->tier = (struct tier){.ops = &onprem_ops, .loop = loop};
    o->link_loop = link_loop;
    o->peer = peer;
    o->readahead = readahead;
    TAILQ_INIT(&o->reads);
    snprintf(o->disk, sizeof o->disk, "%s", disk);
    o->vm = xstrdup(vm);
    o->blocks =
        metric_new(METRIC_COUNTER, blocks, blocks_help, "vm=\"%s\",tier=\"onprem\",result=\"hit\"", vm);
    o->demand_blocks = metric_new(METRIC_COUNTER, "isthmus_onprem_demand_blocks_total",
                                  "Blocks that a guest was waiting for when they were asked for over the WAN",
                                  "vm=\"%s\"", vm);
    o->read_bytes = metric_new(METRIC_COUNTER, "isthmus_tier_bytes_total", "Bytes a tier has handed upwards",
                               "vm=\"%s\",tier=\"onprem\",direction=\"read\"", vm);
    o->reply_bytes = metric_new(METRIC_COUNTER, "isthmus_onprem_reply_bytes_total",
                                "Bytes of block data received over the WAN, as encoded", "vm=\"%s\"", vm);
    o->seconds = metric_new(METRIC_HISTOGRAM, "isthmus_tier_read_seconds",
                            "How long a tier and those below it took to answer a read",
                            "vm=\"%s\",tier=\"onprem\"", vm);
    o->damaged = metric_new(METRIC_COUNTER, "isthmus_onprem_damaged_replies_total",
                            "Replies that did not decode and were asked for again", "vm=\"%s\"", vm);
    return &o->tier;
}
