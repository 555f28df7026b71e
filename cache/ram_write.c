/* cache/ram_write.c - what a committed write does to the RAM tier.
 *
 * Nothing here waits or fails. Where memory is short a block is dropped: the log below holds the write
 * already, so the next read fetches what is right. A block that somebody holds is replaced, never changed; a
 * block in flight gets the write laid over it when it arrives. Loop thread only, in commit order.
 */
#include "ram_impl.h"

#include <string.h>

/* Zeros for more blocks than this only change what is held: a trimmed disk must not fill the memory. */
enum { INSERT_ZEROS_MAX = 256 };

/* A part of one block: sectors [from, from + n); data NULL is zeros. */
struct patch {
    uint64_t key;
    uint32_t from, n;
    const uint8_t *data;
    bool insert;
};

static bool is_zero(const uint8_t *p, size_t n)
{
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static void put(uint8_t *block, const struct patch *p)
{
    if (p->data)
        memcpy(block + p->from * SECTOR_BYTES, p->data, p->n * SECTOR_BYTES);
    else
        memset(block + p->from * SECTOR_BYTES, 0, p->n * SECTOR_BYTES);
}

/* Readers who wait for memory come first. */
static bool room(struct ram *m, uint32_t pages)
{
    return STAILQ_EMPTY(&m->memory) && ram_reserve(m, pages, 1);
}

static void whole_filling(struct ram *m, struct slot *s, const struct patch *p)
{
    struct slot *by;

    if (!room(m, p->data ? 1 : 0)) { /* then it waits for the fill like a part */
        struct overlay *o = fill_overlay(s);

        put(o->data, p);
        o->mask = 0xff;
        return;
    }
    slot_detach(m, s);
    by = slot_new(m, p->key, !p->data);
    if (p->data)
        put(by->b.data, p);
    slot_ready(m, by);
    policy_insert(m, by);
    fill_supersede(m, s, by);
}

static void whole_insert(struct ram *m, const struct patch *p)
{
    struct slot *s;

    if (!p->insert || !room(m, p->data ? 1 : 0))
        return;
    s = slot_new(m, p->key, !p->data);
    if (p->data)
        put(s->b.data, p);
    slot_ready(m, s);
    policy_insert(m, s);
}

/* Replaces a READY block that is held, or must have a page. from_old: the rest of it stays. */
static void replace(struct ram *m, struct slot *old, const struct patch *p, bool from_old)
{
    bool page = from_old || p->data;
    struct slot *by;

    slot_ref(m, old); /* not to be evicted, nor freed yet */
    slot_detach(m, old);
    if (room(m, page ? 1 : 0)) {
        by = slot_new(m, p->key, !page);
        if (from_old)
            memcpy(by->b.data, old->b.data, BLOCK_BYTES);
        if (page)
            put(by->b.data, p);
        slot_ready(m, by);
        policy_insert_like(m, by, old);
    }
    block_unref(&old->b);
}

static void ready(struct ram *m, struct slot *s, const struct patch *p)
{
    bool whole = p->n == BLOCK_SECTORS;

    if (!p->data && s->b.zero)
        return;
    if (s->b.refs == 0 && whole && !p->data) {
        slot_make_zero(m, s);
        return;
    }
    if (s->b.refs == 0 && !s->b.zero) {
        put(s->b.data, p);
        return;
    }
    replace(m, s, p, !whole);
}

static void apply(struct tier_ram *rt, const struct patch *p)
{
    struct ram *m = rt->ram;
    struct slot *s = index_find(m, p->key);

    if (!s) {
        if (p->n == BLOCK_SECTORS)
            whole_insert(m, p);
        return;
    }
    if (s->flags & SLOT_PREFETCHED) {
        s->flags &= (uint8_t)~SLOT_PREFETCHED;
        metric_add(rt->wasted, 1);
    }
    if (s->state == SLOT_READY) {
        ready(m, s, p);
    } else if (p->n == BLOCK_SECTORS) {
        whole_filling(m, s, p);
    } else {
        struct overlay *o = fill_overlay(s);

        put(o->data, p);
        o->mask |= (uint8_t)(((1u << p->n) - 1) << p->from);
    }
}

/* A range of more blocks than there are slots: look at what is held instead. */
static void zero_held(struct tier_ram *rt, uint64_t first, uint64_t end)
{
    struct ram *m = rt->ram;

    for (uint32_t i = 1; i < m->untouched; i++) {
        struct slot *s = &m->slots[i];

        if ((s->state == SLOT_READY || s->state == SLOT_FILLING) && s->key >= rt->key + first &&
            s->key < rt->key + end)
            apply(rt, &(struct patch){s->key, 0, BLOCK_SECTORS, NULL, false});
    }
}

void tier_ram_written(struct tier *t, uint64_t lba, uint32_t nsectors, const uint8_t *data)
{
    struct tier_ram *rt = container_of(t, struct tier_ram, tier);
    uint64_t end = lba + nsectors;
    bool insert = data || nsectors <= INSERT_ZEROS_MAX * BLOCK_SECTORS;

    while (lba < end) {
        uint32_t from = (uint32_t)(lba % BLOCK_SECTORS), n = BLOCK_SECTORS - from;
        struct patch p = {rt->key + lba / BLOCK_SECTORS, from, 0, data, insert};

        if (from == 0 && !data && (end - lba) / BLOCK_SECTORS > rt->ram->nslots) {
            uint64_t blocks = (end - lba) / BLOCK_SECTORS;

            zero_held(rt, lba / BLOCK_SECTORS, lba / BLOCK_SECTORS + blocks);
            lba += blocks * BLOCK_SECTORS;
            continue;
        }
        p.n = end - lba < n ? (uint32_t)(end - lba) : n;
        if (data) {
            if (p.n == BLOCK_SECTORS && is_zero(data, BLOCK_BYTES))
                p.data = NULL;
            data += p.n * SECTOR_BYTES;
        }
        apply(rt, &p);
        lba += p.n;
    }
    ram_note_used(rt->ram);
}
