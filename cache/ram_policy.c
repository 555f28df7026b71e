/* cache/ram_policy.c - which block leaves: S3-FIFO.
 *
 * New blocks enter a small queue (a tenth of all); one that is used again there moves to the main queue, the
 * others leave and are remembered by hash as ghosts; a ghost that comes back enters the main queue at once.
 * So a scan passes through the small queue and the main queue keeps what is hot. A hit costs one byte's
 * increment. Loop thread only. Numbers against LRU and SIEVE: README.md.
 */
#include "ram_impl.h"

enum { GHOST_WAYS = 16, GHOST_AGE_BITS = 12, GHOST_TICKS = 64, SMALL_SHARE = 10 };

static void queue_push(struct ram *m, struct slot_queue *q, struct slot *s)
{
    uint32_t i = slot_number(m, s);

    s->u.q.newer = NIL;
    s->u.q.older = q->newest;
    if (q->newest != NIL)
        m->slots[q->newest].u.q.newer = i;
    else
        q->oldest = i;
    q->newest = i;
    q->n++;
}

static void queue_remove(struct ram *m, struct slot_queue *q, struct slot *s)
{
    if (s->u.q.newer != NIL)
        m->slots[s->u.q.newer].u.q.older = s->u.q.older;
    else
        q->newest = s->u.q.older;
    if (s->u.q.older != NIL)
        m->slots[s->u.q.older].u.q.newer = s->u.q.newer;
    else
        q->oldest = s->u.q.newer;
    q->n--;
}

static uint64_t ghost_hash(const struct ram *m, uint64_t key)
{
    uint64_t h = (key ^ m->seed) * 0xD6E8FEB86659FD93u;

    h ^= h >> 32;
    return h * 0xD6E8FEB86659FD93u;
}

static uint32_t *ghost_set(const struct ram *m, uint64_t hash)
{
    return m->ghosts + (((hash >> 32) * m->nghost_sets) >> 32) * GHOST_WAYS;
}

/* Entries hold a part of the hash that does not choose the set; 0 is an empty one. */
static uint32_t ghost_print(uint64_t hash)
{
    return ((uint32_t)hash | 1u << GHOST_AGE_BITS) & ~((1u << GHOST_AGE_BITS) - 1);
}

static uint32_t ghost_age(const struct ram *m, uint32_t entry)
{
    return (m->ghost_tick - entry) & ((1u << GHOST_AGE_BITS) - 1);
}

/* Age is counted in ticks; a ghost older than GHOST_TICKS (as many evictions as there are pages) is
 * forgotten. */
static void ghost_add(struct ram *m, uint64_t key)
{
    uint64_t hash = ghost_hash(m, key);
    uint32_t *set = ghost_set(m, hash), *to = set;

    for (unsigned i = 0; i < GHOST_WAYS; i++) {
        if (set[i] == 0) {
            to = &set[i];
            break;
        }
        if (ghost_age(m, set[i]) > ghost_age(m, *to))
            to = &set[i];
    }
    *to = ghost_print(hash) | (m->ghost_tick & ((1u << GHOST_AGE_BITS) - 1));
    if (++m->ghost_in_tick > m->npages / GHOST_TICKS) {
        m->ghost_in_tick = 0;
        m->ghost_tick++;
    }
}

static bool ghost_take(struct ram *m, uint64_t key)
{
    uint64_t hash = ghost_hash(m, key);
    uint32_t *set = ghost_set(m, hash);
    uint32_t print = ghost_print(hash);

    for (unsigned i = 0; i < GHOST_WAYS; i++) {
        if ((set[i] & ~((1u << GHOST_AGE_BITS) - 1)) == print) {
            bool young = ghost_age(m, set[i]) <= GHOST_TICKS;

            set[i] = 0;
            return young;
        }
    }
    return false;
}

static struct slot_queue *queue_of(struct ram *m, const struct slot *s)
{
    return s->flags & SLOT_MAIN ? &m->main : &m->small;
}

void policy_insert(struct ram *m, struct slot *s)
{
    s->freq = 0;
    if (ghost_take(m, s->key))
        s->flags |= SLOT_MAIN;
    else
        s->flags &= (uint8_t)~SLOT_MAIN;
    queue_push(m, queue_of(m, s), s);
}

void policy_remove(struct ram *m, struct slot *s)
{
    queue_remove(m, queue_of(m, s), s);
}

void policy_insert_like(struct ram *m, struct slot *s, const struct slot *old)
{
    s->flags = (uint8_t)((s->flags & ~SLOT_MAIN) | (old->flags & SLOT_MAIN));
    s->freq = old->freq;
    queue_push(m, queue_of(m, s), s);
}

/* A disk that is gone leaves its blocks to be found here. */
static bool gone(const struct ram *m, const struct slot *s)
{
    return m->tiers[s->key >> RAM_DISK_SHIFT] == NULL;
}

static struct slot *small_step(struct ram *m)
{
    struct slot *s = &m->slots[m->small.oldest];

    queue_remove(m, &m->small, s);
    if (s->b.refs > 0) {
        queue_push(m, &m->small, s);
        return NULL;
    }
    if (s->freq > 1 && !gone(m, s)) {
        s->freq = 0;
        s->flags |= SLOT_MAIN;
        queue_push(m, &m->main, s);
        return NULL;
    }
    if (!(s->flags & SLOT_PREFETCHED))
        ghost_add(m, s->key);
    return s;
}

static struct slot *main_step(struct ram *m)
{
    struct slot *s = &m->slots[m->main.oldest];

    queue_remove(m, &m->main, s);
    if (s->b.refs > 0 || (s->freq > 0 && !gone(m, s))) {
        if (s->b.refs == 0)
            s->freq--;
        queue_push(m, &m->main, s);
        return NULL;
    }
    return s;
}

/* Each step takes one block from its queue's old end: it leaves, or is put back colder. Held blocks go
 * round; when the queue whose turn it is holds nothing else, the other one gives. */
struct slot *policy_victim(struct ram *m)
{
    uint32_t small_left = m->small.n;
    uint64_t main_left = (uint64_t)(m->main.n + m->small.n) * (RAM_FREQ_MAX + 1);

    for (;;) {
        bool want_small = m->small.n > (m->small.n + m->main.n) / SMALL_SHARE;
        struct slot *s;

        if (m->small.n > 0 && small_left > 0 && (want_small || main_left == 0 || m->main.n == 0)) {
            small_left--;
            s = small_step(m);
            if (!s && main_left < m->main.n) /* it may be in the main queue now, behind what is held there */
                main_left = m->main.n;
        } else {
            CHECK(m->main.n > 0 && (main_left > 0 || small_left > 0));
            if (main_left > 0)
                main_left--;
            s = main_step(m);
        }
        if (s)
            return s;
    }
}
