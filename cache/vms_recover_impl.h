/* cache/vms_recover_impl.h - what the two files of a recovery share. Not for others. */
#ifndef ISTHMUS_VMS_RECOVER_IMPL_H
#define ISTHMUS_VMS_RECOVER_IMPL_H

#include "vm_arrive.h"
#include "vm_life.h"

struct vms_recovery {
    struct vms *vms;
    char name[VM_NAME_MAX + 1];           /* empty: all */
    bool inherit;                         /* those of `fallen`, with what was kept of their logs here, */
    uint8_t fallen[LOGOBJ_WRITER_BYTES];  /* and this edge's own that are not in its catalog yet */
    bool paired;                          /* VMs of `partner`, the other edge of the pair, are not, as long */
    uint8_t partner[LOGOBJ_WRITER_BYTES]; /* as it is that: until the pair moves */
    unsigned moves;
    uint64_t through;
    struct vm_spec *specs; /* recovered, to be opened */
    unsigned nspecs, next;
    struct vm_arrival arrival; /* of the next */
    struct work work;
    struct task task;
    int status; /* the first failure */
    unsigned seen;
    struct why why;
    void (*tell)(void *arg, const char *sentence);
    void (*done)(void *arg, int status, unsigned recovered, const struct why *);
    void *arg;
};

/* vms_recover_take.c: on the worker. Takes over what is wanted: specs. */
void vms_recover_take(struct vms_recovery *);

#endif
