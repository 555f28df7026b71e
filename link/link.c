/* link/link.c - this daemon's end: its certificate, its listening socket, and who may connect.
 *
 * Joins the transport (link_conn.c) with peers, dialers and calls. Loop thread only.
 */
#include "link_in.h"

#include "check.h"
#include "generation.h"
#include "log.h"
#include "mem.h"
#include "proto.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char part[] = "link";

enum { ACCEPTS_PER_TURN = 16, ACCEPT_PAUSE_MS = 500 };
static const uint64_t refusal_log_ns = 5000000000;

/* ---- events of connections ---- */

static int on_identified(struct lconn *c, struct why *why)
{
    struct link *l = c->owner;
    const char *role = l->twin && strcmp(c->id.name, l->twin) == 0 ? l->role : l->peer_role;

    if (strcmp(c->id.role, role))
        return why_set(why, -EPROTO,
                       "the certificate of %s is for the role %s, but %s connects only to the role %s",
                       c->id.name, c->id.role, l->self.name, role);
    if (c->dialer && strcmp(c->id.name, c->peer->name))
        return why_set(why, -EPROTO, "%s answered at %s where %s was expected: check the address", c->id.name,
                       c->address, c->peer->name);
    if (!c->dialer)
        c->peer = link_peer(l, c->id.name);
    return 0;
}

/* A peer that was restarted knows nothing of its connections from before, which may not know yet that they
 * died: they end before this one counts, so that whoever asked is told that the peer went, and came.
 */
static void end_run_before(struct lconn *c)
{
    struct lconn *o, *next;
    struct why why;

    for (o = TAILQ_FIRST(&c->peer->up); o; o = next) {
        next = TAILQ_NEXT(o, peer_entry);
        if (o->theirs.instance == c->theirs.instance)
            continue;
        why_set(
            &why, 0,
            "%s has come (%s) as another run: it was restarted, or another daemon uses the same certificate",
            c->peer->name, c->ctx);
        lconn_end(o, &why, true);
    }
}

/* An accepted connection takes the place of the one it comes back for, which may not know yet that it died.
 */
static void replace_older(struct lconn *c)
{
    struct lconn *o, *next;
    struct why why;

    for (o = TAILQ_FIRST(&c->peer->up); o; o = next) {
        next = TAILQ_NEXT(o, peer_entry);
        if (o == c || o->dialer || o->theirs.index != c->theirs.index)
            continue;
        why_set(&why, 0, "a newer connection (%s) of %s takes its place", c->ctx, c->peer->name);
        lconn_end(o, &why, true);
    }
}

static void on_up(struct lconn *c)
{
    struct link *l = c->owner;
    struct peer *p = c->peer;
    bool first;
    struct why why;

    if (!c->dialer)
        l->nhandshakes--;
    end_run_before(c);
    first = p->nup == 0;
    calls_open(c);
    peer_conn_up(p, c);
    if (c->dialer)
        dial_up(c->dialer);
    else
        replace_older(c);
    log_info(c->ctx, "%s %s (%s) is connected: %s, protocol version %u", p->name, c->dialer ? "at" : "from",
             c->address, SSL_get_cipher_name(c->ssl), c->version);
    if (p->nup > LINK_CONNS_PER_PEER) {
        why_set(&why, 0, "%s has %d connections already", p->name, LINK_CONNS_PER_PEER);
        lconn_end(c, &why, true);
        return;
    }
    calls_dispatch(p);
    if (first && l->handlers.peer_state)
        l->handlers.peer_state(l->handlers.arg, p, true);
}

/* A stranger can fail as often as it likes: its sentence is logged once every few seconds. */
static void log_refusal(struct link *l, const struct lconn *c, const struct why *why)
{
    uint64_t now = loop_now_ns(l->loop);

    if (l->refused_ns && now - l->refused_ns < refusal_log_ns) {
        l->refused_quietly++;
        log_debug(c->ctx, "connection from %s refused: %s", c->address, why->text);
        return;
    }
    log_warn(c->ctx, "connection from %s refused: %s (%u more since the last such line)", c->address,
             why->text, l->refused_quietly);
    l->refused_ns = now;
    l->refused_quietly = 0;
}

static void on_down(struct lconn *c, const struct why *why)
{
    struct link *l = c->owner;
    struct peer *p = c->peer;
    bool was_up = c->state == LCONN_UP;

    if (was_up) {
        log_warn(c->ctx, "connection %s %s (%s) ended: %s", c->dialer ? "to" : "from", p->name, c->address,
                 why->text);
        peer_conn_down(p, c);
        calls_close(c);
    } else if (!c->dialer) {
        log_refusal(l, c, why);
    }
    if (c->dialer)
        dial_ended(c->dialer, why, was_up);
    if (!was_up)
        return;
    calls_dispatch(p);
    if (p->nup == 0 && l->handlers.peer_state)
        l->handlers.peer_state(l->handlers.arg, p, false);
}

static void on_gone(struct lconn *c)
{
    struct link *l = c->owner;

    if (!c->dialer && c->up_ns == 0)
        l->nhandshakes--;
    TAILQ_REMOVE(&l->conns, c, entry);
}

static void on_moved(struct lconn *c, uint64_t bytes_in, uint64_t bytes_out)
{
    peer_moved(c->peer, bytes_in, bytes_out);
    metric_add(c->peer->metrics.frames_sent, c->frames_out);
    metric_add(c->peer->metrics.frames_received, c->frames_in);
    c->frames_in = c->frames_out = 0;
}

static void on_measured(struct lconn *c, uint64_t rtt_ns)
{
    peer_measured(c->peer, rtt_ns);
}

static const struct lconn_events conn_events = {
    .identified = on_identified,
    .up = on_up,
    .frame = calls_frame,
    .sent = calls_sent,
    .measured = on_measured,
    .moved = on_moved,
    .down = on_down,
    .gone = on_gone,
};

struct lconn *link_connect(struct link *l, int fd, struct dialer *d, struct peer *p, unsigned index,
                           const char *address)
{
    struct frame_hello hello = {.version_min = (uint16_t)generation_before(generation_newest()),
                                .version_max = (uint16_t)generation_newest(),
                                .window = LINK_WINDOW,
                                .index = (uint16_t)index,
                                .instance = l->instance};
    struct lconn *c = lconn_new(l->loop, l->tls, fd, d != NULL, l->congestion, &hello, &conn_events, l);

    c->self = l->self.name;
    c->dialer = d;
    c->peer = p;
    snprintf(c->address, sizeof(c->address), "%.79s", address);
    TAILQ_INSERT_TAIL(&l->conns, c, entry);
    return c;
}

/* ---- listening ---- */

static void accept_one(struct link *l, int fd, const struct sockaddr *from, socklen_t len)
{
    char host[INET6_ADDRSTRLEN + 20] = "?", port[8] = "?", address[80];

    if (l->nhandshakes >= LINK_HANDSHAKES) { /* strangers in the door; ours come again in a moment */
        close(fd);
        return;
    }
    getnameinfo(from, len, host, sizeof(host), port, sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(address, sizeof(address), "%s port %s", host, port);
    l->nhandshakes++;
    link_connect(l, fd, NULL, NULL, 0, address);
}

static void on_acceptable(evutil_socket_t listen_fd, short what, void *arg)
{
    struct link *l = arg;
    struct sockaddr_storage from;
    socklen_t len;
    int fd;

    (void)what;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        len = sizeof(from);
        fd = accept4((int)listen_fd, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accept_one(l, fd, (struct sockaddr *)&from, len);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_warn(NULL, "no connection can be accepted: %s", strerror(errno));
            event_del(l->acceptable);
            timer_set_ms(&l->accept_again, ACCEPT_PAUSE_MS);
            return;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            return;
        }
    }
}

static void on_accept_again(struct timer *t)
{
    struct link *l = container_of(t, struct link, accept_again);

    event_add(l->acceptable, NULL);
}

static void read_port(struct link *l)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof(at);

    if (getsockname(l->listen_fd, (struct sockaddr *)&at, &len) == 0)
        l->port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                                 : ((struct sockaddr_in *)&at)->sin_port);
}

/* Numeric addresses only: a daemon must not wait for a name server to start. */
static int bind_at(struct link *l, const char *address, struct why *why)
{
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_socktype = SOCK_STREAM};
    char host[LINK_HOST_MAX + 1], port[8];
    struct addrinfo *at;
    int one = 1, rc = dial_split(address, host, port, why);

    if (rc)
        return rc;
    if (getaddrinfo(host, port, &hints, &at))
        return why_set(why, -EINVAL, "the link cannot listen at %s: a numeric address is needed", address);
    l->listen_fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->listen_fd >= 0)
        setsockopt(l->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (l->listen_fd < 0 || bind(l->listen_fd, at->ai_addr, at->ai_addrlen) || listen(l->listen_fd, 128))
        rc = why_set(why, -errno, "the link cannot listen at %s: %s%s", address, strerror(errno),
                     errno == EADDRINUSE ? " (is another daemon running?)" : "");
    freeaddrinfo(at);
    return rc;
}

static int listen_at(struct link *l, const char *address, struct why *why)
{
    int rc = bind_at(l, address, why);

    if (rc)
        return rc;
    read_port(l);
    l->acceptable = event_new(loop_base(l->loop), l->listen_fd, EV_READ | EV_PERSIST, on_acceptable, l);
    CHECK(l->acceptable && event_add(l->acceptable, NULL) == 0);
    log_info(NULL, "the link of %s (%s) listens at %s, port %u", l->self.name, l->role, address, l->port);
    return 0;
}

/* ---- life ---- */

int link_new(struct link **out, struct loop *loop, const struct link_conf *conf,
             const struct link_handlers *handlers, struct why *why)
{
    struct link *l;
    int rc;

    CHECK(conf->role && conf->peer_role);
    l = xcalloc(1, sizeof(*l));
    l->loop = loop;
    l->handlers = *handlers;
    l->role = xstrdup(conf->role);
    l->peer_role = xstrdup(conf->peer_role);
    l->twin = conf->twin ? xstrdup(conf->twin) : NULL;
    l->congestion = conf->congestion ? xstrdup(conf->congestion) : NULL;
    l->listen_fd = -1;
    TAILQ_INIT(&l->peers);
    TAILQ_INIT(&l->conns);
    timer_init(&l->accept_again, loop, on_accept_again);
    loop_random(loop, &l->instance, sizeof(l->instance));
    rc = tls_context_new(&l->tls, conf, &l->self, why);
    if (rc == 0 && conf->listen && *conf->listen)
        rc = listen_at(l, conf->listen, why);
    if (rc) {
        link_free(&l);
        return rc;
    }
    *out = l;
    return 0;
}

/* Ends a connection without a word to the users: its calls are cancelled, its requests lose their way back.
 */
static void abandon(struct lconn *c)
{
    if (c->state == LCONN_UP) {
        peer_conn_down(c->peer, c);
        calls_close(c);
    }
    lconn_close(c);
}

void link_free(struct link **lp)
{
    struct link *l = *lp;
    struct lconn *c;
    struct peer *p;

    *lp = NULL;
    if (!l)
        return;
    if (l->acceptable)
        event_free(l->acceptable);
    if (l->listen_fd >= 0)
        close(l->listen_fd);
    timer_free(&l->accept_again);
    while ((c = TAILQ_FIRST(&l->conns)))
        abandon(c);
    while ((p = TAILQ_FIRST(&l->peers))) {
        calls_cancel_all(p);
        peer_free(&p);
    }
    SSL_CTX_free(l->tls);
    free(l->role);
    free(l->peer_role);
    free(l->twin);
    free(l->congestion);
    free(l);
}

const char *link_name(const struct link *l)
{
    return l->self.name;
}

uint16_t link_port(const struct link *l)
{
    return l->port;
}

struct peer *link_peer(struct link *l, const char *name)
{
    struct peer *p;

    if (!name || strlen(name) > LINK_NAME_MAX || !proto_name_ok(name))
        return NULL;
    TAILQ_FOREACH (p, &l->peers, entry)
        if (strcmp(p->name, name) == 0)
            return p;
    return peer_new(l, name);
}
