/* journal/store/store_retry.h - a store that tries again: what everything but tests should use.
 *
 * Tries again what may succeed later (-EAGAIN, -EIO, -ENOTCONN, -ETIMEDOUT of one try, -EBADMSG twice) until
 * the request's deadline, waiting longer each time, with jitter. A store that says "slow down" gets a pause
 * from all requests. A budget keeps an outage from multiplying the load: trying again costs a token, success
 * earns a part of one, and time one every two seconds.
 *
 * A put under a condition that is refused may have been refused because of itself, when an earlier answer was
 * lost. So what is there is read and compared: our own bytes are success. Hence an object that is put under a
 * condition must say who wrote it, and not be the same twice.
 */
#ifndef ISTHMUS_STORE_RETRY_H
#define ISTHMUS_STORE_RETRY_H

#include "store.h"

struct store_retry_conf {
    uint32_t try_ms;     /* one try of a small request; large bodies get 4 ms more a KiB */
    uint32_t first_ms;   /* before the second try; doubles for each further one */
    uint32_t longest_ms; /* between two tries */
    uint32_t tokens;     /* in the full budget */
};

/* Takes inner. conf NULL: 10 s, 100 ms, 5 s, 50. */
struct store *store_retry_new(struct store *inner, const struct store_retry_conf *);

#endif
