/* journal/mirror_impl.h - what mirror.c (the stream and its records) and mirror_say.c (what is said beside
 * them) share. Not for others.
 */
#ifndef ISTHMUS_MIRROR_IMPL_H
#define ISTHMUS_MIRROR_IMPL_H

#include "metric.h"
#include "mirror.h"

/* Pieces of records on their way. */
struct parcel {
    STAILQ_ENTRY(parcel) entry;
    struct mirror *mirror;
    struct far_call call;
    uint64_t last; /* the newest record that is whole with it */
    uint64_t sent_ns;
    bool answered;
};
STAILQ_HEAD(parcels, parcel);

/* A call of which one is out at a time. */
struct mark {
    struct mirror *mirror;
    struct far_call call;
    uint64_t wanted, asked; /* up to which record */
    bool out;
};

/* A disk's reservations, until the other edge has them. */
struct reservations {
    TAILQ_ENTRY(reservations) entry;
    struct mirror *mirror;
    struct far_call call;
    bool out;
    void (*done)(void *arg, bool has);
    void *arg;
};

struct mirror {
    struct mirror_conf conf;
    char *vm;
    struct vmlog_follower follower;
    uint64_t first, stream, next_number, last; /* last: the newest record that is whole in a parcel */
    struct parcel *open;                       /* being filled; sent at the end of the turn */
    struct parcels sent;
    struct task turn;
    bool turn_posted;
    TAILQ_HEAD(, reservations) reservations;
    uint64_t next_reserve;
    struct far_call begin;
    bool begun, kept; /* BEGIN is answered; state() was told so */
    struct mark sync, trim;
    TAILQ_HEAD(, mirror_join) joins;
    struct task end;
    unsigned out; /* calls and tasks under way */
    bool failed, stopping;
    void (*done)(void *arg);
    void *done_arg;
    struct metric *m_seconds;
};

/* mirror.c. A call to the other edge; done() ends in mirror_leave(). */
void mirror_call(struct mirror *, struct far_call *, uint8_t type, struct buf *body,
                 void (*done)(struct far_call *));
/* The answer to any of the calls: what was lent goes. */
int mirror_answer(struct far_call *, struct why *);
void mirror_fail(struct mirror *, int err, const struct why *);
void mirror_leave(struct mirror *);

/* mirror_say.c. From vmlog_follower.sync: up to that record it is to be stable there, too. */
void mirror_sync_wanted(struct vmlog_follower *, uint64_t seq);
/* Has the other edge everything that it has to have from the beginning? */
void mirror_look_kept(struct mirror *);
/* Calls that nobody needs any more. */
void mirror_say_cancel(struct mirror *);
/* Nothing is under way: who still waits has waited in vain. */
void mirror_say_end(struct mirror *);

#endif
