/* cache/vm_verb_impl.h - what the files of the verbs share. Not for others.
 *
 * A verb is a plan: steps one after the other. Up to its final step, which is the one that makes it so, it
 * can be called off, or fail: then its `undo` is done. From the final step on what fails is tried again.
 */
#ifndef ISTHMUS_VM_VERB_IMPL_H
#define ISTHMUS_VM_VERB_IMPL_H

#include "proto_pair.h"
#include "vm_life.h"
#include "vm_sizes.h"
#include "vm_verb.h"

struct verb_step {
    const char *what; /* for people */
    /* Ends with vm_verb_next(), now or later. */
    void (*run)(struct vm_verb *);
    void (*poll)(struct vm_verb *);      /* every VERB_TICK_MS; may be NULL */
    void (*interrupt)(struct vm_verb *); /* it was called off, or the edge stops: end soon. May be NULL */
};
enum { VERB_TICK_MS = 200, VERB_STEPS_MAX = 12 };

struct verb_plan {
    void (*change)(struct vm_verb *, struct vm_spec *); /* what the final step, a save, changes */
    const struct verb_plan *undo;
    unsigned final;
    struct verb_step steps[VERB_STEPS_MAX];
};

struct vm_verb {
    struct vms *vms;
    struct vm *vm; /* of the catalog; not to be touched once the edge stops */
    struct vm_verb_ask ask;
    const struct verb_plan *plan;
    unsigned at;
    bool cancelled, undoing, interrupted;
    bool emptied;      /* nothing of the VM is open now */
    uint64_t written;  /* the VM's last SEQ, with nobody writing any more */
    uint64_t asked_ns; /* when initiators were last asked to log out */
    uint64_t retry_ns; /* when the step is tried again; 0: it runs */
    atomic_bool stop;  /* what waits for the store on the worker shall end */
    struct vm_verb_report report;
    struct vm_spec spec;       /* being saved */
    struct vm_sizes sizes;     /* fills spec */
    struct commit_wait commit; /* of vm->loop, as are */
    struct writeback_wait home;
    enum { VERB_NO_WAIT, VERB_COMMIT_WAIT, VERB_HOME_WAIT } waits; /* which of them is under way */
    struct {                                                       /* vm_verb_hand.c */
        struct vm *vm;                                             /* a reference, from when it is still */
        struct vm *far;                                            /* as which it goes on; NULL: it stays */
        struct link_call call;                                     /* with the other edge, if */
        bool out;                                                  /* that is so */
        bool sent;   /* OVER was: only the store tells whose the VM is */
        bool looked; /* of vm->loop: nothing is under way, or it is not waited for */
        unsigned reads, tries;
        uint64_t since_ns, until_ns; /* the step, or commands, wait */
        uint64_t cut_ns, took_ns;    /* of vm->loop: a cut since, and the last one */
        uint64_t seq;                /* its whole log */
        struct remains_vm *remains;  /* what it leaves in memory */
        char etag[ENTRY_ETAG];
        void (*went_on)(struct task *);
        struct why why;
    } hand;
    uint8_t ask_id[VMLOG_ID_BYTES]; /* of the VM that is handed over */
    struct work work;
    struct task task, going, interruption;
    struct timer timer;
    bool going_out, interruption_out; /* on vm->loop; the step's end waits for them */
    bool ended;                       /* it has ended, with */
    int ended_status;                 /* this */
    int result;                       /* of the step's work, on whatever thread */
    int status;
    struct why why;
    void (*done)(void *arg, int status, const struct why *);
    void *arg;
};

/* The step has ended: 0, or -errno with v->why. */
void vm_verb_next(struct vm_verb *, int status);
/* What the step waits for is not there yet: it is run again in a while. */
void vm_verb_later(struct vm_verb *);
/* The final step was not made, and will not be: what was done is undone. */
void vm_verb_back_out(struct vm_verb *, int status);
/* Undone, but not given up: from its beginning. */
void vm_verb_anew(struct vm_verb *);
/* It goes on waiting, for what the sentence says. */
void vm_verb_wait(struct vm_verb *, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool vm_verb_stopping(const struct vm_verb *);
/* Shall the step end before its time? */
bool vm_verb_called_off(const struct vm_verb *);

/* What a VM's verb does, as the VM is now. NULL: nothing is left to do. */
const struct verb_plan *vm_verb_plan(const struct vm *, const struct vm_verb_ask *);

/* The steps (vm_verb_steps.c). */
void verb_shut_run(struct vm_verb *);  /* logins are refused, initiators asked to log out */
void verb_quiet_run(struct vm_verb *); /* until nobody uses the VM */
void verb_quiet_poll(struct vm_verb *);
void verb_look_run(struct vm_verb *);   /* v->written */
void verb_empty_run(struct vm_verb *);  /* closes what is open */
void verb_fill_run(struct vm_verb *);   /* opens it again */
void verb_refill_run(struct vm_verb *); /* the same, if on-prem may hold its disks */
void verb_open_run(struct vm_verb *);   /* logins are allowed */
void verb_stay_run(struct vm_verb *);   /* it is home as before */
void verb_sizes_run(struct vm_verb *);  /* on-prem is asked for the disks' sizes */
void verb_sizes_interrupt(struct vm_verb *);
void verb_save_run(struct vm_verb *);  /* the catalog, here and in the store */
void verb_told_run(struct vm_verb *);  /* the other edge of the pair knows what it is now */
void verb_wipe_run(struct vm_verb *);  /* what was discarded leaves the journal */
void verb_sweep_run(struct vm_verb *); /* and the store */
void verb_flush_run(struct vm_verb *); /* everything is in the store */
void verb_flush_poll(struct vm_verb *);
void verb_interrupt(struct vm_verb *); /* a wait on vm->loop */
void verb_store_interrupt(struct vm_verb *);

/* And those that have to do with the source disks (vm_verb_home.c). */
void verb_commit_run(struct vm_verb *); /* everything is on the source disks */
void verb_commit_poll(struct vm_verb *);
void verb_whole_run(struct vm_verb *);    /* is it? */
void verb_settle_run(struct vm_verb *);   /* nothing new goes to on-prem */
void verb_settled_poll(struct vm_verb *); /* nor is anything on its way any more */
void verb_detach_run(struct vm_verb *);   /* on-prem lets go of the source disks */
void verb_attach_run(struct vm_verb *);   /* on-prem shall hold them for us */
void verb_attached_poll(struct vm_verb *);
void verb_less_run(struct vm_verb *);     /* what shall not be written back is not, from now on */
void verb_persist_poll(struct vm_verb *); /* nor does on-prem have any of it, if it is never to be */
void verb_tell_run(struct vm_verb *);     /* write-back is as the catalog says, and attached */
void verb_clear_run(struct vm_verb *);    /* the cloud's history counts */

/* Handing over (vm_verb_hand.c). */
void verb_pause_run(struct vm_verb *); /* no checkpoint is made from now on */
void verb_pause_interrupt(struct vm_verb *);
void verb_prepare_run(struct vm_verb *); /* the other edge reads what the VM is */
void verb_prepare_interrupt(struct vm_verb *);
void verb_note_run(struct vm_verb *);   /* from now on the store is asked whose it is */
void verb_closer_run(struct vm_verb *); /* the store gets what came since */
void verb_still_run(struct vm_verb *);  /* commands wait */
void verb_still_poll(struct vm_verb *);
void verb_rest_run(struct vm_verb *); /* the store gets what it lacks */
void verb_rest_poll(struct vm_verb *);
void verb_cut_interrupt(struct vm_verb *);
/* Between the two files of handing over: a call to the other edge, and its answer, with why; how long
 * something may take. */
void verb_hand_call(struct vm_verb *, uint8_t type, const struct pair_hand *,
                    void (*done)(struct link_call *));
int verb_hand_answer(struct vm_verb *);
void verb_hand_allow(struct vm_verb *, unsigned ms);
bool verb_hand_late(const struct vm_verb *);
/* (vm_verb_over.c) */
void verb_over_run(struct vm_verb *); /* the other edge takes it */
void verb_over_poll(struct vm_verb *);
void verb_over_interrupt(struct vm_verb *);
void verb_hand_stay_run(struct vm_verb *); /* it stays */
void verb_hand_end(struct vm_verb *);      /* the verb is over */

/* To vm->loop, and back from there: vm_verb_next() with v->result. */
void verb_to_vm(struct vm_verb *, void (*run)(struct task *));
void verb_back(struct vm_verb *);

#endif
