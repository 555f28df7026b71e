/* cache/vms_name.c - which names are taken, here and at the other edge of a pair. Main loop.
 */
#include "vm_life.h"
#include "vms_pair.h"

#include <errno.h>
#include <string.h>

/* -> -EEXIST if VM has the name of SPEC, or the one that initiators know it by. WHERE begins the sentence. */
static int check_two(const struct vm_spec *vm, const struct vm_spec *spec, const char *where, struct why *why)
{
    if (strcmp(vm->name, spec->name) == 0)
        return why_set(why, -EEXIST, "%s a VM %s already", where, spec->name);
    if (strcmp(vm->iqn, spec->iqn) == 0)
        return why_set(why, -EEXIST, "%s a VM with the name %s already: %s", where, spec->iqn, vm->name);
    return 0;
}

/* The other edge tells of all its VMs; a start knows of those whose log is kept here. */
static int check_unique_in_pair(const struct vms *vms, const struct vm_spec *spec, struct why *why)
{
    static const char where[] = "the other edge of the pair has";
    struct vm *vm;
    int status;

    TAILQ_FOREACH (vm, &vms->far, in.entry) {
        status = check_two(&vm->spec, spec, where, why);
        if (status)
            return status;
    }
    if (vms->pair && vms_pair_has(vms->pair, spec->name))
        return why_set(why, -EEXIST, "%s a VM %s already", where, spec->name);
    return 0;
}

int vms_check_name(struct vms *vms, const struct vm_spec *spec, struct why *why)
{
    struct vm *vm;
    int status;

    TAILQ_FOREACH (vm, &vms->list, in.entry) {
        status = check_two(&vm->spec, spec, "there is", why);
        if (status)
            return status;
    }
    if (vms_creates_name(vms, spec))
        return why_set(why, -EEXIST, "a VM %s is being created already", spec->name);
    if (vms_name_is_going(vms, spec->name, why))
        return -EBUSY;
    return check_unique_in_pair(vms, spec, why);
}

bool vms_names_are_known(const struct vms *vms)
{
    return !vms->recovering && !(vms->pair && vms_pair_is_to_inherit(vms->pair));
}
