/* journal/store/azure_call.c - one authorized request: wait for a secret, sign, send, and once more if the
 * store says that only our clock or an old secret was wrong.
 *
 * Loop thread.
 */
#include "azure_impl.h"
#include "check.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char part[] = "store";

enum { SKEW_MAX_S = 14 * 60 }; /* Azure takes a quarter of an hour */

static void add(struct azure_named *pairs, size_t *n, const char *name, const char *format, va_list args)
{
    CHECK(*n < AZURE_PAIRS_MAX);
    pairs[*n].name = name;
    CHECK(vasprintf(&pairs[*n].value, format, args) >= 0);
    ++*n;
}

void azure_call_query(struct azure_call *c, const char *name, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    add(c->query, &c->nquery, name, format, args);
    va_end(args);
}

void azure_call_header(struct azure_call *c, const char *name, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    add(c->headers, &c->nheaders, name, format, args);
    va_end(args);
}

void azure_call_condition(struct azure_call *c, const struct store_req *r)
{
    if (r->put.condition == STORE_IF_ABSENT)
        azure_call_header(c, "if-none-match", "*");
    if (r->put.condition == STORE_IF_MATCH)
        azure_call_header(c, "if-match", "\"%s\"", r->put.match);
}

static void on_answer(struct store_http_call *);

static char *url_of(const struct azure_call *c, const char *path, const struct azure_secret *secret)
{
    char *url = xasprintf("%s%s", c->azure->origin, path);

    for (size_t i = 0; i < c->nquery; i++) {
        CLEANUP_FREE char *value = store_web_encode(c->query[i].value, false), *before = url;
        url = xasprintf("%s%c%s=%s", before, i == 0 ? '?' : '&', c->query[i].name, value);
    }
    if (secret->way == AZURE_SAS) {
        CLEANUP_FREE char *before = url;
        url = xasprintf("%s%c%s", before, c->nquery == 0 ? '?' : '&', secret->text);
    }
    return url;
}

static void authorize(struct azure_call *c, struct azure_to_sign *s, const struct azure_secret *secret)
{
    CLEANUP_FREE char *text = NULL;
    char signature[AZURE_SIGNATURE];

    if (secret->way == AZURE_IDENTITY)
        store_http_header(&c->http, "authorization", "Bearer %s", secret->text);
    if (secret->way != AZURE_SHARED_KEY)
        return;
    text = azure_string_to_sign(s);
    azure_sign(secret->key, secret->key_bytes, text, signature);
    store_http_header(&c->http, "authorization", "SharedKey %s:%s", s->account, signature);
}

/* Signs with the store's clock as far as it is known. */
static void sign_and_send(struct azure_call *c)
{
    const struct azure *a = c->azure;
    struct azure_secret secret = azure_auth_secret(a->auth);
    CLEANUP_FREE char *plain =
        xasprintf("%s%s%s%s", a->base, c->key ? "/" : "", c->key ? a->prefix : "", c->key ? c->key : "");
    CLEANUP_FREE char *path = store_web_encode(plain, true);
    struct azure_to_sign s = {
        .method = c->http.method, .account = a->account, .path = path, .body_bytes = c->http.body_bytes};
    char date[AZURE_DATE];

    azure_date(time(NULL) + a->skew_s, date);
    s.headers[s.nheaders++] = (struct azure_pair){"x-ms-date", date};
    s.headers[s.nheaders++] = (struct azure_pair){"x-ms-version", AZURE_VERSION};
    for (size_t i = 0; i < c->nheaders; i++)
        s.headers[s.nheaders++] = (struct azure_pair){c->headers[i].name, c->headers[i].value};
    for (size_t i = 0; i < c->nquery; i++)
        s.query[s.nquery++] = (struct azure_pair){c->query[i].name, c->query[i].value};
    c->version = secret.version;
    secret_free(&c->url);
    c->url = url_of(c, path, &secret);
    c->http.url = c->url;
    c->http.done = on_answer;
    for (size_t i = 0; i < s.nheaders; i++)
        store_http_header(&c->http, s.headers[i].name, "%s", s.headers[i].value);
    authorize(c, &s, &secret);
    store_http_start(a->http, &c->http);
}

static void end(struct azure_call *c, int status)
{
    if (status != 0) {
        c->http.status = status;
        c->http.code = 0;
    }
    c->done(c);
}

static void on_secret(struct store_grant_wait *w)
{
    struct azure_call *c = container_of(w, struct azure_call, wait);

    c->waiting = false;
    if (!c->cancelled && w->status == 0) {
        sign_and_send(c);
        return;
    }
    c->http.why = w->why;
    end(c, c->cancelled ? why_set(&c->http.why, -ECANCELED, "cancelled") : w->status);
}

void azure_call_start(struct azure_call *c)
{
    CHECK(c->done && c->http.method);
    c->wait.done = on_secret;
    c->waiting = true;
    if (store_grant_ready(azure_auth_grant(c->azure->auth), &c->wait)) {
        c->waiting = false;
        sign_and_send(c);
    }
}

/* Is it worth signing once more? */
static bool only_signed_wrongly(struct azure_call *c)
{
    struct azure *a = c->azure;
    int64_t date_s = store_http_date_s(&c->http), skew_s = date_s ? date_s - time(NULL) : 0;
    bool shared_key = azure_auth_secret(a->auth).way == AZURE_SHARED_KEY;
    char code[64];

    if (c->sent_again || c->cancelled || c->http.status != 0 || (c->http.code != 401 && c->http.code != 403))
        return false;
    azure_error_code(&c->http, code);
    if (shared_key && strcmp(code, "AuthenticationFailed") == 0 && llabs(skew_s - a->skew_s) > SKEW_MAX_S) {
        a->skew_s = skew_s;
        log_warn(NULL, "%s: our clock differs from the store's by %lld s: signing with the store's",
                 a->store.name, (long long)-skew_s);
        return true;
    }
    return (c->http.code == 401 || strcmp(code, "AuthenticationFailed") == 0) &&
           azure_auth_refused(a->auth, c->version);
}

static void on_answer(struct store_http_call *http)
{
    struct azure_call *c = container_of(http, struct azure_call, http);

    if (only_signed_wrongly(c)) {
        c->sent_again = true;
        store_http_clear(&c->http);
        azure_call_start(c);
        return;
    }
    end(c, c->cancelled ? why_set(&c->http.why, -ECANCELED, "cancelled") : 0);
}

void azure_call_cancel(struct azure_call *c)
{
    if (c->cancelled)
        return;
    c->cancelled = true;
    if (c->waiting)
        store_grant_cancel(azure_auth_grant(c->azure->auth), &c->wait);
    else
        store_http_cancel(&c->http);
}

void azure_call_clear(struct azure_call *c)
{
    store_http_clear(&c->http);
    for (size_t i = 0; i < c->nquery; i++)
        free(c->query[i].value);
    for (size_t i = 0; i < c->nheaders; i++)
        free(c->headers[i].value);
    c->nquery = c->nheaders = 0;
    secret_free(&c->url);
}
