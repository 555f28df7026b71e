/* cache/vm_status.h - how far what a VM wrote has come, as last seen on its loop.
 */
#ifndef ISTHMUS_VM_STATUS_H
#define ISTHMUS_VM_STATUS_H

#include "why.h"
#include "writeback.h"

#include <stdbool.h>
#include <stdint.h>

struct vm;

/* All 0 while nothing of the VM is open. */
struct vm_status {
    bool open;
    uint64_t written;       /* the newest record */
    uint64_t committed;     /* the newest cut that the store holds */
    uint64_t pending_bytes; /* of journal, that the store lacks */
    uint64_t store_lag_ns;  /* age of the oldest write that the store lacks */
    struct why store_why;   /* why putting fails now, or empty */
    bool mirrored;          /* it goes to the other edge of the pair, too */
    bool has_wb;            /* its disks are at one on-prem daemon: they can be written back */
    struct writeback_status wb;
};

/* Any thread. */
void vm_status(struct vm *, struct vm_status *);

/* vm->loop; at opening and closing. */
void vm_status_start(struct vm *);
void vm_status_stop(struct vm *);
/* vm->loop: something has just changed. */
void vm_status_look(struct vm *);

#endif
