/* cache/vm_place.h - are a VM's source disks at a cut of its log (enum writeback_place)?
 *
 * A VM of the catalog is served with the WAN down: only its own edge could have brought its source disks on.
 * One that was recovered may have been written back further than the store gave back; a note in the journal
 * keeps its initiators waiting, over restarts, until on-prem has said that it was not.
 */
#ifndef ISTHMUS_VM_PLACE_H
#define ISTHMUS_VM_PLACE_H

#include "vm_life.h"

/* Blocking: the note is written, or removed. */
int vm_place_note(struct journal *, const struct vm_spec *, bool unknown, struct why *);
int vm_place_forget(struct journal *, const uint8_t id[VMLOG_ID_BYTES], struct why *);
/* Blocking: sets vm->place to what the note says. */
int vm_place_load(struct vm *, struct why *);

/* On vm->loop, from write-back: vm->place has changed. Sessions end if the disks are at another history. */
void vm_placed(void *vm);

/* On the worker: asks on-prem to which cut it has brought the disks, or is about to. 0, *ahead 0 if it does
 * not know the VM; -ETIMEDOUT with why: it did not answer within half a minute; -ECANCELED: the edge stops.
 */
int vm_place_ask(struct vms *, const struct vm_spec *, uint64_t *ahead, struct why *);

#endif
