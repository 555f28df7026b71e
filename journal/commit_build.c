/* journal/commit_build.c - what a cut holds becomes log objects, on a pool thread.
 *
 * The journal is read in runs of extents, as a commit of small writes is mostly the finding and reading of
 * their records; a run ends where the object may be full.
 */
#include "commit_impl.h"

enum { SLICE_BYTES = 1 << 20 /* read and built in one piece of work */ };

static bool extents_left(const struct commit *c)
{
    return c->at < c->cut.n;
}

static void add_zero(struct commit *c, const struct cut_extent *e)
{
    struct logobj_entry entry = {
        .kind = LOGOBJ_ZERO, .disk = e->disk, .lba = e->lba, .nsectors = e->nsectors, .seq = e->seq};

    logobj_add(c->builder, &entry, NULL);
    c->at++;
}

/* What is read at once, from where it is on: as much as certainly belongs into this object; of an extent that
 * is too large a part. */
static unsigned next_run(const struct commit *c, struct cut_extent run[CUT_READ_EXTENTS])
{
    uint64_t size = logobj_size(c->builder), full = c->conf.object_bytes;
    const struct cut_extent *e = &c->cut.extents[c->at], *end = c->cut.extents + c->cut.n;
    uint32_t sectors;
    unsigned n = 1;

    run[0] = *e++;
    run[0].lba += c->at_sector;
    run[0].offset += c->at_sector;
    run[0].nsectors -= c->at_sector;
    if (run[0].nsectors > CUT_READ_SECTORS)
        run[0].nsectors = CUT_READ_SECTORS;
    sectors = run[0].nsectors;
    for (; e < end && n < CUT_READ_EXTENTS && !e->zero && e->nsectors <= CUT_READ_SECTORS - sectors; e++) {
        if (e->seq != e[-1].seq && size + (uint64_t)sectors * 512 >= full)
            break;
        sectors += e->nsectors;
        run[n++] = *e;
    }
    return n;
}

/* Adds some of what is left of the cut; 0 or -errno. */
static int build_some(struct commit *c, uint64_t *bytes)
{
    struct cut_extent run[CUT_READ_EXTENTS];
    const uint8_t *data = c->scratch;
    unsigned n;
    int err;

    if (c->cut.extents[c->at].zero) {
        add_zero(c, &c->cut.extents[c->at]);
        *bytes += 4096; /* it is work, too */
        return 0;
    }
    n = next_run(c, run);
    err = cut_read(&c->cut, run, n, c->scratch);
    for (unsigned i = 0; i < n && err == 0; i++) {
        struct logobj_entry entry = {.kind = LOGOBJ_DATA,
                                     .disk = run[i].disk,
                                     .lba = run[i].lba,
                                     .nsectors = run[i].nsectors,
                                     .seq = run[i].seq};

        logobj_add(c->builder, &entry, data);
        data += (size_t)run[i].nsectors * 512;
        c->at_sector += run[i].nsectors;
        if (c->at_sector == c->cut.extents[c->at].nsectors) {
            c->at_sector = 0;
            c->at++;
        }
    }
    *bytes += (uint64_t)(data - c->scratch);
    return err;
}

/* Between two records an object may end. */
static bool object_is_full(const struct commit *c)
{
    if (!extents_left(c) || c->at_sector || c->at == 0 ||
        c->cut.extents[c->at].seq == c->cut.extents[c->at - 1].seq)
        return false;
    return logobj_size(c->builder) >= c->conf.object_bytes || logobj_full(c->builder);
}

void commit_build(struct commit *c)
{
    struct outgoing *o = c->filling;
    uint64_t bytes = 0;

    if (!c->sorted) {
        cut_sort(&c->cut);
        c->sorted = true;
        while (extents_left(c) && c->cut.extents[c->at].seq < c->next_first)
            c->at++; /* in objects that were adopted */
    }
    commit_move_build(c); /* at the beginning of an object */
    while (extents_left(c) && !object_is_full(c) && bytes < SLICE_BYTES && c->build_status == 0)
        c->build_status = build_some(c, &bytes);
    if (c->build_status)
        return;
    if (!extents_left(c))
        logobj_end(&c->builder, c->cut.seq, true, &o->built);
    else if (object_is_full(c))
        logobj_end(&c->builder, c->cut.extents[c->at - 1].seq, false, &o->built);
}
