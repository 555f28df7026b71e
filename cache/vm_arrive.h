/* cache/vm_arrive.h - a VM that has become this edge's, and is in its catalog on disk, is opened and found.
 */
#ifndef ISTHMUS_VM_ARRIVE_H
#define ISTHMUS_VM_ARRIVE_H

#include "vm_life.h"

/* Main loop. Embedded in its owner. */
struct vm_arrival {
    struct vms *vms;
    bool handed; /* by the other edge, that is there: what it has left in memory is asked for */
    /* status 0: the VM is served, and the sessions of its far one go on with it; else why not. */
    void (*done)(struct vm_arrival *);
    int status;
    struct why why;

    struct vm *vm; /* private, as is the rest */
    struct work work;
    struct task task;
};
void vm_arrive(struct vm_arrival *, const struct vm_spec *);

#endif
