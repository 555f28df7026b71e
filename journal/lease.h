/* journal/lease.h - for how long an edge may believe that the other is there. Pure; one loop's, but for the
 * gate.
 *
 * Edge X counts a lease from the moment at which it *sent* the ping that was answered. Edge Y remembers when
 * it last gave such an answer. Whoever goes on alone waits until what it gave is over on any clock whose rate
 * is off by at most LEASE_RATE_PERCENT: then the other has stopped serving by its own clock. No clock is ever
 * compared with another.
 */
#ifndef ISTHMUS_LEASE_H
#define ISTHMUS_LEASE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { LEASE_RATE_PERCENT = 1 /* by which a monotonic clock may be fast or slow */ };

struct lease {
    uint64_t length_ns;
    uint64_t answered_ns; /* when the newest ping that was answered was sent; 0: none was */
    uint64_t given_ns;    /* when the other was last given an answer that counts, or may have been */
};

/* The other answered the ping that was sent then. */
static inline void lease_answered(struct lease *l, uint64_t sent_ns)
{
    if (sent_ns > l->answered_ns)
        l->answered_ns = sent_ns;
}

/* Nothing that was answered counts any more. */
static inline void lease_drop(struct lease *l)
{
    l->answered_ns = 0;
}

/* Until when ours holds; 0: it does not. */
static inline uint64_t lease_until(const struct lease *l)
{
    return l->answered_ns ? l->answered_ns + l->length_ns : 0;
}

static inline bool lease_holds(const struct lease *l, uint64_t now)
{
    return now < lease_until(l);
}

static inline void lease_give(struct lease *l, uint64_t now)
{
    l->given_ns = now;
}

/* From when on the other's cannot hold: (1 + e) / (1 - e) < 1 + 3 e for the rates at their worst. */
static inline uint64_t lease_theirs_over(const struct lease *l)
{
    return l->given_ns + l->length_ns + l->length_ns / 100 * 3 * LEASE_RATE_PERCENT + 1;
}

/* What a read asks, on any thread: until when it may be served. UINT64_MAX: for ever. */
struct lease_gate {
    _Atomic uint64_t until_ns;
};

static inline bool lease_gate_open(const struct lease_gate *g, uint64_t now)
{
    return now < atomic_load_explicit(&g->until_ns, memory_order_acquire);
}

#endif
