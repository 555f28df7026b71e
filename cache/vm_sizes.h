/* cache/vm_sizes.h - asks the on-prem daemons how large a VM's disks are, one after the other. Main loop.
 */
#ifndef ISTHMUS_VM_SIZES_H
#define ISTHMUS_VM_SIZES_H

#include "vm_life.h"

struct vm_sizes {
    struct vm_spec *spec; /* borrowed; gets sectors, and block_bytes where it has none */
    /* Once. status: 0, or -errno with why; -ECANCELED: vm_sizes_cancel() (no why). Waits for as long as the
     * daemon is away. */
    void (*done)(struct vm_sizes *);
    int status;
    struct why why;
    unsigned disk; /* being asked for */

    struct { /* private */
        struct link *link;
        struct link_call call;
        bool asking;
    } in;
};
void vm_sizes_ask(struct vm_sizes *, struct link *);
void vm_sizes_cancel(struct vm_sizes *); /* done() comes later, if it has not come */

#endif
