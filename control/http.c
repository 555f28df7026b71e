/* control/http.c - see http.h.
 *
 * evhttp keeps no count of its connections, does not say when one ends, and its timeout restarts with every
 * byte. So we note each accepted socket by descriptor and inode; a socket whose descriptor has another inode
 * (or none) has ended. That gives the count, and a list on which a timer finds those that take too long to
 * say what they want; these are shut down under evhttp's feet.
 */
#include "http.h"

#include "check.h"
#include "conf.h"
#include "log.h"
#include "mem.h"
#include "metric.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

static const char part[] = "http";

/* A TCP connection that was accepted and may have ended since. */
struct client {
    int fd; /* -1: a free slot */
    ino_t inode;
    bool asking;       /* a handler has its request */
    uint64_t since_ns; /* connected, or last answered */
};

struct route {
    SIMPLEQ_ENTRY(route) entry;
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
    struct client clients[HTTP_CONNECTIONS_MAX];
    bool full;
    struct bufferevent *fresh[HTTP_CONNECTIONS_MAX]; /* accepted in this turn of the loop, not noted yet */
    unsigned nfresh;
    struct event *note;
    TAILQ_HEAD(, http_private) requests;
    SIMPLEQ_HEAD(, route) routes;
    struct timer sweep;
    struct metric *answers[4]; /* 2xx .. 5xx */
    bool (*healthy)(void *, struct why *);
    void *healthy_arg;
};

static bool inode_of(int fd, ino_t *inode)
{
    struct stat st;

    if (fd < 0 || fstat(fd, &st) != 0)
        return false;
    *inode = st.st_ino;
    return true;
}

static struct client *client_find(struct http *h, int fd)
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
    ino_t inode;

    for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
        struct client *c = &h->clients[i];
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
        struct client *c = client_find(h, fd);
        for (size_t j = 0; !c && j < HTTP_CONNECTIONS_MAX; j++)
            if (h->clients[j].fd < 0)
                c = &h->clients[j];
        if (!c)
            break; /* not counted; cannot be while the listener stops in time */
        *c = (struct client){.fd = -1, .since_ns = loop_now_ns(h->loop)};
        if (inode_of(fd, &c->inode))
            c->fd = fd;
    }
    h->nfresh = 0;
    clients_count(h);
}

/* evhttp has accepted a connection and asks for what to read it with; it sets the descriptor afterwards. */
static struct bufferevent *on_accept(struct event_base *base, void *arg)
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
        struct client *c = &h->clients[i];
        if (c->fd >= 0 && !c->asking && now - c->since_ns > HTTP_TIMEOUT_S * 1000000000ull)
            shutdown(c->fd, SHUT_RDWR); /* evhttp sees the end and lets go */
    }
    timer_set_ms(&h->sweep, 250);
}

static void request_free(struct http_private *p)
{
    if (p->http) {
        TAILQ_REMOVE(&p->http->requests, p, entry);
        struct client *c = p->ev ? client_find(p->http, p->fd) : NULL;
        if (c) {
            c->asking = false;
            c->since_ns = loop_now_ns(p->http->loop);
        }
    }
    evhttp_clear_headers(&p->query);
    free(p->path);
    free(p->peer);
    free(p->host);
    if (p->body)
        explicit_bzero(p->body, p->request.body_len); /* may hold a secret */
    free(p->body);
    free(p);
}

/* The connection goes away before its request was answered. */
static void on_close(struct evhttp_connection *ev, void *arg)
{
    struct http_private *p = arg;

    (void)ev;
    p->ev = NULL;
}

static enum http_method method_of(const struct evhttp_request *ev)
{
    switch (evhttp_request_get_command(ev)) {
    case EVHTTP_REQ_POST:
        return HTTP_POST;
    case EVHTTP_REQ_PUT:
        return HTTP_PUT;
    case EVHTTP_REQ_DELETE:
        return HTTP_DELETE;
    default:
        return HTTP_GET;
    }
}

static struct http_private *request_new(struct http *h, struct evhttp_request *ev)
{
    static atomic_ulong last_id;
    struct http_private *p = xcalloc(1, sizeof(*p));
    struct evhttp_connection *conn = evhttp_request_get_connection(ev);
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(ev);
    struct evbuffer *in = evhttp_request_get_input_buffer(ev);
    const char *host = evhttp_request_get_host(ev);
    struct http_request *r = &p->request;
    char *peer = NULL;
    uint16_t port = 0;
    size_t n = 0;

    p->http = h;
    p->ev = ev;
    TAILQ_INIT(&p->query);
    TAILQ_INSERT_TAIL(&h->requests, p, entry);
    p->fd = bufferevent_getfd(evhttp_connection_get_bufferevent(conn));
    struct client *c = client_find(h, p->fd);
    if (c)
        c->asking = true;
    evhttp_connection_set_closecb(conn, on_close, p);
    evhttp_connection_get_peer(conn, &peer, &port);
    snprintf(r->id, sizeof(r->id), "r%lu", atomic_fetch_add(&last_id, 1) + 1);
    r->in = p;
    r->method = method_of(ev);
    r->peer = p->peer = xstrdup(peer ? peer : "");
    r->host = p->host = xstrdup(host ? host : "");
    if (uri && evhttp_uri_get_path(uri))
        p->path = evhttp_uridecode(evhttp_uri_get_path(uri), 0, &n);
    if (p->path && strlen(p->path) == n) /* else: a zero byte in it */
        r->path = r->tail = p->path;
    if (r->path && uri && evhttp_uri_get_query(uri) &&
        evhttp_parse_query_str(evhttp_uri_get_query(uri), &p->query))
        r->path = NULL;
    r->body_len = evbuffer_get_length(in);
    p->body = xmalloc(r->body_len + 1);
    evbuffer_remove(in, p->body, r->body_len);
    p->body[r->body_len] = '\0';
    r->body = (const uint8_t *)p->body;
    http_reply_header(r, "X-Request-Id", r->id);
    return p;
}

static bool route_fits(const struct route *route, struct http_request *r)
{
    size_t n = strlen(route->path);

    if (n > 0 && route->path[n - 1] == '*') {
        if (strncmp(route->path, r->path, n - 1) != 0)
            return false;
        r->tail = r->path + n - 1;
        return true;
    }
    return strcmp(route->path, r->path) == 0;
}

static void on_request(struct evhttp_request *ev, void *arg)
{
    struct http *h = arg;
    struct http_private *p = request_new(h, ev);
    struct http_request *r = &p->request;
    struct route *route;
    bool known = false;

    if (!r->path) {
        http_reply_error(r, 400, "the address of this request is malformed");
        return;
    }
    log_debug(r->id, "%s asks for %.200s", r->peer, r->path);
    SIMPLEQ_FOREACH(route, &h->routes, entry)
    {
        if (!route_fits(route, r))
            continue;
        known = true;
        if (route->methods & r->method) {
            route->handler(route->arg, r);
            return;
        }
    }
    if (known)
        http_reply_error(r, 405, "%.200s does not take this method", r->path);
    else
        http_reply_error(r, 404, "there is nothing at %.200s", r->path);
}

void http_route(struct http *h, unsigned methods, const char *path, http_handler *handler, void *arg)
{
    struct route *route = xcalloc(1, sizeof(*route));

    route->methods = methods;
    route->path = path;
    route->handler = handler;
    route->arg = arg;
    SIMPLEQ_INSERT_TAIL(&h->routes, route, entry);
}

static void on_metrics(void *arg, struct http_request *r)
{
    CLEANUP_FREE char *text = metric_render();

    (void)arg;
    http_reply(r, 200, "text/plain; version=0.0.4", text, strlen(text));
}

static void on_healthz(void *arg, struct http_request *r)
{
    struct http *h = arg;
    struct why why = {"not ready"};

    if (!h->healthy || h->healthy(h->healthy_arg, &why)) {
        http_reply_text(r, 200, "ok\n");
        return;
    }
    CLEANUP_FREE char *text = xasprintf("%s\n", why.text);
    http_reply_text(r, 503, text);
}

void http_metrics(struct http *h, bool (*healthy)(void *, struct why *), void *arg)
{
    h->healthy = healthy;
    h->healthy_arg = arg;
    http_route(h, HTTP_GET, "/metrics", on_metrics, h);
    http_route(h, HTTP_GET, "/healthz", on_healthz, h);
}

const char *http_header(const struct http_request *r, const char *name)
{
    return r->in->ev ? evhttp_find_header(evhttp_request_get_input_headers(r->in->ev), name) : NULL;
}

const char *http_query(const struct http_request *r, const char *name)
{
    return evhttp_find_header(&r->in->query, name);
}

void http_reply_header(struct http_request *r, const char *name, const char *value)
{
    if (r->in->ev)
        evhttp_add_header(evhttp_request_get_output_headers(r->in->ev), name, value);
}

static const char *reason_of(int code)
{
    static const struct {
        int code;
        const char *reason;
    } reasons[] = {
        {200, "OK"},
        {201, "Created"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {409, "Conflict"},
        {503, "Service Unavailable"},
    };

    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (reasons[i].code == code)
            return reasons[i].reason;
    return code < 400 ? "OK" : "Error";
}

void http_reply(struct http_request *r, int code, const char *type, const void *body, size_t n)
{
    struct http_private *p = r->in;
    struct evhttp_request *ev = p->ev;
    struct evbuffer *out;

    if (!ev) {
        request_free(p);
        return;
    }
    CHECK(code >= 200 && code < 600);
    metric_add(p->http->answers[code / 100 - 2], 1);
    log_debug(r->id, "answered %d, %zu bytes", code, n);
    http_reply_header(r, "Content-Type", type);
    http_reply_header(r, "Cache-Control", "no-store");
    evhttp_connection_set_closecb(evhttp_request_get_connection(ev), NULL, NULL);
    out = evbuffer_new();
    CHECK(out);
    if (evhttp_request_get_command(ev) == EVHTTP_REQ_HEAD) {
        char length[24];
        snprintf(length, sizeof(length), "%zu", n);
        evhttp_add_header(evhttp_request_get_output_headers(ev), "Content-Length", length);
    } else {
        CHECK(evbuffer_add(out, body, n) == 0);
    }
    request_free(p); /* body may be part of it */
    evhttp_send_reply(ev, code, reason_of(code), out);
    evbuffer_free(out);
}

void http_reply_text(struct http_request *r, int code, const char *text)
{
    http_reply(r, code, "text/plain; charset=utf-8", text, strlen(text));
}

/* A JSON string's inside; what is not plain ASCII is shown as '?', since it may not be UTF-8. */
static void escape_json(char *to, size_t max, const char *from)
{
    size_t n = 0;

    for (; *from && n + 3 < max; from++) {
        if (*from == '"' || *from == '\\')
            to[n++] = '\\';
        to[n++] = *from < 0x20 || *from > 0x7e ? '?' : *from;
    }
    to[n] = '\0';
}

void http_reply_error(struct http_request *r, int code, const char *format, ...)
{
    char text[600], escaped[1200], json[1300];
    va_list args;
    int n;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    escape_json(escaped, sizeof(escaped), text);
    n = snprintf(json, sizeof(json), "{\"error\": \"%s\"}\n", escaped);
    http_reply(r, code, "application/json", json, (size_t)n);
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static int tls_new(SSL_CTX **out, const char *certificate, const char *key, struct why *why)
{
    SSL_CTX *tls;
    char reason[200];
    int err = conf_private(key, why);

    if (err)
        return err;
    ERR_clear_error();
    tls = SSL_CTX_new(TLS_server_method());
    CHECK(tls);
    if (SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION) == 1 &&
        SSL_CTX_use_certificate_chain_file(tls, certificate) == 1 &&
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) == 1 && SSL_CTX_check_private_key(tls) == 1) {
        *out = tls;
        return 0;
    }
    ERR_error_string_n(ERR_peek_last_error(), reason, sizeof(reason));
    SSL_CTX_free(tls);
    return why_set(why, -EINVAL, "cannot use the certificate %s with the key %s: %s", certificate, key,
                   reason);
}

static int bind_listener(struct http *h, const char *listen, const struct sockaddr_storage *address,
                         socklen_t len, struct why *why)
{
    struct sockaddr_storage bound;
    socklen_t bound_len = sizeof(bound);

    h->listener = evconnlistener_new_bind(loop_base(h->loop), NULL, NULL,
                                          LEV_OPT_REUSEABLE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_CLOSE_ON_FREE |
                                              LEV_OPT_DISABLED,
                                          128, (const struct sockaddr *)address, (int)len);
    if (!h->listener)
        return why_set(why, -errno, "cannot listen on %s: %s", listen, strerror(errno));
    if (getsockname(evconnlistener_get_fd(h->listener), (struct sockaddr *)&bound, &bound_len) == 0)
        h->port = ntohs(bound.ss_family == AF_INET ? ((struct sockaddr_in *)&bound)->sin_port
                                                   : ((struct sockaddr_in6 *)&bound)->sin6_port);
    CHECK(evhttp_bind_listener(h->ev, h->listener)); /* now evhttp's: freed with it */
    evconnlistener_enable(h->listener);
    return 0;
}

static struct http *http_new(struct loop *loop)
{
    static const char *const classes[] = {"2xx", "3xx", "4xx", "5xx"};
    struct http *h = xcalloc(1, sizeof(*h));

    h->loop = loop;
    for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++)
        h->clients[i].fd = -1;
    h->note = event_new(loop_base(loop), -1, 0, on_note, h);
    CHECK(h->note);
    TAILQ_INIT(&h->requests);
    SIMPLEQ_INIT(&h->routes);
    h->ev = evhttp_new(loop_base(loop));
    CHECK(h->ev);
    evhttp_set_gencb(h->ev, on_request, h);
    evhttp_set_bevcb(h->ev, on_accept, h);
    evhttp_set_max_headers_size(h->ev, HTTP_HEADER_MAX);
    evhttp_set_max_body_size(h->ev, HTTP_BODY_MAX);
    evhttp_set_timeout(h->ev, HTTP_TIMEOUT_S);
    evhttp_set_default_content_type(h->ev, NULL);
    evhttp_set_allowed_methods(h->ev, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
                                          EVHTTP_REQ_DELETE);
    timer_init(&h->sweep, loop, on_sweep);
    timer_set_ms(&h->sweep, 250);
    for (size_t i = 0; i < 4; i++)
        h->answers[i] = metric_new(METRIC_COUNTER, "isthmus_http_requests_total", "HTTP requests answered.",
                                   "code=\"%s\"", classes[i]);
    return h;
}

int http_start_control(struct http **out, struct loop *loop, const char *listen, const char *certificate,
                       const char *key, struct why *why)
{
    bool secure = certificate && *certificate && key && *key;
    struct sockaddr_storage address;
    socklen_t len;
    struct http *h;
    int err = conf_sockaddr(listen, &address, &len, why);

    *out = NULL;
    if (!err && !secure && !is_loopback(&address))
        err = why_set(
            why, -EINVAL,
            "control does not listen on %s without TLS: give it a certificate and a key, or a loopback "
            "address such as 127.0.0.1:7261",
            listen);
    if (err)
        return err;
    h = http_new(loop);
    if (secure)
        err = tls_new(&h->tls, certificate, key, why);
    if (!err)
        err = bind_listener(h, listen, &address, len, why);
    if (err) {
        http_stop(&h);
        return err;
    }
    *out = h;
    return 0;
}

int http_start(struct http **out, struct loop *loop, const char *listen, struct why *why)
{
    struct sockaddr_storage address;
    socklen_t len;
    struct http *h;
    int err = conf_sockaddr(listen, &address, &len, why);

    *out = NULL;
    if (err)
        return err;
    h = http_new(loop);
    err = bind_listener(h, listen, &address, len, why);
    if (err) {
        http_stop(&h);
        return err;
    }
    *out = h;
    return 0;
}

void http_stop(struct http **http)
{
    struct http *h = *http;
    struct http_private *p;
    struct route *route;

    *http = NULL;
    if (!h)
        return;
    timer_stop(&h->sweep);
    timer_free(&h->sweep);
    h->listener = NULL;
    evhttp_free(h->ev); /* calls on_close for what is being answered */
    while ((p = TAILQ_FIRST(&h->requests))) {
        TAILQ_REMOVE(&h->requests, p, entry);
        p->http = NULL;
        p->ev = NULL;
    }
    while ((route = SIMPLEQ_FIRST(&h->routes))) {
        SIMPLEQ_REMOVE_HEAD(&h->routes, entry);
        free(route);
    }
    for (size_t i = 0; i < 4; i++)
        metric_free(&h->answers[i]);
    event_free(h->note);
    SSL_CTX_free(h->tls);
    free(h);
}

uint16_t http_port(const struct http *h)
{
    return h->port;
}

struct loop *http_loop(const struct http *h)
{
    return h->loop;
}
