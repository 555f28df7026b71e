/* journal/commit.h - carries one VM's log into the object store, cut by cut; docs/log.md has the steps.
 *
 * A commit begins when the oldest write that the store lacks is age_ms old, when bytes have come together, or
 * when somebody asks. Objects of a cut are built one after the other on the pool, put several at a time, and
 * count in order. What fails is tried again for ever, from a new cut; the journal keeps everything until the
 * store has it.
 *
 * Lives on the VM's loop; all calls and callbacks are there. One cut at a time.
 */
#ifndef ISTHMUS_COMMIT_H
#define ISTHMUS_COMMIT_H

#include "cut.h"
#include "map.h"
#include "store.h"
#include "worker.h"

struct commit;

/* How many objects all VMs of a loop may have in memory at once. Embedded in its owner; outlives the commits.
 */
TAILQ_HEAD(commits, commit);
struct commit_slots {
    unsigned free;
    struct commits waiting;
};
void commit_slots_init(struct commit_slots *, unsigned objects);

struct commit_conf {
    struct loop *loop;
    struct vmlog *log;
    struct map *map;
    struct store *store; /* of this loop */
    struct commit_slots *slots;
    struct worker *worker;
    struct aead_key master;
    uint8_t id[VMLOG_ID_BYTES];
    uint8_t writer[LOGOBJ_WRITER_BYTES]; /* this edge's data directory */
    const char *vm;                      /* copied */
    uint64_t epoch;
    uint64_t floor; /* what was written up to there was thrown away (discard.h); 0: nothing was */
    unsigned age_ms;
    uint64_t bytes;        /* of journal, that start a commit before its age does */
    uint32_t object_bytes; /* an object is closed when it holds as much; 0: 8 MiB */
    /* Another edge has written this VM's log: nothing of ours can follow it. Once; the commit stays quiet. */
    void (*fenced)(void *arg, const struct why *);
    /* A cut is in the store and in the map. May be NULL. */
    void (*committed)(void *arg, uint64_t cut);
    void *arg;
};
struct commit *commit_new(const struct commit_conf *);

/* Live data of objects of which less than half is live is moved along with the next cuts, if so much of all
 * objects' bytes is dead (0, as at first: never). */
void commit_set_move(struct commit *, unsigned dead_percent);

/* From now on a cut begins when the oldest write that the store lacks is so old. */
void commit_set_age(struct commit *, unsigned age_ms);

/* From now on no more bytes a second are admitted to the log; 0: as the store takes them. */
void commit_brake(struct commit *, uint64_t bytes_per_second);

/* done() when everything that was visible at the call is in the store. status 0; -ECANCELED: it is being
 * stopped; -ESTALE: fenced. Waits for as long as the store is away. */
struct commit_wait {
    void (*done)(struct commit_wait *);
    int status;
    struct { /* private */
        TAILQ_ENTRY(commit_wait) entry;
        uint64_t seq;
        bool ended; /* done() is on its way */
        struct task task;
    } in;
};
void commit_now(struct commit *, struct commit_wait *);
/* The same of everything up to this record, which has its number and may not be visible yet. */
void commit_through(struct commit *, struct commit_wait *, uint64_t seq);
/* It need not be waited for: done() comes soon, with -ECANCELED unless it was on its way. */
void commit_cancel(struct commit *, struct commit_wait *);

/* Runs fn on a pool thread while no other change of this VM's map does: between two cuts, in turn with them.
 * done() afterwards, on the loop. Applied, dropped, forgotten: all who change the map come this way. */
struct commit_turn {
    void (*run)(struct commit_turn *);  /* pool thread */
    void (*done)(struct commit_turn *); /* loop; the turn ends when it returns */
    struct {                            /* private */
        TAILQ_ENTRY(commit_turn) entry;
        struct commit *commit;
        bool begun;
        struct work work;
    } in;
};
void commit_take_turn(struct commit *, struct commit_turn *);
/* true: it had not begun, and neither run() nor done() will be called. */
bool commit_leave_turn(struct commit *, struct commit_turn *);

/* Age of the oldest write that the store lacks, 0 if it lacks none; and whether putting fails now, with why.
 */
uint64_t commit_lag_ns(const struct commit *);
bool commit_failing(const struct commit *, struct why *);

/* Ends what is under way (the journal keeps it) and frees; done() later. No call after this. */
void commit_stop(struct commit *, void (*done)(void *arg), void *arg);

#endif
