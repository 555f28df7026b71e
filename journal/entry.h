/* journal/entry.h - a VM's entry in the object store (vmobj.h), read and changed.
 *
 * An entry says who writes the VM's log, what the VM is, which checkpoints count and that there is a whole
 * cut. The catalog, the checkpoints and the commits of one edge change each their part of it, at the same
 * time, and another edge may take the VM over: so a change is always a swap of what was just read, and begins
 * anew when something else has come between.
 *
 * Blocking, on a thread that may wait (worker.h).
 */
#ifndef ISTHMUS_ENTRY_H
#define ISTHMUS_ENTRY_H

#include "store.h"
#include "vmobj.h"

#include <stdatomic.h>

enum { ENTRY_ETAG = STORE_ETAG_MAX + 1 };

struct entry_access {
    struct store *store;
    const struct aead_key *master;
    struct loop *random;     /* salts */
    const atomic_bool *stop; /* ends the waiting; may be NULL */
};

/* Whosever it is. *text: the caller's to wipe, NULL on failure. -ENOENT: there is none. Waits for a store
 * that is away. */
int entry_read(const struct entry_access *, const uint8_t id[VMLOG_ID_BYTES], struct vmobj *,
               struct buf **text, char etag[ENTRY_ETAG], struct why *);
/* One try, in the place of what entry_read found: -ESTALE, it is another one by now. etag NULL: a new one;
 * -EEXIST. */
int entry_put(const struct entry_access *, const struct vmobj *, const char *text, const char *etag,
              struct why *);

struct entry_edit {
    struct vmobj mine; /* whose it must be: id, epoch, writer */
    const char *text;  /* the catalog's, with `mine`'s epoch, which may be one higher than what is there, and
                          its `since`; NULL: both stay */
    struct checkpoint_id checkpoint; /* becomes the newest, and the newest the one before; cut 0: none */
    uint64_t whole;                  /* there is a whole cut at this SEQ; 0: nothing is said of that */
    bool patient;                    /* waits for a store that does not take it; else a few tries */
};
/* *now: as it is afterwards. An edit of nothing only looks. -ESTALE: it is another edge's; -ENOENT: it is
 * gone; both with the sentence that ends our ownership. Anything else: it may have been changed all the same.
 */
int entry_change(const struct entry_access *, const struct entry_edit *, struct vmobj *now, struct why *);

#endif
