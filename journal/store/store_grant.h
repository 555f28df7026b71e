/* journal/store/store_grant.h - a credential that somebody gives for a while: who waits for it, and when it
 * is fetched anew.
 *
 * Knows nothing of what it is or where it comes from: its owner embeds it, fetches, and keeps the credential.
 * A fetch runs only while somebody waits for it. Loop thread.
 */
#ifndef ISTHMUS_STORE_GRANT_H
#define ISTHMUS_STORE_GRANT_H

#include "loop.h"
#include "why.h"

#include <stdbool.h>
#include <sys/queue.h>

#define STORE_GRANT_FOREVER (-1)

struct store_grant_wait {
    void (*done)(struct store_grant_wait *);
    int status; /* 0: there is a credential; -EACCES, -ENOTCONN, -EIO, -ECANCELED with why */
    struct why why;
    /* private */
    TAILQ_ENTRY(store_grant_wait) entry;
    struct task task;
    bool told; /* done() is on its way */
};

struct store_grant {
    struct loop *loop;
    /* Ends in store_grant_end(), not before it has returned. */
    void (*fetch)(struct store_grant *);
    /* The fetch that runs is wanted no more: it ends soon, usually with -ECANCELED. */
    void (*stop)(struct store_grant *);
    /* private */
    bool there, fetching, fetched_ever;
    uint64_t until_ns, fetched_ns;
    TAILQ_HEAD(, store_grant_wait) waiting;
};

void store_grant_init(struct store_grant *, struct loop *, void (*fetch)(struct store_grant *),
                      void (*stop)(struct store_grant *));
/* The owner has a credential, good for left_s seconds or STORE_GRANT_FOREVER. */
void store_grant_set(struct store_grant *, int64_t left_s);
/* A fetch has ended; with status 0 after store_grant_set(), else with why. Everybody who waits is told; an
 * older credential does as long as it is good. */
void store_grant_end(struct store_grant *, int status, const struct why *);

/* true: there is a good one. false: done() comes later, from the loop. */
bool store_grant_ready(struct store_grant *, struct store_grant_wait *);
/* done() comes soon, from the loop. Only for one whose done() has not come. */
void store_grant_cancel(struct store_grant *, struct store_grant_wait *);
/* It was refused where it was shown. true: store_grant_ready() will fetch another. */
bool store_grant_renew(struct store_grant *);

#endif
