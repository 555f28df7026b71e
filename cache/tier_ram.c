/* cache/tier_ram.c - the RAM tier of one disk: reads, and prefetch.
 *
 * A read whose blocks are all in memory is answered at once, with no allocation: one look into the index and
 * one reference for each block. Everything else goes to ram_fill.c. After each read the disk's read-ahead
 * is asked what to fetch. Lives on the VM's loop.
 */
#include "ram_impl.h"

#include "log.h"
#include "mem.h"
#include "readahead.h"

#include <errno.h>
#include <stdio.h>

static const char part[] = "cache";

static struct tier_ram *tier_ram(struct tier *t)
{
    return container_of(t, struct tier_ram, tier);
}

/* ---- prefetch */

/* At most a quarter of the memory, and twice what keeps the line full, is on its way unasked. */
static uint32_t prefetch_limit(const struct tier_ram *rt)
{
    uint32_t most = rt->ram->npages / 4, window = readahead_max_blocks(rt->readahead);

    if (window < (4u << 20) / BLOCK_BYTES)
        window = (4u << 20) / BLOCK_BYTES;
    return window < most ? window : most;
}

static bool prefetch_run(struct tier_ram *rt, uint64_t first, uint32_t count)
{
    struct ram *m = rt->ram;
    struct fill *f;

    if (rt->prefetching + count > prefetch_limit(rt) || !STAILQ_EMPTY(&m->memory) ||
        m->fill_bytes + fill_heap_bytes(count) > m->fill_bytes_max || !ram_reserve(m, count, count))
        return false; /* dropped: it is fetched when somebody asks */
    f = fill_new(rt, first, count, TIER_PREFETCH);
    rt->prefetching += count;
    metric_add(rt->issued, count);
    fill_submit(f);
    return true;
}

static void prefetch(struct tier_ram *rt, uint64_t from, uint32_t n)
{
    uint64_t end = from + n < rt->nblocks ? from + n : rt->nblocks;

    while (from < end) {
        uint32_t run = 0;

        while (run < RAM_FILL_BLOCKS && from + run < end && !index_find(rt->ram, rt->key + from + run))
            run++;
        if (run > 0)
            run = tier_alike(rt->tier.next, from, run);
        if (run > 0 && !prefetch_run(rt, from, run))
            return;
        from += run > 0 ? run : 1;
    }
}

static void read_ahead(struct tier_ram *rt, const struct block_req *r, bool missed)
{
    uint64_t from;
    uint32_t n;

    readahead_read(rt->readahead, r->first, r->count, missed, &from, &n);
    if (n > 0 && !rt->stopped)
        prefetch(rt, from, n);
}

/* ---- reads */

/* Takes blocks as long as they are in memory; returns how many. */
static uint32_t take_held(struct tier_ram *rt, struct block_req *r)
{
    const struct ram *m = rt->ram;
    uint64_t key = rt->key + r->first;
    uint32_t i = 0;

    while (i < r->count) {
        struct index_group g = index_group(m, key + i);
        uint32_t end = i + RAM_GROUP - (uint32_t)((key + i) % RAM_GROUP);

        if (end > r->count)
            end = r->count;
        for (; i < end; i++) {
            struct slot *s = index_find_in(m, g, key + i);

            if (!s || s->state != SLOT_READY)
                return i;
            r->blocks[i] = slot_take(rt, s);
        }
    }
    return i;
}

static bool too_large(struct tier_ram *rt, struct block_req *r)
{
    if (r->count <= rt->ram->npages / 2)
        return false;
    log_error(rt->name, "a read of %u blocks is more than half of the RAM tier's memory", r->count);
    r->status = -EIO;
    return true;
}

static bool ram_read(struct tier *t, struct block_req *r)
{
    struct tier_ram *rt = tier_ram(t);
    bool demand = r->class == TIER_DEMAND, done = true;
    uint32_t held;

    CHECK(r->count > 0);
    if (too_large(rt, r))
        return true;
    held = take_held(rt, r);
    if (held == r->count) {
        r->status = 0;
        if (demand)
            metric_add(rt->hits, r->count);
    } else {
        done = ram_read_missing(rt, r);
    }
    rt->last = r->first + r->count - 1;
    if (rt->readahead && demand)
        read_ahead(rt, r, held < r->count);
    return done;
}

static void ram_promote(struct tier *t, struct block_req *r)
{
    (void)t;
    ram_promote_waiting(r->tier_private);
}

/* ---- life */

static void run_idle(struct task *task)
{
    struct tier_ram *rt = container_of(task, struct tier_ram, idle_task);
    void (*idle)(void *) = rt->idle;

    rt->idle_posted = false;
    rt->idle = NULL;
    idle(rt->idle_arg);
}

void tier_ram_check_idle(struct tier_ram *rt)
{
    if (!rt->idle || rt->idle_posted || !LIST_EMPTY(&rt->flying))
        return;
    rt->idle_posted = true;
    loop_post(rt->ram->loop, &rt->idle_task);
}

void tier_ram_stop(struct tier *t, void (*idle)(void *), void *arg)
{
    struct tier_ram *rt = tier_ram(t);

    CHECK(!rt->idle);
    rt->stopped = true;
    rt->idle = idle;
    rt->idle_arg = arg;
    tier_ram_check_idle(rt);
}

/* Its blocks stay until the policy finds them: they can no longer be asked for. */
static void ram_tier_free(struct tier *t)
{
    struct tier_ram *rt = tier_ram(t);
    struct fill *f;

    CHECK(!rt->idle_posted);
    while ((f = LIST_FIRST(&rt->flying))) {
        CHECK(SLIST_EMPTY(&f->waits));
        LIST_REMOVE(f, flying);
        f->tier = NULL;
    }
    rt->ram->tiers[rt->number] = NULL;
    readahead_free(&rt->readahead);
    metric_free(&rt->hits);
    metric_free(&rt->misses);
    metric_free(&rt->issued);
    metric_free(&rt->prefetch_used);
    metric_free(&rt->wasted);
    free(rt);
}

static const struct tier_ops ram_ops = {
    .name = "ram",
    .read = ram_read,
    .promote = ram_promote,
    .free = ram_tier_free,
};

/* Numbers are not used twice: blocks of a disk that is gone must not be found by the next one. */
static void take_number(struct ram *m, struct tier_ram *rt)
{
    CHECK(m->ntiers < RAM_DISKS_MAX);
    if (m->ntiers == m->tiers_max) {
        m->tiers_max = m->tiers_max ? m->tiers_max * 2 : 64;
        m->tiers = xrealloc(m->tiers, m->tiers_max * sizeof(struct tier_ram *));
    }
    rt->number = m->ntiers++;
    rt->key = (uint64_t)rt->number << RAM_DISK_SHIFT;
    m->tiers[rt->number] = rt;
}

static void make_metrics(struct tier_ram *rt, const char *vm)
{
    const char *blocks = "isthmus_tier_blocks_total",
               *blocks_help = "Blocks asked of a tier by demand reads.";
    const char *prefetched = "isthmus_prefetch_blocks_total",
               *prefetched_help = "Blocks fetched unasked: issued, then used once or evicted untouched.";

    rt->hits = metric_new(METRIC_COUNTER, blocks, blocks_help, "vm=\"%s\",tier=\"ram\",result=\"hit\"", vm);
    rt->misses =
        metric_new(METRIC_COUNTER, blocks, blocks_help, "vm=\"%s\",tier=\"ram\",result=\"miss\"", vm);
    rt->issued = metric_new(METRIC_COUNTER, prefetched, prefetched_help, "vm=\"%s\",result=\"issued\"", vm);
    rt->prefetch_used =
        metric_new(METRIC_COUNTER, prefetched, prefetched_help, "vm=\"%s\",result=\"used\"", vm);
    rt->wasted = metric_new(METRIC_COUNTER, prefetched, prefetched_help, "vm=\"%s\",result=\"wasted\"", vm);
}

struct tier *tier_ram_new(struct ram *m, struct tier *next, uint32_t disk_id, uint64_t nblocks,
                          struct readahead *readahead, const char *vm)
{
    struct tier_ram *rt = xcalloc(1, sizeof(*rt));

    CHECK(nblocks <= RAM_DISK_BLOCKS_MAX);
    rt->tier.ops = &ram_ops;
    rt->tier.next = next;
    rt->tier.loop = m->loop;
    rt->ram = m;
    rt->readahead = readahead;
    rt->nblocks = nblocks;
    rt->last = UINT64_MAX;
    rt->idle_task.run = run_idle;
    LIST_INIT(&rt->flying);
    snprintf(rt->name, sizeof(rt->name), "%.60s/%u", vm, disk_id);
    take_number(m, rt);
    make_metrics(rt, vm);
    return &rt->tier;
}

/* The last block of a disk is padded with zeros; where there is more now, it must be read again. */
void tier_ram_set_nblocks(struct tier *t, uint64_t nblocks)
{
    struct tier_ram *rt = tier_ram(t);
    struct slot *s = rt->nblocks > 0 ? index_find(rt->ram, rt->key + rt->nblocks - 1) : NULL;

    CHECK(nblocks <= RAM_DISK_BLOCKS_MAX);
    if (s && s->state == SLOT_FILLING)
        s->u.fill->uncached = true;
    else if (s)
        slot_detach(rt->ram, s);
    rt->nblocks = nblocks;
}

struct readahead *tier_ram_readahead(struct tier *t)
{
    return tier_ram(t)->readahead;
}

struct ram_remains tier_ram_remains(const struct tier *t, uint64_t blocks)
{
    const struct tier_ram *rt = container_of(t, struct tier_ram, tier);

    return (struct ram_remains){.ram = rt->ram, .number = rt->number, .blocks = blocks};
}

const struct block *ram_remains_find(const struct ram_remains *r, uint64_t block)
{
    const struct slot *s = NULL;

    if (block < r->blocks)
        s = index_find(r->ram, ((uint64_t)r->number << RAM_DISK_SHIFT) + block);
    return s && s->state == SLOT_READY ? &s->b : NULL;
}
