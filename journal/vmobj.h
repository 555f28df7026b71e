/* journal/vmobj.h - what the store knows of a VM beside its log: its catalog entry, sealed. Pure.
 *
 * Object "vms/ID/vm", changed only by compare-and-swap (entry.h). The text is the catalog's (vm_spec.h), with
 * who writes the log and which checkpoints count: this is what a recovery begins with.
 */
#ifndef ISTHMUS_VMOBJ_H
#define ISTHMUS_VMOBJ_H

#include "aead.h"
#include "buf.h"
#include "checkpoint.h"

enum { VMOBJ_MAX = 1 << 20 /* bytes, sealed */ };

struct vmobj {
    uint8_t id[VMLOG_ID_BYTES];
    uint64_t epoch; /* rises with each edge that takes the VM over, */
    uint64_t since; /* from this SEQ on: what has an older epoch there is nobody's */
    uint8_t writer[LOGOBJ_WRITER_BYTES];
    struct checkpoint_id newest, before; /* no other checkpoint counts */
    uint64_t whole;                      /* the store held a whole cut, at this SEQ or later; 0: never yet */
};

/* "vms/ID/vm" */
void vmobj_name(char name[MAP_NAME_MAX], const uint8_t id[VMLOG_ID_BYTES]);
/* The VM's id in the name of any object of it, or false. */
bool vmobj_id_of(const char *name, uint8_t id[VMLOG_ID_BYTES]);

struct buf *vmobj_seal(const struct aead_key *master, const uint8_t salt[AEAD_SALT_BYTES],
                       const struct vmobj *, const void *text, size_t n);
/* The text (the owner's to unref); or NULL with why: -EBADMSG, -ENOTSUP in *err. */
struct buf *vmobj_open(const struct aead_key *master, const uint8_t id[VMLOG_ID_BYTES], const uint8_t *bytes,
                       size_t n, struct vmobj *, int *err, struct why *);
/* The text may hold secrets: wiped, and unreferenced. NULL is allowed. */
void vmobj_wipe(struct buf **text);
/* Whose is it? err: how reading it ended, 0 with the n bytes of it. 0: this writer's of this epoch, *found is
 * what it says, *text (may be NULL) the caller's to wipe; -ESTALE: another's, or it is gone, with the
 * sentence that ends our ownership; else it could not be read, with why. */
int vmobj_judge(const struct aead_key *master, const struct vmobj *mine, int err, const uint8_t *bytes,
                size_t n, struct vmobj *found, struct buf **text, struct why *why);

#endif
