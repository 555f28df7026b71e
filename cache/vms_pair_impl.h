/* cache/vms_pair_impl.h - what vms_pair.c (the moves) and vms_pair_errand.c (on the VMs' loops) share. */
#ifndef ISTHMUS_VMS_PAIR_IMPL_H
#define ISTHMUS_VMS_PAIR_IMPL_H

#include "keep.h"
#include "remains.h"
#include "vm_life.h"
#include "vms_far.h"
#include "vms_hand.h"
#include "vms_pair.h"

struct vms_pair {
    struct vms *vms;
    char name[ARBITER_NAME_MAX + 1], self[ARBITER_NAME_MAX + 1]; /* of the pair, of this edge */
    struct pair *pair;
    struct keep *keep;
    struct vms_far *far;
    struct vms_hand *hand;
    struct remains *remains;
    struct peer *peer; /* the other edge */
    void (*refused)(void *arg, const struct why *);
    void (*lost)(void *arg, const struct why *);
    void *arg;
    bool mirroring;       /* VMs' logs go to the other edge, too */
    bool admitting;       /* vms_admit() was called */
    unsigned age_ms;      /* of a cut, now */
    unsigned round, left; /* of a preparation; what it still waits for */
    uint8_t fallen[ARBITER_WRITER_BYTES];
    TAILQ_HEAD(rooms, room) rooms; /* that wait for a VM that is being handed over, or deleted */
    TAILQ_HEAD(, leaving) leaving; /* VMs that were: what this edge has of them goes */
    uint64_t stuck_ns;             /* when one of those could not go, last; or 0 */
    struct timer timer;            /* the next try to take over */
    struct timer clears;           /* vms_pair_forget_theirs() once more */
    struct timer purge_again;      /* what was kept could not be removed */
    unsigned rest_ms;
    bool tried;        /* once, to take over what is to be taken */
    atomic_uint moves; /* how often it was told to be, or do, another thing */
    struct work purge;
    int purge_status;
    struct why purge_why;
    struct task task;
    bool stopping;
    bool purging, purge_failed; /* until what was kept is removed, nothing is kept; it is tried again */
    unsigned busy;              /* a purge, keep_close(): what vms_pair_stop() waits for */
    void (*closed)(void *arg);
    void *closed_arg;
};

/* vms_pair.c: one of `busy` has ended. */
void vms_pair_idle(void *pair);
/* vms_pair.c. Both are `busy` until vms_pair_idle(), at the end of done(), on the main loop. What was kept
 * and is of no use any more goes. */
void vms_pair_purge(struct vms_pair *, void (*done)(struct work *));
void vms_pair_close_keep(struct vms_pair *, void (*done)(void *arg));
/* vms_pair_inherit.c: pair_conf.inherit. */
void vms_pair_inherit_init(struct vms_pair *);
void vms_pair_inherit(void *pair, const uint8_t fallen[ARBITER_WRITER_BYTES]);
/* vms_pair_force.c: pair_conf.clear */
void vms_pair_clear(void *pair);
/* vms_pair_give.c: keep_conf.make_room. */
void vms_pair_make_room(void *pair, const uint8_t id[VMLOG_ID_BYTES],
                        void (*done)(void *arg, int status, const struct why *), void *done_arg);
/* Something has changed for who waits. */
void vms_pair_look_for_rooms(struct vms_pair *);
/* Whose a VM is that this edge was about to hand over is not known yet, or what it has of it is not gone. */
bool vms_pair_gives(const struct vms_pair *);
/* Before VMs are taken over: what is here of one that is the other's by its entry goes, for its log ends
 * where it was handed over, or taken. true: that is to be waited for, or that whose a VM is is not known yet.
 */
bool vms_pair_clears(struct vms_pair *);
/* Both edges are members, so the other has all VMs that it would take over. What is here of one that is not
 * this edge's goes, whether or not its log will be kept: it may be deleted by now, or run on-prem. */
void vms_pair_forget_theirs(struct vms_pair *);

/* vms_pair_look.c. This edge is a member again. Of the other's VMs that it exports, or whose logs it keeps,
 * those go of which the store has no entry, or one that says that the VM is being deleted: their owner has
 * deleted them, and could not say so any more.
 */
void vms_pair_look_for_gone(struct vms_pair *);

/* vms_pair_errand.c. To the VM's loop: cuts are of that age from now on; its log is mirrored, or is not any
 * more. With MIRROR_IT two words come back for that round: the other edge keeps the log; the store has what
 * was before. FORGET_IT: nobody waits for those, which would keep the VM open. */
enum errand_kind { CUT_AGE, MIRROR_IT, LEAVE_IT, FORGET_IT };
void vms_pair_send(struct vms_pair *, struct vm *, enum errand_kind, unsigned round);
void vms_pair_send_all(struct vms_pair *, enum errand_kind, unsigned round);
/* Any thread: a word for that round, or (status) that a log is not mirrored any more. */
void vms_pair_tell(struct vms_pair *, unsigned round, int status, const struct why *);

#endif
