/* journal/commit_impl.h - what commit.c (when, and the steps of a cut) and commit_put.c (its objects) share.
 */
#ifndef ISTHMUS_COMMIT_IMPL_H
#define ISTHMUS_COMMIT_IMPL_H

#include "commit.h"
#include "frames.h"
#include "metric.h"
#include "pace.h"

enum { COMMIT_OUTGOING = 3, COMMIT_MOVE_USES = 8192 };

/* One object on its way. */
struct outgoing {
    struct commit *commit;
    enum { OUT_FREE, OUT_BUILDING, OUT_PUTTING, OUT_PUT, OUT_TAKEN, OUT_OURS, OUT_FAILED } state;
    struct logobj_built built;
    char key[MAP_NAME_MAX];
    char match[STORE_ETAG_MAX + 1]; /* of what it takes the place of; "": of nothing */
    struct iovec iov[2];
    struct store_req req;
};

/* commit_move.c: live data of objects that are mostly dead, for the next object to be built. */
struct commit_move {
    unsigned dead_percent;      /* of all objects' bytes, from which on; 0: never */
    struct map_object *victims; /* of this cut, the emptiest first */
    size_t nvictims, next;      /* and the next to be looked at */
    unsigned taken;             /* for this object */
    bool busy, ready;           /* being fetched; was, and may be built in */
    bool getting, fetching;
    char key[MAP_NAME_MAX];
    struct buf *front;
    struct store_req get;
    struct work work;
    struct frames frames;
    struct frame_use *uses; /* COMMIT_MOVE_USES; a use's tag is its disk and LBA */
    unsigned nuses;
    uint8_t *bytes;
    uint32_t sectors, sectors_max;
    int status;
    struct why why;
};

enum commit_state {
    COMMIT_IDLE,
    COMMIT_TURN,    /* somebody else changes the map */
    COMMIT_SYNCING, /* the cut is being opened, then the journal fsynced */
    COMMIT_OWNING,  /* the VM's entry is looked at: is it still ours? */
    COMMIT_MOVING,  /* objects are built, put, applied */
    COMMIT_CLOSING, /* the cut is being closed */
};

struct commit {
    struct commit_conf conf;
    char *vm;
    enum commit_state state;
    struct timer timer;
    TAILQ_HEAD(, commit_wait) waits;
    TAILQ_HEAD(, commit_turn) turns;
    struct cut cut;
    struct vmlog_flush flush;
    struct store_req owner;
    char owner_key[MAP_NAME_MAX];
    struct buf *entry;
    struct map_state next; /* what the map's state becomes with each object */
    uint64_t began_ns;
    struct pace pace;
    uint64_t brake;           /* bytes a second; 0: none */
    uint64_t moved, moved_ns; /* bytes of journal of this cut that the store has by now, and since when */
    uint64_t rest_until_ns;   /* after a failure */
    unsigned rest_ms;         /* the next pause after one */
    bool failed;              /* this cut is given up: let what is under way end */
    bool again;               /* it was given up only to begin anew at once */
    bool fenced;
    bool failing; /* and the operator was told */
    struct why why;

    /* objects, in a ring: [first, first + count) */
    struct outgoing out[COMMIT_OUTGOING];
    unsigned first, count;
    bool waiting_for_slot;
    TAILQ_ENTRY(commit) slot_entry;

    /* building: by the pool while `building` */
    struct logobj_builder *builder;
    struct work build;
    struct outgoing *filling; /* by build: the ring may move meanwhile */
    bool building, built_last, sorted;
    size_t at;          /* the next extent, */
    uint32_t at_sector; /* and where in it */
    uint64_t next_first;
    uint8_t chain[LOGOBJ_TAG_BYTES];
    int build_status;
    uint8_t *scratch;

    struct commit_move move;

    /* the map: by the pool while `applying` */
    struct work apply;
    bool applying;
    struct map_state apply_state;
    const struct logobj_head *apply_head;
    const struct logobj_entry *apply_entries;
    unsigned apply_n;
    bool apply_stable;
    struct map_change *change;
    int apply_status;

    /* that there is a whole cut: by the worker while `naming` */
    struct work name;
    bool naming, named; /* the entry says so */
    atomic_bool name_stop;
    uint64_t name_cut;
    int name_status;
    struct why name_why;

    /* a name that is taken */
    struct buf *found; /* what is there */
    struct store_req look;
    struct work judge;
    struct logobj_head found_head;
    struct logobj_index found_index;
    int found_status;
    struct why found_why;
    bool looking;

    bool stopping, stopped;
    void (*stop_done)(void *arg);
    void *stop_arg;
    struct task stop_task;

    struct metric *m_lag, *m_seconds, *m_objects, *m_guest_bytes, *m_moved_bytes, *m_object_bytes,
        *m_failures, *m_pending, *m_pace;
};

/* commit.c */
void commit_fail(struct commit *, int err, const char *what, const struct why *); /* gives the cut up */
void commit_fence(struct commit *, const struct why *);
void commit_moved(struct commit *);                /* something ended: what can go on does */
void commit_took(struct commit *, uint64_t bytes); /* so much more of the cut's journal is in the store */

/* commit_move.c */
void commit_move_begin(struct commit *);        /* a cut: what is to be moved along with it */
bool commit_move_wanted(const struct commit *); /* is there more? */
void commit_move_fetch(struct commit *);        /* for one object; commit_moved() when it is ready */
void commit_move_build(struct commit *);        /* pool: into the builder */
void commit_move_cancel(struct commit *);
void commit_move_free(struct commit *);

/* commit_build.c */
void commit_build(
    struct commit *); /* pool: a slice of the object that is being filled; ends it if it is full */

/* commit_put.c */
void commit_put_begin(struct commit *);
void commit_put_advance(struct commit *);
bool commit_put_idle(const struct commit *); /* nothing of this cut is under way */
void commit_put_cancel(struct commit *);
void commit_put_end(struct commit *); /* idle: forget what is left */
bool commit_put_complete(const struct commit *);

/* commit_whole.c */
/* May this object, which is in the store, count? false: it ends the VM's first cut, and the VM's entry is
 * told so; commit_moved() afterwards. */
bool commit_whole(struct commit *, const struct logobj_head *);

/* commit_slots.c */
bool commit_slot_take(struct commit *); /* false: commit_moved() is called when there is one */
void commit_slot_leave(struct commit *);
void commit_slot_give(struct commit *);

#endif
