/* tests/sim/broken_delete.c - broken variants (broken.h) of deleting VMs.
 */
#include "broken.h"

#include "vm_store.h"
#include "vms_pair_impl.h"

int __real_vm_store_condemn(const struct vm_store *, const struct vm_spec *, struct why *);
int __wrap_vm_store_condemn(const struct vm_store *, const struct vm_spec *, struct why *);
int __wrap_vm_store_condemn(const struct vm_store *s, const struct vm_spec *spec, struct why *why)
{
    int err =
        broken == BROKEN_NOT_CONDEMNED ? vm_store_fence(s, spec, why) : __real_vm_store_condemn(s, spec, why);

    return err == 0 && broken == BROKEN_ENTRY_FIRST ? vm_store_remove(s, spec->id, why) : err;
}

void __real_vms_pair_forget_theirs(struct vms_pair *);
void __wrap_vms_pair_forget_theirs(struct vms_pair *);
void __wrap_vms_pair_forget_theirs(struct vms_pair *p)
{
    if (broken != BROKEN_THEIRS_STAYS)
        __real_vms_pair_forget_theirs(p);
}
