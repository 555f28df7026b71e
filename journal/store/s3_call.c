/* journal/store/s3_call.c - one signed request: wait for credentials, sign, send, and once more if the store
 * says that only our clock or an old key was wrong.
 *
 * Loop thread.
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "s3_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char part[] = "store";

void s3_call_header(struct s3_call *c, const char *name, const char *format, ...)
{
    va_list args;

    CHECK(c->nheaders < S3_HEADERS_MAX && strlen(name) < sizeof(c->headers[0].name));
    strcpy(c->headers[c->nheaders].name, name);
    va_start(args, format);
    CHECK(vsnprintf(c->headers[c->nheaders].value, S3_HEADER_MAX, format, args) < S3_HEADER_MAX);
    va_end(args);
    c->nheaders++;
}

void s3_call_sse(struct s3_call *c)
{
    if (c->s3->sse[0])
        s3_call_header(c, "x-amz-server-side-encryption", "%s", c->s3->sse);
    if (c->s3->sse_key[0])
        s3_call_header(c, "x-amz-server-side-encryption-aws-kms-key-id", "%s", c->s3->sse_key);
}

static void on_answer(struct store_http_call *);

/* Signs with the store's clock as far as it is known. */
static void sign_and_send(struct s3_call *c)
{
    const struct s3 *s = c->s3;
    struct s3_key key = s3_auth_key(s->auth);
    CLEANUP_FREE char *plain = xasprintf("%s%s%s", s->base, c->key ? s->prefix : "", c->key ? c->key : "");
    CLEANUP_FREE char *path = store_web_encode(plain, true);
    char date[S3_DATE], authorization[S3_AUTHORIZATION_MAX];
    const char *sum = c->sum[0] ? c->sum : S3_SUM_EMPTY, *query = c->query ? c->query : "";
    struct s3_to_sign sign = {.method = c->http.method,
                              .path = path,
                              .query = query,
                              .sum = sum,
                              .region = s->region,
                              .date = date};

    s3_date(time(NULL) + s->skew_s, date);
    sign.headers[sign.nheaders++] = (struct s3_header){"host", s->host};
    sign.headers[sign.nheaders++] = (struct s3_header){"x-amz-content-sha256", sum};
    sign.headers[sign.nheaders++] = (struct s3_header){"x-amz-date", date};
    if (key.token)
        sign.headers[sign.nheaders++] = (struct s3_header){"x-amz-security-token", key.token};
    for (size_t i = 0; i < c->nheaders; i++)
        sign.headers[sign.nheaders++] = (struct s3_header){c->headers[i].name, c->headers[i].value};
    s3_sign(&sign, &key, authorization);
    free(c->url);
    free(c->used);
    c->url = xasprintf("%s%s%s%s", s->origin, path, query[0] ? "?" : "", query);
    c->used = xstrdup(key.access);
    c->http.url = c->url;
    c->http.done = on_answer;
    for (size_t i = 0; i < sign.nheaders; i++)
        store_http_header(&c->http, sign.headers[i].name, "%s", sign.headers[i].value);
    store_http_header(&c->http, "authorization", "%s", authorization);
    store_http_start(s->http, &c->http);
}

static void end(struct s3_call *c, int status)
{
    if (status != 0) {
        c->http.status = status;
        c->http.code = 0;
    }
    c->done(c);
}

static void on_key(struct store_grant_wait *w)
{
    struct s3_call *c = container_of(w, struct s3_call, wait);

    c->waiting = false;
    if (c->cancelled || w->status != 0) {
        c->http.why = w->why;
        end(c, c->cancelled ? -ECANCELED : w->status);
    } else {
        sign_and_send(c);
    }
}

void s3_call_start(struct s3_call *c)
{
    CHECK(c->done && c->http.method);
    c->wait.done = on_key;
    c->waiting = true;
    if (store_grant_ready(s3_auth_grant(c->s3->auth), &c->wait)) {
        c->waiting = false;
        sign_and_send(c);
    }
}

/* Is it worth signing once more? */
static bool only_signed_wrongly(struct s3_call *c)
{
    int64_t date_s = store_http_date_s(&c->http);
    char code[64];

    if (c->sent_again || c->cancelled || c->http.status != 0 || (c->http.code != 403 && c->http.code != 400))
        return false;
    s3_error_code(&c->http, code);
    if (strcmp(code, "RequestTimeTooSkewed") == 0 && date_s) {
        c->s3->skew_s = date_s - time(NULL);
        log_warn(NULL, "%s: our clock differs from the store's by %lld s: signing with the store's",
                 c->s3->store.name, (long long)-c->s3->skew_s);
        return true;
    }
    if (strcmp(code, "ExpiredToken") == 0 || strcmp(code, "InvalidToken") == 0 ||
        strcmp(code, "InvalidAccessKeyId") == 0)
        return s3_auth_refused(c->s3->auth, c->used);
    return false;
}

static void on_answer(struct store_http_call *http)
{
    struct s3_call *c = container_of(http, struct s3_call, http);

    if (only_signed_wrongly(c)) {
        c->sent_again = true;
        store_http_clear(&c->http);
        s3_call_start(c);
        return;
    }
    end(c, c->cancelled ? -ECANCELED : 0);
}

void s3_call_cancel(struct s3_call *c)
{
    if (c->cancelled)
        return;
    c->cancelled = true;
    if (c->waiting)
        store_grant_cancel(s3_auth_grant(c->s3->auth), &c->wait);
    else
        store_http_cancel(&c->http);
}

void s3_call_clear(struct s3_call *c)
{
    store_http_clear(&c->http);
    free(c->query);
    free(c->url);
    free(c->used);
    c->query = c->url = c->used = NULL;
}
