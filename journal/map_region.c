/* journal/map_region.c - see map_region.h.
 */
#include "map_region.h"
#include "check.h"
#include "wire.h"

#include <errno.h>
#include <string.h>

enum { REGION_KIND_DATA = 1, REGION_KIND_ZERO = 2 };

static uint32_t end_of(const struct region_entry *e)
{
    return (uint32_t)e->sector + e->nsectors;
}

int region_read(struct region *g, const uint8_t *bytes, size_t n)
{
    struct reader r = reader_of(bytes, n);
    uint32_t before = 0;

    g->n = 0;
    if (n == 0 || n % REGION_ENTRY_BYTES || n > (size_t)REGION_SECTORS * REGION_ENTRY_BYTES)
        return -EBADMSG;
    while (r.p < r.end) {
        struct region_entry *e = &g->entries[g->n++];
        uint8_t kind;

        e->sector = read16(&r);
        e->nsectors = read16(&r);
        kind = read8(&r);
        e->zero = kind == REGION_KIND_ZERO;
        e->frame_sector = read8(&r);
        if (read16(&r) != 0 || (kind != REGION_KIND_DATA && kind != REGION_KIND_ZERO))
            return -EBADMSG;
        e->object = read64(&r);
        e->frame_at = read32(&r);
        e->frame_bytes = read32(&r);
        if (e->nsectors == 0 || e->sector < before || end_of(e) > REGION_SECTORS || e->object == 0)
            return -EBADMSG;
        if (!e->zero && e->frame_sector + e->nsectors > LOGOBJ_FRAME_SECTORS)
            return -EBADMSG;
        before = end_of(e);
    }
    return 0;
}

size_t region_write(const struct region *g, uint8_t *p)
{
    CHECK(g->n <= REGION_SECTORS);
    for (unsigned i = 0; i < g->n; i++, p += REGION_ENTRY_BYTES) {
        const struct region_entry *e = &g->entries[i];

        put16(p, e->sector);
        put16(p + 2, e->nsectors);
        p[4] = e->zero ? REGION_KIND_ZERO : REGION_KIND_DATA;
        p[5] = e->frame_sector;
        put16(p + 6, 0);
        put64(p + 8, e->object);
        put32(p + 16, e->frame_at);
        put32(p + 20, e->frame_bytes);
    }
    return (size_t)g->n * REGION_ENTRY_BYTES;
}

/* The part of e from `from` to `to`, both within it. */
static struct region_entry cut(const struct region_entry *e, uint32_t from, uint32_t to)
{
    struct region_entry c = *e;

    c.sector = (uint16_t)from;
    c.nsectors = (uint16_t)(to - from);
    if (!c.zero)
        c.frame_sector = (uint8_t)(e->frame_sector + (from - e->sector));
    return c;
}

static bool continues(const struct region_entry *a, const struct region_entry *b)
{
    if (end_of(a) != b->sector || a->zero != b->zero || a->object != b->object)
        return false;
    return a->zero || (a->frame_at == b->frame_at && a->frame_sector + a->nsectors == b->frame_sector);
}

static void append(struct region *g, const struct region_entry *e)
{
    struct region_entry *last = g->n ? &g->entries[g->n - 1] : NULL;

    if (last && continues(last, e)) {
        last->nsectors = (uint16_t)(last->nsectors + e->nsectors);
        return;
    }
    g->entries[g->n++] = *e;
}

/* Builds the region anew: what lies outside of e stays, and inside where `from` (0: everything) does not own
 * it. Returns how many sectors e got. */
static uint32_t replace(struct region *g, const struct region_entry *e, uint64_t from,
                        void (*gone)(void *arg, uint64_t object, uint32_t nsectors), void *arg)
{
    struct region old = *g;
    uint32_t at = e->sector, end = end_of(e), got = 0;

    CHECK(e->nsectors > 0 && end <= REGION_SECTORS);
    g->n = 0;
    for (unsigned i = 0; i < old.n; i++) {
        const struct region_entry *o = &old.entries[i];
        uint32_t o_end = end_of(o), in = o->sector > at ? o->sector : at, out = o_end < end ? o_end : end;
        struct region_entry c;

        if (o_end <= e->sector || o->sector >= end) { /* outside */
            if (o->sector >= end && from == 0 && at < end) {
                c = cut(e, at, end);
                append(g, &c);
                got += end - at;
                at = end;
            }
            append(g, o);
            continue;
        }
        if (o->sector < in) {
            c = cut(o, o->sector, in);
            append(g, &c);
        }
        if (from == 0 && at < in) { /* a hole before it */
            c = cut(e, at, in);
            append(g, &c);
            got += in - at;
        }
        if (from == 0 || o->object == from) {
            if (!o->zero)
                gone(arg, o->object, out - in);
            c = cut(e, in, out);
            got += out - in;
        } else {
            c = cut(o, in, out);
        }
        append(g, &c);
        at = out;
        if (o_end > end) {
            c = cut(o, end, o_end);
            append(g, &c);
        }
    }
    if (from == 0 && at < end) {
        struct region_entry c = cut(e, at, end);

        append(g, &c);
        got += end - at;
    }
    return got;
}

void region_put(struct region *g, const struct region_entry *e,
                void (*gone)(void *arg, uint64_t object, uint32_t nsectors), void *arg)
{
    CHECK(replace(g, e, 0, gone, arg) == e->nsectors);
}

uint32_t region_move(struct region *g, const struct region_entry *e, uint64_t from,
                     void (*gone)(void *arg, uint64_t object, uint32_t nsectors), void *arg)
{
    CHECK(from > 0);
    return replace(g, e, from, gone, arg);
}

void region_drop(struct region *g, uint64_t through,
                 void (*gone)(void *arg, uint64_t object, uint32_t nsectors), void *arg)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < g->n; i++) {
        const struct region_entry *e = &g->entries[i];

        if (e->object > through)
            g->entries[kept++] = *e;
        else if (!e->zero)
            gone(arg, e->object, e->nsectors);
    }
    g->n = kept;
}

struct region_blocks region_blocks(const struct region *g)
{
    struct region_blocks blocks = {0};
    uint32_t from = 0, to = 0; /* the sectors without a gap, up to here */
    uint32_t zero_from = 0, zero_to = 0;

    for (unsigned i = 0; i < g->n; i++) {
        const struct region_entry *e = &g->entries[i];

        if (e->sector != to)
            from = e->sector;
        to = end_of(e);
        if (e->zero && e->sector != zero_to)
            zero_from = e->sector;
        if (e->zero)
            zero_to = to;
        for (uint32_t b = e->sector / REGION_BLOCK_SECTORS; b <= (to - 1) / REGION_BLOCK_SECTORS; b++) {
            blocks.some |= UINT64_C(1) << b;
            if (b * REGION_BLOCK_SECTORS >= from && (b + 1) * REGION_BLOCK_SECTORS <= to)
                blocks.all |= UINT64_C(1) << b;
            if (b * REGION_BLOCK_SECTORS >= zero_from && (b + 1) * REGION_BLOCK_SECTORS <= zero_to)
                blocks.zero |= UINT64_C(1) << b;
        }
    }
    return blocks;
}

const struct region_entry *region_find(const struct region *g, uint32_t sector)
{
    unsigned low = 0, high = g->n;

    while (low < high) {
        unsigned mid = (low + high) / 2;

        if (end_of(&g->entries[mid]) <= sector)
            low = mid + 1;
        else
            high = mid;
    }
    return low < g->n ? &g->entries[low] : NULL;
}
