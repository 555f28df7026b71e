/* cache/ram_wait.c - readers of the RAM tier whose blocks are not all in memory.
 *
 * A reader takes all the memory it needs at once or none: one that must wait for memory gives back what it
 * holds, so that two large readers cannot stop each other. Readers wait for memory in order; a prefetch never
 * does. The queue holds a reader once, so it is bounded by the reads that are out. Loop thread only.
 */
#include "ram_impl.h"

#include "mem.h"

#include <errno.h>

static void wait_drop_blocks(struct wait *w)
{
    for (uint32_t i = 0; i < w->req->count; i++) {
        if (w->req->blocks[i])
            block_unref(w->req->blocks[i]);
        w->req->blocks[i] = NULL;
    }
}

void wait_account(struct ram *m, struct wait *w, uint32_t blocks)
{
    CHECK(w->remaining >= blocks);
    w->remaining -= blocks;
    if (w->remaining > 0 || w->finished)
        return;
    if (w->status != 0)
        wait_drop_blocks(w);
    w->req->status = w->status;
    w->finished = true;
    if (!w->submitting)
        STAILQ_INSERT_TAIL(&m->finished, w, entry);
}

void wait_forget_node(struct wait *w)
{
    if (--w->nodes == 0 && w->delivered)
        free(w);
}

void ram_deliver(struct ram *m)
{
    struct wait *w;

    if (m->delivering)
        return; /* a done() has led here again: the outer loop goes on */
    m->delivering = true;
    while ((w = STAILQ_FIRST(&m->finished))) {
        struct block_req *r = w->req;

        STAILQ_REMOVE_HEAD(&m->finished, entry);
        w->req = NULL;
        w->delivered = true;
        if (w->nodes == 0)
            free(w);
        r->done(r);
    }
    m->delivering = false;
}

void ram_deliver_task(struct task *t)
{
    struct ram *m = container_of(t, struct ram, deliver_task);

    m->deliver_posted = false;
    ram_deliver(m);
}

void ram_deliver_later(struct ram *m)
{
    if (m->deliver_posted || STAILQ_EMPTY(&m->finished))
        return;
    m->deliver_posted = true;
    loop_post(m->loop, &m->deliver_task);
}

struct need {
    uint32_t missing, runs, bytes;
};

/* Takes what is there and counts what is not. */
static struct need wait_look(struct ram *m, struct wait *w)
{
    struct need need = {0, 0, 0};
    uint32_t run = 0;

    w->remaining = 0;
    for (uint32_t i = 0; i < w->req->count; i++) {
        struct slot *s = NULL;

        if (!w->req->blocks[i]) {
            s = index_find(m, w->tier->key + w->req->first + i);
            if (s && s->state == SLOT_READY)
                w->req->blocks[i] = slot_take(w->tier, s);
            else
                w->remaining++;
        }
        if (w->req->blocks[i] || s) {
            run = 0;
            continue;
        }
        if (run++ % RAM_FILL_BLOCKS == 0)
            need.runs++;
        need.missing++;
    }
    if (!w->counted && w->req->class == TIER_DEMAND) {
        metric_add(w->tier->hits, w->req->count - w->remaining);
        metric_add(w->tier->misses, w->remaining);
    }
    w->counted = true;
    need.bytes = need.runs * fill_heap_bytes(0) + need.missing * (uint32_t)sizeof(struct block *);
    return need;
}

/* Joins the fills in flight and makes new ones for the rest: as few as can be. */
static void wait_join(struct ram *m, struct wait *w, struct fill_list *fresh)
{
    uint64_t key = w->tier->key + w->req->first;
    uint32_t i = 0;

    while (i < w->req->count) {
        struct slot *s = w->req->blocks[i] ? NULL : index_find(m, key + i);
        uint32_t n = 1;
        struct fill *f;

        if (w->req->blocks[i]) {
            i++;
            continue;
        }
        if (s) {
            CHECK(s->state == SLOT_FILLING);
            fill_attach(s->u.fill, w);
            i++;
            continue;
        }
        while (n < RAM_FILL_BLOCKS && i + n < w->req->count && !w->req->blocks[i + n] &&
               !index_find(m, key + i + n))
            n++;
        n = tier_alike(w->tier->tier.next, w->req->first + i, n);
        f = fill_new(w->tier, w->req->first + i, n, w->req->class);
        f->prefetch = false;
        fill_attach(f, w);
        STAILQ_INSERT_TAIL(fresh, f, entry);
        i += n;
    }
}

/* False: no memory now; the caller queues w, which holds what it found (to be dropped). */
static bool wait_start(struct ram *m, struct wait *w, bool from_queue)
{
    struct fill_list fresh = STAILQ_HEAD_INITIALIZER(fresh);
    struct need need = wait_look(m, w);
    struct fill *f;

    if (need.missing > 0) {
        if (!from_queue && !STAILQ_EMPTY(&m->memory))
            return false;
        if (m->nfills > 0 && m->fill_bytes + need.bytes > m->fill_bytes_max)
            return false;
        if (!ram_reserve(m, need.missing, need.missing))
            return false;
    }
    if (w->remaining == 0) {
        w->remaining = 1;
        wait_account(m, w, 1);
        return true;
    }
    wait_join(m, w, &fresh);
    ram_note_used(m);
    while ((f = STAILQ_FIRST(&fresh))) {
        STAILQ_REMOVE_HEAD(&fresh, entry);
        fill_submit(f);
    }
    return true;
}

void wait_start_or_queue(struct ram *m, struct wait *w)
{
    if (w->queued || w->finished)
        return;
    if (wait_start(m, w, false))
        return;
    wait_drop_blocks(w);
    if (w->req->class == TIER_PREFETCH) { /* nobody waits for it: dropped */
        w->status = -ECANCELED;
        w->remaining = 1;
        wait_account(m, w, 1);
        return;
    }
    w->queued = true;
    metric_add(m->waits, 1);
    STAILQ_INSERT_TAIL(&m->memory, w, entry);
}

/* Memory came back: readers start in order, until one has to go on waiting. */
void ram_memory_task(struct task *t)
{
    struct ram *m = container_of(t, struct ram, memory_task);
    struct wait *w;

    /* memory_posted stays: what a reader gives back below is no news */
    while ((w = STAILQ_FIRST(&m->memory))) {
        STAILQ_REMOVE_HEAD(&m->memory, entry);
        w->queued = false;
        if (wait_start(m, w, true))
            continue;
        wait_drop_blocks(w);
        w->queued = true;
        STAILQ_INSERT_HEAD(&m->memory, w, entry);
        break;
    }
    m->memory_posted = false;
    ram_deliver(m);
}

/* A reader whose blocks are not all there: true if they were after all, or came at once. */
bool ram_read_missing(struct tier_ram *rt, struct block_req *r)
{
    struct ram *m = rt->ram;
    struct wait *w = xcalloc(1, sizeof(*w));
    bool finished;

    w->req = r;
    w->tier = rt;
    r->tier_private = w;
    w->submitting = true;
    wait_start_or_queue(m, w);
    w->submitting = false;
    finished = w->finished;
    if (finished) {
        w->delivered = true;
        w->req = NULL;
        if (w->nodes == 0)
            free(w);
    }
    return finished;
}

/* The fills keep what they are at: others may wait for it, and it has been paid for. */
void tier_ram_cancel(struct tier *t, struct block_req *r)
{
    struct wait *w = r->tier_private;
    struct ram *m = w->tier->ram;

    CHECK(&w->tier->tier == t && w->req == r && !w->submitting);
    if (w->finished)
        return;
    if (w->queued) {
        STAILQ_REMOVE(&m->memory, w, wait, entry);
        w->queued = false;
        ram_wake(m); /* who stood behind it */
    }
    for (uint32_t i = 0; i < r->count; i++) {
        struct slot *s = r->blocks[i] ? NULL : index_find(m, w->tier->key + r->first + i);

        if (s && s->state == SLOT_FILLING)
            fill_detach(s->u.fill, w);
    }
    w->status = -ECANCELED;
    w->remaining = 1;
    wait_account(m, w, 1);
    ram_deliver_later(m);
}

void ram_promote_waiting(struct wait *w)
{
    struct ram *m = w->tier->ram;

    w->req->class = TIER_DEMAND;
    for (uint32_t i = 0; i < w->req->count; i++) {
        struct slot *s = w->req->blocks[i] ? NULL : index_find(m, w->tier->key + w->req->first + i);
        struct fill *f = s && s->state == SLOT_FILLING ? s->u.fill : NULL;

        if (f && f->req.class == TIER_PREFETCH) {
            f->req.class = TIER_DEMAND;
            tier_promote(w->tier->tier.next, &f->req);
        }
    }
}
