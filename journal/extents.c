/* journal/extents.c - see extents.h.
 *
 * A red-black tree of extents that never overlap, ordered by their first sector. An extent points to its
 * record, which lives as long as any extent does. Only records of several parts have a counter per part.
 */
#include "extents.h"
#include "check.h"
#include "mem.h"

#include <bsd/sys/tree.h>

struct record {
    uint64_t seq;
    uint32_t nsectors;
    uint32_t live; /* sectors that extents point to */
    enum record_type type;
    uint8_t part_live[]; /* sectors of each part, if there are several (128 fit) */
};

struct extent {
    RB_ENTRY(extent) entry;
    uint64_t lba;
    uint32_t nsectors;
    uint32_t offset; /* sectors from the record's first */
    struct record *record;
};

RB_HEAD(extent_tree, extent);

struct extents {
    struct extent_tree tree;
    extents_dead_fn *dead;
    void *arg;
    uint64_t cost, records, count;
};

static int extent_order(const struct extent *a, const struct extent *b)
{
    return a->lba < b->lba ? -1 : a->lba > b->lba;
}

/* RB_GENERATE_STATIC of libbsd needs a macro that glibc lacks. */
RB_GENERATE_INTERNAL(extent_tree, extent, entry, extent_order, __attribute__((unused)) static)

struct extents *extents_new(extents_dead_fn *dead, void *arg)
{
    struct extents *x = xcalloc(1, sizeof *x);

    RB_INIT(&x->tree);
    x->dead = dead;
    x->arg = arg;
    return x;
}

void extents_free(struct extents **xp)
{
    struct extents *x = *xp;
    struct extent *e, *next;

    if (!x)
        return;
    *xp = NULL;
    for (e = RB_MIN(extent_tree, &x->tree); e; e = next) {
        next = RB_NEXT(extent_tree, &x->tree, e);
        e->record->live -= e->nsectors;
        if (e->record->live == 0)
            free(e->record);
        RB_REMOVE(extent_tree, &x->tree, e);
        free(e);
    }
    free(x);
}

/* The extent that holds lba, else the first one after it. */
static struct extent *find(const struct extents *x, uint64_t lba)
{
    struct extent *e = RB_ROOT(&x->tree), *after = NULL;

    while (e) {
        if (lba < e->lba) {
            after = e;
            e = RB_LEFT(e, entry);
        } else if (lba - e->lba < e->nsectors) {
            return e;
        } else {
            e = RB_RIGHT(e, entry);
        }
    }
    return after;
}

static void insert(struct extents *x, uint64_t lba, uint32_t nsectors, uint32_t offset, struct record *r)
{
    struct extent *e = xmalloc(sizeof *e);

    *e = (struct extent){.lba = lba, .nsectors = nsectors, .offset = offset, .record = r};
    CHECK(!RB_INSERT(extent_tree, &x->tree, e));
    x->count++;
    x->cost += EXTENT_COST;
}

static struct record *record_new(struct extents *x, enum record_type type, uint64_t seq, uint32_t nsectors)
{
    uint32_t nparts = record_parts(type, nsectors);
    struct record *r = xmalloc(sizeof *r + (nparts > 1 ? nparts : 0));

    *r = (struct record){.seq = seq, .nsectors = nsectors, .live = nsectors, .type = type};
    if (nparts > 1)
        for (uint32_t i = 0; i < nparts; i++)
            r->part_live[i] = (uint8_t)record_part_sectors(nsectors, i);
    x->records++;
    x->cost += RECORD_COST + (type == RECORD_WRITE ? (uint64_t)nsectors * SECTOR : 0);
    return r;
}

static void part_died(struct extents *x, const struct record *r, uint32_t number)
{
    x->cost -= (uint64_t)record_part_sectors(r->nsectors, number) * SECTOR;
    x->dead(x->arg, r->seq, number);
}

/* n sectors from `offset` of the record are superseded. Frees the record with its last sector. */
static void release(struct extents *x, struct record *r, uint32_t offset, uint32_t n)
{
    uint32_t nparts = record_parts(r->type, r->nsectors), end = offset + n;

    CHECK(r->live >= n);
    r->live -= n;
    for (uint32_t i = offset / PART_SECTORS; nparts > 1 && i * PART_SECTORS < end; i++) {
        uint32_t first = i * PART_SECTORS, last = first + PART_SECTORS;
        uint32_t gone = (end < last ? end : last) - (offset > first ? offset : first);

        CHECK(r->part_live[i] >= gone);
        r->part_live[i] = (uint8_t)(r->part_live[i] - gone);
        if (r->part_live[i] == 0)
            part_died(x, r, i);
    }
    if (r->live > 0)
        return;
    if (nparts == 1)
        part_died(x, r, 0);
    x->dead(x->arg, r->seq, EXTENTS_HEADER);
    x->records--;
    x->cost -= RECORD_COST;
    free(r);
}

static void drop(struct extents *x, struct extent *e)
{
    struct record *r = e->record;
    uint32_t offset = e->offset, n = e->nsectors;

    RB_REMOVE(extent_tree, &x->tree, e);
    free(e);
    x->count--;
    x->cost -= EXTENT_COST;
    release(x, r, offset, n);
}

/* Takes [lba, end) out of every extent. */
static void cut(struct extents *x, uint64_t lba, uint64_t end)
{
    struct extent *e = find(x, lba), *next;

    for (; e && e->lba < end; e = next) {
        uint64_t e_end = e->lba + e->nsectors;
        uint64_t from = e->lba > lba ? e->lba : lba, to = e_end < end ? e_end : end;
        uint32_t offset = e->offset + (uint32_t)(from - e->lba);
        struct record *r = e->record;

        next = RB_NEXT(extent_tree, &x->tree, e);
        if (to < e_end && e->lba < from) {
            insert(x, to, (uint32_t)(e_end - to), e->offset + (uint32_t)(to - e->lba), r);
            e->nsectors = (uint32_t)(from - e->lba);
        } else if (e->lba < from) {
            e->nsectors = (uint32_t)(from - e->lba);
        } else if (to < e_end) { /* its order among the others stays */
            e->offset += (uint32_t)(to - e->lba);
            e->nsectors = (uint32_t)(e_end - to);
            e->lba = to;
        } else {
            drop(x, e);
            continue;
        }
        release(x, r, offset, (uint32_t)(to - from));
    }
}

void extents_apply(struct extents *x, enum record_type type, uint64_t seq, uint64_t lba, uint32_t nsectors)
{
    struct record *r = record_new(x, type, seq, nsectors), *old;
    struct extent *e = find(x, lba);
    uint64_t end = lba + nsectors;

    CHECK(nsectors > 0 && end > lba);
    if (!e || e->lba != lba || e->lba + e->nsectors > end) {
        cut(x, lba, end);
        insert(x, lba, nsectors, 0, r);
        return;
    }
    /* A rewrite of the same place, the most common case: the node stays where it is in the tree. */
    cut(x, e->lba + e->nsectors, end);
    old = e->record;
    e->record = r;
    uint32_t old_offset = e->offset, old_nsectors = e->nsectors;
    e->offset = 0;
    e->nsectors = nsectors;
    release(x, old, old_offset, old_nsectors);
}

void extents_forget(struct extents *x, uint64_t seq, uint64_t lba, uint32_t nsectors)
{
    struct extent *e = find(x, lba), *next;

    for (; e && e->lba < lba + nsectors; e = next) {
        next = RB_NEXT(extent_tree, &x->tree, e);
        if (e->record->seq == seq)
            drop(x, e);
    }
}

void extents_forget_through(struct extents *x, uint64_t seq)
{
    struct extent *e, *next;

    for (e = RB_MIN(extent_tree, &x->tree); e; e = next) {
        next = RB_NEXT(extent_tree, &x->tree, e);
        if (e->record->seq <= seq)
            drop(x, e);
    }
}

uint64_t extents_each(const struct extents *x, uint64_t lba, uint64_t end, unsigned max,
                      void (*each)(void *arg, const struct extents_one *), void *arg)
{
    struct extent *e = find(x, lba);

    for (; e && e->lba < end && max > 0; max--) {
        uint64_t e_end = e->lba + e->nsectors, from = e->lba > lba ? e->lba : lba;
        struct extents_one one = {e->record->type, e->record->seq, from, 0,
                                  e->offset + (uint32_t)(from - e->lba)};

        lba = e_end < end ? e_end : end;
        one.nsectors = (uint32_t)(lba - from);
        each(arg, &one);
        e = RB_NEXT(extent_tree, (struct extent_tree *)&x->tree, e);
    }
    return e && e->lba < end ? lba : end;
}

static void piece_of(struct vmlog_piece *p, const struct extent *e, uint64_t lba, uint64_t end)
{
    uint64_t e_end = e->lba + e->nsectors;
    uint32_t at = e->offset + (uint32_t)(lba - e->lba);

    *p = (struct vmlog_piece){.kind = e->record->type == RECORD_ZERO ? PIECE_ZERO : PIECE_DATA, .lba = lba};
    if (end > e_end)
        end = e_end;
    p->nsectors = (uint32_t)(end - lba);
    if (p->kind == PIECE_ZERO)
        return;
    p->seq = e->record->seq;
    p->part = at / PART_SECTORS;
    p->part_sector = at % PART_SECTORS;
    if (p->nsectors > PART_SECTORS - p->part_sector)
        p->nsectors = PART_SECTORS - p->part_sector;
}

unsigned extents_pieces(const struct extents *x, uint64_t lba, uint32_t nsectors, struct vmlog_piece *pieces,
                        unsigned max, uint32_t *covered)
{
    uint64_t at = lba, end = lba + nsectors;
    struct extent *e = find(x, lba);
    unsigned n = 0;

    while (at < end && n < max) {
        struct vmlog_piece *p = &pieces[n++];

        if (e && e->lba <= at) {
            piece_of(p, e, at, end);
            if (p->lba + p->nsectors == e->lba + e->nsectors)
                e = RB_NEXT(extent_tree, (struct extent_tree *)&x->tree, e);
        } else {
            uint64_t to = e && e->lba < end ? e->lba : end;
            *p = (struct vmlog_piece){.kind = PIECE_ABSENT, .lba = at, .nsectors = (uint32_t)(to - at)};
        }
        at += p->nsectors;
    }
    *covered = (uint32_t)(at - lba);
    return n;
}

bool extents_covered(const struct extents *x, uint64_t lba, uint32_t nsectors)
{
    uint64_t at = lba, end = lba + nsectors;

    for (struct extent *e = find(x, lba); e && e->lba <= at && e->record->type == RECORD_WRITE;
         e = RB_NEXT(extent_tree, (struct extent_tree *)&x->tree, e)) {
        at = e->lba + e->nsectors;
        if (at >= end)
            return true;
    }
    return false;
}

uint64_t extents_cost(const struct extents *x)
{
    return x->cost;
}

uint64_t extents_records(const struct extents *x)
{
    return x->records;
}

uint64_t extents_count(const struct extents *x)
{
    return x->count;
}
