/* journal/discard.h - throwing away what a VM wrote and the source disks lack; docs/log.md, "Discarding".
 *
 * The VM's catalog entry carries a floor: what was written up to that SEQ counts no more, wherever it still
 * is. These two take it away here and in the store; each may be done again. Blocking.
 */
#ifndef ISTHMUS_DISCARD_H
#define ISTHMUS_DISCARD_H

#include "map.h"
#include "store.h"

#include <stdatomic.h>

/* Of a VM whose log is not being written: the map is empty at cut `floor`, and the log goes on above it. */
int discard_map(struct map *, uint64_t floor, struct why *);
/* Removes the VM's log objects and checkpoints up to `floor`. stop: ends the waiting; may be NULL. */
int discard_objects(struct store *, const uint8_t id[VMLOG_ID_BYTES], uint64_t floor, const atomic_bool *stop,
                    struct why *);

#endif
