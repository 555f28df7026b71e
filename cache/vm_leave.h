/* cache/vm_leave.h - a VM that is being deleted lets go of its source disks.
 *
 * A note in the journal says which on-prem daemon has to be told for good; it is written before the VM leaves
 * the catalog, and goes when the daemon has answered. Until then it is told again, over restarts, and the
 * VM's entry stays in the object store: it says that the VM is being deleted, so that whoever recovers what a
 * lost edge had goes on with that (vms_recover.c).
 */
#ifndef ISTHMUS_VM_LEAVE_H
#define ISTHMUS_VM_LEAVE_H

#include "vm_life.h"

/* Does on-prem have to be told of its end? */
bool vm_leave_needed(const struct vm_spec *);

/* Blocking: the note is written, or removed. late: the store has no entry of the VM, and may get one yet. */
int vm_leave_note(struct journal *, const struct vm_spec *, bool late, struct why *);
int vm_leave_forget(struct journal *, const uint8_t id[VMLOG_ID_BYTES], struct why *);

/* On vm->loop, before the VM is closed: on-prem lets go of its disks, if it answers. done() comes in any
 * case, perhaps at once, within 10 s. */
void vm_leave(struct vm *, void (*done)(struct vm *));

/* Main loop, of a VM that was noted and erased: tells on-prem for as long as it takes, then the VM's entry
 * and the note go. late, as noted: not before it must have come, if it was sent. */
void vms_leave_tell(struct vms *, const struct vm_spec *, bool late);
/* Any thread: that is being done for this VM. */
bool vms_is_leaving(struct vms *, const uint8_t id[VMLOG_ID_BYTES]);
/* Blocking, at start-up, when the catalog is open: the same for every note. */
int vms_leave_resume(struct vms *, struct why *);
/* Main loop: the edge ends; the notes stay. */
void vms_leave_end(struct vms *);

#endif
