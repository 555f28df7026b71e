/* control/http_impl.h - what http.c, http_clients.c and http_request.c have between them. Nobody else
 * includes it. On the listener's loop.
 */
#ifndef ISTHMUS_HTTP_IMPL_H
#define ISTHMUS_HTTP_IMPL_H

#include "http.h"

#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <openssl/ssl.h>
#include <sys/queue.h>
#include <sys/types.h>

/* A TCP connection that was accepted and may have ended since. */
struct http_client {
    int fd; /* -1: a free slot */
    uint64_t inode;
    bool asking;       /* a handler has its request */
    uint64_t since_ns; /* connected, or last answered */
};

struct http_route {
    SIMPLEQ_ENTRY(http_route) entry;
    unsigned methods;
    const char *path;
    http_handler *handler;
    void *arg;
};

struct http_private {
    struct http_request request; /* points back here */
    TAILQ_ENTRY(http_private) entry;
    struct http *http;         /* NULL once stopped */
    struct evhttp_request *ev; /* NULL once the client has gone */
    int fd;
    char *path, *peer, *host, *body;
    struct evkeyvalq query;
};

struct http {
    struct loop *loop;
    struct evhttp *ev;
    struct evconnlistener *listener;
    SSL_CTX *tls;
    uint16_t port;
    struct http_client clients[HTTP_CONNECTIONS_MAX];
    bool full;
    struct bufferevent *fresh[HTTP_CONNECTIONS_MAX]; /* accepted in this turn of the loop, not noted yet */
    unsigned nfresh;
    struct event *note;
    TAILQ_HEAD(, http_private) requests;
    SIMPLEQ_HEAD(, http_route) routes;
    struct timer sweep;
    struct metric *answers[4]; /* 2xx .. 5xx */
    bool (*healthy)(void *, struct why *);
    void *healthy_arg;
};

/* http_clients.c: connections, counted and bounded. */
struct http_client *http_client_find(struct http *, int fd);
struct bufferevent *http_clients_accept(struct event_base *, void *http); /* evhttp's bevcb */
void http_clients_start(struct http *);
void http_clients_stop(struct http *); /* before evhttp goes */
/* http_request.c: requests by route, and their answers. */
void http_request_arrived(struct evhttp_request *, void *http); /* evhttp's gencb */
void http_requests_drop(struct http *);                         /* evhttp has gone: answers are dropped */

#endif
