/* cache/vm_life.h - opening and closing one VM; used by the catalog only.
 */
#ifndef ISTHMUS_VM_LIFE_H
#define ISTHMUS_VM_LIFE_H

#include "vm.h"
#include "vm_store.h"

#include <pthread.h>

/* The catalog. Its list, and those of what is being made and deleted, are changed on the main loop (`going`
 * on the worker, too) under the lock, which lookups of other threads take. */
struct vms {
    struct vms_conf conf;
    pthread_mutex_t lock;
    TAILQ_HEAD(, vm) list;
    TAILQ_HEAD(, vm) far; /* of the pair's other edge: vms_far.h; never one that is in list */
    TAILQ_HEAD(, vms_creation) creating;
    TAILQ_HEAD(, vms_change) changes; /* of disks: vms_luns.c */
    TAILQ_HEAD(, vm) going;           /* marked as being deleted, not erased yet */
    TAILQ_HEAD(, vm_leaving) leaving; /* erased, and on-prem has to be told: vm_leave.c */
    unsigned *pinned;                 /* VMs on each of conf.loops */
    unsigned pending;                 /* VMs in memory and creations under way: vms_close waits for none */
    void (*closed)(void *arg);        /* set by vms_close */
    void *closed_arg;
    struct task task;
    atomic_bool stop; /* what waits for the store on the worker shall end */
    bool recovering;
    struct vms_pair *pair;   /* NULL: in no pair, as is */
    struct remains *remains; /* this */
    atomic_uint asking;      /* questions to the other edge's memory under way: tier_peer.h */
    unsigned peer_wait_ms;   /* for an answer; 0: it is not asked */

    struct {          /* vms_admit.c */
        bool ours;    /* the store is of our deployment */
        bool entered; /* and can do what is needed */
        struct why why;
        struct timer timer;
        unsigned rest_ms;
        void (*refused)(void *arg, const struct why *);
        void *arg;
    } admission;
};

/* Main loop: one thing that vms_close must wait for begins, has ended. */
void vms_begin(struct vms *);
void vms_end(struct vms *);
/* Main loop: no more rounds of vms_admit(). */
void vms_admission_end(struct vms *);
/* Main loop: gives up on every creation, and on every new disk, that waits for an on-prem daemon. */
void vms_cancel_creations(struct vms *);
/* Any thread: a VM of that id is being made. It is in the catalog before that ends. */
bool vms_is_creating(struct vms *, const uint8_t id[VMLOG_ID_BYTES]);
/* The same of one that has that name, or that IQN, from now on. */
bool vms_creates_name(struct vms *, const struct vm_spec *);
/* vms_name.c, main loop. -EEXIST, -EBUSY with why: another VM has that name or that IQN, here or at the other
 * edge of the pair. VMs that are being taken over have names, too, which are known when that has been tried.
 */
int vms_check_name(struct vms *, const struct vm_spec *, struct why *);
bool vms_names_are_known(const struct vms *);
/* Any thread: a VM of that id is being deleted here, and what is here of it is not gone. */
bool vms_is_going(struct vms *, const uint8_t id[VMLOG_ID_BYTES]);
/* The same of one of that name, whose entry in the catalog is still that one's. */
bool vms_has_going(struct vms *, const char *name);
/* The same on the main loop, with a sentence for who wants the name. */
bool vms_name_is_going(struct vms *, const char *name, struct why *);
void vms_cancel_changes(struct vms *);
/* Main loop: a VM's spec is about to be changed, on disk and here. -EBUSY with why: it is being changed
 * already. */
int vm_change_begin(struct vm *, struct why *);
void vm_change_end(struct vm *);
/* Main loop: asks for the disks' sizes again. */
void vms_refresh(struct vm *);

/* A VM in memory, one reference, pinned to a loop (that of `like`, if not NULL); nothing opened. */
struct vm *vm_new(struct vms *, const struct vm_spec *, const struct vm *like);
void vm_free(struct vm *); /* closed or never opened */
/* Main loop, or before it runs. Takes a VM that is marked as being deleted and was never opened: it is
 * erased. held: on-prem may have it. */
void vm_finish_off(struct vm *, bool held);
/* Main loop. What there is here of a VM that is another edge's goes. done() as for vms_delete(). */
void vms_forget(struct vm *, void (*done)(void *arg, int status, const struct why *), void *arg);
/* Main loop. What is being deleted is closed, and is erased now, or when errands are back. */
void vm_erase_closed(struct vm *);
/* Main loop, each() in the catalog's lock: VMs that are being deleted and may not be closed yet. */
void vms_each_going(struct vms *, void (*each)(void *arg, struct vm *), void *arg);
void vm_errand_back(struct vm *);
/* Main loop: what could not be erased is not tried again. */
void vms_erase_end(struct vms *);

/* Main loop: who may log in. */
void vm_set_shut(struct vm *, enum vm_shut);

/* What the storage policy means for dead space in the object store. On its loop. */
void vm_move_by_policy(struct vm *);

/* All disks are at one on-prem daemon: only then can a cut be written back. */
bool vm_at_one_place(const struct vm_spec *);

/* Blocking: reads log and map back. */
int vm_open_log(struct vm *, struct why *);
/* Builds the tiers and volumes. On vm->loop, or before the loops run. */
int vm_open_volumes(struct vm *, struct why *);
/* The same of a VM that the other edge has just handed over, with nothing written to it since: what it has
 * left there in memory is asked for (tier_peer.h). */
int vm_open_handed(struct vm *, struct why *);
/* One of them; vm->in.peers[lun] is set. */
int vm_open_volume(struct vm *, unsigned lun, const struct vm_disk *, struct why *);
/* On vm->loop, when the VM's disks are others than before: write-back begins anew with those. done() may come
 * before this returns. */
void vm_swap_writeback(struct vm *, void (*done)(void *arg), void *arg);
/* Main loop; nobody uses the VM any more. Closes volumes and log on vm->loop, then closed() on main. */
void vm_close(struct vm *, void (*closed)(struct vm *));

/* The key of a VM's entry in the journal's meta values; "vm/NAME". */
enum { VM_KEY_MAX = VM_NAME_MAX + 4 };
void vm_key(const struct vm_spec *, char key[VM_KEY_MAX]);
/* Blocking: writes the catalog entry. */
int vm_save(struct vms *, const struct vm_spec *, bool deleting, struct why *);

/* Blocking, on the worker: removes all the store (unless another edge has the VM) and the journal have of it,
 * its entry here last. In `held` stay its entry in the store and a note in the journal: vms_leave_tell() has
 * to follow. */
int vm_erase(struct vms *, const struct vm_spec *, struct vm_erasure *, struct why *);
/* The same of one that is not in the catalog. */
int vm_erase_all(struct vms *, const struct vm_spec *, struct vm_erasure *, struct why *);
struct vm_store vm_store_of(struct vms *);

/* Blocking: of a VM that was about to be handed over (vm_verb_hand.c) a note says that a swap of its entry
 * may yet happen. It is removed; 1: it is there. */
int vm_hand_forget(struct journal *, const uint8_t id[VMLOG_ID_BYTES], struct why *);
int vm_hand_noted(struct journal *, const uint8_t id[VMLOG_ID_BYTES], struct why *);

/* Main loop: a VM is open; from now on it is found. */
void vms_insert(struct vm *);
/* Main loop: asks for the disks' sizes again. */
void vms_refresh(struct vm *);
/* Main loop: another takes its place, and its catalog's reference is the caller's to drop. */
void vms_replace(struct vm *, struct vm *by);

#endif
