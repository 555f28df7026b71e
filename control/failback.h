/* control/failback.h - VMs go to the edge of the pair that they prefer, by themselves, when all is calm; and
 * all of them to the other edge, when an operator wants this one to be stopped.
 *
 * After an edge was taken in, and both have been members that serve for a while, each VM of this edge that
 * prefers the other one is handed over, as a task; one at a time, and none while anything of that kind is
 * under way. One that is refused is tried again, with pauses that grow. A VM that somebody has handed over by
 * command stays where it was put, until an edge is taken in the next time. docs/pair.md ("Failback and
 * fail-over").
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

/* A fail-over: every VM of this edge goes to the other, whatever it prefers, and without waiting for calm;
 * until it is called off (false), or the other edge is lost. -EAGAIN with why: the pair is not whole. */
int failback_give_all(struct failback *, bool, struct why *);
/* Is that so? left: VMs that have still to go. */
bool failback_gives_all(const struct failback *, unsigned *left);

/* Why a VM, of this edge or of the other, is not at the edge that it prefers; empty: it is, or prefers none.
 */
void failback_why(const struct failback *, const struct vm *, struct why *);

#endif
