/* journal/store/s3_error.c - what an answer that is no success means: a status and one sentence.
 *
 * Loop thread. What the store says is shown only as far as it is plain text.
 */
#include "check.h"
#include "mem.h"
#include "s3_impl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void parse(struct store_web_error *e, const struct store_http_call *h)
{
    const char *region = store_http_answer(h, "x-amz-bucket-region");

    store_web_error(h, "Region", e);
    if (region && !e->detail[0])
        store_web_plain(region, e->detail, sizeof(e->detail));
}

void s3_error_code(const struct store_http_call *h, char code[64])
{
    struct store_web_error e;

    parse(&e, h);
    memcpy(code, e.code, sizeof(e.code));
}

static bool is(const struct store_web_error *e, const char *code)
{
    return strcmp(e->code, code) == 0;
}

static const char *key_of(const struct store_req *r)
{
    if (r->key)
        return r->key;
    return r->op == STORE_LIST && r->list.prefix[0] ? r->list.prefix : "objects";
}

/* 403, and the 400s that mean the same. */
static int not_allowed(struct store_req *r, const struct s3_call *c, const struct store_web_error *e)
{
    const char *name = c->s3->store.name;

    if (is(e, "SignatureDoesNotMatch"))
        return why_set(&r->why, -EACCES,
                       "%s does not accept our signature: the secret key does not belong to access "
                       "key %s",
                       name, c->used);
    if (is(e, "InvalidAccessKeyId"))
        return why_set(&r->why, -EACCES, "%s does not know the access key %s", name, c->used);
    if (is(e, "ExpiredToken") || is(e, "InvalidToken") || is(e, "TokenRefreshRequired"))
        return why_set(&r->why, -EACCES, "%s says that the credentials of access key %s have expired", name,
                       c->used);
    if (is(e, "RequestTimeTooSkewed"))
        return why_set(&r->why, -EACCES, "%s refuses because our clock is %lld s off: set the clock", name,
                       (long long)llabs(store_http_date_s(&c->http) - (int64_t)time(NULL)));
    if (is(e, "QuotaExceeded"))
        return why_set(&r->why, -ENOSPC, "%s is full: the quota is exceeded", name);
    return why_set(&r->why, -EACCES, "%s does not allow access key %s to %s %s (%d %s)", name, c->used,
                   store_op_name(r->op), key_of(r), c->http.code, e->code[0] ? e->code : "without a reason");
}

static int not_found(struct store_req *r, const struct s3_call *c, const struct store_web_error *e)
{
    if (is(e, "NoSuchBucket"))
        return why_set(&r->why, -EINVAL, "there is no bucket %s at %s", c->s3->bucket, c->s3->host);
    if (is(e, "NoSuchUpload"))
        return why_set(&r->why, -EIO, "%s: the upload of %s is gone", c->s3->store.name, key_of(r));
    if (r->op == STORE_PUT && r->put.condition == STORE_IF_MATCH)
        return why_set(&r->why, -ESTALE, "%s: %s is gone", c->s3->store.name, r->key);
    if (is(e, "NoSuchKey") && r->key)
        return why_set(&r->why, -ENOENT, "%s: there is no %s", c->s3->store.name, r->key);
    return why_set(&r->why, -EINVAL, "%s answers as no S3 store would: 404 %s to a %s; check the endpoint",
                   c->s3->store.name, e->code, store_op_name(r->op));
}

static int elsewhere(struct store_req *r, const struct s3_call *c, const struct store_web_error *e)
{
    if (e->detail[0])
        return why_set(&r->why, -EINVAL, "the bucket %s is in region %s, not %s: set region and endpoint",
                       c->s3->bucket, e->detail, c->s3->region);
    return why_set(&r->why, -EINVAL, "%s sends us elsewhere (%d %s): check endpoint and region",
                   c->s3->store.name, c->http.code, e->code);
}

static int bad_request(struct store_req *r, const struct s3_call *c, const struct store_web_error *e)
{
    if (is(e, "ExpiredToken") || is(e, "InvalidToken") || is(e, "TokenRefreshRequired"))
        return not_allowed(r, c, e);
    if (is(e, "AuthorizationHeaderMalformed") || is(e, "IllegalLocationConstraintException"))
        return elsewhere(r, c, e);
    if (is(e, "BadDigest") || is(e, "XAmzContentSHA256Mismatch"))
        return why_set(&r->why, -EBADMSG, "%s: %s was damaged on its way there", c->s3->store.name,
                       key_of(r));
    if (is(e, "RequestTimeout") || is(e, "IncompleteBody"))
        return why_set(&r->why, -EIO, "%s did not get all of %s", c->s3->store.name, key_of(r));
    return why_set(&r->why, -EINVAL, "%s refuses to %s %s: %d %s%s%s", c->s3->store.name,
                   store_op_name(r->op), key_of(r), c->http.code, e->code, e->message[0] ? ": " : "",
                   e->message);
}

static int condition(struct store_req *r, const struct s3_call *c)
{
    if (r->op == STORE_PUT && r->put.condition == STORE_IF_ABSENT)
        return why_set(&r->why, -EEXIST, "%s: %s is there already", c->s3->store.name, r->key);
    return why_set(&r->why, -ESTALE, "%s: %s is not the one with etag %s any more", c->s3->store.name,
                   key_of(r), r->op == STORE_PUT && r->put.match ? r->put.match : "");
}

static int trouble(struct store_req *r, const struct s3_call *c, const struct store_web_error *e, int status)
{
    return why_set(&r->why, status, "%s answered %d %s to a %s%s%s", c->s3->store.name, c->http.code,
                   e->code[0] ? e->code : "without a reason", store_op_name(r->op), e->message[0] ? ": " : "",
                   e->message);
}

int s3_failure(struct store_req *r, const struct s3_call *c)
{
    struct store_web_error e;

    if (c->http.status == -ECANCELED)
        return -ECANCELED; /* store.c says why */
    if (c->http.status != 0) {
        r->why = c->http.why;
        return c->http.status;
    }
    r->clock_s = store_http_date_s(&c->http);
    r->retry_after_ms = store_http_retry_after_ms(&c->http);
    parse(&e, &c->http);
    switch (c->http.code) {
    case 301:
    case 302:
    case 307:
    case 308:
        return elsewhere(r, c, &e);
    case 401:
    case 403:
        return not_allowed(r, c, &e);
    case 404:
        return not_found(r, c, &e);
    case 409:
    case 429:
    case 503:
        return trouble(r, c, &e, -EAGAIN);
    case 412:
        return condition(r, c);
    case 501:
        return why_set(&r->why, -EOPNOTSUPP, "%s cannot do this %s%s: it answered 501 %s", c->s3->store.name,
                       store_op_name(r->op),
                       r->op == STORE_PUT && r->put.condition != STORE_ALWAYS ? " under a condition" : "",
                       e.code);
    case 507:
        return why_set(&r->why, -ENOSPC, "%s is full", c->s3->store.name);
    case 200: /* an error that came after the beginning of the answer (CompleteMultipartUpload) */
        return trouble(r, c, &e, is(&e, "SlowDown") ? -EAGAIN : -EIO);
    default:
        return c->http.code >= 400 && c->http.code < 500 ? bad_request(r, c, &e) : trouble(r, c, &e, -EIO);
    }
}
