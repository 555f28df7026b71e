/* cache/vm_store.h - a VM's entry in the object store, and taking VMs over from there. Used by the catalog.
 *
 * An entry may say that its VM is being deleted: nobody serves such a VM, and whoever has it, or takes it
 * over, goes on with the deletion. It is the last of the VM's objects that goes, when on-prem has let go of
 * its disks.
 *
 * Blocking, on the worker (worker.h): it waits for the store.
 */
#ifndef ISTHMUS_VM_STORE_H
#define ISTHMUS_VM_STORE_H

#include "entry.h"
#include "vm.h"

struct vm_store {
    struct store *store;
    const struct aead_key *master;
    const uint8_t *writer;   /* this edge */
    struct loop *random;     /* salts */
    const atomic_bool *stop; /* may be NULL */
};

/* Puts the entry of a new VM, as of one that is being deleted, which it is until it is changed. -EEXIST:
 * there is one. */
int vm_store_create(const struct vm_store *, const struct vm_spec *, struct why *);
/* Changes it (to the next epoch, too), if it is still this edge's: -ESTALE with why when another edge has
 * taken the VM over; -ENOENT: it is gone. What it says of checkpoints stays. */
int vm_store_change(const struct vm_store *, const struct vm_spec *, struct why *);
/* The same, and it says from then on that the VM is being deleted. */
int vm_store_condemn(const struct vm_store *, const struct vm_spec *, struct why *);
/* Takes the VM over, with the spec's epoch and `since`. entry: what still counts of its checkpoints and cuts.
 * -ESTALE: somebody else did so meanwhile. etag: of what vm_store_get found. */
int vm_store_take(const struct vm_store *, const struct vm_spec *, const struct vmobj *entry,
                  const char *etag, struct why *);
/* The same of a VM that is being deleted, and still is. */
int vm_store_take_condemned(const struct vm_store *, const struct vm_spec *, const struct vmobj *entry,
                            const char *etag, struct why *);

/* Whose is it, whatever was sent before? 0: it is this edge's, under spec's epoch, and has been put again as
 * it is: a swap of what was there before cannot happen any more. -ESTALE, -ENOENT: it is not. Else nobody
 * knows yet. */
int vm_store_fence(const struct vm_store *, const struct vm_spec *, struct why *);

/* At a start. found: what this edge's entry of the VM says. A verb may have noted in the catalog, and not
 * there yet, that the VM goes home, is back, or has been discarded: then it is changed. 0 or as
 * vm_store_change. */
int vm_store_settle(const struct vm_store *, const struct vm_spec *, const struct vm_spec *found,
                    struct why *);

/* -ENOENT: there is none, or the VM is being deleted. */
int vm_store_get(const struct vm_store *, const uint8_t id[VMLOG_ID_BYTES], struct vm_spec *, struct vmobj *,
                 char etag[ENTRY_ETAG], struct why *);
/* The same, and whether it is being deleted. */
int vm_store_look(const struct vm_store *, const uint8_t id[VMLOG_ID_BYTES], struct vm_spec *, struct vmobj *,
                  char etag[ENTRY_ETAG], bool *deleting, struct why *);
/* Every VM that the store knows of; non-zero from each() stops and is returned. */
int vm_store_each(const struct vm_store *, int (*each)(void *arg, const uint8_t id[VMLOG_ID_BYTES]),
                  void *arg, struct why *);
/* Removes all objects of a VM but its entry; all, its entry last. */
int vm_store_clear(const struct vm_store *, const uint8_t id[VMLOG_ID_BYTES], struct why *);
int vm_store_remove(const struct vm_store *, const uint8_t id[VMLOG_ID_BYTES], struct why *);
/* The same, if this edge is the one that deletes the VM. 0, too, if it is not. */
int vm_store_bury(const struct vm_store *, const uint8_t id[VMLOG_ID_BYTES], struct why *);

#endif
