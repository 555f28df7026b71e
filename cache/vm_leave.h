/* cache/vm_leave.h - a VM that is being deleted lets go of its source disks.
 */
#ifndef ISTHMUS_VM_LEAVE_H
#define ISTHMUS_VM_LEAVE_H

#include "vm.h"

/* On vm->loop, before the VM is closed: on-prem forgets it and gives up its reservations. done() comes in any
 * case, perhaps at once, within 10 s; the log says it if on-prem still has the VM then. */
void vm_leave(struct vm *, void (*done)(struct vm *));

#endif
