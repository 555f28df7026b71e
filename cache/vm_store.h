/* cache/vm_store.h - a VM's entry in the object store, and taking VMs over from there. Used by the catalog.
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

/* Puts the entry of a new VM. -EEXIST: there is one. */
int vm_store_create(const struct vm_store *, const struct vm_spec *, struct why *);
/* Changes it (to the next epoch, too), if it is still this edge's: -ESTALE with why when another edge has
 * taken the VM over. What it says of checkpoints stays. */
int vm_store_change(const struct vm_store *, const struct vm_spec *, struct why *);
/* Takes the VM over, with the spec's epoch and `since`. entry: what still counts of its checkpoints and cuts.
 * -ESTALE: somebody else did so meanwhile. etag: of what vm_store_get found. */
int vm_store_take(const struct vm_store *, const struct vm_spec *, const struct vmobj *entry,
                  const char *etag, struct why *);

/* Whose is it, whatever was sent before? 0: it is this edge's, under spec's epoch, and has been put again as
 * it is: a swap of what was there before cannot happen any more. -ESTALE, -ENOENT: it is not. Else nobody
 * knows yet. */
int vm_store_fence(const struct vm_store *, const struct vm_spec *, struct why *);

int vm_store_get(const struct vm_store *, const uint8_t id[VMLOG_ID_BYTES], struct vm_spec *, struct vmobj *,
                 char etag[ENTRY_ETAG], struct why *);
/* Every VM that the store knows of; non-zero from each() stops and is returned. */
int vm_store_each(const struct vm_store *, int (*each)(void *arg, const uint8_t id[VMLOG_ID_BYTES]),
                  void *arg, struct why *);
/* Removes all objects of a VM, its entry last. */
int vm_store_remove(const struct vm_store *, const uint8_t id[VMLOG_ID_BYTES], struct why *);

#endif
