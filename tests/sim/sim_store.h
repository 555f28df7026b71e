/* tests/sim/sim_store.h - a simulated object store: a bucket that outlives every node, and clients of it.
 *
 * A request travels to the bucket, is done there, and its answer travels back; each of the three may be late
 * or fail. So an answer may be lost of what was done, and what was given up may be done later.
 */
#ifndef ISTHMUS_SIM_STORE_H
#define ISTHMUS_SIM_STORE_H

#include "sim.h"
#include "store.h"

struct sim_bucket;

/* Chances are of a million. */
struct sim_store_faults {
    uint32_t refused; /* nothing is done; -ENOTCONN or "slow down" */
    uint32_t lost;    /* done, and the answer is lost: an error, or nothing until the deadline */
    uint32_t late;    /* done up to two minutes later */
    bool down;        /* nobody is answered, nothing is done */
    bool full;        /* puts are refused: -ENOSPC */
};

struct sim_bucket *sim_bucket_new(uint64_t latency_ns);
/* From now on nothing of that node's gets there, or no answer back to it. */
void sim_bucket_cut(struct sim_bucket *, const struct sim_node *, bool requests, bool answers);
/* put(): an object was put. */
void sim_bucket_watch(struct sim_bucket *, void (*put)(const char *key, const void *bytes, size_t n));
/* A put of that node's under this key is on its way: it may happen yet, whatever becomes of the node. */
bool sim_bucket_awaits(const struct sim_bucket *, const struct sim_node *, const char *key);
/* What is in it now, another bucket: what somebody sees who rebuilds from it. */
struct sim_bucket *sim_bucket_copy(const struct sim_bucket *);
struct sim_store_faults *sim_bucket_faults(struct sim_bucket *);
size_t sim_bucket_objects(const struct sim_bucket *);
uint64_t sim_bucket_requests(const struct sim_bucket *);
/* The last key that holds `part`; NULL: there is none. */
const char *sim_bucket_last(struct sim_bucket *, const char *part);

struct store *sim_store_new(struct loop *, struct sim_bucket *);

#endif
