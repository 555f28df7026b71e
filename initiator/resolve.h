/* initiator/resolve.h - a host name to numeric addresses, without blocking the loop.
 *
 * libiscsi and libnbd resolve names with a blocking getaddrinfo(); they are given numeric addresses from
 * here instead. Loop thread; the lookup itself runs on the pool.
 */
#ifndef ISTHMUS_RESOLVE_H
#define ISTHMUS_RESOLVE_H

#include "loop.h"
#include "why.h"

struct resolve;

/* done is called once from the loop unless cancelled: status 0 and a numeric address ("192.0.2.1", "::1"),
 * or -errno and why. attempt chooses among several addresses, so that each gets its turn. */
struct resolve *resolve_start(struct loop *, const char *host, unsigned attempt,
                              void (*done)(void *arg, int status, const char *address, const struct why *),
                              void *arg);
/* No done() any more. NULL is allowed. */
void resolve_cancel(struct resolve **);

#endif
