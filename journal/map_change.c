/* journal/map_change.c - changing the map; see map.h. Blocking, on pool threads, one at a time per VM.
 *
 * Entries are taken in their order but laid into the map region by region: a run of entries is cut at region
 * borders and sorted by place, then each region is read, changed and written once. A batch holds some regions
 * and the rows of the objects whose live count they change, so that a crash between batches loses no count.
 */
#include "check.h"
#include "map_impl.h"
#include "mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { RUN_PIECES = 65536, BATCH_REGIONS = 128, COUNTS_MAX = 8192 };

/* A part of an entry that lies in one region. */
struct piece {
    uint64_t region;
    uint32_t order; /* entries' order, kept within a region */
    uint16_t sector, nsectors;
    uint8_t disk;
};

struct count {
    uint64_t object;
    int64_t sectors;
};

struct changer {
    struct map *map;
    struct map_change *change;
    uint64_t object; /* being applied */
    struct row_change rows[BATCH_REGIONS];
    uint8_t (*values)[MAP_ROW_MAX]; /* BATCH_REGIONS of them */
    size_t nrows;
    struct count *counts;
    size_t ncounts;
};

static void changer_begin(struct changer *c, struct map *m)
{
    *c = (struct changer){.map = m, .change = xcalloc(1, sizeof *c->change)};
    c->values = xmalloc(sizeof *c->values * BATCH_REGIONS);
    c->counts = xmalloc(sizeof *c->counts * COUNTS_MAX);
}

/* Gives the change out, or on an error forgets it. */
static int changer_end(struct changer *c, int err, struct map_change **out)
{
    free(c->values);
    free(c->counts);
    if (err) {
        free(c->change->marks);
        free(c->change);
        *out = NULL;
    } else {
        *out = c->change;
    }
    return err;
}

/* --- live counts ----------------------------------------------------------------------------------------*/

static int count_order(const void *a, const void *b)
{
    const struct count *x = a, *y = b;

    return x->object < y->object ? -1 : x->object > y->object;
}

/* Sorted, each object once. */
static void counts_join(struct changer *c)
{
    size_t n = 0;

    qsort(c->counts, c->ncounts, sizeof *c->counts, count_order);
    for (size_t i = 0; i < c->ncounts; i++)
        if (n && c->counts[n - 1].object == c->counts[i].object)
            c->counts[n - 1].sectors += c->counts[i].sectors;
        else
            c->counts[n++] = c->counts[i];
    c->ncounts = n;
}

static void count(struct changer *c, uint64_t object, int64_t sectors)
{
    if (c->ncounts && c->counts[c->ncounts - 1].object == object) {
        c->counts[c->ncounts - 1].sectors += sectors;
        return;
    }
    if (c->ncounts == COUNTS_MAX)
        counts_join(c);
    CHECK(c->ncounts < COUNTS_MAX); /* objects are thousands at most, regions in a batch few */
    c->counts[c->ncounts++] = (struct count){object, sectors};
}

static void on_gone(void *arg, uint64_t object, uint32_t nsectors)
{
    count(arg, object, -(int64_t)nsectors);
}

/* --- batches --------------------------------------------------------------------------------------------*/

/* The rows of the objects whose count changes; an object that is unknown is left alone (it was forgotten:
 * nothing can read it). Returns how many. */
static size_t object_rows(struct changer *c, struct row_change *rows, uint8_t (*values)[MAP_OBJECT_BYTES])
{
    size_t n = 0;

    pthread_mutex_lock(&c->map->lock);
    for (size_t i = 0; i < c->ncounts; i++) {
        struct object_node *node = map_object_find(c->map, c->counts[i].object);
        struct map_object o;

        if (!node || c->counts[i].sectors == 0)
            continue;
        o = node->object;
        o.live_sectors = (uint64_t)((int64_t)o.live_sectors + c->counts[i].sectors);
        map_object_write(values[n], &o);
        rows[n] = (struct row_change){
            .space = KV_OBJECT, .key_len = MAP_OBJECT_KEY_BYTES, .value = values[n], .n = MAP_OBJECT_BYTES};
        map_object_key(rows[n++].key, c->map->id, o.first);
    }
    pthread_mutex_unlock(&c->map->lock);
    return n;
}

static void counts_take(struct changer *c)
{
    pthread_mutex_lock(&c->map->lock);
    for (size_t i = 0; i < c->ncounts; i++) {
        struct object_node *node = map_object_find(c->map, c->counts[i].object);
        struct map_object o;

        if (!node)
            continue;
        o = node->object;
        o.live_sectors = (uint64_t)((int64_t)o.live_sectors + c->counts[i].sectors);
        map_object_insert(c->map, &o);
    }
    pthread_mutex_unlock(&c->map->lock);
    c->ncounts = 0;
}

/* Writes what was collected, and the state if there is one. */
static int flush(struct changer *c, const struct map_state *state, bool stable, struct why *why)
{
    CLEANUP_FREE struct row_change *rows = NULL;
    CLEANUP_FREE uint8_t(*objects)[MAP_OBJECT_BYTES] = NULL;
    uint8_t state_value[MAP_STATE_BYTES];
    size_t n;
    int err;

    counts_join(c);
    rows = xcalloc(c->nrows + c->ncounts + 1, sizeof *rows);
    objects = xcalloc(c->ncounts + 1, sizeof *objects);
    memcpy(rows, c->rows, c->nrows * sizeof *rows);
    n = c->nrows + object_rows(c, rows + c->nrows, objects);
    if (state) {
        map_state_write(state_value, state);
        rows[n] = (struct row_change){.space = KV_OBJECT,
                                      .key_len = MAP_OBJECT_KEY_BYTES,
                                      .value = state_value,
                                      .n = sizeof state_value};
        map_object_key(rows[n++].key, c->map->id, 0);
    }
    err = n ? rows_write(c->map->journal, rows, n, stable, why) : 0;
    if (err)
        return err;
    counts_take(c);
    c->nrows = 0;
    if (state) {
        c->change->state = *state;
        c->change->has_state = true;
    }
    return 0;
}

/* A region as it is now. */
static int put_region(struct changer *c, uint8_t disk, uint64_t region, const struct region *g,
                      struct why *why)
{
    struct row_change *r = &c->rows[c->nrows];

    *r = (struct row_change){.space = KV_MAP, .key_len = MAP_KEY_BYTES};
    map_key(r->key, c->map->id, disk, region);
    if (g->n) {
        r->n = region_write(g, c->values[c->nrows]);
        r->value = c->values[c->nrows];
    }
    c->nrows++;
    map_mark(c->change, disk, region, region_blocks(g));
    return c->nrows == BATCH_REGIONS || c->ncounts > COUNTS_MAX / 2 ? flush(c, NULL, false, why) : 0;
}

/* --- applying an index ----------------------------------------------------------------------------------*/

static int piece_order(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;

    if (x->disk != y->disk)
        return x->disk < y->disk ? -1 : 1;
    if (x->region != y->region)
        return x->region < y->region ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static void lay(struct changer *c, struct region *g, const struct piece *p, const struct logobj_entry *e)
{
    struct region_entry r = {.sector = p->sector,
                             .nsectors = p->nsectors,
                             .zero = !logobj_is_data(e->kind),
                             .object = c->object,
                             .frame_at = e->frame_at,
                             .frame_bytes = e->frame_bytes};
    uint32_t got = p->nsectors;

    if (!r.zero)
        r.frame_sector = (uint8_t)(e->frame_sector + (p->region * REGION_SECTORS + p->sector - e->lba));
    if (logobj_is_moved(e->kind))
        got = region_move(g, &r, e->seq, on_gone, c);
    else
        region_put(g, &r, on_gone, c);
    if (!r.zero && got)
        count(c, c->object, got);
}

static int lay_run(struct changer *c, struct piece *pieces, size_t n, const struct logobj_entry *entries,
                   struct why *why)
{
    struct region *g = xmalloc(sizeof *g);
    int err = 0;

    qsort(pieces, n, sizeof *pieces, piece_order);
    for (size_t i = 0; i < n && !err;) {
        const struct piece *first = &pieces[i];

        err = map_region_read(c->map, first->disk, first->region, g);
        if (err) {
            why_set(why, err, "a row of the map is altered");
            break;
        }
        for (; i < n && pieces[i].disk == first->disk && pieces[i].region == first->region; i++)
            lay(c, g, &pieces[i], &entries[pieces[i].order]);
        err = put_region(c, first->disk, first->region, g, why);
    }
    free(g);
    /* The next run reads these regions again: they must be there. */
    return err ? err : flush(c, NULL, false, why);
}

static int apply_entries(struct changer *c, const struct logobj_entry *entries, unsigned nentries,
                         struct why *why)
{
    struct piece *pieces = xmalloc(RUN_PIECES * sizeof *pieces);
    size_t n = 0;
    int err = 0;

    for (unsigned i = 0; i < nentries && !err; i++) {
        const struct logobj_entry *e = &entries[i];

        for (uint64_t at = e->lba, end = e->lba + e->nsectors; at < end && !err;) {
            uint64_t region = at / REGION_SECTORS, border = (region + 1) * REGION_SECTORS;
            uint64_t to = end < border ? end : border;

            pieces[n++] = (struct piece){.disk = e->disk,
                                         .region = region,
                                         .order = i,
                                         .sector = (uint16_t)(at % REGION_SECTORS),
                                         .nsectors = (uint16_t)(to - at)};
            at = to;
            if (n == RUN_PIECES) {
                err = lay_run(c, pieces, n, entries, why);
                n = 0;
            }
        }
    }
    if (!err)
        err = lay_run(c, pieces, n, entries, why);
    free(pieces);
    return err;
}

/* The object's own row, before anything points to it; what is live of it is counted as it is laid. */
static int put_object(struct map *m, const struct logobj_head *h, const struct logobj_entry *entries,
                      unsigned n, struct why *why)
{
    struct map_object o;
    uint8_t value[MAP_OBJECT_BYTES];
    struct row_change row = {
        .space = KV_OBJECT, .key_len = MAP_OBJECT_KEY_BYTES, .value = value, .n = sizeof value};
    int err;

    if (map_object(m, h->first, &o) == 0) /* again */
        return 0;
    o = (struct map_object){.first = h->first,
                            .last = h->last,
                            .bytes = h->bytes,
                            .front_bytes = LOGOBJ_HEAD_BYTES + h->index_bytes};
    memcpy(o.salt, h->salt, sizeof o.salt);
    for (unsigned i = 0; i < n; i++)
        if (logobj_is_data(entries[i].kind))
            o.data_sectors += entries[i].nsectors;
    map_object_key(row.key, m->id, h->first);
    map_object_write(value, &o);
    err = rows_write(m->journal, &row, 1, false, why);
    if (err)
        return err;
    pthread_mutex_lock(&m->lock);
    map_object_insert(m, &o);
    pthread_mutex_unlock(&m->lock);
    return 0;
}

int map_apply(struct map *m, const struct logobj_head *h, const struct logobj_entry *entries, unsigned n,
              const struct map_state *state, bool stable, struct map_change **out, struct why *why)
{
    struct changer c;
    int err;

    changer_begin(&c, m);
    c.object = h->first;
    err = put_object(m, h, entries, n, why);
    if (!err)
        err = apply_entries(&c, entries, n, why);
    if (!err)
        err = flush(&c, state, stable, why);
    return changer_end(&c, err, out);
}

/* --- dropping, forgetting -------------------------------------------------------------------------------*/

/* Regions are collected a batch at a time: nothing can be written while the rows are being read. */
struct dropping {
    struct changer c;
    uint64_t through;
    int disk; /* only of this one; -1: of all */
    struct {
        uint8_t disk;
        uint64_t region;
        struct region left;
    } found[BATCH_REGIONS];
    unsigned nfound;
};

static int find_dropped(void *arg, uint8_t disk, uint64_t lba, const struct region *g)
{
    struct dropping *d = arg;
    bool some = false;

    if (d->disk >= 0 && disk != d->disk)
        return 1;
    for (unsigned i = 0; i < g->n; i++)
        some |= g->entries[i].object <= d->through;
    if (!some)
        return 0;
    d->found[d->nfound].disk = disk;
    d->found[d->nfound].region = lba / REGION_SECTORS;
    d->found[d->nfound++].left = *g;
    return d->nfound == BATCH_REGIONS ? 1 : 0;
}

static int drop(struct map *m, int only, uint64_t through, const struct map_state *state,
                struct map_change **out, struct why *why)
{
    struct dropping *d = xmalloc(sizeof *d);
    uint8_t disk = only < 0 ? 0 : (uint8_t)only;
    uint64_t region = 0;
    int err;

    changer_begin(&d->c, m);
    d->through = through;
    d->disk = only;
    do {
        int more;

        d->nfound = 0;
        more = map_each_from(m, disk, region, find_dropped, d);
        err = more < 0 ? why_set(why, more, "the map cannot be read: %s", strerror(-more)) : 0;
        for (unsigned i = 0; i < d->nfound && !err; i++) {
            region_drop(&d->found[i].left, through, on_gone, &d->c);
            disk = d->found[i].disk;
            region = d->found[i].region + 1;
            err = put_region(&d->c, disk, region - 1, &d->found[i].left, why);
        }
        if (!err)
            err = flush(&d->c, NULL, false, why);
    } while (!err && d->nfound == BATCH_REGIONS);
    if (!err)
        err = flush(&d->c, state, true, why);
    err = changer_end(&d->c, err, out);
    free(d);
    return err;
}

/* The cut may be in the midst of an object, if the edge before brought it to the source disks and this one
 * has put what it had kept of that log in one with what came later: of such an object nothing is dropped.
 */
static uint64_t whole_through(struct map *m, uint64_t through)
{
    struct object_node *node;
    uint64_t whole = through;

    pthread_mutex_lock(&m->lock);
    RB_FOREACH (node, object_tree, &m->objects) {
        if (node->object.first > through)
            break;
        if (node->object.last > through) {
            whole = node->object.first - 1;
            break;
        }
    }
    pthread_mutex_unlock(&m->lock);
    return whole;
}

int map_drop(struct map *m, uint64_t through, const struct map_state *state, struct map_change **out,
             struct why *why)
{
    return drop(m, -1, whole_through(m, through), state, out, why);
}

int map_drop_disk(struct map *m, uint8_t disk, struct map_change **out, struct why *why)
{
    return drop(m, disk, UINT64_MAX, NULL, out, why);
}

int map_forget(struct map *m, const uint64_t *firsts, unsigned n, struct why *why)
{
    CLEANUP_FREE struct row_change *rows = xcalloc(n + 1, sizeof *rows);
    int err;

    for (unsigned i = 0; i < n; i++) {
        rows[i] = (struct row_change){.space = KV_OBJECT, .key_len = MAP_OBJECT_KEY_BYTES};
        map_object_key(rows[i].key, m->id, firsts[i]);
    }
    err = n ? rows_write(m->journal, rows, n, true, why) : 0;
    if (err)
        return err;
    pthread_mutex_lock(&m->lock);
    for (unsigned i = 0; i < n; i++) {
        struct object_node *node = map_object_find(m, firsts[i]);

        if (!node)
            continue;
        CHECK(node->object.live_sectors == 0);
        m->object_bytes -= node->object.bytes;
        m->nobjects--;
        RB_REMOVE(object_tree, &m->objects, node);
        free(node);
    }
    pthread_mutex_unlock(&m->lock);
    return 0;
}

int map_state_store(struct map *m, const struct map_state *state, struct map_change **out, struct why *why)
{
    struct changer c;

    changer_begin(&c, m);
    return changer_end(&c, flush(&c, state, true, why), out);
}
