/* journal/pace.c - see pace.h.
 */
#include "pace.h"

#define MIB       (UINT64_C(1) << 20)
#define SECOND_NS UINT64_C(1000000000)

enum { BACKLOG_S = 10 };

void pace_moved(struct pace *p, uint64_t bytes, uint64_t ns, bool end)
{
    uint64_t rate;

    p->bytes += bytes;
    p->ns += ns;
    /* Little tells of delays rather than of the rate. */
    if (p->bytes >= 8 * MIB && (p->ns >= SECOND_NS || end)) {
        rate = p->bytes / (p->ns / 1000000 + 1) * 1000 + 1;
        if (p->rate == 0)
            p->rate = rate;
        else /* a store that becomes faster is believed sooner */
            p->rate = rate > p->rate ? (p->rate + rate) / 2 : (3 * p->rate + rate) / 4;
        p->bytes = p->ns = 0;
    }
    if (end)
        p->bytes = p->ns = 0;
}

uint64_t pace_of(const struct pace *p, uint64_t left)
{
    uint64_t slower;

    /* Not known yet: a bit may gather, then it goes on at what any store should take. */
    if (p->rate == 0)
        return left < 128 * MIB ? 0 : 16 * MIB;
    if (left < 32 * MIB || left / p->rate < BACKLOG_S)
        return 0;
    slower = p->rate * BACKLOG_S / (left / p->rate);
    return slower > p->rate / 2 ? slower : p->rate / 2;
}
