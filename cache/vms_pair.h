/* cache/vms_pair.h - what a pair's moves (journal/pair.h) mean for the VMs of this edge.
 *
 *   sole      nothing is mirrored; cuts every second; then the fallen edge's VMs are taken over
 *   prepare   every VM's log is mirrored from its next record on, and committed up to there
 *   both      records count when both edges have them; the other edge's are kept here
 *   out       what is in the catalog is another edge's by now, or will be: nothing is served
 *
 * Main loop, but for what it does on the VMs' loops.
 */
#ifndef ISTHMUS_VMS_PAIR_H
#define ISTHMUS_VMS_PAIR_H

#include "pair.h"
#include "vm.h"

struct vms_pair;

/* conf: loop, store, peer, names, writer, lease; the callbacks but `lost` and `arg` are set here. VMs are
 * admitted (vms_admit) when this edge is a member; refused() as there. Before the loops run. */
struct vms_pair *vms_pair_new(struct vms *, const struct pair_conf *,
                              void (*refused)(void *arg, const struct why *), void *arg);
/* false: this edge is in no pair, or is stopping. */
bool vms_pair_status(const struct vms *, struct pair_status *);
/* What is lost when this edge is made the only member by force: of each VM in the store. */
enum vms_loss_of { VMS_LOSS_THEIRS, VMS_LOSS_OURS, VMS_LOSS_NOBODYS /* of neither edge, as they are now */ };
struct vms_loss {
    char vm[VM_NAME_MAX + 1];
    enum vms_loss_of whose;
    bool home;     /* it runs on-prem: nothing of it is here */
    bool deleting; /* nobody's, whose last edge was deleting it, or making it: a recovery goes on with that */
    uint64_t cut;  /* theirs: where it comes back; 0: as its source disks are, */
    int64_t put_s; /* and when the store got that, since 1970; 0: not known */
};
struct vms_losses {
    struct arbiter_place member; /* who is said to be lost */
    struct vms_loss *list;
    size_t n;
    unsigned unreadable; /* entries: the log says which */
};
/* 0: done() comes, later; the list is lent to it. Else why it cannot be. */
int vms_pair_losses(struct vms *,
                    void (*done)(void *arg, int status, const struct vms_losses *, const struct why *),
                    void *arg, struct why *);
/* 0: it has begun (pair_force). Who is lost must be who it was when the losses were told. */
int vms_pair_force(struct vms *, const struct vms_losses *, struct why *);
/* Is it the name of one of the two edges? Else why not. */
bool vms_pair_is_edge(const struct vms *, const char *name, struct why *);
/* Of a VM of either edge: is what it is told is written in both journals? */
bool vms_pair_mirrors(const struct vms *, struct vm *);
/* Both edges are members that may serve, and this one takes nothing over: VMs may be moved without anybody
 * having asked for it. Else what is waited for. */
bool vms_pair_calm(const struct vms *, struct why *);
/* For how long a read waits for what a VM that was handed over has left in the other edge's memory
 * (tier_peer.h); 0, as at first: that is not asked. */
void vms_pair_peer_wait(struct vms_pair *, unsigned ms);
/* From the other edge: REMAINS_READ, PAIR_PING, MIRROR_*, FORWARD_VM. */
void vms_pair_request(struct vms_pair *, struct link_request *);
void vms_pair_notice(struct vms_pair *, uint8_t type, const uint8_t *body, uint32_t len);
/* Before vms_close(): nothing new begins, what was kept is closed; done() later. */
void vms_pair_stop(struct vms_pair *, void (*done)(void *arg), void *arg);
/* After vms_close(). NULL is allowed. */
void vms_pair_free(struct vms_pair **);

/* Used by the verbs. Are both edges members that may serve, so that a VM can be handed over? Else why not. */
bool vms_pair_whole(const struct vms *, struct why *);
struct peer *vms_pair_peer(const struct vms *);
/* A VM that was about to be handed over stays: its log is mirrored anew, with what is written after this. */
void vms_pair_mirror(struct vms *, struct vm *);
/* Its commands go on. */
void vms_pair_stays(struct vms *, struct vm *);
/* It is the other edge's, and its sessions here are forwarded: what this edge has of it goes. Takes it out of
 * the catalog. */
void vms_pair_gave(struct vms *, struct vm *);

/* Used by the catalog. A VM is about to be found by initiators. */
void vms_pair_came(struct vms_pair *, struct vm *);
/* Who may log in to it is another thing now. */
void vms_pair_changed(struct vms_pair *, struct vm *);
/* A VM that was being deleted is so no more: who waits for that goes on. id: it was this edge's, and is gone.
 */
void vms_pair_gone(struct vms_pair *, const uint8_t *id);
/* The link to the other edge is up. */
void vms_pair_up(struct vms_pair *, const struct peer *);
/* It is down: sessions of initiators that came by the other edge end, unless that is a member, too. Main
 * loop, from the link's handlers. */
void vms_pair_down(struct vms_pair *);
/* Any thread. Changes before the other edge can be another, or a member: whose VMs are, that was asked
 * before, may be another thing now. */
unsigned vms_pair_moves(const struct vms_pair *);
/* The other edge's VMs are to be taken over here, and that has not been tried yet. */
bool vms_pair_is_to_inherit(const struct vms_pair *);
/* Has the other edge a VM of that name? */
bool vms_pair_has(const struct vms_pair *, const char *name);
/* May VMs be served and made here? Else why not. */
bool vms_pair_member(const struct vms_pair *, struct why *);
/* Blocking, on the worker: 0, a member by the pair's record, as the store has it now. -ESTALE: the other has
 * gone on without this edge, which may not know yet. */
int vms_pair_look_member(const struct vms_pair *, struct why *);

#endif
