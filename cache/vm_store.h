/* cache/vm_store.h - a VM's entry in the object store, and taking VMs over from there. Used by the catalog.
 *
 * Blocking, on the worker (worker.h): it waits for the store.
 */
#ifndef ISTHMUS_VM_STORE_H
#define ISTHMUS_VM_STORE_H

#include "vm.h"

#include <stdatomic.h>

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
 * taken the VM over. */
int vm_store_change(const struct vm_store *, const struct vm_spec *, struct why *);
/* Takes the VM over: epoch one higher than what was found (`since` is the caller's). -ESTALE: somebody else
 * did so meanwhile. etag: of what vm_store_get found. */
int vm_store_take(const struct vm_store *, const struct vm_spec *, const char *etag, struct why *);

enum { VM_STORE_ETAG = 128 };
/* writer: 16 bytes, whose it is; NULL: no matter. */
int vm_store_get(const struct vm_store *, const uint8_t id[VMLOG_ID_BYTES], struct vm_spec *, uint8_t *writer,
                 char etag[VM_STORE_ETAG], struct why *);
/* Every VM that the store knows of; non-zero from each() stops and is returned. */
int vm_store_each(const struct vm_store *, int (*each)(void *arg, const uint8_t id[VMLOG_ID_BYTES]),
                  void *arg, struct why *);
/* Removes all objects of a VM, its entry last. */
int vm_store_remove(const struct vm_store *, const uint8_t id[VMLOG_ID_BYTES], struct why *);

#endif
