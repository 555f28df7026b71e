/* journal/writeback_plan.c - what a stage consists of: the map as it was at the cut, in a file.
 *
 * Commits go on while a stage is being sent, and what they bring takes the place of what the stage needs in
 * the map: so the map is written out first, in a turn of the commit's. The file has places only, no content;
 * it is this process' alone and has no name any more.
 */
#include "check.h"
#include "map_region.h"
#include "mem.h"
#include "writeback_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- writing it -----------------------------------------------------------------------------------------*/

struct planning {
    struct wb_plan *plan;
    struct wb_piece zeros; /* not written yet: more may follow; nsectors 0: none */
};

static int put(struct planning *p, const struct wb_piece *piece)
{
    p->plan->pieces++;
    if (piece->object)
        p->plan->bytes += piece->nsectors * 512;
    return fwrite(piece, sizeof *piece, 1, p->plan->file) == 1 ? 0 : -EIO;
}

static int put_zeros(struct planning *p)
{
    int err = p->zeros.nsectors ? put(p, &p->zeros) : 0;

    p->zeros.nsectors = 0;
    return err;
}

static int add_zeros(struct planning *p, uint8_t disk, uint64_t lba, uint64_t nsectors)
{
    int err = 0;

    if (p->zeros.nsectors && p->zeros.disk == disk && p->zeros.lba + p->zeros.nsectors == lba) {
        p->zeros.nsectors += nsectors;
        return 0;
    }
    err = put_zeros(p);
    p->zeros = (struct wb_piece){.disk = disk, .lba = lba, .nsectors = nsectors};
    return err;
}

/* Cut at block borders. */
static int add_data(struct planning *p, uint8_t disk, uint64_t lba, const struct region_entry *e)
{
    uint32_t left = e->nsectors, frame_sector = e->frame_sector;
    int err = put_zeros(p);

    while (left && !err) {
        uint32_t room = WB_BLOCK_SECTORS - (uint32_t)(lba % WB_BLOCK_SECTORS), n = left < room ? left : room;
        struct wb_piece piece = {.disk = disk,
                                 .lba = lba,
                                 .nsectors = n,
                                 .object = e->object,
                                 .frame_at = e->frame_at,
                                 .frame_bytes = e->frame_bytes,
                                 .frame_sector = (uint8_t)frame_sector};

        err = put(p, &piece);
        lba += n;
        frame_sector += n;
        left -= n;
    }
    return err;
}

static int on_region(void *arg, uint8_t disk, uint64_t lba, const struct region *g)
{
    struct planning *p = arg;
    int8_t place = p->plan->places[disk];
    int err = 0;

    if (place < 0) /* it has been removed, and these rows go soon */
        return 0;
    disk = (uint8_t)place;
    for (unsigned i = 0; i < g->n && !err; i++) {
        const struct region_entry *e = &g->entries[i];

        if (e->zero)
            err = add_zeros(p, disk, lba + e->sector, e->nsectors);
        else
            err = add_data(p, disk, lba + e->sector, e);
    }
    return err;
}

int wb_plan_write(struct wb_plan *plan, const char *path, struct map *map, struct why *why)
{
    struct planning p = {.plan = plan};
    int err;

    plan->pieces = plan->bytes = 0;
    plan->file = fopen(path, "w+e");
    if (!plan->file)
        return why_set(why, -errno, "%s cannot be made: %s", path, strerror(errno));
    unlink(path);
    err = map_each(map, on_region, &p);
    if (!err)
        err = put_zeros(&p);
    if (!err && fflush(plan->file))
        err = -errno;
    if (err)
        return why_set(why, err, "the list of what is to be written back cannot be made in %s: %s", path,
                       err == -EBADMSG ? "a row of the map is altered" : strerror(-err));
    return 0;
}

void wb_plan_close(struct wb_plan *plan)
{
    if (plan->file)
        fclose(plan->file);
    plan->file = NULL;
    plan->pieces = plan->bytes = 0;
}

/* --- a window of it -------------------------------------------------------------------------------------*/

static int by_frame(const void *a, const void *b, void *pieces)
{
    const struct wb_piece *x = &((const struct wb_piece *)pieces)[*(const uint32_t *)a];
    const struct wb_piece *y = &((const struct wb_piece *)pieces)[*(const uint32_t *)b];

    if (x->disk != y->disk)
        return x->disk < y->disk ? -1 : 1;
    if (x->object != y->object)
        return x->object < y->object ? -1 : 1;
    if (x->frame_at != y->frame_at)
        return x->frame_at < y->frame_at ? -1 : 1;
    return x->lba < y->lba ? -1 : x->lba > y->lba;
}

static void window_room(struct wb_window *w, unsigned n)
{
    free(w->pieces);
    free(w->hashes);
    free(w->order);
    w->pieces = xcalloc(n, sizeof *w->pieces);
    w->hashes = xcalloc(n, sizeof *w->hashes);
    w->order = xcalloc(n, sizeof *w->order);
}

/* In the order of the log's objects each frame is read once, however the guest's writes are scattered. */
int wb_window_load(struct wb_window *w, struct wb_plan *plan, uint64_t left, struct why *why)
{
    w->n = left < WB_WINDOW ? (unsigned)left : WB_WINDOW;
    if (left == plan->pieces) { /* the first one: none is larger */
        rewind(plan->file);
        window_room(w, w->n);
    }
    w->ndata = 0;
    if (fread(w->pieces, sizeof *w->pieces, w->n, plan->file) != w->n)
        return why_set(why, -EIO, "the list of what is to be written back cannot be read again");
    for (unsigned i = 0; i < w->n; i++)
        if (w->pieces[i].object)
            w->order[w->ndata++] = i;
    qsort_r(w->order, w->ndata, sizeof *w->order, by_frame, w->pieces);
    return 0;
}

void wb_window_sum(const struct wb_window *w, struct wb_digest *digest)
{
    for (unsigned i = 0; i < w->n; i++) {
        const struct wb_piece *p = &w->pieces[i];

        wb_digest_add(digest, p->disk, p->object ? WB_PIECE_DATA : WB_PIECE_ZERO, p->lba, p->nsectors,
                      p->object ? w->hashes[i] : NULL);
    }
}

void wb_window_free(struct wb_window *w)
{
    free(w->pieces);
    free(w->hashes);
    free(w->order);
    *w = (struct wb_window){0};
}
