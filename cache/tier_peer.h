/* cache/tier_peer.h - the tier that asks the other edge of the pair for what a VM that came from there has
 * left in its memory (remains.h). Bytes, and why an answer is never stale: docs/pair.md, "Peer cache".
 *
 * It delays nothing: what is not answered in time is asked of the next tier, and an edge that has little is
 * asked less. It holds no data.
 */
#ifndef ISTHMUS_TIER_PEER_H
#define ISTHMUS_TIER_PEER_H

#include "tier.h"
#include "vmlog.h"

#include <stdatomic.h>

struct peer;

struct tier_peer_conf {
    struct loop *loop, *link_loop;
    struct tier *next;
    struct peer *peer;          /* the other edge */
    atomic_uint *under_way;     /* questions of this edge's: all its disks count in this */
    unsigned wait_ms;           /* for an answer */
    uint8_t id[VMLOG_ID_BYTES]; /* of the VM, that is this edge's by an entry of */
    uint64_t epoch;             /* this, and was the other's up to record */
    uint64_t seq;               /* this: nothing was written to it since */
    uint8_t disk;               /* its number */
    uint64_t nblocks;
    const char *vm; /* labels metrics and logs */
};
struct tier *tier_peer_new(const struct tier_peer_conf *);
/* On its loop, before the log gets a write: these sectors are not asked for any more. */
void tier_peer_written(struct tier *, uint64_t lba, uint64_t nsectors);

#endif
