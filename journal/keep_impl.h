/* journal/keep_impl.h - what keep.c (the main loop's half) and keep_log.c (the logs' half) share. */
#ifndef ISTHMUS_KEEP_IMPL_H
#define ISTHMUS_KEEP_IMPL_H

#include "keep.h"
#include "proto_pair.h"

enum { KEEP_WRITER_BYTES = 16 };

/* A request on its way through a kept log. */
struct keep_request {
    STAILQ_ENTRY(keep_request) entry;
    struct kept *kept;
    struct link_request *request;
    struct task task;
    uint64_t last; /* PUT: answered when this record is there */
    struct vmlog_flush flush;
    struct pair_reserve reserve;
    bool again; /* RESERVE: it was done before */
    struct work work;
    int status;
    struct why why;
};
STAILQ_HEAD(keep_requests, keep_request);

struct kept {
    /* main loop */
    TAILQ_ENTRY(kept) entry;
    struct keep *keep;
    struct journal *journal;
    uint8_t id[VMLOG_ID_BYTES];
    struct pair_begin begin;
    struct loop *loop;
    enum { KEPT_OPENING, KEPT_OPEN, KEPT_CLOSING } state;
    struct keep_requests early; /* came while it was being opened */
    unsigned out;               /* requests with the log */
    bool forget;                /* closing: for good, as the VM is */
    struct kept *heir;          /* closing: a newer stream of this VM, which waits to be opened; or NULL */
    void (*closed)(struct kept *);
    void (*ended)(void *arg); /* keep_end() */
    void *ended_arg;
    struct work work;
    int status;
    struct why why;
    struct task task;

    /* its loop, once it is open */
    struct vmlog *log;
    uint64_t next_number, next_seq, there; /* PUTs; records: to be appended, and in the journal */
    struct kept_record *partial;           /* of which the rest is still to come */
    struct keep_requests puts;             /* that wait for `there`, by record */
    struct keep_requests syncs;            /* with the log */
    uint64_t next_reserve;                 /* RESERVEs */
    struct keep_requests reserves;         /* the first is being written */
    unsigned appends;
    bool joined; /* it is written down that the store has what was before the first record */
    bool broken; /* the stream made no sense: nothing more of it is taken */
    void (*quiet)(struct kept *);
};

/* keep_log.c, on kept->loop: ends in keep_answer() for the request. */
void keep_log_request(struct task *);
/* keep_log.c, on kept->loop, with no request out: nothing is appended any more, then quiet(). */
void keep_log_close(struct kept *, void (*quiet)(struct kept *));
/* keep_reserve.c, on kept->loop: RESERVE, which ends so, too. */
void keep_reserve(struct keep_request *);
/* keep_disk.c. Blocking: a VM's log is kept from now on, and the store has what was up to that record. */
int keep_note(struct journal *, const uint8_t id[VMLOG_ID_BYTES], const uint8_t writer[KEEP_WRITER_BYTES],
              uint64_t from, struct why *);
/* The same: the owner says that the store has what was up to that record. */
int keep_note_joined(struct journal *, const uint8_t id[VMLOG_ID_BYTES], uint64_t from, struct why *);
/* keep.c, on kept->loop. */
void keep_answer(struct keep_request *, int status, const char *why);

#endif
