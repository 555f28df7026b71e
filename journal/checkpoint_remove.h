/* journal/checkpoint_remove.h - what a checkpoint makes needless is removed from the store: log objects of
 * which nothing is live, and checkpoints before it.
 *
 * Blocking, on the worker, once the VM's entry names the checkpoint.
 */
#ifndef ISTHMUS_CHECKPOINT_REMOVE_H
#define ISTHMUS_CHECKPOINT_REMOVE_H

#include "checkpoint.h"
#include "store.h"
#include "vmobj.h"

#include <stdatomic.h>

int checkpoint_remove_dead(const struct checkpoint_dead *, struct store *, const uint8_t id[VMLOG_ID_BYTES],
                           const atomic_bool *stop, struct why *);
/* All of the entry's VM, of epoch at most, that the entry does not name. It names the newest, and the one
 * before, in case the newest is damaged. */
int checkpoint_remove_old(const struct vmobj *entry, uint64_t epoch, struct store *, const atomic_bool *stop,
                          struct why *);

#endif
