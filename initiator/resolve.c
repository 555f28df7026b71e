/* initiator/resolve.c - getaddrinfo() on the pool; see resolve.h.
 *
 * A lookup cannot be interrupted: one that is cancelled goes on and frees itself when it ends.
 */
#include "resolve.h"

#include "check.h"
#include "mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

struct resolve {
    struct work work;
    char *host;
    unsigned attempt;
    void (*done)(void *arg, int status, const char *address, const struct why *);
    void *arg;
    int status;
    char address[INET6_ADDRSTRLEN];
    struct why why;
};

static void pick(struct resolve *r, const struct addrinfo *list)
{
    const struct addrinfo *at = list;
    unsigned n = 0, choice;

    for (; at; at = at->ai_next)
        n++;
    choice = r->attempt % n;
    for (at = list; choice > 0; choice--)
        at = at->ai_next;
    if (getnameinfo(at->ai_addr, at->ai_addrlen, r->address, sizeof r->address, NULL, 0, NI_NUMERICHOST) != 0)
        r->status = why_set(&r->why, -EHOSTUNREACH, "cannot use the address of host '%s'", r->host);
}

static void run(struct work *w)
{
    struct resolve *r = container_of(w, struct resolve, work);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list = NULL;
    int err = getaddrinfo(r->host, NULL, &hints, &list);

    if (err)
        r->status =
            why_set(&r->why, -EHOSTUNREACH, "cannot resolve host '%s': %s", r->host, gai_strerror(err));
    else
        pick(r, list);
    if (list)
        freeaddrinfo(list);
}

static void finish(struct work *w)
{
    struct resolve *r = container_of(w, struct resolve, work);

    if (r->done)
        r->done(r->arg, r->status, r->address, &r->why);
    free(r->host);
    free(r);
}

struct resolve *resolve_start(struct loop *loop, const char *host, unsigned attempt,
                              void (*done)(void *arg, int status, const char *address, const struct why *),
                              void *arg)
{
    struct resolve *r = xcalloc(1, sizeof *r);

    r->host = xstrdup(host);
    r->attempt = attempt;
    r->done = done;
    r->arg = arg;
    r->work.run = run;
    r->work.done = finish;
    loop_work(loop, &r->work);
    return r;
}

void resolve_cancel(struct resolve **r)
{
    if (*r)
        (*r)->done = NULL;
    *r = NULL;
}
