/* cache/remains.h - what VMs that were handed over have left in this edge's memory: the side that gave. The
 * other is tier_peer.h; docs/pair.md, "Peer cache", says why what is here is never stale.
 *
 * Nothing is kept for it: the blocks stay in the RAM tiers' memory until their policy finds them. Main loop,
 * but where it says otherwise.
 */
#ifndef ISTHMUS_REMAINS_H
#define ISTHMUS_REMAINS_H

#include "link.h"
#include "ram.h"
#include "vmlog.h"

struct remains;

/* Of a VM; its last record here, and its entry's epoch then. */
struct remains_vm {
    uint8_t id[VMLOG_ID_BYTES];
    uint64_t epoch, seq;
    struct loop *loop;
    struct ram_remains disks[VMLOG_DISKS]; /* by their numbers; of no blocks: there is none */
};

struct remains *remains_new(struct loop *main);
/* Nothing is being answered. NULL is allowed. */
void remains_free(struct remains **);

/* In the place of what was there of that VM. At most one for each VM of the other edge: the caller forgets.
 */
void remains_add(struct remains *, const struct remains_vm *);
/* NULL is allowed. */
void remains_forget(struct remains *, const uint8_t id[VMLOG_ID_BYTES]);

/* PROTO_REMAINS_READ. begin() and end(): the rams and the VMs' loops stay between them. */
void remains_request(struct remains *, struct link_request *, void (*begin)(void *arg),
                     void (*end)(void *arg), void *arg);

#endif
