/* journal/map_region.h - the map of 256 KiB of a disk: which sectors the store has, and where. Pure.
 *
 * A region is a short sorted list of entries that never overlap; it is read, changed and written as one row
 * (docs/log.md). Sectors count from the region's first.
 */
#ifndef ISTHMUS_MAP_REGION_H
#define ISTHMUS_MAP_REGION_H

#include "logobj.h"

enum { REGION_SECTORS = 512, REGION_BLOCKS = 64, REGION_BLOCK_SECTORS = 8, REGION_ENTRY_BYTES = 24 };

struct region_entry {
    uint16_t sector, nsectors;
    bool zero;
    uint8_t frame_sector;
    uint64_t object; /* its first SEQ */
    uint32_t frame_at, frame_bytes;
};

struct region {
    unsigned n;
    /* At worst every sector its own, and room for what a change splits. */
    struct region_entry entries[REGION_SECTORS + 2];
};

/* 0, or -EBADMSG for what region_write cannot have written. */
int region_read(struct region *, const uint8_t *bytes, size_t n);
/* Returns the bytes written, at most REGION_SECTORS * REGION_ENTRY_BYTES. */
size_t region_write(const struct region *, uint8_t *bytes);

/* A sector range changes its owner: gone() tells each piece of data that loses it. e->nsectors > 0, within
 * the region. */
void region_put(struct region *, const struct region_entry *e,
                void (*gone)(void *arg, uint64_t object, uint32_t nsectors), void *arg);
/* As region_put, but only where the region points to the object `from`; returns how many sectors did. */
uint32_t region_move(struct region *, const struct region_entry *e, uint64_t from,
                     void (*gone)(void *arg, uint64_t object, uint32_t nsectors), void *arg);
/* Drops every entry of an object whose first SEQ is at or below `through`. */
void region_drop(struct region *, uint64_t through,
                 void (*gone)(void *arg, uint64_t object, uint32_t nsectors), void *arg);
/* One bit per block of 4096 bytes: entries have some of it; all of it; all of it is zeros. */
struct region_blocks {
    uint64_t some, all, zero;
};
struct region_blocks region_blocks(const struct region *);
/* The entry at or after this sector, or NULL. */
const struct region_entry *region_find(const struct region *, uint32_t sector);

#endif
