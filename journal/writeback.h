/* journal/writeback.h - brings one VM's source disks to the cuts that the object store holds;
 * docs/writeback.md.
 *
 * Lives on the VM's loop; all calls and callbacks are there. The link's calls are handed to its loop. One
 * stage at a time. An outage of the link, the store or on-prem makes it wait; there is no failure but what
 * `alarm` says.
 */
#ifndef ISTHMUS_WRITEBACK_H
#define ISTHMUS_WRITEBACK_H

#include "commit.h"
#include "link.h"
#include "proto_wb.h"
#include "upkeep.h"

#include <stdatomic.h>

struct writeback;

/* Are the source disks at a cut of this VM's log? If not, what is read is a mix of two histories. */
enum writeback_place {
    WRITEBACK_FITS,
    WRITEBACK_UNKNOWN, /* on-prem has to say that first */
    WRITEBACK_OTHER    /* at another history */
};

struct writeback_conf {
    struct loop *loop, *link_loop;
    struct peer *peer; /* the on-prem daemon that has all the disks */
    struct map *map;
    struct commit *commit;
    struct upkeep *upkeep;
    struct vmlog *log;
    struct store *store;
    struct aead_key master;
    uint8_t id[VMLOG_ID_BYTES];
    const char *vm;    /* copied, as are the disks' names at on-prem, */
    const char *spool; /* and this: a directory for lists of what is to be sent */
    const char *disks[WB_DISKS_MAX];
    uint8_t numbers[WB_DISKS_MAX]; /* theirs in the map, rising; to on-prem their places in this list count */
    unsigned ndisks;
    uint64_t epoch, since; /* vmobj.h */
    uint64_t joined; /* up to here its log is what the edge before this one had, in the store or not; or 0 */
    enum wb_policy policy;
    bool paused; /* attached, but nothing is sent */
    /* Is the VM this edge's, and no more? Nothing is done before the first, nor after the second is so. May
     * be NULL. */
    const atomic_bool *admitted, *fenced;
    atomic_int *place; /* enum writeback_place: set by what on-prem says, before placed(); or NULL */
    void (*placed)(void *arg);
    bool home;            /* detached: on-prem is told nothing until writeback_attach() */
    unsigned interval_ms; /* at most so long between two cuts */
    uint64_t bytes;       /* committed and not applied: begins before its time */
    unsigned outage_ms;   /* what is being sent is given up when the link was down for so long; 0: 10 min */
    unsigned *slots;      /* the loop's: how many VMs may still begin to send (some 25 MiB each); or NULL */
    /* The source disks are at this cut now (again at start, when on-prem told). May be NULL. */
    void (*applied)(void *arg, uint64_t cut);
    void *arg;
};
struct writeback *writeback_new(const struct writeback_conf *);

/* The policy takes effect at once: what is on its way to on-prem and not staged is given up. */
void writeback_set_policy(struct writeback *, enum wb_policy, bool paused);

/* done() when everything visible at the call is on the source disks and flushed. Also in cloud-persist and
 * while paused: somebody asked for it. 0; -ECANCELED (taken back, stopped, detached); -EBUSY with why: there
 * is an alarm (somebody else has written to a source disk, an object of the store is damaged, ...). */
struct writeback_wait {
    void (*done)(struct writeback_wait *);
    int status;
    struct why why;
    struct { /* private */
        TAILQ_ENTRY(writeback_wait) entry;
        struct wb_waits *list;
        uint64_t seq;
        bool ended; /* done() is on its way */
        struct task task;
    } in;
};
void writeback_now(struct writeback *, struct writeback_wait *);
void writeback_cancel(struct writeback *, struct writeback_wait *); /* done() comes later */

/* done() when on-prem has let go of the source disks (reservations too) and forgotten the VM. Nothing is sent
 * any more from the call on. -EBUSY with why: it still has to apply a cut; then, and when it is cancelled,
 * the VM stays attached. writeback_attach() takes it back. */
void writeback_detach(struct writeback *, struct writeback_wait *);
void writeback_attach(struct writeback *);
/* The cloud's history counts: on-prem's alarm ends. */
void writeback_clear_alarm(struct writeback *, struct writeback_wait *);

/* As last known; of the loop. */
struct writeback_status {
    bool attached, held, alarm, link_up;
    bool settled; /* on-prem has nothing of a cut that it will still apply, and knows the policy */
    enum writeback_step {
        WRITEBACK_IDLE,
        WRITEBACK_COMMITTING,
        WRITEBACK_SENDING,
        WRITEBACK_APPLYING,
        WRITEBACK_CONFIRMING
    } step;
    uint64_t applied, applied_instant_ms, target;
    uint64_t unapplied_bytes;   /* of data that the source disks lack */
    uint64_t unapplied_ns;      /* age of the oldest write that they lack */
    uint64_t bytes, bytes_done; /* of the stage: to send and sent, or to apply and applied */
    struct why why;             /* what is wrong now, or empty */
};
void writeback_status(const struct writeback *, struct writeback_status *);

/* Before upkeep_stop(). done() later; frees. On-prem stays attached. */
void writeback_stop(struct writeback *, void (*done)(void *arg), void *arg);

#endif
