/* cache/ram.c - the memory of the RAM tier: arena, slots, index, references.
 *
 * Everything is mapped once and touched as it is used; nothing here allocates after ram_new(). Pages are
 * given out in address order where they are free in a row, so that a fill's blocks join in one iovec. What is
 * cached for whom, and misses, are in tier_ram.c and ram_fill.c; which block leaves is in ram_policy.c.
 */
#include "ram_impl.h"

#include "mem.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

enum { FILL_SHARE = 64 /* of the budget: requests in flight */, RAMS_MAX = 256 };

const uint8_t ram_zero_page[BLOCK_BYTES] __attribute__((aligned(BLOCK_BYTES)));

static struct ram *rams[RAMS_MAX]; /* an entry is used by its loop; finding a free one takes the lock */
static pthread_mutex_t rams_lock = PTHREAD_MUTEX_INITIALIZER;

static void *map_zeroed(uint64_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    CHECK(p != MAP_FAILED);
    return p;
}

/* ---- pages */

static uint32_t map_words(const struct ram *m)
{
    return (m->npages + 63) / 64;
}

static void page_free(struct ram *m, const uint8_t *data)
{
    uint32_t n = (uint32_t)((uint64_t)(data - m->arena) / BLOCK_BYTES);

    CHECK(n < m->npages && !(m->free_map[n / 64] >> n % 64 & 1));
    m->free_map[n / 64] |= 1ull << n % 64;
    m->free_summary[n / 4096] |= 1ull << n / 64 % 64;
    m->free_pages++;
}

/* The first free page at or after the one given out last, round the end. */
static uint32_t page_find(const struct ram *m)
{
    uint32_t word = m->cursor / 64, words = map_words(m), group;
    uint64_t bits = m->free_map[word] & ~0ull << m->cursor % 64;

    if (bits)
        return word * 64 + (uint32_t)__builtin_ctzll(bits);
    group = ++word / 64;
    if (word < words && word % 64 && (bits = m->free_summary[group] & ~0ull << word % 64)) {
        word = group * 64 + (uint32_t)__builtin_ctzll(bits);
        return word * 64 + (uint32_t)__builtin_ctzll(m->free_map[word]);
    }
    group += word % 64 != 0;
    for (;; group++) {
        if (group >= (words + 63) / 64)
            group = 0;
        if (m->free_summary[group])
            break;
    }
    word = group * 64 + (uint32_t)__builtin_ctzll(m->free_summary[group]);
    return word * 64 + (uint32_t)__builtin_ctzll(m->free_map[word]);
}

static uint8_t *page_take(struct ram *m)
{
    uint32_t n;

    CHECK(m->free_pages > 0);
    n = page_find(m);
    m->free_map[n / 64] &= ~(1ull << n % 64);
    if (m->free_map[n / 64] == 0)
        m->free_summary[n / 4096] &= ~(1ull << n / 64 % 64);
    m->free_pages--;
    m->cursor = n + 1 < m->npages ? n + 1 : 0;
    return m->arena + (uint64_t)n * BLOCK_BYTES;
}

/* ---- slots and index */

static void index_insert(struct ram *m, struct slot *s)
{
    uint32_t *head = index_head(index_group(m, s->key), s->key);

    s->chain = *head;
    *head = slot_number(m, s);
}

static void index_remove(struct ram *m, struct slot *s)
{
    uint32_t *at = index_head(index_group(m, s->key), s->key), i = slot_number(m, s);

    while (*at != i) {
        CHECK(*at != NIL);
        at = &m->slots[*at].chain;
    }
    *at = s->chain;
}

struct slot *slot_new(struct ram *m, uint64_t key, bool zero)
{
    struct slot *s;
    uint32_t i = m->free_chain;

    CHECK(m->free_slots > 0);
    if (i != NIL)
        m->free_chain = m->slots[i].chain;
    else
        i = m->untouched++;
    m->free_slots--;
    s = &m->slots[i];
    s->b.zero = zero;
    s->b.refs = 0;
    s->b.data = zero ? (uint8_t *)ram_zero_page : page_take(m); /* never written through */
    s->key = key;
    s->state = SLOT_FILLING;
    s->freq = 0;
    s->flags = 0;
    s->ram = m->number;
    s->u.fill = NULL;
    index_insert(m, s);
    return s;
}

void slot_make_zero(struct ram *m, struct slot *s)
{
    if (s->b.data == ram_zero_page)
        return;
    if (s->state == SLOT_READY && s->b.refs == 0) {
        m->idle[0]--;
        m->idle[1]++;
    }
    page_free(m, s->b.data);
    s->b.data = (uint8_t *)ram_zero_page;
    s->b.zero = true;
}

void slot_ready(struct ram *m, struct slot *s)
{
    CHECK(s->state == SLOT_FILLING && s->b.refs == 0);
    s->state = SLOT_READY;
    m->idle[s->b.zero]++;
}

void slot_free(struct ram *m, struct slot *s)
{
    CHECK(s->state == SLOT_DETACHED && s->b.refs == 0);
    if (s->b.data != ram_zero_page)
        page_free(m, s->b.data);
    s->state = SLOT_FREE;
    s->chain = m->free_chain;
    m->free_chain = slot_number(m, s);
    m->free_slots++;
}

void slot_detach(struct ram *m, struct slot *s)
{
    bool ready = s->state == SLOT_READY;

    index_remove(m, s);
    s->state = SLOT_DETACHED;
    if (!ready)
        return; /* its fill frees it */
    policy_remove(m, s);
    if (s->b.refs > 0)
        return;
    m->idle[s->b.zero]--;
    slot_free(m, s);
}

static void evict_one(struct ram *m)
{
    struct slot *s = policy_victim(m);
    struct tier_ram *owner = m->tiers[s->key >> RAM_DISK_SHIFT];

    if (owner && (s->flags & SLOT_PREFETCHED))
        metric_add(owner->wasted, 1);
    index_remove(m, s);
    m->idle[s->b.zero]--;
    s->state = SLOT_DETACHED;
    slot_free(m, s);
    metric_add(m->evictions, 1);
}

bool ram_reserve(struct ram *m, uint32_t pages, uint32_t slots)
{
    if ((uint64_t)m->free_pages + m->idle[0] < pages ||
        (uint64_t)m->free_slots + m->idle[0] + m->idle[1] < slots)
        return false;
    while (m->free_pages < pages || m->free_slots < slots)
        evict_one(m);
    return true;
}

/* ---- references */

struct block *block_ref(struct block *b)
{
    struct slot *s = slot_of(b);

    CHECK(s->state == SLOT_READY || s->state == SLOT_DETACHED);
    if (s->state == SLOT_READY)
        slot_ref(rams[s->ram], s);
    else
        s->b.refs++;
    return b;
}

void block_unref(struct block *b)
{
    struct slot *s = slot_of(b);
    struct ram *m;

    CHECK(b->refs > 0);
    if (--b->refs > 0)
        return;
    m = rams[s->ram];
    if (s->state == SLOT_READY)
        m->idle[b->zero]++;
    else
        slot_free(m, s);
    if (!STAILQ_EMPTY(&m->memory))
        ram_wake(m);
}

/* ---- the whole */

uint64_t ram_used_bytes(const struct ram *m)
{
    return (uint64_t)(m->npages - m->free_pages) * BLOCK_BYTES + m->meta_bytes + m->fill_bytes;
}

void ram_note_used(struct ram *m)
{
    metric_set(m->used, ram_used_bytes(m));
}

void ram_wake(struct ram *m)
{
    if (m->memory_posted || STAILQ_EMPTY(&m->memory))
        return;
    m->memory_posted = true;
    loop_post(m->loop, &m->memory_task);
}

/* Pages, and a slot and a half for each (zero blocks need only that), index entry and ghost, in the budget.
 */
static void ram_size(struct ram *m)
{
    uint64_t left = m->budget_bytes - m->budget_bytes / FILL_SHARE - BLOCK_BYTES;
    double each = BLOCK_BYTES + 1.5 * (sizeof(struct slot) + sizeof(uint32_t)) + sizeof(uint32_t) + 0.14;

    m->fill_bytes_max = m->budget_bytes / FILL_SHARE;
    m->npages = (uint32_t)((double)left / each);
    m->nslots = m->npages + m->npages / 2;
    m->ngroups = m->nslots / RAM_GROUP + 1;
    m->nghost_sets = m->npages / 16 + 1;
    m->meta_bytes = (uint64_t)(m->nslots + 1) * sizeof(struct slot) +
                    (uint64_t)m->ngroups * RAM_GROUP * sizeof(uint32_t) +
                    (uint64_t)m->nghost_sets * 16 * sizeof(uint32_t) + map_words(m) * 8ull +
                    ((uint64_t)map_words(m) + 63) / 64 * 8;
}

static void ram_map(struct ram *m)
{
    uint32_t words = map_words(m);

    m->arena = map_zeroed((uint64_t)m->npages * BLOCK_BYTES);
    madvise(m->arena, (uint64_t)m->npages * BLOCK_BYTES, MADV_HUGEPAGE);
    m->slots = map_zeroed((uint64_t)(m->nslots + 1) * sizeof(struct slot));
    m->heads = map_zeroed((uint64_t)m->ngroups * RAM_GROUP * sizeof(uint32_t));
    m->ghosts = map_zeroed((uint64_t)m->nghost_sets * 16 * sizeof(uint32_t));
    m->free_map = xcalloc(words, sizeof(uint64_t));
    m->free_summary = xcalloc((words + 63) / 64, sizeof(uint64_t));
    m->free_pages = m->npages;
    for (uint32_t i = 0; i < words; i++) {
        m->free_map[i] = i + 1 < words || m->npages % 64 == 0 ? ~0ull : (1ull << m->npages % 64) - 1;
        m->free_summary[i / 64] |= 1ull << i % 64;
    }
    m->free_slots = m->nslots;
    m->untouched = 1;
}

static void ram_register(struct ram *m)
{
    unsigned i = 0;

    pthread_mutex_lock(&rams_lock);
    while (i < RAMS_MAX && rams[i])
        i++;
    CHECK(i < RAMS_MAX);
    m->number = (uint8_t)i;
    rams[i] = m;
    pthread_mutex_unlock(&rams_lock);
}

struct ram *ram_new(struct loop *loop, uint64_t budget_bytes)
{
    struct ram *m = xcalloc(1, sizeof(*m));

    CHECK(budget_bytes <= RAM_BUDGET_MAX);
    if (budget_bytes < RAM_BUDGET_MIN)
        budget_bytes = RAM_BUDGET_MIN;
    m->loop = loop;
    m->budget_bytes = budget_bytes;
    STAILQ_INIT(&m->memory);
    STAILQ_INIT(&m->finished);
    m->memory_task.run = ram_memory_task;
    m->deliver_task.run = ram_deliver_task;
    loop_random(loop, &m->seed, sizeof(m->seed));
    ram_size(m);
    ram_map(m);
    ram_register(m);
    m->used = metric_new(METRIC_GAUGE, "isthmus_ram_bytes", "Memory of the RAM tier, with its index.",
                         "loop=\"%s\",kind=\"used\"", loop->name);
    m->limit = metric_new(METRIC_GAUGE, "isthmus_ram_bytes", "Memory of the RAM tier, with its index.",
                          "loop=\"%s\",kind=\"limit\"", loop->name);
    m->evictions = metric_new(METRIC_COUNTER, "isthmus_ram_evictions_total",
                              "Blocks evicted from the RAM tier.", "loop=\"%s\"", loop->name);
    m->waits = metric_new(METRIC_COUNTER, "isthmus_ram_waits_total",
                          "Reads that waited because all memory was held.", "loop=\"%s\"", loop->name);
    metric_set(m->limit, budget_bytes);
    ram_note_used(m);
    return m;
}

void ram_free(struct ram **ram)
{
    struct ram *m = *ram;

    *ram = NULL;
    if (!m)
        return;
    CHECK(m->nfills == 0 && STAILQ_EMPTY(&m->memory) && STAILQ_EMPTY(&m->finished));
    CHECK(!m->memory_posted && !m->deliver_posted);
    CHECK(m->free_slots + m->idle[0] + m->idle[1] == m->nslots); /* every block is unreffed */
    for (uint32_t i = 0; i < m->ntiers; i++)
        CHECK(!m->tiers[i]);
    munmap(m->arena, (uint64_t)m->npages * BLOCK_BYTES);
    munmap(m->slots, (uint64_t)(m->nslots + 1) * sizeof(struct slot));
    munmap(m->heads, (uint64_t)m->ngroups * RAM_GROUP * sizeof(uint32_t));
    munmap(m->ghosts, (uint64_t)m->nghost_sets * 16 * sizeof(uint32_t));
    metric_free(&m->used);
    metric_free(&m->limit);
    metric_free(&m->evictions);
    metric_free(&m->waits);
    pthread_mutex_lock(&rams_lock);
    rams[m->number] = NULL;
    pthread_mutex_unlock(&rams_lock);
    free(m->free_map);
    free(m->free_summary);
    free(m->tiers);
    free(m);
}
