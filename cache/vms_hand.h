/* cache/vms_hand.h - VMs that the other edge of the pair hands over while both are there: the side that
 * takes. The side that gives is vm_verb_hand.c; docs/pair.md has the messages and why there is one owner at
 * any time.
 *
 *   PREPARE   the map is rebuilt from the store while the owner goes on; again: only what came since is read
 *   OVER      the owner is still, the store has its whole log: the rest of the map; the entry is swapped;
 * served
 *
 * Main loop. One VM at a time.
 */
#ifndef ISTHMUS_VMS_HAND_H
#define ISTHMUS_VMS_HAND_H

#include "keep.h"
#include "vm_life.h"

struct vms_hand;

struct vms_hand *vms_hand_new(struct vms *, struct keep *);
/* After vms_hand_stop(). NULL is allowed. */
void vms_hand_free(struct vms_hand **);

/* PROTO_HAND_PREPARE and HAND_OVER, with the answer no (why) if they are refused. */
void vms_hand_request(struct vms_hand *, struct link_request *, const struct why *no);
/* What was prepared is of no use: the owner is this edge, or another. */
void vms_hand_forget(struct vms_hand *);
/* What is under way ends; done() later. */
void vms_hand_stop(struct vms_hand *, void (*done)(void *arg), void *arg);

#endif
