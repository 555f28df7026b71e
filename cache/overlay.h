/* cache/overlay.h - one read of a tier that holds some sectors and asks the next for the rest.
 *
 *   look up   the tier says for each range: absent, zero, or data of its own
 *   base      runs of blocks of which something is absent are read from the next tier
 *   overlay   zeros are laid in; the tier lays its data over what came
 *
 * Embedded in the tier's own read; used by tier_journal and tier_object. Loop thread.
 */
#ifndef ISTHMUS_OVERLAY_H
#define ISTHMUS_OVERLAY_H

#include "tier.h"

struct overlay;

struct overlay_base {
    struct block_req req;
    struct overlay *overlay;
    bool answered;
};

struct overlay {
    struct tier *tier;     /* who reads */
    struct block_req *req; /* for whom */
    struct overlay_base *base;
    unsigned nbase, base_left;
    struct overlay_zero {
        uint64_t lba;
        uint32_t nsectors; /* within one block */
    } * zero;
    unsigned nzero;
    int status; /* of the base */
    void (*based)(struct overlay *);
};

/* Starts; marks every block of the request as not zero. May be begun again after overlay_end(). */
void overlay_begin(struct overlay *, struct tier *, struct block_req *);
/* In rising order; together they cover the request. */
void overlay_absent(struct overlay *, uint64_t lba, uint32_t nsectors);
void overlay_zero(struct overlay *, uint64_t lba, uint32_t nsectors);
/* How much of this range lies in its first block, and where in memory that begins. */
uint32_t overlay_cut(uint64_t lba, uint32_t nsectors);
uint8_t *overlay_place(const struct overlay *, uint64_t lba);

/* Reads the base; based() when it is there, perhaps before this returns. Its status is in ->status. */
void overlay_read(struct overlay *, void (*based)(struct overlay *));
/* After that: lays the zeros. */
void overlay_lay_zeros(struct overlay *);
/* After that: the block that holds lba gets data in some sectors: real zeros where it was known to be zero.
 */
void overlay_open_block(struct overlay *, uint64_t lba);

/* Somebody waits now: what is still being read below, too. */
void overlay_promote(struct overlay *);
/* Frees its lists. */
void overlay_end(struct overlay *);

#endif
