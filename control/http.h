/* control/http.h - an HTTP/1.1 listener on a loop: routes, limits, metrics and health.
 *
 * libevent's evhttp with bounds: headers 16 KiB, body 1 MiB, HTTP_CONNECTIONS_MAX connections (more wait in
 * the kernel's queue), 30 s for a request to arrive or an answer to leave. Everything runs on the loop's
 * thread (or before the loop runs). Two kinds of listener: http_start() serves what holds no secret to
 * anyone; http_start_control() is for the REST API and refuses to be reachable without TLS from elsewhere
 * than this machine. Deliberately not here: tokens and JSON (rest.h).
 */
#ifndef ISTHMUS_HTTP_H
#define ISTHMUS_HTTP_H

#include "loop.h"
#include "why.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_HEADER_MAX = 16 * 1024, HTTP_BODY_MAX = 1024 * 1024, HTTP_CONNECTIONS_MAX = 128 };
enum { HTTP_TIMEOUT_S = 30 };

enum http_method { HTTP_GET = 1, HTTP_POST = 2, HTTP_PUT = 4, HTTP_DELETE = 8 }; /* HEAD goes as GET */

struct http;
struct evhttp_request;

/* One request, from the handler's call until it is answered: exactly once, now or later, by one of the
 * http_reply functions, which free it. If the client goes away first the answer is dropped. */
struct http_request {
    char id[16]; /* r1, r2, ...: in the log and in X-Request-Id */
    enum http_method method;
    const char *path;    /* decoded, without the query */
    const char *tail;    /* for a prefix route: what follows the prefix */
    const char *peer;    /* the client's address */
    const char *host;    /* the Host header without its port; "" if there was none */
    const uint8_t *body; /* NUL-terminated after body_len bytes */
    size_t body_len;
    struct http_private *in;
};

typedef void http_handler(void *arg, struct http_request *);

/* listen: "ADDRESS:PORT", numeric; port 0: any (http_port). 0 or -errno with why. */
int http_start(struct http **, struct loop *, const char *listen, struct why *);
/* certificate, key: PEM files (the key private), or NULL / "" for none: then only a loopback address will do.
 */
int http_start_control(struct http **, struct loop *, const char *listen, const char *certificate,
                       const char *key, struct why *);
/* Closes every connection; requests not answered yet stay valid, their answers are dropped. */
void http_stop(struct http **);
uint16_t http_port(const struct http *);
struct loop *http_loop(const struct http *);

/* Methods is a union of http_method bits. A path that ends in '*' is a prefix. The first route that fits is
 * taken; path is borrowed. */
void http_route(struct http *, unsigned methods, const char *path, http_handler *, void *arg);
/* GET /metrics (Prometheus) and GET /healthz: "ok", or 503 with why when healthy() says false. healthy may be
 * NULL. */
void http_metrics(struct http *, bool (*healthy)(void *arg, struct why *), void *arg);

/* Borrowed until the request is answered; NULL if absent. */
const char *http_header(const struct http_request *, const char *name);
const char *http_query(const struct http_request *, const char *name);

void http_reply_header(struct http_request *, const char *name, const char *value);
void http_reply(struct http_request *, int code, const char *type, const void *body, size_t n);
void http_reply_text(struct http_request *, int code, const char *text);
/* {"error": "sentence"} */
void http_reply_error(struct http_request *, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
