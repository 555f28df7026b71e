/* journal/sweep.h - log objects that nothing leads to are removed: beginnings of cuts that never ended, left
 * by a crash or by an edge that has lost the VM.
 *
 * Behind the newest cut a name may still be an object's of the log, and a delete may be done late. So only
 * names up to the cut of a checkpoint are looked at, once the VM's entry names that: no log begins again
 * below it.
 */
#ifndef ISTHMUS_SWEEP_H
#define ISTHMUS_SWEEP_H

#include "store.h"
#include "vmlog.h"

#include <stdatomic.h>

struct map;

struct sweep {
    uint64_t from, through; /* names with from < SEQ <= through */
    uint64_t *firsts;       /* those of them that the map knows, rising */
    size_t n, room;
};

/* What the map knows from behind `from` to `through`; with nobody changing it. */
void sweep_note(struct sweep *, struct map *, uint64_t from, uint64_t through);
/* Blocking, on the worker. */
int sweep_run(const struct sweep *, struct store *, const uint8_t id[VMLOG_ID_BYTES], const atomic_bool *stop,
              struct why *);
void sweep_clear(struct sweep *);

#endif
