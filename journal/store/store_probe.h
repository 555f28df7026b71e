/* journal/store/store_probe.h - can this store do what we need? Asked at start-up, by doing it.
 *
 * Puts, reads, lists, overwrites under conditions and deletes one small object below "probe/". What fails is
 * one sentence; a store that answers but does something else than it should is refused as well.
 */
#ifndef ISTHMUS_STORE_PROBE_H
#define ISTHMUS_STORE_PROBE_H

#include "store.h"

enum store_need {
    STORE_NEED_IF_ABSENT = 1, /* never overwrites what is there: logs, two edges */
    STORE_NEED_IF_MATCH = 2,  /* compare-and-swap: a pair's record */
};

struct store_probe {
    unsigned needs;      /* of enum store_need; put, get, ranges, list and delete are needed always */
    uint32_t timeout_ms; /* for each request */
    void (*done)(struct store_probe *);

    /* Set before done(). 0, or what the store said; -EOPNOTSUPP: it cannot. With why. */
    int status;
    struct why why;
    int64_t skew_s; /* the store's clock minus ours, as far as it was told; else 0 */

    /* private */
    struct store *store;
    struct store_req req;
    struct iovec iov;
    unsigned step;
    const char *keys[1];
    void *waiting;
    char key[48], text[2][32], etag[STORE_ETAG_MAX + 1], buf[64];
};

/* The probe is borrowed until done(), which comes once, from the loop. */
void store_probe(struct store *, struct store_probe *);
/* The same on a thread that may wait (store_wait.h): its done is set here. The status. */
int store_probe_wait(struct store *, struct store_probe *);

#endif
