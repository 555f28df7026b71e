/* cache/volume_peer.h - a volume (volume.h) of a VM that has come from the other edge of a pair, or goes
 * there. On its loop.
 */
#ifndef ISTHMUS_VOLUME_PEER_H
#define ISTHMUS_VOLUME_PEER_H

#include "ram.h"
#include "volume.h"

/* In its stack is this tier (tier_peer.h), that has to hear of every write: before the first I/O. */
void volume_over_peer(struct volume *, struct tier *peer);
/* What it leaves in memory when it goes. */
struct ram_remains volume_remains(const struct volume *);

#endif
