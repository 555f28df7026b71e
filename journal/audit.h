/* journal/audit.h - is what the store has of a VM sound? Every object is read, opened, and compared with the
 * map.
 *
 * Blocking, on a thread that may wait (worker.h), for tools. The map is rebuilt as a recovery does it, into a
 * journal that is there for nothing else. Memory: an object at a time, 72 bytes for each object and 16 for
 * each frame.
 */
#ifndef ISTHMUS_AUDIT_H
#define ISTHMUS_AUDIT_H

#include "recover.h"

struct audit_result {
    uint64_t cut; /* the newest whole one; 0: none */
    uint64_t checkpoints, objects, object_bytes, live_bytes;
    uint64_t left_over;    /* objects that nothing leads to: of cuts that never ended, or to be removed */
    unsigned faults;       /* each was told */
    uint64_t lost_sectors; /* of the newest cut, in damaged objects */
    bool has_good_cut;     /* if faults: a cut to go back to that needs nothing that is damaged, */
    uint64_t good_cut;     /* this one */
};

/* conf: as for a recovery; tell gets a sentence for each fault, `through` is not looked at. 0, also with
 * faults; -errno with why: it could not be looked at. */
int audit_vm(const struct recover_conf *, struct audit_result *, struct why *);

#endif
