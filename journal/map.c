/* journal/map.c - the map of one VM: opening, looking up, the table of objects; see map.h. Changing it is in
 * map_change.c.
 */
#include "check.h"
#include "log.h"
#include "map_impl.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "map";

/* --- rows -----------------------------------------------------------------------------------------------*/

void map_key(uint8_t key[MAP_KEY_BYTES], const uint8_t id[VMLOG_ID_BYTES], uint8_t disk, uint64_t region)
{
    memcpy(key, id, VMLOG_ID_BYTES);
    key[VMLOG_ID_BYTES] = disk;
    put64(key + VMLOG_ID_BYTES + 1, region);
}

void map_object_key(uint8_t key[MAP_OBJECT_KEY_BYTES], const uint8_t id[VMLOG_ID_BYTES], uint64_t first)
{
    memcpy(key, id, VMLOG_ID_BYTES);
    put64(key + VMLOG_ID_BYTES, first);
}

void map_object_write(uint8_t p[MAP_OBJECT_BYTES], const struct map_object *o)
{
    put64(p, o->last);
    put64(p + 8, o->bytes);
    put32(p + 16, o->front_bytes);
    memcpy(p + 20, o->salt, AEAD_SALT_BYTES);
    put64(p + 36, o->data_sectors);
    put64(p + 44, o->live_sectors);
}

static int object_read(struct map_object *o, uint64_t first, const uint8_t *value, size_t n)
{
    struct reader r = reader_of(value, n);
    const uint8_t *salt;

    *o = (struct map_object){
        .first = first, .last = read64(&r), .bytes = read64(&r), .front_bytes = read32(&r)};
    if ((salt = read_bytes(&r, AEAD_SALT_BYTES)))
        memcpy(o->salt, salt, AEAD_SALT_BYTES);
    o->data_sectors = read64(&r);
    o->live_sectors = read64(&r);
    return r.bad || r.p != r.end || o->last < first ? -EBADMSG : 0;
}

void map_state_write(uint8_t p[MAP_STATE_BYTES], const struct map_state *s)
{
    put64(p, s->committed);
    put64(p + 8, s->last);
    put64(p + 16, s->applied);
    put64(p + 24, s->checkpoint);
    memcpy(p + 32, s->tag, LOGOBJ_TAG_BYTES);
}

int map_state_read(struct map_state *s, const uint8_t *value, size_t n)
{
    struct reader r = reader_of(value, n);
    const uint8_t *tag;

    s->committed = read64(&r);
    s->last = read64(&r);
    s->applied = read64(&r);
    s->checkpoint = read64(&r);
    if ((tag = read_bytes(&r, LOGOBJ_TAG_BYTES)))
        memcpy(s->tag, tag, LOGOBJ_TAG_BYTES);
    return r.bad || r.p != r.end ? -EBADMSG : 0;
}

/* --- the table of objects -------------------------------------------------------------------------------*/

static int object_order(const struct object_node *a, const struct object_node *b)
{
    return a->object.first < b->object.first ? -1 : a->object.first > b->object.first;
}

RB_GENERATE_INTERNAL(object_tree, object_node, entry, object_order, __attribute__((unused)))

struct object_node *map_object_find(struct map *m, uint64_t first)
{
    struct object_node key = {.object = {.first = first}};

    return RB_FIND(object_tree, &m->objects, &key);
}

void map_object_insert(struct map *m, const struct map_object *o)
{
    struct object_node *n = map_object_find(m, o->first);

    if (!n) {
        n = xcalloc(1, sizeof *n);
        n->object.first = o->first;
        RB_INSERT(object_tree, &m->objects, n);
        m->nobjects++;
    }
    m->live_sectors += o->live_sectors - n->object.live_sectors;
    m->object_bytes += o->bytes - n->object.bytes;
    n->object = *o;
}

int map_object(struct map *m, uint64_t first, struct map_object *o)
{
    struct object_node *n;

    pthread_mutex_lock(&m->lock);
    n = map_object_find(m, first);
    if (n)
        *o = n->object;
    pthread_mutex_unlock(&m->lock);
    return n ? 0 : -ENOENT;
}

void map_objects_each(struct map *m, void (*each)(void *arg, const struct map_object *), void *arg)
{
    CLEANUP_FREE struct map_object *copy = NULL;
    struct object_node *node;
    unsigned n = 0;

    pthread_mutex_lock(&m->lock);
    copy = xcalloc(m->nobjects + 1, sizeof *copy);
    RB_FOREACH (node, object_tree, &m->objects)
        copy[n++] = node->object;
    pthread_mutex_unlock(&m->lock);
    for (unsigned i = 0; i < n; i++)
        each(arg, &copy[i]);
}

void map_sums(struct map *m, uint64_t *live_bytes, uint64_t *object_bytes, unsigned *nobjects)
{
    pthread_mutex_lock(&m->lock);
    *live_bytes = m->live_sectors * 512;
    *object_bytes = m->object_bytes;
    *nobjects = m->nobjects;
    pthread_mutex_unlock(&m->lock);
}

void map_object_name(char name[MAP_NAME_MAX], const uint8_t id[VMLOG_ID_BYTES], uint64_t first)
{
    int n = snprintf(name, MAP_NAME_MAX, "vms/");

    for (int i = 0; i < VMLOG_ID_BYTES; i++)
        n += snprintf(name + n, (size_t)(MAP_NAME_MAX - n), "%02x", id[i]);
    snprintf(name + n, (size_t)(MAP_NAME_MAX - n), "/log/%016" PRIx64, first);
}

/* --- which blocks it knows ------------------------------------------------------------------------------*/

static void known_set(struct known *k, uint64_t region, struct region_blocks blocks)
{
    if (region >= k->nregions) {
        uint64_t n = region + region / 8 + 64;

        if (!blocks.some)
            return;
        k->regions = xrealloc(k->regions, n * sizeof *k->regions);
        memset(k->regions + k->nregions, 0, (n - k->nregions) * sizeof *k->regions);
        k->nregions = n;
    }
    k->regions[region] = blocks;
}

bool map_knows(const struct map *m, uint8_t disk, uint64_t block)
{
    const struct known *k = &m->disks[disk];
    uint64_t region = block / REGION_BLOCKS;

    return region < k->nregions && (k->regions[region].some >> block % REGION_BLOCKS & 1);
}

bool map_holds(const struct map *m, uint8_t disk, uint64_t block)
{
    const struct known *k = &m->disks[disk];
    uint64_t region = block / REGION_BLOCKS;

    return region < k->nregions && (k->regions[region].all >> block % REGION_BLOCKS & 1);
}

uint32_t map_alike(const struct map *m, uint8_t disk, uint64_t first, uint32_t count)
{
    bool known = map_knows(m, disk, first), whole = map_holds(m, disk, first);
    uint64_t end = m->disks[disk].nregions * REGION_BLOCKS; /* behind it nothing is known */
    uint32_t n = 1;

    while (n < count && first + n < end && map_knows(m, disk, first + n) == known &&
           map_holds(m, disk, first + n) == whole)
        n++;
    return known || first + n < end ? n : count;
}

uint64_t map_zeros(const struct map *m, uint8_t disk, uint64_t first, uint64_t count, bool *zeros)
{
    const struct known *k = &m->disks[disk];
    uint64_t n = 0, region = first / REGION_BLOCKS;

    *zeros = region < k->nregions && (k->regions[region].zero >> first % REGION_BLOCKS & 1);
    while (n < count) {
        uint64_t at = (first + n) % REGION_BLOCKS, others;

        region = (first + n) / REGION_BLOCKS;
        if (region >= k->nregions)
            return *zeros ? n : count; /* nothing is known there */
        others = (*zeros ? ~k->regions[region].zero : k->regions[region].zero) >> at;
        if (others) {
            n += (unsigned)__builtin_ctzll(others);
            break;
        }
        n += REGION_BLOCKS - at;
    }
    return n < count ? n : count;
}

const struct map_state *map_state(const struct map *m)
{
    return &m->state;
}

void map_mark(struct map_change *c, uint8_t disk, uint64_t region, struct region_blocks blocks)
{
    if (c->nmarks == c->room) {
        c->room = c->room ? c->room * 2 : 64;
        c->marks = xrealloc(c->marks, c->room * sizeof *c->marks);
    }
    c->marks[c->nmarks++] = (struct mark){.disk = disk, .region = region, .blocks = blocks};
}

void map_install(struct map *m, struct map_change **cp)
{
    struct map_change *c = *cp;

    *cp = NULL;
    for (size_t i = 0; i < c->nmarks; i++)
        known_set(&m->disks[c->marks[i].disk], c->marks[i].region, c->marks[i].blocks);
    if (c->has_state)
        m->state = c->state;
    free(c->marks);
    free(c);
}

/* --- looking up -----------------------------------------------------------------------------------------*/

int map_region_read(struct map *m, uint8_t disk, uint64_t region, struct region *g)
{
    uint8_t key[MAP_KEY_BYTES], row[MAP_ROW_MAX];
    int n;

    map_key(key, m->id, disk, region);
    n = rows_get(m->journal, KV_MAP, key, sizeof key, row, sizeof row);
    g->n = 0;
    if (n == -ENOENT)
        return 0;
    return n < 0 ? n : region_read(g, row, (size_t)n);
}

static struct map_piece piece_of(const struct region_entry *e, uint64_t base, uint32_t from, uint32_t to)
{
    struct map_piece p = {
        .kind = e->zero ? PIECE_ZERO : PIECE_DATA, .lba = base + from, .nsectors = to - from};

    if (!e->zero) {
        p.object = e->object;
        p.frame_at = e->frame_at;
        p.frame_bytes = e->frame_bytes;
        p.frame_sector = e->frame_sector + (from - e->sector);
    }
    return p;
}

/* The pieces of [from, to) of one region; returns where it stopped for want of room. */
static uint32_t region_pieces(const struct region *g, uint64_t base, uint32_t from, uint32_t to,
                              struct map_piece *pieces, unsigned max, unsigned *n)
{
    while (from < to && *n < max) {
        const struct region_entry *e = region_find(g, from);
        uint32_t begins = e && e->sector < to ? e->sector : to, end;

        if (from < begins) {
            struct map_piece *last = *n ? &pieces[*n - 1] : NULL;

            if (last && last->kind == PIECE_ABSENT)
                last->nsectors += begins - from;
            else
                pieces[(*n)++] =
                    (struct map_piece){.kind = PIECE_ABSENT, .lba = base + from, .nsectors = begins - from};
            from = begins;
            continue;
        }
        end = (uint32_t)e->sector + e->nsectors < to ? (uint32_t)e->sector + e->nsectors : to;
        pieces[(*n)++] = piece_of(e, base, from, end);
        from = end;
    }
    return from;
}

int map_lookup(struct map *m, uint8_t disk, uint64_t lba, uint32_t nsectors, struct map_piece *pieces,
               unsigned max, unsigned *npieces, uint32_t *covered)
{
    uint64_t at = lba, end = lba + nsectors;
    struct region g;

    *npieces = 0;
    while (at < end && *npieces < max) {
        uint64_t region = at / REGION_SECTORS, base = region * REGION_SECTORS;
        uint32_t to = end - base < REGION_SECTORS ? (uint32_t)(end - base) : REGION_SECTORS;
        int err = map_region_read(m, disk, region, &g);

        if (err)
            return err;
        at = base + region_pieces(&g, base, (uint32_t)(at - base), to, pieces, max, npieces);
        if (at < base + to)
            break;
    }
    *covered = (uint32_t)(at - lba);
    return 0;
}

/* --- every row ------------------------------------------------------------------------------------------*/

struct row_range map_range(const uint8_t id[VMLOG_ID_BYTES], enum kv_space space)
{
    struct row_range r = {.space = space};

    r.len = space == KV_OBJECT ? MAP_OBJECT_KEY_BYTES : MAP_KEY_BYTES;
    memset(r.to, 0xff, r.len);
    memcpy(r.from, id, VMLOG_ID_BYTES);
    memcpy(r.to, id, VMLOG_ID_BYTES);
    return r;
}

struct each_region {
    int (*each)(void *arg, uint8_t disk, uint64_t lba, const struct region *);
    void *arg;
    struct region region;
};

static int on_region_row(void *arg, const uint8_t *key, const uint8_t *value, size_t n)
{
    struct each_region *e = arg;
    int err = region_read(&e->region, value, n);

    return err ? err
               : e->each(e->arg, key[VMLOG_ID_BYTES], get64(key + VMLOG_ID_BYTES + 1) * REGION_SECTORS,
                         &e->region);
}

int map_each_from(struct map *m, uint8_t disk, uint64_t region,
                  int (*each)(void *arg, uint8_t disk, uint64_t lba, const struct region *), void *arg)
{
    struct each_region e = {.each = each, .arg = arg};
    struct row_range range = map_range(m->id, KV_MAP);

    map_key(range.from, m->id, disk, region);
    return rows_each(m->journal, &range, on_region_row, &e);
}

int map_each(struct map *m, int (*each)(void *arg, uint8_t disk, uint64_t lba, const struct region *),
             void *arg)
{
    return map_each_from(m, 0, 0, each, arg);
}

/* --- opening, closing -----------------------------------------------------------------------------------*/

static int load_object(void *arg, const uint8_t *key, const uint8_t *value, size_t n)
{
    struct map *m = arg;
    uint64_t first = get64(key + VMLOG_ID_BYTES);
    struct map_object o;
    int err;

    if (first == 0) /* no object begins there: the state's row */
        return map_state_read(&m->state, value, n);
    err = object_read(&o, first, value, n);
    if (!err)
        map_object_insert(m, &o);
    return err;
}

static int load_region(void *arg, uint8_t disk, uint64_t lba, const struct region *g)
{
    struct map *m = arg;

    if (disk >= VMLOG_DISKS || lba / REGION_SECTORS >= UINT32_MAX)
        return -EBADMSG;
    known_set(&m->disks[disk], lba / REGION_SECTORS, region_blocks(g));
    return 0;
}

int map_open(struct map **mp, struct journal *j, const uint8_t id[VMLOG_ID_BYTES], const char *vm,
             struct why *why)
{
    struct map *m = xcalloc(1, sizeof *m);
    struct row_range objects = map_range(id, KV_OBJECT);
    int err;

    m->journal = j;
    memcpy(m->id, id, sizeof m->id);
    m->vm = xstrdup(vm);
    pthread_mutex_init(&m->lock, NULL);
    RB_INIT(&m->objects);
    err = rows_each(j, &objects, load_object, m);
    if (!err)
        err = map_each(m, load_region, m);
    if (err) {
        map_close(&m);
        return why_set(why, err, "cannot read the map of VM %s in the journal: %s", vm,
                       err == -EBADMSG ? "a row of it is altered" : strerror(-err));
    }
    if (m->state.committed)
        log_info(vm, "the store holds it up to record %lu in %u object(s), the source disks up to %lu",
                 m->state.committed, m->nobjects, m->state.applied);
    *mp = m;
    return 0;
}

void map_close(struct map **mp)
{
    struct map *m = *mp;
    struct object_node *n;

    if (!m)
        return;
    *mp = NULL;
    while ((n = RB_MIN(object_tree, &m->objects))) {
        RB_REMOVE(object_tree, &m->objects, n);
        free(n);
    }
    for (unsigned i = 0; i < VMLOG_DISKS; i++)
        free(m->disks[i].regions);
    pthread_mutex_destroy(&m->lock);
    free(m->vm);
    free(m);
}

int map_delete(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], struct why *why)
{
    static const enum kv_space spaces[] = {KV_MAP, KV_OBJECT, KV_PLAN};
    int err = 0;

    for (unsigned i = 0; i < sizeof spaces / sizeof *spaces && !err; i++) {
        struct row_range range = map_range(id, spaces[i]);

        err = rows_erase(j, &range, why);
    }
    return err;
}
