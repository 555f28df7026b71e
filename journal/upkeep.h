/* journal/upkeep.h - keeps what a VM has in the store short: checkpoints of its map, and dead objects
 * removed.
 *
 * Beside the commits, on the VM's loop: the map is written out in a turn of the commit's, uploaded and
 * cleaned up after by the worker, which may wait for the store.
 */
#ifndef ISTHMUS_UPKEEP_H
#define ISTHMUS_UPKEEP_H

#include "commit.h"
#include "worker.h"

struct upkeep;

struct upkeep_conf {
    struct loop *loop;
    struct journal *journal;
    struct map *map;
    struct commit *commit;
    struct store *store;
    struct worker *worker;
    struct aead_key master;
    uint8_t id[VMLOG_ID_BYTES];
    uint8_t writer[LOGOBJ_WRITER_BYTES]; /* as the VM's entry has it while it is this edge's, */
    uint64_t epoch;                      /* and this */
    const char *vm;                      /* copied */
    const char *spool;                   /* a directory for what is being uploaded; copied */
    unsigned objects;                    /* a checkpoint after as many; 0: 64 */
};
struct upkeep *upkeep_new(const struct upkeep_conf *);
/* A cut was committed, or the source disk took one over: looks whether something is to be done. */
void upkeep_look(struct upkeep *);
/* While held, no object is removed: somebody reads what the map has let go of. Counts. */
void upkeep_hold(struct upkeep *);
void upkeep_release(struct upkeep *);
/* Nothing new begins until upkeep_resume(); idle() later, when nothing is under way either, unless that came
 * before. The VM's entry in the store stays as it is from then on, as far as it is up to upkeep. */
void upkeep_pause(struct upkeep *, void (*idle)(void *arg), void *arg);
/* If it is paused. */
void upkeep_resume(struct upkeep *);
/* Before commit_stop(). done() later; frees. */
void upkeep_stop(struct upkeep *, void (*done)(void *arg), void *arg);

#endif
