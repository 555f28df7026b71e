/* journal/space.c - the bound on what a journal holds, and how writes slow down before it.
 *
 * Counted is what is alive: payload, and what its index costs in memory, from the moment a write is admitted.
 * Below 3/4 of the bound nothing is delayed; from there on each write waits up to 50 ms, by the square of
 * how far it is; at the bound only what replaces data of this log may go on, into a small reserve, because
 * that is what makes space.
 */
#include "impl.h"

enum { SPACE_DELAY_MAX_MS = 50 };

uint64_t space_delay_ns(const struct journal *j)
{
    uint64_t used = atomic_load_explicit(&j->bytes, memory_order_relaxed), quarter = j->max_bytes / 4;
    uint64_t over, share;

    if (used <= j->max_bytes - quarter)
        return 0;
    over = used - (j->max_bytes - quarter);
    share = over >= quarter ? 1000 : over * 1000 / quarter;
    return share * share * SPACE_DELAY_MAX_MS; /* (share / 1000)^2 * 50 ms in ns */
}

bool space_take(struct journal *j, uint64_t cost, bool overwrite)
{
    uint64_t bound = j->max_bytes + (overwrite ? j->reserve_bytes : 0);
    uint64_t used = atomic_load_explicit(&j->bytes, memory_order_relaxed);

    do {
        if (used + cost > bound)
            return false;
    } while (!atomic_compare_exchange_weak(&j->bytes, &used, used + cost));
    metric_set(j->m_bytes, used + cost);
    return true;
}

void space_add(struct journal *j, uint64_t cost)
{
    metric_set(j->m_bytes, atomic_fetch_add(&j->bytes, cost) + cost);
}

void space_give(struct journal *j, uint64_t cost)
{
    metric_set(j->m_bytes, atomic_fetch_sub(&j->bytes, cost) - cost);
}

uint64_t journal_bytes(const struct journal *j)
{
    return atomic_load_explicit(&j->bytes, memory_order_relaxed);
}

bool journal_throttled(const struct journal *j)
{
    return space_delay_ns(j) > 0;
}
