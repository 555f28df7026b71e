/* journal/pair.h - one edge's half of a pair: whether it may serve, and what it may do alone.
 *
 *   unknown ──► sole ◄──► both          (sole ──► both: the other was taken in; both ──► sole: it was lost)
 *      └──────► out ─────► both         (out ──► both: it was taken in;     any ──► lost: the process ends,
 *                                        or it was made the only member by force)
 *
 * The record in the object store decides (arbiter.h), pings over the link say that the other is there
 * (lease.h). docs/pair.md has the moves, the messages and why no two edges serve at once.
 *
 * Lives on one loop (the link's); so do its callbacks. Only loop, link and store are used.
 */
#ifndef ISTHMUS_PAIR_H
#define ISTHMUS_PAIR_H

#include "arbiter.h"
#include "lease.h"
#include "link.h"
#include "proto_pair.h"
#include "store.h"

struct pair;

struct pair_conf {
    struct loop *loop;
    struct store *store; /* of that loop */
    struct peer *peer;
    struct aead_key master;
    const char *name;                     /* of the pair */
    const char *self, *other;             /* the edges' names */
    uint8_t writer[ARBITER_WRITER_BYTES]; /* this edge */
    uint64_t lease_ns;
    unsigned generation;     /* of this program */
    struct lease_gate *gate; /* opened and shut here; outlives the pair */
    /* A member, alone or with the other: VMs may be served while the gate is open. Once for each change. */
    void (*sole)(void *arg);
    void (*both)(void *arg);
    /* No member, for now: nothing that is here is served; what was kept for the other is of no use. */
    void (*out)(void *arg);
    /* Sole, and who was there before can serve nothing any more: its VMs are this edge's to take. Then
     * pair_inherited(). */
    void (*inherit)(void *arg, const uint8_t writer[ARBITER_WRITER_BYTES]);
    /* Sole, and the other wants to be taken in: from now on each record goes there, too, and what was before
     * goes to the store. Then pair_prepared(). */
    void (*prepare)(void *arg);
    /* It went away meanwhile: the preparation is called off. pair_prepared() may still come: it is ignored.
     */
    void (*unprepare)(void *arg);
    /* By force, and nobody has answered: nothing may be left that the only member could still do to VMs of
     * this edge, nor of what was kept for it. Then pair_cleared(). NULL if pair_force() is never called. */
    void (*clear)(void *arg);
    /* The other is sole member, or this edge was made that by force: this process must stop at once. */
    void (*lost)(void *arg, const struct why *);
    /* Nothing is served here at the moment: then it leaves going on alone to the other for a while. */
    bool (*idle)(void *arg);
    /* Records of the other can be kept now: its journal's disk works. Else it gets no lease from here. */
    bool (*fit)(void *arg);
    /* The record, as it is now, lets its members write as this generation, which is this program's at most.
     */
    void (*writes)(void *arg, unsigned generation);
    void *arg;
};

struct pair *pair_new(const struct pair_conf *);
/* The other is told that it must go on alone, for at most a second. After the link's calls have ended or been
 * cancelled: done() later, on the loop. */
void pair_stop(struct pair *, void (*done)(void *arg), void *arg);

void pair_inherited(struct pair *);
/* ok: the other has everything that the store lacks, and acknowledgements wait for it. */
void pair_prepared(struct pair *, bool ok);
/* The other does not have every record any more: one of the two must go on alone. */
void pair_break(struct pair *, const struct why *);

/* An operator says that the other edge, the only member, is lost for good with its disks: this edge, which is
 * out, takes its place. 0: it has begun, and ends with `lost`, or with a refusal in the status. Else why not.
 */
int pair_force(struct pair *, struct why *);
void pair_cleared(struct pair *, int status, const struct why *);
/* Could it begin now? 0, and who would be made no member; or why not. */
int pair_may_force(const struct pair *, struct arbiter_place *lost, struct why *);

/* PAIR_PING: answers it. */
void pair_request(struct pair *, struct link_request *);
/* May the other's records be kept now? */
bool pair_keeps(const struct pair *);

struct pair_status {
    const char *name, *self, *other; /* borrowed, for the pair's life */
    enum pair_role role;
    /* By the record as it was last read, member or not; NULL: it names no other. Borrowed until anything
     * happens. */
    const uint8_t *other_writer;
    uint64_t epoch;
    unsigned generation;       /* as which the record lets its members write; 0: not read yet */
    unsigned own_generation;   /* of this program */
    unsigned other_generation; /* of the other edge's, as it last said; 0: never */
    bool other_answers;        /* within the lease's length */
    bool blocked;              /* a member that may not serve now */
    bool preparing, inheriting;
    bool forcing;
    struct why refused;      /* why the last force was; "": none was in this process */
    uint64_t forced_epoch;   /* at which an edge was made the only member by force, last; 0: never */
    int64_t forced_at_s;     /* since 1970, by that edge's clock */
    const char *forced_edge; /* borrowed until anything happens */
    struct why why;          /* what is waited for */
};
void pair_status(const struct pair *, struct pair_status *);

#endif
