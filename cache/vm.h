/* cache/vm.h - a VM: one iSCSI target, its disks, one log, one loop. And the catalog of them.
 *
 * Threads: the catalog (vms_*) belongs to the main loop, but vms_find_iqn may be called from any loop
 * (login). A VM's disks and log belong to vm->loop once pinned. A VM is referenced by each session; deleting
 * waits until the last is gone.
 */
#ifndef ISTHMUS_VM_H
#define ISTHMUS_VM_H

#include "commit.h"
#include "journal.h"
#include "lease.h"
#include "link.h"
#include "proto.h"
#include "upkeep.h"
#include "vm_status.h"
#include "volume.h"
#include "writeback.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { VM_NAME_MAX = 63, VM_IQN_MAX = 223, VM_DISKS_MAX = 64, VM_SECRET_MAX = 255 };

struct vm_disk {
    char onprem[64];      /* the on-prem daemon's name */
    char disk[64];        /* the disk's name there */
    uint64_t sectors;     /* as last seen */
    uint32_t block_bytes; /* as its initiator sees it: the source's, or 4096 though that has 512 */
    uint8_t number;       /* in log, map and identity: no other disk of this VM had it or will have it */
};

/* What a VM is; what the catalog stores. */
struct vm_spec {
    char name[VM_NAME_MAX + 1];
    char iqn[VM_IQN_MAX + 1];
    uint8_t id[VMLOG_ID_BYTES];
    char chap_user[VM_SECRET_MAX + 1];   /* empty: no CHAP asked of the initiator */
    char chap_secret[VM_SECRET_MAX + 1]; /* a secret: never logged, never shown */
    char mutual_user[VM_SECRET_MAX + 1]; /* empty: no mutual CHAP */
    char mutual_secret[VM_SECRET_MAX + 1];
    struct vm_disk disks[VM_DISKS_MAX]; /* by LUN; see vm_has_disk() */
    unsigned ndisks;                    /* the highest LUN and one: there may be gaps */
    unsigned next_number;               /* numbers of disks from here on were never given */
    uint64_t epoch, since;              /* vmobj.h: raised by each edge that takes the VM over */
    uint64_t joined;                  /* the last record that was kept here of the edge before; 0: none was */
    enum wb_policy storage;           /* write-back or cloud-persist */
    bool paused;                      /* write-back is */
    bool home;                        /* it runs on-prem: nobody may log in here, nothing is held there */
    uint64_t floor;                   /* what was written up to this SEQ and is not on-prem was thrown away */
    uint64_t task;                    /* vm_verb.h: the last that changed this; 0: none did */
    char prefers[PROTO_NAME_MAX + 1]; /* which edge of the pair it is to be at; empty: whichever has it */
};

/* Who may log in. */
enum vm_shut {
    VM_OPEN,
    VM_HOME, /* nobody: it runs on-prem; nothing of it is open here */
    VM_BUSY  /* nobody for now: it is on its way home or here, or what it wrote is being thrown away */
};
/* What is said to its initiators. */
enum vm_going {
    VM_GONE,   /* it is being deleted: log out; the connection is closed soon */
    VM_ASKED,  /* log out, please */
    VM_DROPPED /* log out; the connection is closed soon */
};

static inline bool vm_has_disk(const struct vm_spec *spec, unsigned lun)
{
    return lun < spec->ndisks && *spec->disks[lun].disk;
}

/* Who else has, or will have, something of a VM that is being deleted. */
struct vm_erasure {
    bool anothers; /* another edge has the VM: not all of it goes */
    bool held;     /* on-prem may have it, or hear of it yet; or the store: */
    bool absent;   /* it has no entry of it, and may get one yet that was sent before */
};

struct vm {
    struct vm_spec spec;                  /* what may change in it belongs to the main loop */
    struct loop *loop;                    /* where it lives: fixed when it is opened */
    struct volume *volumes[VM_DISKS_MAX]; /* by LUN */
    struct vmlog *log;
    struct map *map;       /* what the object store has of it */
    struct mirror *mirror; /* sends it to the other edge of the pair; NULL: it does not; vm->loop's, as is */
    struct commit *commit; /* carries the log there; belongs to vm->loop, as does */
    struct upkeep *upkeep; /* what keeps it short there */
    struct writeback
        *writeback;       /* what carries it on to the source disks; NULL: they are at several daemons */
    bool far;             /* the other edge of the pair serves it: vms_far.h */
    bool taken;           /* another edge's when this run began: what was kept of it then is out of date */
    atomic_bool admitted; /* the object store has said that it is this edge's; until then logins wait */
    atomic_bool fenced;   /* another edge has it: sessions must close, new logins are refused */
    atomic_bool handing;  /* it is being handed over: commands and logins wait (vm_verb_hand.c) */
    atomic_int
        place; /* enum writeback_place: logins wait until it is known, and are refused if it is another */
    atomic_uint sessions;            /* for status and placing */
    atomic_uint refs;                /* the catalog's and one for each session */
    atomic_bool deleting;            /* sessions must close, new logins are refused */
    atomic_int shut;                 /* enum vm_shut; set on the main loop */
    atomic_uint capacity_generation; /* raised when a disk grew: sessions raise a unit attention */

    /* taken: what the edge that had it before has left of reservations, by the disk's number */
    struct buf *reserved[VMLOG_DISKS];

    struct { /* private to vm*.c */
        TAILQ_ENTRY(vm) entry;
        struct vms *vms;
        struct vm_verb *verb; /* main loop: what is being done with it, or NULL */
        struct {              /* vm_status.c */
            pthread_mutex_t lock;
            struct timer timer; /* of vm->loop */
            struct vm_status last;
        } seen;
        struct task task;
        unsigned volumes_left;
        void (*closed)(struct vm *);
        void (*emptied)(void *arg); /* set by vm_empty() */
        void *emptied_arg;
        void (*swapped)(void *arg); /* set by vm_swap_writeback() */
        void *swapped_arg;
        struct writeback_wait leave; /* vm_leave.c; of vm->loop, as is */
        struct timer leave_timer;
        void (*left)(struct vm *);
        struct vm_erasure erasure; /* it is being deleted */
        void (*deleted)(void *arg, int status, const struct why *);
        void *deleted_arg;
        bool ours;           /* in a pair: it was this edge's when that was asked for */
        struct timer again;  /* vms_delete.c; of the main loop */
        unsigned errands;    /* vms_pair_errand.c, to one that is being deleted; of the main loop, as is */
        bool erasing, waits; /* it is closed; and for those */
        bool rests, said;    /* it could not be erased, until that is tried again; the log has said so */
        struct work work;
        struct why why;
        int status;
        struct peer *peers[VM_DISKS_MAX]; /* where the disks are, by LUN: looked up on the main loop */
        unsigned mirror_round;            /* of vm->loop: vms_pair_errand.c; one that waits for its stream, */
        TAILQ_HEAD(, errand) waiting;     /* and who waits until the store has what was before */
        bool changing;                    /* its spec: one change at a time */
        bool ask_again;                   /* a disk's size was told meanwhile */
        bool gone; /* the other edge of a pair, which it was to be handed to, had it and has deleted it */
    } in;
};

struct vms;

struct vms_conf {
    struct journal *journal;
    struct link *link;
    struct loop *main;          /* the link's and the catalog's loop */
    struct loop **loops;        /* where VMs are pinned, balanced by number */
    struct ram **rams;          /* one for each of loops */
    struct store **stores;      /* one for each of loops, */
    struct commit_slots *slots; /* and this, */
    unsigned *writeback_slots;  /* and this */
    struct worker *worker;      /* for what may wait for the store */
    const char *spool;          /* a directory: upkeep.h */
    unsigned nloops;
    struct aead_key master;              /* at rest: seals log objects, too */
    uint8_t writer[LOGOBJ_WRITER_BYTES]; /* this edge's data directory */
    unsigned commit_age_ms;
    uint64_t commit_bytes;
    unsigned writeback_interval_ms;
    uint64_t writeback_bytes;
    const char *iqn_prefix; /* "iqn.2026-11.org.isthmus" : IQN of a VM is prefix:name */
    const char *edge; /* this edge's name, which VMs prefer that are made here; NULL: they prefer none */
    /* On vm->loop: log its sessions out (target). May be NULL. */
    void (*going)(struct vm *, enum vm_going);
    /* On vm->loop, a disk is being removed: this LUN is out of vm->volumes, its volume still there. Ends what
     * the LUN has in flight; done(), later, when nobody uses the volume any more (target). May be NULL. */
    void (*lun_going)(struct vm *, unsigned lun, void (*done)(void *arg), void *arg);
    /* On vm->loop: there is one LUN more, this one. May be NULL. */
    void (*lun_came)(struct vm *, unsigned lun);
    /* On the VM's loop, in a pair. `by` was far until now, as `far`, and is this edge's: the sessions of
     * `far` go on with it. May be NULL. */
    void (*taken)(struct vm *far, struct vm *by);
    /* On the VM's loop, in a pair. Its initiators' commands wait from now on; done(), later, when those that
     * were under way are answered. May be NULL. */
    void (*still)(struct vm *, void (*done)(void *arg), void *arg);
    /* The same loop, once after each still(): done() will not come any more. Commands go on: with this VM
     * (NULL); or with `far`, as which the other edge serves it, and sessions from there end. */
    void (*go_on)(struct vm *, struct vm *far);
    /* Whether initiators can come to this VM by the other edge, too, has changed; without the other edge
     * those that came by it are gone. May be NULL. */
    void (*paths)(struct vm *, bool other);
    /* On the VM's loop: vm->mirror is new. Gives it the reservations that there are, before it returns
     * (target); false: nobody knows them any more. May be NULL. */
    bool (*mirrored)(struct vm *);
    const struct lease_gate *gate; /* reads wait while it is shut; NULL: this edge is in no pair */
    const char *tiers;             /* "" or extra tiers between journal and onprem, as "delay:50ms" */
};

/* Opens every VM of the catalog: blocking, at start-up, before the loops run. Works with the WAN down. */
int vms_open(struct vms **, const struct vms_conf *, struct why *);
/* Main loop, once, after vms_open: asks the object store whether it is of our deployment (deployment.h) and
 * whose each VM is; for as long as it cannot be read no VM is served, and none is made before it was written
 * to. refused(): it never can be used. */
void vms_admit(struct vms *, void (*refused)(void *arg, const struct why *), void *arg);
/* Main loop: the store has been entered; else what is waited for. */
bool vms_admitted(const struct vms *, struct why *);
/* Main loop: the store is ours, so VMs are served; else what is waited for. */
bool vms_served(const struct vms *, struct why *);
/* Main loop, after the last session: ends what waits for other machines, closes every VM, then done(). */
void vms_close(struct vms *, void (*done)(void *arg), void *arg);

/* Main loop, from the link's handlers: a peer came up (its disks' sizes are asked again); a disk changed. */
void vms_peer_up(struct vms *, struct peer *);
void vms_disk_changed(struct vms *, struct peer *, const struct proto_stat *);

/* Main loop. A disk's block_bytes is 0 (as the source says) or what is wanted. Asks the on-prem daemon for
 * each disk's size, writes the catalog, opens the VM. done() gets the VM or NULL with a sentence. */
void vms_create(struct vms *, const struct vm_spec *,
                void (*done)(void *arg, struct vm *, const struct why *), void *arg);
/* Main loop. Takes over what the store knows of VMs that are not in the catalog: all of them, or the one
 * called name, at their newest cut or the last one up to `through` (UINT64_MAX). tell() gets a sentence for
 * each VM, done() comes at the end: with the first failure, if there was one. One recovery at a time
 * (-EBUSY). */
void vms_recover(struct vms *, const char *name, uint64_t through,
                 void (*tell)(void *arg, const char *sentence),
                 void (*done)(void *arg, int status, unsigned recovered, const struct why *), void *arg);
/* Main loop. Takes over the VMs of an edge that is no member of the pair any more, each with what was kept
 * here of its log (keep.h). done() as for vms_recover(). */
void vms_inherit(struct vms *, const uint8_t fallen[LOGOBJ_WRITER_BYTES],
                 void (*done)(void *arg, int status, unsigned recovered, const struct why *), void *arg);
/* Main loop. -EBUSY with why while an initiator is logged in and !force, or while something is being done
 * with the VM (vm_verb.h); -ESTALE: the other edge of the pair has it. Deletes its log too. */
void vms_delete(struct vms *, const char *name, bool force,
                void (*done)(void *arg, int status, const struct why *), void *arg);
/* Main loop. A disk more for a VM that may be in use; lun -1: the lowest that is free. Only onprem, disk and
 * block_bytes of it are looked at. done() gets the LUN, or -errno with why: -ENOENT (no such VM), -EEXIST
 * (the LUN is taken), -EBUSY (another change is under way), -ENOSPC (no number is left). */
void vms_add_disk(struct vms *, const char *name, int lun, const struct vm_disk *,
                  void (*done)(void *arg, int lun, const struct why *), void *arg);
/* Main loop. A disk less; what the VM wrote to it is forgotten. status 0 when its last I/O is answered and
 * nothing is left of it; -ENOENT, -EBUSY (an initiator is logged in and !force; another change), -EINVAL (its
 * last one). */
void vms_remove_disk(struct vms *, const char *name, unsigned lun, bool force,
                     void (*done)(void *arg, int status, const struct why *), void *arg);
/* Main loop. */
struct vm *vms_find(struct vms *, const char *name);
/* Main loop: it may be far. */
struct vm *vms_find_exported(struct vms *, const char *name);
void vms_each(struct vms *, void (*each)(void *arg, struct vm *), void *arg);
/* Main loop: those of the other edge. */
void vms_each_far(struct vms *, void (*each)(void *arg, struct vm *), void *arg);

/* Any thread: a reference, or NULL. By its IQN it may be far. */
struct vm *vms_find_iqn(struct vms *, const char *iqn);
struct vm *vms_find_id(struct vms *, const uint8_t id[VMLOG_ID_BYTES]);
void vm_unref(struct vm *);
/* Any thread, for SendTargets: each() for every VM, under the catalog's lock: copy and return. */
void vms_each_iqn(struct vms *, void (*each)(void *arg, const char *iqn), void *arg);

#endif
