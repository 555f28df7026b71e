/* cache/overlay.c - see overlay.h.
 */
#include "overlay.h"
#include "mem.h"

#include "check.h"

#include <stddef.h>
#include <string.h>

void overlay_begin(struct overlay *o, struct tier *tier, struct block_req *req)
{
    *o = (struct overlay){.tier = tier, .req = req};
    o->base = xcalloc(req->count, sizeof *o->base);
    o->zero = xcalloc((size_t)req->count * BLOCK_SECTORS, sizeof *o->zero);
    for (uint32_t i = 0; i < req->count; i++)
        req->blocks[i]->zero = false;
}

static struct block *block_of(const struct overlay *o, uint64_t lba)
{
    return o->req->blocks[lba / BLOCK_SECTORS - o->req->first];
}

uint32_t overlay_cut(uint64_t lba, uint32_t nsectors)
{
    uint32_t room = BLOCK_SECTORS - (uint32_t)(lba % BLOCK_SECTORS);

    return nsectors < room ? nsectors : room;
}

uint8_t *overlay_place(const struct overlay *o, uint64_t lba)
{
    return block_of(o, lba)->data + lba % BLOCK_SECTORS * SECTOR_BYTES;
}

void overlay_zero(struct overlay *o, uint64_t lba, uint32_t nsectors)
{
    while (nsectors) {
        uint32_t n = overlay_cut(lba, nsectors);

        o->zero[o->nzero++] = (struct overlay_zero){lba, n};
        lba += n;
        nsectors -= n;
    }
}

static void on_base(struct block_req *req);

void overlay_absent(struct overlay *o, uint64_t lba, uint32_t nsectors)
{
    uint64_t first = lba / BLOCK_SECTORS, end = (lba + nsectors - 1) / BLOCK_SECTORS + 1;
    struct block_req *last = o->nbase ? &o->base[o->nbase - 1].req : NULL;

    if (last && first < last->first + last->count)
        first = last->first + last->count; /* the block is in the run already */
    if (first >= end)
        return;
    if (last && first == last->first + last->count) {
        last->count += (uint32_t)(end - first);
        return;
    }
    o->base[o->nbase] = (struct overlay_base){.overlay = o};
    o->base[o->nbase++].req = (struct block_req){.first = first,
                                                 .count = (uint32_t)(end - first),
                                                 .blocks = &o->req->blocks[first - o->req->first],
                                                 .done = on_base};
}

static void base_done(struct overlay *o, int status)
{
    if (status && !o->status)
        o->status = status;
    if (--o->base_left == 0)
        o->based(o);
}

static void on_base(struct block_req *req)
{
    struct overlay_base *b = container_of(req, struct overlay_base, req);

    b->answered = true;
    base_done(b->overlay, req->status);
}

void overlay_read(struct overlay *o, void (*based)(struct overlay *))
{
    o->based = based;
    o->base_left = o->nbase + 1; /* one for this function: answers that come at once must not end it early */
    for (unsigned i = 0; i < o->nbase; i++) {
        o->base[i].req.class = o->req->class;
        if ((o->base[i].answered = tier_read(o->tier->next, &o->base[i].req)))
            base_done(o, o->base[i].req.status);
    }
    base_done(o, 0);
}

void overlay_open_block(struct overlay *o, uint64_t lba)
{
    struct block *b = block_of(o, lba);

    if (b->zero)
        memset(b->data, 0, BLOCK_BYTES);
    b->zero = false;
}

void overlay_lay_zeros(struct overlay *o)
{
    for (unsigned i = 0; i < o->nzero; i++) {
        const struct overlay_zero *z = &o->zero[i];

        if (z->nsectors == BLOCK_SECTORS) {
            block_of(o, z->lba)->zero = true;
            continue;
        }
        overlay_open_block(o, z->lba);
        memset(overlay_place(o, z->lba), 0, (size_t)z->nsectors * SECTOR_BYTES);
    }
}

void overlay_promote(struct overlay *o)
{
    o->req->class = TIER_DEMAND;
    for (unsigned i = 0; i < o->nbase; i++)
        if (!o->base[i].answered)
            tier_promote(o->tier->next, &o->base[i].req);
}

void overlay_end(struct overlay *o)
{
    free(o->base);
    free(o->zero);
    o->base = NULL;
    o->zero = NULL;
    o->nbase = o->nzero = 0;
}
