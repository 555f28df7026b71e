/* link/dial.c - keeps connections up to a peer: resolve, connect, and after an end try again, for ever.
 *
 * The wait doubles from 100 ms to 5 s, is drawn between half and all of that, and starts small again after a
 * connection that held for a while. Names are resolved on the pool at every attempt: addresses may move.
 */
#include "link_in.h"

#include "check.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char part[] = "link";

enum { HELD_NS = 2000000000 };
static const uint64_t log_again_ns = 60000000000;

/* A name being resolved; outlives its dialer if that goes first. */
struct lookup {
    struct work work;
    struct dialer *dialer; /* NULL: nobody waits any more */
    char host[LINK_HOST_MAX + 1], port[8];
    int rc;
    struct addrinfo *found;
};

struct dialer {
    struct peer *peer;
    unsigned index;
    char address[LINK_HOST_MAX + 16], host[LINK_HOST_MAX + 1], port[8];
    struct timer again;
    unsigned wait_ms, attempts;
    struct lookup *lookup;
    struct lconn *conn;
    uint64_t up_ns, logged_ns;
    struct why last; /* what was logged last, not to be said again at once */
};

int dial_split(const char *address, char host[LINK_HOST_MAX + 1], char port[8], struct why *why)
{
    const char *colon = strrchr(address, ':'), *from = address, *to = colon;
    char *end;

    if (colon && address[0] == '[' && colon > address && colon[-1] == ']') {
        from++;
        to--;
    }
    if (!colon || to <= from || to - from > LINK_HOST_MAX || strtoul(colon + 1, &end, 10) > 65535 || *end ||
        strlen(colon + 1) > 5 || colon[1] < '0' || colon[1] > '9')
        return why_set(why, -EINVAL, "%s is no address: HOST:PORT or [IPV6]:PORT is needed", address);
    memcpy(host, from, (size_t)(to - from));
    host[to - from] = 0;
    memcpy(port, colon + 1, strlen(colon + 1) + 1);
    return 0;
}

static void schedule(struct dialer *d)
{
    uint32_t r;

    if (d->wait_ms == 0)
        d->wait_ms = LINK_DIAL_MIN_MS;
    loop_random(d->peer->link->loop, &r, sizeof(r));
    timer_set_ms(&d->again, d->wait_ms / 2 + r % (d->wait_ms / 2 + 1));
    d->wait_ms = d->wait_ms * 2 > LINK_DIAL_MAX_MS ? LINK_DIAL_MAX_MS : d->wait_ms * 2;
}

static void failed(struct dialer *d, const struct why *why)
{
    uint64_t now = loop_now_ns(d->peer->link->loop);

    if (strcmp(why->text, d->last.text) || now - d->logged_ns >= log_again_ns) {
        log_warn(d->peer->name, "cannot reach %s at %s: %s; trying again every few seconds", d->peer->name,
                 d->address, why->text);
        d->last = *why;
        d->logged_ns = now;
    }
    schedule(d);
}

/* Takes one of the addresses found, another at each attempt. */
static void connect_to(struct dialer *d, const struct addrinfo *all)
{
    const struct addrinfo *a;
    unsigned n = 0, pick;
    struct why why;
    int fd;

    for (a = all; a; a = a->ai_next)
        n++;
    pick = d->attempts++ % n;
    for (a = all; pick > 0; pick--)
        a = a->ai_next;
    fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || (connect(fd, a->ai_addr, a->ai_addrlen) && errno != EINPROGRESS)) {
        why_set(&why, 0, "%s", strerror(errno));
        if (fd >= 0)
            close(fd);
        failed(d, &why);
        return;
    }
    d->conn = link_connect(d->peer->link, fd, d, d->peer, d->index, d->address);
}

static void resolved(struct dialer *d, int rc, struct addrinfo *found)
{
    struct why why;

    if (rc) {
        why_set(&why, 0, "the name %s cannot be resolved: %s", d->host, gai_strerror(rc));
        failed(d, &why);
        return;
    }
    connect_to(d, found);
    freeaddrinfo(found);
}

static int look_up(const char *host, const char *port, int flags, struct addrinfo **found)
{
    struct addrinfo hints = {.ai_flags = flags | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};

    return getaddrinfo(host, port, &hints, found);
}

static void lookup_run(struct work *w)
{
    struct lookup *l = container_of(w, struct lookup, work);

    l->rc = look_up(l->host, l->port, AI_ADDRCONFIG, &l->found);
}

static void lookup_done(struct work *w)
{
    struct lookup *l = container_of(w, struct lookup, work);

    if (l->dialer) {
        l->dialer->lookup = NULL;
        resolved(l->dialer, l->rc, l->found);
    } else if (l->rc == 0) {
        freeaddrinfo(l->found);
    }
    free(l);
}

static void on_again(struct timer *t)
{
    struct dialer *d = container_of(t, struct dialer, again);
    struct addrinfo *found;

    if (look_up(d->host, d->port, AI_NUMERICHOST, &found) == 0) {
        resolved(d, 0, found);
        return;
    }
    d->lookup = xcalloc(1, sizeof(*d->lookup));
    d->lookup->work.run = lookup_run;
    d->lookup->work.done = lookup_done;
    d->lookup->dialer = d;
    memcpy(d->lookup->host, d->host, sizeof(d->host));
    memcpy(d->lookup->port, d->port, sizeof(d->port));
    loop_work(d->peer->link->loop, &d->lookup->work);
}

int link_dial(struct link *link, struct peer *p, const char *address, unsigned nconns, struct why *why)
{
    char host[LINK_HOST_MAX + 1], port[8];
    int rc = dial_split(address, host, port, why);

    if (rc)
        return rc;
    if (strtoul(port, NULL, 10) == 0)
        return why_set(why, -EINVAL, "%s is no address to dial: its port is 0", address);
    if (nconns < 1 || nconns > LINK_CONNS_PER_PEER)
        return why_set(why, -EINVAL, "%u connections to %s: from 1 to %d are possible", nconns, p->name,
                       LINK_CONNS_PER_PEER);
    if (p->dialers)
        return why_set(why, -EEXIST, "%s is dialled already", p->name);
    p->dialers = xcalloc(nconns, sizeof(*p->dialers));
    p->ndialers = nconns;
    for (unsigned i = 0; i < nconns; i++) {
        struct dialer *d = &p->dialers[i];

        d->peer = p;
        d->index = i;
        snprintf(d->address, sizeof(d->address), "%s", address);
        memcpy(d->host, host, sizeof(host));
        memcpy(d->port, port, sizeof(port));
        timer_init(&d->again, link->loop, on_again);
        timer_set_ms(&d->again, 0);
    }
    return 0;
}

void dial_up(struct dialer *d)
{
    d->up_ns = loop_now_ns(d->peer->link->loop);
    d->last.text[0] = 0;
}

void dial_ended(struct dialer *d, const struct why *why, bool was_up)
{
    d->conn = NULL;
    if (!was_up) {
        failed(d, why);
        return;
    }
    if (loop_now_ns(d->peer->link->loop) - d->up_ns >= HELD_NS)
        d->wait_ms = 0;
    schedule(d);
}

void dial_free(struct peer *p)
{
    for (unsigned i = 0; i < p->ndialers; i++) {
        timer_free(&p->dialers[i].again);
        if (p->dialers[i].lookup)
            p->dialers[i].lookup->dialer = NULL;
    }
    free(p->dialers);
    p->dialers = NULL;
    p->ndialers = 0;
}
