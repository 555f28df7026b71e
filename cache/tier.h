/* cache/tier.h - one layer of the block cache: the whole contract.
 *
 * Tiers are stacked: each answers what it holds and asks the next for the rest. The unit is the block of
 * 4096 bytes. A stack serves one disk and lives on that disk's VM's loop; what it shares with other stacks
 * (the RAM arena of the loop, the link) sits behind it. Every call is made on that loop.
 *
 * A read either answers at once (returns true; done() is not called) or later (returns false; done() fires
 * exactly once, never before read() has returned). A tier that cannot reach what it needs waits; it
 * answers an error only for a block that is truly bad (-EIO), gone (-ENOENT) or cancelled (-ECANCELED).
 *
 *      ram ──► journal ──► onprem           (later: ssd, peer, object between the last two)
 *
 * delay and fail are ordinary tiers, put into a stack from the configuration.
 */
#ifndef ISTHMUS_TIER_H
#define ISTHMUS_TIER_H

#include "loop.h"

#include <stdbool.h>
#include <stdint.h>

enum { BLOCK_BYTES = 4096, BLOCK_SECTORS = 8, SECTOR_BYTES = 512 };

/* Demand: somebody waits. Prefetch: nobody does yet. */
enum tier_class { TIER_DEMAND, TIER_PREFETCH };

/* A block in memory: immutable once filled, shared by reference within one loop. data is never NULL once
 * filled: a zero block points at a page of zeros that all share. Allocated only by ram.h. */
struct block {
    uint8_t *data;
    uint32_t refs; /* private to ram.c: block_ref/block_unref */
    bool zero;     /* known to be all zeros */
};

struct block_req {
    uint64_t first; /* block number on the disk */
    uint32_t count; /* >= 1 */
    enum tier_class class;
    /* count slots. For `ram` they come NULL and leave as references the caller must drop. For every lower
     * tier they hold blank blocks, to be filled: write data[], or set zero (data is then not touched). */
    struct block **blocks;
    int status; /* 0 or -errno, set by the tier */
    void (*done)(struct block_req *);
    void *tier_private; /* for the tier that holds the request */
};

struct tier;

struct tier_ops {
    const char *name; /* as in the configuration, the log and the metrics' tier label */
    bool (*read)(struct tier *, struct block_req *);
    /* Somebody waits now for a prefetch in flight (optional: NULL). */
    void (*promote)(struct tier *, struct block_req *);
    /* How many of count blocks from first, at least one, this tier answers in the same way: all of them
     * itself, or none. One request for both would let what is here wait for what is far (optional: NULL, all
     * alike). */
    uint32_t (*alike)(struct tier *, uint64_t first, uint32_t count);
    /* The disk is going: whatever waits in this tier for another machine ends soon with -ECANCELED (optional:
     * NULL). */
    void (*quiesce)(struct tier *);
    void (*free)(struct tier *); /* nothing in flight any more; frees the tier itself, not the next */
};

struct tier {
    const struct tier_ops *ops;
    struct tier *next; /* NULL for the last */
    struct loop *loop;
};

static inline bool tier_read(struct tier *t, struct block_req *r)
{
    return t->ops->read(t, r);
}

static inline void tier_promote(struct tier *t, struct block_req *r)
{
    if (t->ops->promote)
        t->ops->promote(t, r);
}

static inline uint32_t tier_alike(struct tier *t, uint64_t first, uint32_t count)
{
    return t->ops->alike ? t->ops->alike(t, first, count) : count;
}

/* Quiesces every tier of the stack. */
void tier_stack_quiesce(struct tier *top);
/* Frees the stack from the top; leaves NULL in *top. */
void tier_stack_free(struct tier **top);

#endif
