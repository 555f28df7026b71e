/* cache/vm_erase.c - all that there is of a VM goes, in the object store and here. On the worker.
 *
 *   entry: "being deleted" ► its other objects ► its entry; or a note, if on-prem has to be told (vm_leave.h)
 *   ► what the journal has of it ► its catalog entry
 *
 * Until the last of these the next start begins anew. If this edge is lost with its disks the entry in the
 * store makes another one go on, from when it says that the VM is being deleted; before, the VM is there.
 */
#include "step.h"
#include "vm_leave.h"
#include "vm_life.h"
#include "vm_place.h"
#include "vm_value.h"

#include <errno.h>

/* Another edge has the VM, and it is that edge's to tell on-prem. A new VM's entry that is not there may have
 * been sent by the process before this one, or without an answer, and come when all is gone.
 */
static int condemn(struct vms *vms, const struct vm_spec *spec, struct vm_erasure *e, struct why *why)
{
    struct vm_store store = vm_store_of(vms);
    int rc = e->anothers ? -ESTALE : vm_store_condemn(&store, spec, why);

    e->anothers = rc == -ESTALE;
    e->absent = rc == -ENOENT;
    e->held = (e->held || e->absent) && !e->anothers;
    return e->anothers || e->absent ? 0 : rc;
}

static int erase_store(struct vms *vms, const struct vm_spec *spec, const struct vm_erasure *e,
                       struct why *why)
{
    struct vm_store store = vm_store_of(vms);
    int rc;

    STEP("delete.entry", "its entry says that it is being deleted");
    rc = vm_store_clear(&store, spec->id, why);
    STEP("delete.objects", "its objects are gone, but for its entry");
    if (rc == 0)
        rc = e->held ? vm_leave_note(vms->conf.journal, spec, e->absent, why)
                     : vm_store_remove(&store, spec->id, why);
    STEP("delete.last", "its entry is gone, or a note says that on-prem has to be told before");
    return rc;
}

int vm_erase_all(struct vms *vms, const struct vm_spec *spec, struct vm_erasure *e, struct why *why)
{
    struct journal *journal = vms->conf.journal;
    int rc = condemn(vms, spec, e, why);

    if (rc == 0 && !e->anothers)
        rc = erase_store(vms, spec, e, why);
    if (rc == 0)
        rc = vmlog_delete(journal, spec->id, why);
    STEP("delete.log", "its log is gone");
    if (rc == 0)
        rc = map_delete(journal, spec->id, why);
    STEP("delete.map", "its map is gone");
    if (rc == 0 && !e->anothers) /* else they are as much the other edge's as this one's */
        rc = vm_value_erase(journal, spec->id, why);
    if (rc == 0)
        rc = vm_place_forget(journal, spec->id, why);
    return rc ? rc : vm_hand_forget(journal, spec->id, why);
}

int vm_erase(struct vms *vms, const struct vm_spec *spec, struct vm_erasure *e, struct why *why)
{
    char key[VM_KEY_MAX];
    int rc = vm_erase_all(vms, spec, e, why);

    vm_key(spec, key);
    if (rc == 0)
        rc = journal_meta_delete(vms->conf.journal, key, why);
    STEP("delete.catalog", "it is out of the catalog");
    if (rc == 0 && !e->held)
        rc = vm_leave_forget(vms->conf.journal, spec->id, why);
    return rc;
}
