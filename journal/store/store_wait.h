/* journal/store/store_wait.h - a request of a store that is waited for: for threads that may (worker.h), and
 * for tools.
 *
 * The store's loop runs on another thread. Never from a loop or from the pool.
 */
#ifndef ISTHMUS_STORE_WAIT_H
#define ISTHMUS_STORE_WAIT_H

#include "store.h"

#include <stdatomic.h>

/* Submits r (its done is set here) and waits; returns its status. *stop (may be NULL) becoming true cancels
 * it. */
int store_wait(struct store *, struct store_req *r, const atomic_bool *stop);
/* The same until it succeeds or the answer is final (there is none, refused, altered, stopped): what may pass
 * is tried again, with pauses of up to 15 s; the first failure is logged with `what`. */
int store_wait_through(struct store *, struct store_req *r, const atomic_bool *stop, const char *what);
/* n objects (at most STORE_DELETE_MAX; 0: nothing is asked), the same way: 0 once there is none of them.
 * what: "objects without life". */
int store_wait_delete(struct store *, const char *const *keys, size_t n, const atomic_bool *stop,
                      const char *what, struct why *);
/* Every name under prefix, behind `after` ("": from the first on), page by page, the same way; non-zero from
 * each() stops and is returned. */
int store_wait_pages(struct store *, const char *prefix, const char *after, const atomic_bool *stop,
                     const char *what, int (*each)(void *arg, const struct store_page *), void *arg,
                     struct why *);

#endif
