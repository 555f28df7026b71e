/* journal/store/store_http.h - an HTTP/1.1 client on a loop: libcurl's multi interface, bounds, one sentence
 * per failure.
 *
 * Serves the stores that speak HTTP and those who fetch their credentials. Knows nothing of signing and of
 * any store. Loop thread (a real loop: it uses loop_base()). Never follows a redirect. The URL may hold a
 * secret (a SAS token): it is in no sentence and no log line; the host is.
 */
#ifndef ISTHMUS_STORE_HTTP_H
#define ISTHMUS_STORE_HTTP_H

#include "loop.h"
#include "why.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { STORE_HTTP_HEADERS_MAX = 16 * 1024 };

struct store_http;

struct store_http_conf {
    const char *ca; /* file of PEM certificates to trust instead of the system's; NULL or "": the system's */
    unsigned connections; /* at most so many; calls beyond wait for one */
    uint32_t connect_ms;  /* for a connection and its TLS to be there */
    bool direct;          /* no proxy, whatever the environment says */
};

/* One request and its answer. Zero it, set what it is to be, start it. The caller owns it and everything in
 * the first part until done(), then calls store_http_clear(). */
struct store_http_call {
    const char *method; /* "GET", "HEAD", "PUT", "POST", "DELETE" */
    const char *url;
    /* A PUT or POST sends body_bytes (0 too) of this, from body_offset on. */
    const struct iovec *body;
    size_t niov;
    uint64_t body_offset, body_bytes;
    /* Where the body of a 2xx goes. With into NULL, and for all other codes, it goes to text. */
    void *into;
    size_t into_cap;
    /* Sees each piece of the body that goes to into, or NULL. From within curl: must not call into this. */
    void (*got)(struct store_http_call *, const void *bytes, size_t n);
    size_t text_max; /* 0: 64 KiB */
    void (*done)(struct store_http_call *);

    /* The answer. 0: the store answered, with whatever code. Otherwise why says it in a sentence and status
     * is -ENOTCONN (nothing was sent: no name, no connection, no trust), -EIO (broke off: what happened is
     * not known), -EBADMSG (no HTTP), -EFBIG (more than into or text holds), -ECANCELED. */
    int status;
    struct why why;
    int code;
    size_t into_len;
    char *text; /* NUL-terminated, never NULL in done() */
    size_t text_len;

    struct store_http_private *in;
};

/* NULL with why. */
struct store_http *store_http_new(struct loop *, const struct store_http_conf *, struct why *);
/* Every call must have had its done(). Leaves NULL. */
void store_http_free(struct store_http **);

/* Before store_http_start(). "Name" with value, printf style. */
void store_http_header(struct store_http_call *, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* done() comes exactly once, from the loop. */
void store_http_start(struct store_http *, struct store_http_call *);
/* done() comes from the loop with -ECANCELED, unless it had ended. Not after done(). */
void store_http_cancel(struct store_http_call *);

/* In done() and until store_http_clear(): an answer's header, NULL if there is none. */
const char *store_http_answer(const struct store_http_call *, const char *name);
/* The Date header in seconds since 1970, 0 if there is none. */
int64_t store_http_date_s(const struct store_http_call *);
/* The same of Last-Modified. */
int64_t store_http_put_s(const struct store_http_call *);
/* The Retry-After header (seconds or a date) in milliseconds, 0 if there is none; an hour at most. */
uint32_t store_http_retry_after_ms(const struct store_http_call *);
/* Frees what the call holds, so that it may be used again. */
void store_http_clear(struct store_http_call *);

#endif
