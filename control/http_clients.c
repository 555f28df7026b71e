/* control/http_clients.c - the connections of an HTTP listener: how many there are, and which take too long.
 *
 * evhttp keeps no count of its connections, does not say when one ends, and its timeout restarts with every
 * byte. So we note each accepted socket by descriptor and inode; a socket whose descriptor has another inode
 * (or none) has ended. That gives the count, and a list on which a timer finds those that take too long to
 * say what they want; these are shut down under evhttp's feet.
 */
#include "http_impl.h"

#include "check.h"

#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { SWEEP_MS = 250 };

/* The number may be another thread's file by now: that is what it finds out. (statx, because the thread
 * sanitizer takes fstat for a use of that file.) */
static bool inode_of(int fd, uint64_t *inode)
{
    struct statx st;

    if (fd < 0 || statx(fd, "", AT_EMPTY_PATH, STATX_INO, &st) != 0)
        return false;
    *inode = st.stx_ino;
    return true;
}

struct http_client *http_client_find(struct http *h, int fd)
{
    for (size_t i = 0; fd >= 0 && i < HTTP_CONNECTIONS_MAX; i++)
        if (h->clients[i].fd == fd)
            return &h->clients[i];
    return NULL;
}

/* Forgets those that have ended; accepts while there is room. Returns how many are open. */
static unsigned clients_count(struct http *h)
{
    unsigned n = 0;
    uint64_t inode;

    for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
        struct http_client *c = &h->clients[i];
        if (c->fd >= 0 && (!inode_of(c->fd, &inode) || inode != c->inode))
            c->fd = -1;
        if (c->fd >= 0)
            n++;
    }
    bool full = n + h->nfresh >= HTTP_CONNECTIONS_MAX;
    if (full && !h->full)
        evconnlistener_disable(h->listener);
    else if (!full && h->full)
        evconnlistener_enable(h->listener);
    h->full = full;
    return n;
}

/* Before the loop polls again, so before anything can have happened to what was accepted in this turn. */
static void on_note(evutil_socket_t unused, short what, void *arg)
{
    struct http *h = arg;

    (void)unused, (void)what;
    for (unsigned i = 0; i < h->nfresh; i++) {
        int fd = bufferevent_getfd(h->fresh[i]);
        struct http_client *c = http_client_find(h, fd);
        for (size_t j = 0; !c && j < HTTP_CONNECTIONS_MAX; j++)
            if (h->clients[j].fd < 0)
                c = &h->clients[j];
        if (!c)
            break; /* not counted; cannot be while the listener stops in time */
        *c = (struct http_client){.fd = -1, .since_ns = loop_now_ns(h->loop)};
        if (inode_of(fd, &c->inode))
            c->fd = fd;
    }
    h->nfresh = 0;
    clients_count(h);
}

/* evhttp has accepted a connection and asks for what to read it with; it sets the descriptor afterwards. */
struct bufferevent *http_clients_accept(struct event_base *base, void *arg)
{
    struct http *h = arg;
    struct bufferevent *bev;

    if (h->tls) {
        SSL *ssl = SSL_new(h->tls);
        CHECK(ssl);
        bev = bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
        CHECK(bev);
        bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    } else {
        bev = bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
        CHECK(bev);
    }
    if (h->nfresh < HTTP_CONNECTIONS_MAX)
        h->fresh[h->nfresh++] = bev;
    clients_count(h);
    event_active(h->note, EV_TIMEOUT, 0);
    return bev;
}

static void on_sweep(struct timer *t)
{
    struct http *h = container_of(t, struct http, sweep);
    uint64_t now = loop_now_ns(h->loop);

    clients_count(h);
    for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
        struct http_client *c = &h->clients[i];
        if (c->fd >= 0 && !c->asking && now - c->since_ns > HTTP_TIMEOUT_S * 1000000000ull)
            shutdown(c->fd, SHUT_RDWR); /* evhttp sees the end and lets go */
    }
    timer_set_ms(&h->sweep, SWEEP_MS);
}

void http_clients_start(struct http *h)
{
    for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++)
        h->clients[i].fd = -1;
    h->note = event_new(loop_base(h->loop), -1, 0, on_note, h);
    CHECK(h->note);
    timer_init(&h->sweep, h->loop, on_sweep);
    timer_set_ms(&h->sweep, SWEEP_MS);
}

void http_clients_stop(struct http *h)
{
    timer_stop(&h->sweep);
    timer_free(&h->sweep);
    h->listener = NULL;
}
