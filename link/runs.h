/* link/runs.h - runs of blocks (docs/link.md) that are made of blocks that lie anywhere. Whole reads, and
 * what is made of runs again: proto.h.
 */
#ifndef ISTHMUS_RUNS_H
#define ISTHMUS_RUNS_H

#include "buf.h"

#include <stdint.h>

/* Without compression; NULL is a block of zeros. Behind `head` bytes that are left for the caller. Any
 * thread. */
struct buf *runs_encode_pages(uint32_t head, const uint8_t *const *pages, uint32_t nblocks);

#endif
