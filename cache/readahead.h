/* cache/readahead.h - which blocks to ask for before anybody does.
 *
 * Watches the reads of one disk, tells sequential streams apart (several at once; small serial reads of a
 * BIOS or GRUB count), and says how far ahead of each to fetch: growing while a stream keeps being read,
 * bounded by twice the bandwidth-delay product of the link and by a share of the RAM budget. Pure: no I/O,
 * no clock of its own, no allocation after readahead_new(), so that a unit test can play a trace.
 */
#ifndef ISTHMUS_READAHEAD_H
#define ISTHMUS_READAHEAD_H

#include <stdint.h>

struct readahead;

struct readahead_limits {
    uint32_t miss_blocks; /* a lone miss is widened to this many blocks, aligned (0: never) */
    uint32_t max_blocks;  /* the furthest ahead of one stream */
};

struct readahead *readahead_new(const struct readahead_limits *);
void readahead_free(struct readahead **);
/* The bandwidth-delay product in bytes as now measured; 0 = unknown. */
void readahead_set_bdp(struct readahead *, uint64_t bytes);

/* The furthest ahead of one stream, as the line is now. */
uint32_t readahead_max_blocks(const struct readahead *);
/* That many blocks fetched unasked were read after all: whether widening a lone miss pays is learnt from it.
 */
void readahead_used(struct readahead *, uint32_t blocks);

/* A read of [first, first+count) happened; missed says that some of it was not in memory. Returns the range
 * to prefetch in *from and *n (n = 0: nothing). What is already held or in flight (as the blocks just read)
 * is the caller's to skip. */
void readahead_read(struct readahead *, uint64_t first, uint32_t count, int missed, uint64_t *from,
                    uint32_t *n);

#endif
