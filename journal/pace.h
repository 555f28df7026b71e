/* journal/pace.h - how fast a VM may write, so that the object store stays less than 30 s behind. Pure.
 *
 * What waits for the store takes (bytes) / (rate of the store), and a write may have to wait for two cuts:
 * the one under way and its own. So a VM whose backlog is worth more than 10 s is slowed down to what the
 * store takes, and below, until it is less. A store that is away slows nobody down: that is the journal's
 * bound.
 */
#ifndef ISTHMUS_PACE_H
#define ISTHMUS_PACE_H

#include <stdbool.h>
#include <stdint.h>

/* Zeroed at first. Bytes are those of journal. */
struct pace {
    uint64_t rate;      /* bytes a second that the store takes; 0: not known yet */
    uint64_t bytes, ns; /* of this cut, not in it yet */
};

/* So much of a cut has reached the store since the last call of that cut, or since it began; end: it was the
 * last. */
void pace_moved(struct pace *, uint64_t bytes, uint64_t ns, bool end);

/* Bytes a second that may be written while the store lacks `left`; 0: as they come. */
uint64_t pace_of(const struct pace *, uint64_t left);

#endif
