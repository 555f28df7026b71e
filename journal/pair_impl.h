/* journal/pair_impl.h - what pair.c (the states) and pair_record.c (the record in the store) share. */
#ifndef ISTHMUS_PAIR_IMPL_H
#define ISTHMUS_PAIR_IMPL_H

#include "metric.h"
#include "pair.h"

enum pair_force_step { FORCE_NONE, FORCE_CALL, FORCE_WAIT, FORCE_CLEAR, FORCE_TAKE };

struct pair {
    struct pair_conf conf;
    char name[ARBITER_NAME_MAX + 1], self[ARBITER_NAME_MAX + 1], other[ARBITER_NAME_MAX + 1];
    uint64_t instance, started_ns, since_ns; /* since: it is a member, as is the other */
    enum pair_role role;
    bool lost; /* the end of this process was asked for */
    struct lease lease;

    /* the other, as it last said */
    struct pair_word theirs;
    uint64_t heard_ns;                     /* 0: never */
    uint64_t partner;                      /* both, or preparing: the run of it that has the records */
    uint8_t joining[ARBITER_WRITER_BYTES]; /* preparing: who is taken in */

    /* a ping */
    struct link_call ping;
    uint64_t ping_sent_ns;
    bool pinging;
    struct link_call farewell; /* stopping: that this edge is no member from now on */
    bool bidding;
    struct timer timer;

    /* the record */
    struct arbiter record; /* as last read or written; epoch 0: not yet */
    char etag[STORE_ETAG_MAX + 1];
    char key[ARBITER_KEY_MAX];
    struct store_req req;
    uint8_t bytes[ARBITER_BYTES + 1]; /* one more, so that a longer one is noticed */
    struct iovec iov;
    struct arbiter wanted; /* being put */
    bool fresh;            /* this run has changed nothing yet: a swap of a run before it may yet happen */
    bool settles;          /* after the swap that is being put no other of this edge can happen any more */
    bool asking;           /* req is with the store */
    bool claiming;         /* the lease is over: this edge wants to be sole */
    bool swapped;   /* claiming: a swap was sent, so the record must be read until it is known whose it is */
    bool unsettled; /* a swap that takes the other in was sent, and may yet happen */
    bool broken;    /* claiming: the records' stream has ended, so there is no way back to both */
    uint64_t claim_ns; /* claiming: from when on */
    uint64_t ask_ns;   /* not before */
    uint64_t asked_ns; /* out: when the record was last asked for */
    uint64_t look_ns;  /* sole: when it is looked at again */
    unsigned rest_ms;  /* between two tries that failed */

    bool preparing, prepared; /* sole */
    bool pinged_prepared;     /* the ping that is out says so, */
    bool told;                /* and one that did was answered */
    uint64_t ready;           /* out: which run of the other has said so; 0: none */
    bool inherit_due;         /* sole: the other's VMs are to be taken once its lease is over */
    bool inheriting;
    struct { /* pair_force.c */
        enum pair_force_step step;
        uint8_t change[sizeof((struct arbiter *)0)->change]; /* of the call */
        uint64_t until_ns;                                   /* wait: no answer by then is none */
        unsigned calls;
        struct why refused;
    } force;
    bool stopping;
    void (*stopped)(void *arg);
    void *stopped_arg;
    struct task task;
    struct why why; /* what is waited for */
    struct metric *m_role, *m_epoch, *m_generation, *m_degraded, *m_blocked, *m_forced, *m_requests;
};

enum {
    PAIR_TICKS = 8, /* in a lease: pings, and looks at what is due */
    PAIR_LOOK_LEASES =
        7, /* between looks of a sole member at the record: 4,114 requests a day with a lease of 3 s */
    PAIR_REST_MIN_MS = 200, /* between tries at the store that fail, at least */
    PAIR_POLL_MS = 1000,    /* between looks at a record that somebody else may change */
    PAIR_TIMEOUT_MS = 5000, /* of a request about the record */
    PAIR_FAREWELL_MS = 1000 /* for its answer */
};

static inline uint64_t pair_now(const struct pair *p)
{
    return loop_now_ns(p->conf.loop);
}

/* Has the other answered or asked within a lease? */
static inline bool pair_hears(const struct pair *p)
{
    return p->heard_ns && pair_now(p) - p->heard_ns < p->conf.lease_ns;
}

/* pair.c */
void pair_step(struct pair *); /* whatever is due */
void pair_set_gate(struct pair *);
void pair_become(struct pair *, enum pair_role);
void pair_lose(struct pair *, const char *sentence);
struct arbiter_edge pair_me(const struct pair *);
void pair_ask_later(struct pair *, unsigned ms);

/* pair_force.c: what is due; false: nothing is forced. */
bool pair_force_step(struct pair *);
/* This edge was taken in meanwhile. */
void pair_force_ends(struct pair *);

/* pair_life.c */
void pair_look_stopped(struct pair *);

/* pair_ping.c */
void pair_on_timer(struct timer *);
/* Stopping: the other is told, if both are members and it is heard. Then pair_look_stopped(). */
void pair_bid_farewell(struct pair *);

/* pair_record.c. One request at a time: none is out (asking is false). */
void pair_record_read(struct pair *);
void pair_record_join(struct pair *);
/* `wanted` was made of the record. */
void pair_record_swap(struct pair *);
/* pair.c: the record is `record` now, read or written; err: it could not be read or written, with why. */
void pair_record_is(struct pair *);
void pair_record_failed(struct pair *, int err, const struct why *);
/* pair_record.c: called by pair_record_is() for a member that goes on alone; a swap of what was read. */
void pair_record_alone(struct pair *);

#endif
