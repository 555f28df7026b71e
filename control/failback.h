/* control/failback.h - VMs go to the edge of the pair that they prefer, by themselves, when all is calm.
 *
 * After an edge was taken in, and both have been members that serve for a while, each VM of this edge that
 * prefers the other one is handed over, as a task; one at a time, and none while anything of that kind is
 * under way. One that is refused is tried again, with pauses that grow. A VM that somebody has handed over by
 * command stays where it was put, until an edge is taken in the next time. docs/pair.md ("Failback").
 *
 * Main loop.
 */
#ifndef ISTHMUS_FAILBACK_H
#define ISTHMUS_FAILBACK_H

#include "tasks.h"

struct failback;

struct failback_conf {
    struct vms *vms;
    struct tasks *tasks;
    struct loop *main;
    bool on;           /* false: it only says where VMs are not where they prefer to be */
    uint64_t after_ns; /* for how long all has to be calm before */
};

struct failback *failback_new(const struct failback_conf *);
/* Nothing begins any more. Before vms_close(). NULL is allowed. */
void failback_stop(struct failback *);
/* After failback_stop() and tasks_close(). NULL is allowed. */
void failback_free(struct failback **);

/* Why a VM, of this edge or of the other, is not at the edge that it prefers; empty: it is, or prefers none.
 */
void failback_why(const struct failback *, const struct vm *, struct why *);

#endif
