/* journal/store/store_http.c - see store_http.h. One call is one easy handle; http_loop.c drives them.
 *
 * libcurl sends a request again by itself when a connection it kept open proves dead before the answer began:
 * a conditional put may therefore be refused because of itself (store_retry.c sees to that).
 */
#include "store_http.h"

#include "check.h"
#include "http_loop.h"
#include "mem.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { TEXT_MAX = 64 * 1024, RETRY_AFTER_MAX_S = 3600 };
/* A connection that moves fewer bytes than this for so long is dead. */
enum { SLOW_BYTES_A_SECOND = 16, SLOW_S = 30 };

struct store_http {
    struct http_loop *driver;
    struct store_http_conf conf;
    char *ca;
    unsigned calls;
};

struct store_http_private {
    struct http_transfer transfer; /* has the easy handle */
    struct store_http *http;
    struct store_http_call *call;
    struct curl_slist *headers;
    uint64_t sent;
    char *answer; /* "Name: value\0", one after the other */
    size_t answer_len;
    size_t text_room;
    bool too_large;
    char error[CURL_ERROR_SIZE];
};

static struct store_http_private *in(struct store_http_call *c)
{
    if (!c->in) {
        c->in = xcalloc(1, sizeof(*c->in));
        c->in->call = c;
    }
    return c->in;
}

void store_http_header(struct store_http_call *c, const char *name, const char *format, ...)
{
    CLEANUP_FREE char *line = NULL;
    char *value = NULL;
    va_list args;

    va_start(args, format);
    CHECK(vasprintf(&value, format, args) >= 0);
    va_end(args);
    line = value[0] ? xasprintf("%s: %s", name, value) : xasprintf("%s;", name);
    free(value);
    in(c)->headers = curl_slist_append(in(c)->headers, line);
    CHECK(c->in->headers);
}

/* --- what libcurl calls --- */

/* Bytes of the body from `sent` on. */
static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
    struct store_http_private *p = arg;
    const struct store_http_call *c = p->call;
    size_t room = size * n, done = 0, i = 0;
    uint64_t at = c->body_offset + p->sent;

    if (room > c->body_bytes - p->sent)
        room = (size_t)(c->body_bytes - p->sent);
    while (i < c->niov && at >= c->body[i].iov_len)
        at -= c->body[i++].iov_len;
    while (done < room && i < c->niov) {
        size_t some = c->body[i].iov_len - (size_t)at;

        if (some > room - done)
            some = room - done;
        memcpy(to + done, (const char *)c->body[i].iov_base + at, some);
        done += some;
        at = 0;
        i++;
    }
    CHECK(done == room);
    p->sent += done;
    return done;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct store_http_private *p = arg;

    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > p->call->body_bytes)
        return CURL_SEEKFUNC_FAIL;
    p->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

static bool text_add(struct store_http_private *p, const char *bytes, size_t n)
{
    struct store_http_call *c = p->call;
    size_t max = c->text_max ? c->text_max : TEXT_MAX;

    if (n > max - c->text_len)
        return false;
    while (c->text_len + n + 1 > p->text_room) {
        p->text_room = p->text_room ? 2 * p->text_room : 1024;
        c->text = xrealloc(c->text, p->text_room);
    }
    memcpy(c->text + c->text_len, bytes, n);
    c->text_len += n;
    c->text[c->text_len] = '\0';
    return true;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct store_http_private *p = arg;
    struct store_http_call *c = p->call;
    long code = 0;

    n *= size;
    curl_easy_getinfo(p->transfer.easy, CURLINFO_RESPONSE_CODE, &code);
    if (c->into && code / 100 == 2) {
        p->too_large = n > c->into_cap - c->into_len;
        if (p->too_large)
            return 0;
        memcpy((char *)c->into + c->into_len, bytes, n);
        c->into_len += n;
        if (c->got)
            c->got(c, bytes, n);
    } else if (!text_add(p, bytes, n)) {
        p->too_large = code / 100 == 2;
        return p->too_large ? 0 : n; /* the beginning of an error's text will do */
    }
    return n;
}

static size_t on_header(char *line, size_t size, size_t n, void *arg)
{
    struct store_http_private *p = arg;
    size_t len = n *= size;

    if (n >= 5 && memcmp(line, "HTTP/", 5) == 0)
        p->answer_len = 0; /* what came before belonged to a 100 */
    while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == '\n'))
        len--;
    if (p->answer_len + len + 1 > STORE_HTTP_HEADERS_MAX) {
        p->too_large = true;
        return 0;
    }
    memcpy(p->answer + p->answer_len, line, len);
    p->answer_len += len;
    p->answer[p->answer_len++] = '\0';
    return n;
}

/* --- the end of a call --- */

static void host_of(CURL *easy, char *host, size_t max)
{
    char *url = NULL, *start, *end;

    curl_easy_getinfo(easy, CURLINFO_EFFECTIVE_URL, &url);
    start = url ? strstr(url, "://") : NULL;
    start = start ? start + 3 : (char *)"";
    end = start + strcspn(start, "/?");
    snprintf(host, max, "%.*s", (int)(end - start < 200 ? end - start : 200), start);
}

/* The curl text without what may name the URL: only where it adds something. */
static int say_failure(struct store_http_private *p, CURLcode code)
{
    struct why *why = &p->call->why;
    char host[201];
    long os_error = 0;

    host_of(p->transfer.easy, host, sizeof(host));
    curl_easy_getinfo(p->transfer.easy, CURLINFO_OS_ERRNO, &os_error);
    if (p->too_large)
        return why_set(why, -EFBIG, "the answer of %s is larger than it can be", host);
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return why_set(why, -ENOTCONN, "the name of %s does not resolve", host);
    case CURLE_COULDNT_RESOLVE_PROXY:
        return why_set(why, -ENOTCONN, "the name of the proxy for %s does not resolve", host);
    case CURLE_COULDNT_CONNECT:
        return why_set(why, -ENOTCONN, "cannot connect to %s: %s", host,
                       os_error ? strerror((int)os_error) : "no answer");
    case CURLE_SSL_CACERT_BADFILE:
        return why_set(why, -ENOTCONN, "the file of trusted certificates %s cannot be read",
                       p->http->ca ? p->http->ca : "of the system");
    case CURLE_PEER_FAILED_VERIFICATION:
        return why_set(why, -ENOTCONN, "the certificate of %s is not trusted: %s", host, p->error);
    case CURLE_SSL_CONNECT_ERROR:
        return why_set(why, -ENOTCONN, "no TLS with %s: %s", host, p->error);
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING:
        return why_set(why, -EBADMSG, "%s does not answer as HTTP says", host);
    case CURLE_OPERATION_TIMEDOUT: {
        curl_off_t connected = 0;

        curl_easy_getinfo(p->transfer.easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
        if (connected == 0)
            return why_set(why, -ENOTCONN, "cannot connect to %s: no answer for %u ms", host,
                           p->http->conf.connect_ms);
        return why_set(why, -EIO, "%s stopped in the middle of a request", host);
    }
    default:
        return why_set(why, -EIO, "the connection to %s broke: %s", host,
                       p->error[0] ? p->error : curl_easy_strerror(code));
    }
}

static void on_ended(struct http_transfer *t, CURLcode code)
{
    struct store_http_private *p = container_of(t, struct store_http_private, transfer);
    struct store_http_call *c = p->call;
    long answer = 0;

    p->http->calls--;
    if (!c->text)
        c->text = xstrdup("");
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &answer);
    c->code = (int)answer;
    if (t->cancelled)
        c->status = why_set(&c->why, -ECANCELED, "cancelled");
    else
        c->status = code == CURLE_OK ? 0 : say_failure(p, code);
    c->done(c);
}

/* --- the beginning --- */

#define SET(option, value) CHECK(curl_easy_setopt(easy, option, value) == CURLE_OK)

static void set_body(CURL *easy, struct store_http_private *p)
{
    const struct store_http_call *c = p->call;

    if (strcmp(c->method, "HEAD") == 0) {
        SET(CURLOPT_NOBODY, 1L);
    } else if (strcmp(c->method, "PUT") == 0 || strcmp(c->method, "POST") == 0) {
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_CUSTOMREQUEST, c->method);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)c->body_bytes);
        SET(CURLOPT_READFUNCTION, on_read);
        SET(CURLOPT_READDATA, p);
        SET(CURLOPT_SEEKFUNCTION, on_seek);
        SET(CURLOPT_SEEKDATA, p);
        /* Waiting for 100 Continue costs a round trip a put. */
        p->headers = curl_slist_append(p->headers, "Expect:");
        CHECK(p->headers);
    } else {
        SET(CURLOPT_CUSTOMREQUEST, c->method);
    }
}

static CURL *easy_new(struct store_http *h, struct store_http_private *p)
{
    CURL *easy = curl_easy_init();

    CHECK(easy);
    SET(CURLOPT_URL, p->call->url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)h->conf.connect_ms);
    SET(CURLOPT_LOW_SPEED_LIMIT, (long)SLOW_BYTES_A_SECOND);
    SET(CURLOPT_LOW_SPEED_TIME, (long)SLOW_S);
    SET(CURLOPT_USERAGENT, "isthmus/" ISTHMUS_VERSION);
    SET(CURLOPT_BUFFERSIZE, 128L * 1024);
    SET(CURLOPT_UPLOAD_BUFFERSIZE, 128L * 1024);
    SET(CURLOPT_ERRORBUFFER, p->error);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, p);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, p);
    if (h->ca)
        SET(CURLOPT_CAINFO, h->ca);
    if (h->conf.direct)
        SET(CURLOPT_PROXY, "");
    set_body(easy, p);
    SET(CURLOPT_HTTPHEADER, p->headers);
    return easy;
}

void store_http_start(struct store_http *h, struct store_http_call *c)
{
    struct store_http_private *p = in(c);

    CHECK(!p->http && c->done);
    p->http = h;
    p->answer = xmalloc(STORE_HTTP_HEADERS_MAX);
    p->transfer.easy = easy_new(h, p);
    p->transfer.ended = on_ended;
    h->calls++;
    http_loop_add(h->driver, &p->transfer);
}

void store_http_cancel(struct store_http_call *c)
{
    http_loop_cancel(c->in->http->driver, &c->in->transfer);
}

/* --- the answer --- */

const char *store_http_answer(const struct store_http_call *c, const char *name)
{
    size_t n = strlen(name);

    if (!c->in || !c->in->answer)
        return NULL;
    for (size_t at = 0; at < c->in->answer_len; at += strlen(c->in->answer + at) + 1) {
        const char *line = c->in->answer + at;

        if (strncasecmp(line, name, n) == 0 && line[n] == ':')
            return line + n + 1 + strspn(line + n + 1, " \t");
    }
    return NULL;
}

static int64_t date_of(const struct store_http_call *c, const char *header)
{
    const char *date = store_http_answer(c, header);
    time_t t = date ? curl_getdate(date, NULL) : 0;

    return t > 0 ? t : 0;
}

int64_t store_http_date_s(const struct store_http_call *c)
{
    return date_of(c, "Date");
}

int64_t store_http_put_s(const struct store_http_call *c)
{
    return date_of(c, "Last-Modified");
}

uint32_t store_http_retry_after_ms(const struct store_http_call *c)
{
    const char *after = store_http_answer(c, "Retry-After");
    int64_t s = 0;

    if (!after)
        return 0;
    if (after[0] >= '0' && after[0] <= '9') {
        s = strtol(after, NULL, 10);
    } else {
        time_t until = curl_getdate(after, NULL);
        int64_t date = store_http_date_s(c);

        s = until > 0 ? until - (date ? date : time(NULL)) : 0;
    }
    if (s < 0)
        s = 0;
    return (uint32_t)(s < RETRY_AFTER_MAX_S ? s : RETRY_AFTER_MAX_S) * 1000;
}

void store_http_clear(struct store_http_call *c)
{
    free(c->text);
    c->text = NULL;
    c->text_len = c->into_len = 0;
    if (!c->in)
        return;
    curl_slist_free_all(c->in->headers);
    curl_easy_cleanup(c->in->transfer.easy);
    free(c->in->answer);
    free(c->in);
    c->in = NULL;
}

/* --- the client --- */

static void init_curl(void)
{
    CHECK(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

struct store_http *store_http_new(struct loop *loop, const struct store_http_conf *conf, struct why *why)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    bool ca = conf->ca && conf->ca[0];
    struct store_http *h;

    if (ca) {
        FILE *f = fopen(conf->ca, "re");

        if (!f) {
            why_set(why, -errno, "cannot read the trusted certificates in %s: %s", conf->ca, strerror(errno));
            return NULL;
        }
        fclose(f);
    }
    pthread_once(&once, init_curl);
    h = xcalloc(1, sizeof(*h));
    h->conf = *conf;
    h->ca = ca ? xstrdup(conf->ca) : NULL;
    h->driver = http_loop_new(loop, conf->connections);
    return h;
}

void store_http_free(struct store_http **h)
{
    if (!*h)
        return;
    CHECK((*h)->calls == 0);
    http_loop_free(&(*h)->driver);
    free((*h)->ca);
    free(*h);
    *h = NULL;
}
