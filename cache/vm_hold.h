/* cache/vm_hold.h - may a new VM have its source disks? The on-prem daemon that has them all says so: it
 * attaches them to one VM at a time, whichever edge that is at.
 */
#ifndef ISTHMUS_VM_HOLD_H
#define ISTHMUS_VM_HOLD_H

#include "vm_life.h"

/* Main loop. */
struct vm_hold {
    struct vms *vms;
    const struct vm_spec *spec; /* of the new VM, which is not in the catalog yet */
    /* Once. status 0: on-prem has attached it; or a VM of this edge has them, and nothing is written back to
     * them by either. -EBUSY with why: they are another VM's. -ECANCELED: vm_hold_cancel() (no why), and
     * on-prem may have attached it. Waits for as long as the daemon is away. */
    void (*done)(struct vm_hold *);
    int status;
    struct why why;
    bool resent; /* what on-prem has answered may come there once more */

    struct { /* private */
        struct link_call call;
        bool asking;
        unsigned asked; /* VMs of the catalog that were asked about */
    } in;
};
void vm_hold_ask(struct vm_hold *);
void vm_hold_cancel(struct vm_hold *); /* done() comes later, if it has not come */

/* Main loop: another VM of this edge that reads one of these disks, or NULL: then they must not change. */
const struct vm *vm_hold_sharer(const struct vms *, const struct vm *);

#endif
