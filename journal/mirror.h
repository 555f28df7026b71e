/* journal/mirror.h - sends one VM's records to the other edge of the pair, as they are numbered.
 *
 *   numbered ──► put into the open call ──► (end of the turn) sent ──► answered: the other journal has it
 *
 * Calls go out in order and many at a time; what is not answered yet is still with its writer, so nothing has
 * to be kept here. Lives on the VM's loop. docs/pair.md has the messages; keep.h is the other end.
 */
#ifndef ISTHMUS_MIRROR_H
#define ISTHMUS_MIRROR_H

#include "far_call.h"
#include "link.h"
#include "vmlog.h"

struct mirror;

struct mirror_conf {
    struct loop *loop, *link_loop;
    struct peer *peer;
    struct vmlog *log;
    uint8_t id[VMLOG_ID_BYTES];
    const uint8_t *writer; /* 16 bytes: this edge; borrowed */
    const char *vm;        /* copied */
    /* The other edge has begun to keep this VM's log, or need not any more, for the VM is gone: true; or does
     * not, or no more: false, with why; then nothing will be acknowledged until mirror_stop(). Not after
     * that. */
    void (*state)(void *arg, bool kept, const struct why *);
    void *arg;
};

/* From the next record on, *first, the log waits for the other edge. */
struct mirror *mirror_new(const struct mirror_conf *, uint64_t *first);
/* A disk's reservations are these (docs/reservations.md; copied). done(), unless it is NULL, comes later:
 * the other edge has them, or (has: false) nobody waits for it any more. The other edge keeps the log only
 * when it has those that were given to this right after mirror_new(). */
void mirror_reserve(struct mirror *, uint8_t disk, const uint8_t *state, uint32_t n,
                    void (*done)(void *arg, bool has), void *arg);
/* The store has everything up to this record: the other edge need not keep it. */
void mirror_trim(struct mirror *, uint64_t cut);
/* The store has everything up to `through`. If that is all that was before the first record the other edge
 * writes it down: what it keeps follows what the store has. done(), perhaps before this returns: it has, or
 * nobody waits for it any more. */
struct mirror_join {
    void (*done)(struct mirror_join *);
    struct { /* private */
        TAILQ_ENTRY(mirror_join) entry;
        struct mirror *mirror;
        struct far_call call;
    } in;
};
void mirror_join(struct mirror *, struct mirror_join *, uint64_t through);
/* Before done(), which comes soon. */
void mirror_join_cancel(struct mirror_join *);
/* Nobody waits for the other edge any more. forget: the VM is gone, and so shall be its records there.
 * done() later; frees. */
void mirror_stop(struct mirror *, bool forget, void (*done)(void *arg), void *arg);

#endif
