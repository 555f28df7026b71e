/* control/http_request.c - HTTP requests: taken from evhttp, given to who has their route, answered. */
#include "http_impl.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "metric.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http_struct.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "http";

static void request_free(struct http_private *p)
{
    if (p->http) {
        TAILQ_REMOVE(&p->http->requests, p, entry);
        struct http_client *c = p->ev ? http_client_find(p->http, p->fd) : NULL;
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
    struct http_client *c = http_client_find(h, p->fd);
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

static bool route_fits(const struct http_route *route, struct http_request *r)
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

void http_request_arrived(struct evhttp_request *ev, void *arg)
{
    struct http *h = arg;
    struct http_private *p = request_new(h, ev);
    struct http_request *r = &p->request;
    struct http_route *route;
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
    struct http_route *route = xcalloc(1, sizeof(*route));

    route->methods = methods;
    route->path = path;
    route->handler = handler;
    route->arg = arg;
    SIMPLEQ_INSERT_TAIL(&h->routes, route, entry);
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

void http_requests_drop(struct http *h)
{
    struct http_private *p;
    struct http_route *route;

    while ((p = TAILQ_FIRST(&h->requests))) {
        TAILQ_REMOVE(&h->requests, p, entry);
        p->http = NULL;
        p->ev = NULL;
    }
    while ((route = SIMPLEQ_FIRST(&h->routes))) {
        SIMPLEQ_REMOVE_HEAD(&h->routes, entry);
        free(route);
    }
}
