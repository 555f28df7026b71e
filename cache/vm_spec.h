/* cache/vm_spec.h - what a VM is, checked, and as JSON in the catalog.
 */
#ifndef ISTHMUS_VM_SPEC_H
#define ISTHMUS_VM_SPEC_H

#include "vm.h"

/* 0, or -EINVAL with a sentence: name, IQN, CHAP names and secrets (12 to 255 bytes), disks. */
int vm_spec_check(const struct vm_spec *, struct why *);

unsigned vm_spec_disks(const struct vm_spec *); /* how many it has */
/* The on-prem daemon of its first disk: of all, if vm_at_one_place(). */
const char *vm_spec_onprem(const struct vm_spec *);

/* The part of it that is about CHAP. */
int vm_chap_check(const struct vm_spec *, struct why *);

/* Overwrites it all: it holds secrets. */
void vm_spec_wipe(struct vm_spec *);

/* The catalog's form (holds secrets; the journal seals it): {"format":1, "name":..., ...}; `deleting` marks
 * one whose log is being removed. The caller frees it. */
char *vm_spec_to_json(const struct vm_spec *, bool deleting);
/* -EBADMSG with a sentence when it is not that, or a newer format. */
int vm_spec_from_json(const char *text, size_t n, struct vm_spec *, bool *deleting, struct why *);

#endif
