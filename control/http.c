/* control/http.c - a listener's life, and what every one may serve: see http.h. */
#include "http_impl.h"

#include "check.h"
#include "conf.h"
#include "mem.h"
#include "metric.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

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
    http_clients_start(h);
    TAILQ_INIT(&h->requests);
    SIMPLEQ_INIT(&h->routes);
    h->ev = evhttp_new(loop_base(loop));
    CHECK(h->ev);
    evhttp_set_gencb(h->ev, http_request_arrived, h);
    evhttp_set_bevcb(h->ev, http_clients_accept, h);
    evhttp_set_max_headers_size(h->ev, HTTP_HEADER_MAX);
    evhttp_set_max_body_size(h->ev, HTTP_BODY_MAX);
    evhttp_set_timeout(h->ev, HTTP_TIMEOUT_S);
    evhttp_set_default_content_type(h->ev, NULL);
    evhttp_set_allowed_methods(h->ev, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
                                          EVHTTP_REQ_DELETE);
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

    *http = NULL;
    if (!h)
        return;
    http_clients_stop(h);
    evhttp_free(h->ev); /* tells of the end of what is being answered */
    http_requests_drop(h);
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
