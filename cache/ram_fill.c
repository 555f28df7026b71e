/* cache/ram_fill.c - requests of the RAM tier to the next one.
 *
 * A missing block is fetched once: a fill owns the blank blocks of one request and knows every reader that
 * waits for some of them (ram_wait.c). What is written meanwhile is laid over what arrives (ram_write.c). If
 * the request fails, nothing of it stays. Loop thread only.
 */
#include "ram_impl.h"

#include "mem.h"

#include <errno.h>
#include <string.h>

uint32_t fill_heap_bytes(uint32_t count)
{
    return (uint32_t)(sizeof(struct fill) + count * sizeof(struct block *));
}

void fill_attach(struct fill *f, struct wait *w)
{
    struct wait_node *n;

    SLIST_FOREACH (n, &f->waits, entry)
        if (n->wait == w)
            return;
    n = xmalloc(sizeof(*n));
    n->wait = w;
    w->nodes++;
    SLIST_INSERT_HEAD(&f->waits, n, entry);
    if (f->req.class == TIER_PREFETCH && w->req->class == TIER_DEMAND) {
        f->req.class = TIER_DEMAND;
        tier_promote(f->tier->tier.next, &f->req);
    }
}

void fill_detach(struct fill *f, struct wait *w)
{
    struct wait_node *n;

    SLIST_FOREACH (n, &f->waits, entry)
        if (n->wait == w)
            break;
    if (!n)
        return;
    SLIST_REMOVE(&f->waits, n, wait_node, entry);
    free(n);
    w->nodes--; /* its reader is not told of anything yet: it stays */
}

/* Where a fill and a reader overlap, as offsets in the fill; false if the reader wants nothing of it any
 * more. */
static bool overlap(const struct fill *f, const struct wait *w, uint32_t *from, uint32_t *to)
{
    uint64_t first, end;

    if (w->finished || w->queued)
        return false;
    first = w->req->first > f->req.first ? w->req->first : f->req.first;
    end = w->req->first + w->req->count;
    if (end > f->req.first + f->req.count)
        end = f->req.first + f->req.count;
    *from = (uint32_t)(first - f->req.first);
    *to = (uint32_t)(end - f->req.first);
    return first < end;
}

static struct block **wanted(const struct fill *f, const struct wait *w, uint32_t k)
{
    return &w->req->blocks[f->req.first + k - w->req->first];
}

struct fill *fill_new(struct tier_ram *rt, uint64_t first, uint32_t count, enum tier_class class)
{
    struct ram *m = rt->ram;
    struct fill *f = xcalloc(1, fill_heap_bytes(count));

    f->ram = m;
    f->tier = rt;
    f->prefetch = class == TIER_PREFETCH;
    f->req.first = first;
    f->req.count = count;
    f->req.class = class;
    f->req.blocks = f->blocks;
    SLIST_INIT(&f->waits);
    for (uint32_t k = 0; k < count; k++) {
        struct slot *s = slot_new(m, rt->key + first + k, false);

        s->u.fill = f;
        f->blocks[k] = &s->b;
    }
    LIST_INSERT_HEAD(&rt->flying, f, flying);
    m->nfills++;
    m->fill_bytes += fill_heap_bytes(count);
    return f;
}

struct overlay *fill_overlay(struct slot *s)
{
    struct fill *f = s->u.fill;
    uint32_t k = 0;

    if (!f->overlays)
        f->overlays = xcalloc(f->req.count, sizeof(struct overlay *));
    while (f->blocks[k] != &s->b)
        k++;
    if (!f->overlays[k]) {
        f->overlays[k] = xmalloc(sizeof(struct overlay));
        f->overlays[k]->mask = 0;
    }
    return f->overlays[k];
}

/* What arrived, with what was written meanwhile laid over it. */
static void block_settle(struct ram *m, struct slot *s, const struct overlay *o)
{
    bool zero = s->b.zero;

    s->b.zero = false;
    if (zero && o && o->mask != 0)
        memset(s->b.data, 0, BLOCK_BYTES);
    else if (zero)
        slot_make_zero(m, s);
    for (unsigned i = 0; o && i < BLOCK_SECTORS; i++)
        if (o->mask >> i & 1)
            memcpy(s->b.data + i * SECTOR_BYTES, o->data + i * SECTOR_BYTES, SECTOR_BYTES);
    slot_ready(m, s);
    policy_insert(m, s);
}

static void fill_settle(struct ram *m, struct fill *f)
{
    for (uint32_t k = 0; k < f->req.count; k++) {
        struct slot *s = slot_of(f->blocks[k]);

        if (s->state != SLOT_DETACHED && f->req.status == 0) {
            block_settle(m, s, f->overlays ? f->overlays[k] : NULL);
            if (f->prefetch)
                s->flags |= SLOT_PREFETCHED;
            continue;
        }
        if (s->state != SLOT_DETACHED)
            slot_detach(m, s);
        slot_free(m, s);
    }
}

static void fill_give(struct ram *m, struct fill *f, struct wait *w)
{
    uint32_t from, to, given = 0;

    if (!overlap(f, w, &from, &to))
        return;
    for (uint32_t k = from; k < to; k++) {
        if (*wanted(f, w, k) || f->superseded >> k & 1)
            continue;
        *wanted(f, w, k) = slot_take(f->tier, slot_of(f->blocks[k]));
        given++;
    }
    wait_account(m, w, given);
}

/* A fill failed: a reader who wanted all of it fails. One who wanted a part asks for that part alone, since
 * it may well be good; true: he has to. */
static bool fill_fail(struct ram *m, struct fill *f, struct wait *w)
{
    uint32_t from, to, lost = 0;

    if (!overlap(f, w, &from, &to))
        return false;
    for (uint32_t k = from; k < to; k++)
        lost += !*wanted(f, w, k) && !(f->superseded >> k & 1);
    if (lost > 0 && lost < f->req.count && w->status == 0 && f->req.status == -EIO)
        return true;
    if (lost > 0 && w->status == 0)
        w->status = f->req.status;
    wait_account(m, w, lost);
    return false;
}

static void fill_free(struct ram *m, struct fill *f)
{
    for (uint32_t k = 0; f->overlays && k < f->req.count; k++)
        free(f->overlays[k]);
    free(f->overlays);
    m->nfills--;
    m->fill_bytes -= fill_heap_bytes(f->req.count);
    free(f);
}

/* Gives each reader his blocks. Leaves those who have to ask again on f->waits. */
static void fill_answer(struct ram *m, struct fill *f)
{
    SLIST_HEAD(, wait_node) all;
    struct wait_node *n;

    all.slh_first = f->waits.slh_first;
    SLIST_INIT(&f->waits);
    while ((n = SLIST_FIRST(&all))) {
        struct wait *w = n->wait;
        bool again = false;

        SLIST_REMOVE_HEAD(&all, entry);
        if (f->req.status == 0)
            fill_give(m, f, w);
        else
            again = fill_fail(m, f, w);
        if (again) {
            SLIST_INSERT_HEAD(&f->waits, n, entry);
            continue;
        }
        free(n);
        wait_forget_node(w);
    }
}

static void fill_arrived(struct fill *f)
{
    struct tier_ram *rt = f->tier;
    struct ram *m = f->ram;
    struct wait_node *n;

    if (!rt) /* the tier is gone: nobody waits and nothing may stay */
        f->req.status = -ECANCELED;
    else
        LIST_REMOVE(f, flying);
    if (rt && f->prefetch)
        rt->prefetching -= f->req.count;
    fill_settle(m, f);
    fill_answer(m, f);
    while ((n = SLIST_FIRST(&f->waits))) {
        SLIST_REMOVE_HEAD(&f->waits, entry);
        wait_start_or_queue(m, n->wait);
        wait_forget_node(n->wait);
        free(n);
    }
    for (uint32_t k = 0; f->uncached && f->req.status == 0 && k < f->req.count; k++)
        if (!(f->superseded >> k & 1))
            slot_detach(m, slot_of(f->blocks[k]));
    fill_free(m, f);
    ram_note_used(m);
    ram_wake(m);
    if (rt)
        tier_ram_check_idle(rt);
}

static void on_fill(struct block_req *r)
{
    struct fill *f = container_of(r, struct fill, req);
    struct ram *m = f->ram;

    fill_arrived(f);
    ram_deliver(m);
}

void fill_submit(struct fill *f)
{
    f->req.done = on_fill;
    if (tier_read(f->tier->tier.next, &f->req))
        fill_arrived(f);
}

void fill_supersede(struct ram *m, struct slot *filling, struct slot *by)
{
    struct fill *f = filling->u.fill;
    struct wait_node *n;
    uint32_t k = 0, from, to;

    while (f->blocks[k] != &filling->b)
        k++;
    f->superseded |= 1ull << k;
    SLIST_FOREACH (n, &f->waits, entry) {
        if (!overlap(f, n->wait, &from, &to) || k < from || k >= to || *wanted(f, n->wait, k))
            continue;
        *wanted(f, n->wait, k) = slot_take(f->tier, by);
        wait_account(m, n->wait, 1);
    }
    ram_deliver_later(m);
}
