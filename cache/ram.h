/* cache/ram.h - the top tier: blocks in memory, shared by reference, evicted by a scan-resistant policy.
 *
 * One `ram` per loop thread: an arena of pages with their index, bounded together by its budget; every disk
 * pinned to that loop has a `ram` tier on it. No locks. A reader gets references to immutable blocks, which
 * go from here to the socket without a copy; a write replaces a block, it never changes one.
 *
 * Filling: a missing block is fetched once however many wait for it. A write that commits while a fill of
 * its block is in flight is kept with the fill and laid over what arrives, so that neither the cache nor a
 * waiting reader ever goes back to before the write.
 */
#ifndef ISTHMUS_RAM_H
#define ISTHMUS_RAM_H

#include "tier.h"

struct ram;

#define RAM_BUDGET_MIN      (4ull << 20)
#define RAM_BUDGET_MAX      (4ull << 40)
#define RAM_DISK_BLOCKS_MAX (1ull << 44) /* 64 PiB: whoever opens a larger disk refuses it */

/* budget_bytes covers pages, index and fills in flight; less than RAM_BUDGET_MIN counts as that. A read of
 * more than half of it fails (-EIO): give at least four times the largest read. */
struct ram *ram_new(struct loop *, uint64_t budget_bytes);
/* After every tier on it is freed, every block unreffed, and what was posted to the loop has run. */
void ram_free(struct ram **);
uint64_t ram_used_bytes(const struct ram *);

/* The top tier of one disk over `next`. readahead may be NULL, else it is taken (freed with the tier). `vm`
 * labels metrics, disk_id the log. */
struct readahead;
struct tier *tier_ram_new(struct ram *, struct tier *next, uint32_t disk_id, uint64_t nblocks,
                          struct readahead *, const char *vm);
void tier_ram_set_nblocks(struct tier *, uint64_t nblocks);
/* For the link's measure; NULL without readahead. */
struct readahead *tier_ram_readahead(struct tier *);
/* Before freeing the stack: no more prefetch; idle() comes from the loop, once, when no request to the next
 * tier is in flight (later reads would only move that). A tier freed with prefetches still in flight is safe,
 * if the next one ends them with -ECANCELED. */
void tier_ram_stop(struct tier *, void (*idle)(void *arg), void *arg);

/* What a committed write changed: bytes (n sectors from sector lba; NULL data means zeros) are the newest
 * content now. Blocks held are replaced, blocks fully covered are inserted, fills in flight are patched.
 * Called on the loop in commit order, before the write is answered. Never fails, never waits. */
void tier_ram_written(struct tier *, uint64_t lba, uint32_t nsectors, const uint8_t *data);

/* Nobody waits for this read, which read() has not answered, any more: its done() comes soon, with -ECANCELED
 * if it had not come back already. What is on its way for it arrives all the same. */
void tier_ram_cancel(struct tier *, struct block_req *);

/* What a disk's tier has in memory stays when the tier is freed, until the policy finds it. By what the tier
 * was called. `blocks` of them lie wholly within the disk. */
struct ram_remains {
    struct ram *ram;
    uint32_t number;
    uint64_t blocks;
};
struct ram_remains tier_ram_remains(const struct tier *, uint64_t blocks);
/* Loop thread only; until it runs anything else. NULL: not in memory. It is no use of the block. */
const struct block *ram_remains_find(const struct ram_remains *, uint64_t block);

/* Loop thread only. unref of the last reference returns the page. */
struct block *block_ref(struct block *);
void block_unref(struct block *);

#endif
