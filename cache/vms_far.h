/* cache/vms_far.h - VMs across a pair: those of the other edge can be reached at this one's portals, too, and
 * the other is told of ours.
 *
 * A far VM is a struct vm of which only spec, loop and references mean anything: nothing of it is open here,
 * and target/ forwards the commands of its sessions. Main loop, but for what it asks the target on the VMs'
 * loops.
 */
#ifndef ISTHMUS_VMS_FAR_H
#define ISTHMUS_VMS_FAR_H

#include "vm.h"

struct vms_far;

struct vms_far *vms_far_new(struct vms *, struct peer *);
/* After vms_far_stop(). NULL is allowed. */
void vms_far_free(struct vms_far **);

/* The other edge is told from now on; first of those that were deleted before. */
void vms_far_begin(struct vms_far *);
/* The other edge shall export this VM of ours; again when who may log in has changed. */
void vms_far_tell(struct vms_far *, const struct vm *);
/* It is told nothing any more. */
void vms_far_silence(struct vms_far *);
/* The same for good; done() later. */
void vms_far_stop(struct vms_far *, void (*done)(void *arg), void *arg);

/* One of ours was deleted: the other edge forgets it. It hears so again when the link is up again. */
void vms_far_gone(struct vms_far *, const uint8_t id[VMLOG_ID_BYTES]);
void vms_far_up(struct vms_far *);

/* PROTO_FORWARD_VM. */
void vms_far_request(struct vms_far *, struct link_request *);
/* That VM is nobody's any more. */
void vms_far_left(struct vms *, const uint8_t id[VMLOG_ID_BYTES]);
/* None is the other edge's any more. */
void vms_far_end(struct vms *);
/* The other edge has it from now on: initiators reach it here, too, all the same. */
struct vm *vms_far_adopt(struct vms *, const struct vm *ours);
/* NULL: there is none. */
struct vm *vms_far_find(struct vms *, const uint8_t id[VMLOG_ID_BYTES]);
/* The VM is this edge's from now on, and in the catalog: its sessions go on with that. */
void vms_far_taken(struct vms *, struct vm *);

#endif
