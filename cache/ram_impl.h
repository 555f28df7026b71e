/* cache/ram_impl.h - what the files of the RAM tier share: ram*.c and tier_ram.c, nobody else.
 *
 * A slot is the metadata of one block (40 bytes); slots and pages are separate, because a block of zeros has
 * a slot and no page. A slot is
 *      FREE ──► FILLING ──► READY ──► FREE
 *                  └───────────┴──► DETACHED ──► FREE   (replaced by a write while filling or while held)
 * FILLING and READY slots are in the index, READY ones also in a queue of the policy. "Idle" is READY and
 * held by nobody: what can be evicted. Everything here belongs to one loop thread.
 */
#ifndef ISTHMUS_RAM_IMPL_H
#define ISTHMUS_RAM_IMPL_H

#include "check.h"
#include "metric.h"
#include "ram.h"
#include "readahead.h"

#include <sys/queue.h>

enum {
    NIL = 0,             /* slot 0 is never used, so that zeroed memory is an empty index */
    RAM_GROUP = 16,      /* neighbouring blocks whose index entries share a cache line */
    RAM_DISK_SHIFT = 44, /* key = disk number << 44 | block number */
    RAM_DISKS_MAX = 1 << 20,
    RAM_FILL_BLOCKS = 64, /* per request to the next tier: what one frame of the link carries (256 KiB), so
                             that a demand read waits behind 20 ms of a 100 Mbit/s line at most */
    RAM_FREQ_MAX = 3,
};

enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_READY, SLOT_DETACHED };

struct slot {
    struct block b;
    uint64_t key;
    union {
        struct {
            uint32_t newer, older;
        } q;               /* READY: its place in the queue */
        struct fill *fill; /* FILLING, DETACHED while its fill is in flight */
    } u;
    uint32_t chain; /* next in the index, or next free */
    uint8_t state;
    uint8_t freq; /* hits since it came, at most RAM_FREQ_MAX */
    uint8_t flags;
    uint8_t ram; /* which ram, for block_unref() */
};
_Static_assert(sizeof(struct slot) == 40, "metadata per block is budgeted");
enum { SLOT_MAIN = 1 /* in the main queue */, SLOT_PREFETCHED = 2 /* nobody has asked for it yet */ };

struct slot_queue {
    uint32_t newest, oldest, n;
};

/* Somebody's read that is not complete. */
struct wait {
    struct block_req *req;
    struct tier_ram *tier;
    uint32_t remaining; /* blocks neither given nor failed */
    uint32_t nodes;     /* fills that know it */
    int status;
    bool queued;     /* for memory: holds nothing */
    bool submitting; /* read() has not returned: no done() */
    bool counted;    /* in the metrics */
    bool finished;
    bool delivered;
    STAILQ_ENTRY(wait) entry;
};
STAILQ_HEAD(wait_list, wait);

struct wait_node {
    struct wait *wait;
    SLIST_ENTRY(wait_node) entry;
};

/* What was written to a block while it was being filled: newest bytes by sector. */
struct overlay {
    uint8_t mask;
    uint8_t data[BLOCK_BYTES];
};

/* A request to the next tier. blocks[] are the blank blocks of slots; a DETACHED one is dropped on arrival.
 */
struct fill {
    struct block_req req;
    struct ram *ram;
    struct tier_ram *tier; /* NULL: the tier is gone */
    SLIST_HEAD(, wait_node) waits;
    STAILQ_ENTRY(fill) entry;  /* to be submitted */
    LIST_ENTRY(fill) flying;   /* of its tier */
    struct overlay **overlays; /* NULL, or one pointer for each block */
    uint64_t superseded;       /* a bit for each block that was written whole meanwhile */
    bool prefetch;             /* nobody waited when it was made */
    bool uncached;             /* its blocks must not stay: the disk's end moved */
    struct block *blocks[];
};
STAILQ_HEAD(fill_list, fill);
LIST_HEAD(fill_flying, fill);

struct ram {
    struct loop *loop;
    uint64_t budget_bytes, meta_bytes, fill_bytes, fill_bytes_max;
    uint8_t number; /* in the table of rams */

    uint8_t *arena;
    uint32_t npages, free_pages, cursor;
    uint64_t *free_map, *free_summary; /* a bit per free page; a bit per word that has one */

    struct slot *slots;
    uint32_t nslots, free_slots, untouched; /* untouched: slots from here on were never used */
    uint32_t free_chain;
    uint32_t idle[2]; /* idle blocks with a page, and of zeros */

    uint32_t *heads; /* RAM_GROUP for each group */
    uint32_t ngroups;
    uint64_t seed;

    struct slot_queue small, main;
    uint32_t *ghosts; /* what left the small queue lately: 20 bits of hash, 12 of age */
    uint32_t nghost_sets, ghost_tick, ghost_in_tick;

    struct tier_ram **tiers; /* by disk number; NULL: gone */
    uint32_t ntiers, tiers_max;

    uint32_t nfills;
    struct wait_list memory;   /* wait for pages, in order */
    struct wait_list finished; /* done() is due */
    bool delivering;
    struct task memory_task, deliver_task;
    bool memory_posted, deliver_posted;
    struct metric *used, *limit, *evictions, *waits;
};

struct tier_ram {
    struct tier tier;
    struct ram *ram;
    struct readahead *readahead;
    uint32_t number;
    uint64_t key; /* number << RAM_DISK_SHIFT */
    uint64_t nblocks;
    uint64_t last;        /* the block touched last: touching it again is no second use */
    uint32_t prefetching; /* blocks being prefetched */
    struct fill_flying flying;
    bool stopped; /* no more prefetch */
    void (*idle)(void *);
    void *idle_arg;
    struct task idle_task;
    bool idle_posted;
    char name[80]; /* for the log */
    struct metric *hits, *misses, *issued, *prefetch_used, *wasted;
};

extern const uint8_t ram_zero_page[BLOCK_BYTES];

/* ---- ram.c: memory */
/* Makes room for that many pages and slots, evicting; false, and nothing changed, if it cannot. */
bool ram_reserve(struct ram *, uint32_t pages, uint32_t slots);
/* Room must be reserved. In the index as key, FILLING; blank, or pointing at the page of zeros. */
struct slot *slot_new(struct ram *, uint64_t key, bool zero);
void slot_make_zero(struct ram *, struct slot *); /* returns its page */
void slot_ready(struct ram *, struct slot *);     /* FILLING to READY, in the small queue or main */
void slot_detach(struct ram *, struct slot *);    /* out of index and queue; freed when nobody holds it */
void slot_free(struct ram *, struct slot *);      /* DETACHED and not held */
void ram_note_used(struct ram *);                 /* the gauge */
void ram_wake(struct ram *);                      /* memory came back */

/* ---- ram_policy.c: S3-FIFO */
void policy_insert(struct ram *, struct slot *);
void policy_remove(struct ram *, struct slot *);
void policy_insert_like(struct ram *, struct slot *, const struct slot *old); /* as hot as old was */
struct slot *policy_victim(struct ram *); /* out of its queue; some must be idle */

/* ---- ram_fill.c: requests to the next tier */
struct fill *fill_new(struct tier_ram *, uint64_t first, uint32_t count, enum tier_class); /* room reserved */
void fill_attach(struct fill *, struct wait *);
void fill_detach(struct fill *, struct wait *); /* if it is attached */
void fill_submit(struct fill *);
void fill_supersede(struct ram *, struct slot *filling, struct slot *by); /* a whole block was written */
struct overlay *fill_overlay(struct slot *filling);
uint32_t fill_heap_bytes(uint32_t count);

/* ---- ram_wait.c: readers */
bool ram_read_missing(struct tier_ram *, struct block_req *); /* true: answered after all */
void ram_promote_waiting(struct wait *);
void wait_start_or_queue(struct ram *, struct wait *);
void wait_account(struct ram *, struct wait *, uint32_t blocks); /* that many more were given or failed */
void wait_forget_node(struct wait *);
void ram_deliver(struct ram *);       /* done() of all that are finished */
void ram_deliver_later(struct ram *); /* the same, from the loop */
void ram_deliver_task(struct task *);
void ram_memory_task(struct task *);

/* ---- tier_ram.c */
void tier_ram_check_idle(struct tier_ram *);

/* ---- inline: the hit path */

struct index_group {
    uint32_t *heads;
    uint64_t mix;
};

/* Sixteen neighbours share a line of the index, in an order that differs from group to group. */
static inline struct index_group index_group(const struct ram *m, uint64_t key)
{
    uint64_t h = ((key / RAM_GROUP) ^ m->seed) * 0x9E3779B97F4A7C15u;

    h ^= h >> 29;
    h *= 0xBF58476D1CE4E5B9u;
    h ^= h >> 32;
    return (struct index_group){m->heads + (((h & UINT32_MAX) * m->ngroups) >> 32) * RAM_GROUP, h >> 40};
}

static inline uint32_t *index_head(struct index_group g, uint64_t key)
{
    return &g.heads[(key ^ g.mix) % RAM_GROUP];
}

static inline struct slot *index_find_in(const struct ram *m, struct index_group g, uint64_t key)
{
    for (uint32_t i = *index_head(g, key); i != NIL; i = m->slots[i].chain)
        if (m->slots[i].key == key)
            return &m->slots[i];
    return NULL;
}

static inline struct slot *index_find(const struct ram *m, uint64_t key)
{
    return index_find_in(m, index_group(m, key), key);
}

static inline struct slot *slot_of(struct block *b)
{
    return container_of(b, struct slot, b);
}

static inline uint32_t slot_number(const struct ram *m, const struct slot *s)
{
    return (uint32_t)(s - m->slots);
}

static inline void slot_ref(struct ram *m, struct slot *s)
{
    if (s->b.refs++ == 0)
        m->idle[s->b.zero]--;
}

/* A demand read takes a READY block: a reference, and the policy hears of it. */
static inline struct block *slot_take(struct tier_ram *rt, struct slot *s)
{
    slot_ref(rt->ram, s);
    if (s->flags & SLOT_PREFETCHED) { /* its first use: it came by no read of its own */
        s->flags &= (uint8_t)~SLOT_PREFETCHED;
        metric_add(rt->prefetch_used, 1);
        if (rt->readahead)
            readahead_used(rt->readahead, 1);
    } else if (s->freq < RAM_FREQ_MAX && s->key != rt->key + rt->last) {
        s->freq++;
    }
    return &s->b;
}

#endif
