/* journal/store/azure_error.c - what an answer that is no success means: a status and one sentence.
 *
 * Loop thread. What the store says is shown only as far as it is plain text.
 */
#include "azure_impl.h"
#include "check.h"
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void parse(struct store_web_error *e, const struct store_http_call *h)
{
    const char *code = store_http_answer(h, "x-ms-error-code");

    store_web_error(h, "AuthenticationErrorDetail", e);
    if (code && !e->code[0])
        store_web_plain(code, e->code, sizeof(e->code));
}

void azure_error_code(const struct store_http_call *h, char code[64])
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

/* 401, 403, and the 400 that means the same. */
static int not_allowed(struct store_req *r, const struct azure_call *c, const struct store_web_error *e)
{
    const struct azure *a = c->azure;
    const char *name = a->store.name, *words = azure_auth_words(a->auth);
    int64_t date_s = store_http_date_s(&c->http);

    if (!is(e, "AuthenticationFailed") && !is(e, "InvalidAuthenticationInfo"))
        return why_set(&r->why, -EACCES, "%s does not allow %s to %s %s (%d %s)", name, words,
                       store_op_name(r->op), key_of(r), c->http.code,
                       e->code[0] ? e->code : "without a reason");
    if (azure_auth_secret(a->auth).way == AZURE_SHARED_KEY && strncmp(e->detail, "Request date", 12) == 0)
        return why_set(&r->why, -EACCES, "%s refuses because our clock is %lld s off: set the clock", name,
                       (long long)llabs(date_s - (int64_t)time(NULL)));
    if (azure_auth_secret(a->auth).way == AZURE_SHARED_KEY)
        return why_set(&r->why, -EACCES, "%s does not accept our signature: %s does not belong to account %s",
                       name, words, a->account);
    return why_set(&r->why, -EACCES, "%s does not accept %s%s%s", name, words, e->detail[0] ? ": " : "",
                   e->detail);
}

static int not_found(struct store_req *r, const struct azure_call *c, const struct store_web_error *e)
{
    const struct azure *a = c->azure;

    if (is(e, "ContainerNotFound"))
        return why_set(&r->why, -EINVAL, "there is no container %s in account %s", a->container, a->account);
    if (r->op == STORE_PUT && r->put.condition == STORE_IF_MATCH)
        return why_set(&r->why, -ESTALE, "%s: %s is gone", a->store.name, r->key);
    if (is(e, "BlobNotFound") && r->key)
        return why_set(&r->why, -ENOENT, "%s: there is no %s", a->store.name, r->key);
    return why_set(&r->why, -EINVAL,
                   "%s answers as no Azure Blob store would: 404 %s to a %s; check the endpoint",
                   a->store.name, e->code, store_op_name(r->op));
}

static int trouble(struct store_req *r, const struct azure_call *c, const struct store_web_error *e,
                   int status)
{
    return why_set(&r->why, status, "%s answered %d %s to a %s%s%s", c->azure->store.name, c->http.code,
                   e->code[0] ? e->code : "without a reason", store_op_name(r->op), e->message[0] ? ": " : "",
                   e->message);
}

/* 409 and 412. A lease, a policy and a snapshot answer so too. */
static int conflict(struct store_req *r, const struct azure_call *c, const struct store_web_error *e)
{
    const char *name = c->azure->store.name;
    bool put = r->op == STORE_PUT;

    if (put && r->put.condition == STORE_IF_ABSENT &&
        (is(e, "BlobAlreadyExists") || is(e, "ConditionNotMet") || is(e, "TargetConditionNotMet")))
        return why_set(&r->why, -EEXIST, "%s: %s is there already", name, r->key);
    if (put && r->put.condition == STORE_IF_MATCH &&
        (is(e, "ConditionNotMet") || is(e, "TargetConditionNotMet")))
        return why_set(&r->why, -ESTALE, "%s: %s is not the one with etag %s any more", name, r->key,
                       r->put.match);
    if (strncmp(e->code, "Lease", 5) == 0)
        return why_set(&r->why, -EACCES, "%s: somebody holds a lease on %s (%s)", name, key_of(r), e->code);
    if (strncmp(e->code, "BlobImmutable", 13) == 0)
        return why_set(&r->why, -EACCES, "%s: a policy keeps %s as it is (%s)", name, key_of(r), e->code);
    return trouble(r, c, e, -EIO);
}

static int bad_request(struct store_req *r, const struct azure_call *c, const struct store_web_error *e)
{
    const char *name = c->azure->store.name;

    if (is(e, "InvalidAuthenticationInfo"))
        return not_allowed(r, c, e);
    if (is(e, "Md5Mismatch"))
        return why_set(&r->why, -EBADMSG, "%s: %s was damaged on its way there", name, key_of(r));
    /* Another put of the same blob has thrown our blocks away. */
    if (is(e, "InvalidBlockList"))
        return why_set(&r->why, -EIO, "%s: the blocks of %s are gone", name, key_of(r));
    return why_set(&r->why, -EINVAL, "%s refuses to %s %s: %d %s%s%s", name, store_op_name(r->op), key_of(r),
                   c->http.code, e->code, e->message[0] ? ": " : "", e->message);
}

int azure_failure(struct store_req *r, const struct azure_call *c)
{
    int code = c->http.code;
    struct store_web_error e;

    if (c->http.status != 0) {
        r->why = c->http.why;
        return c->http.status;
    }
    r->clock_s = store_http_date_s(&c->http);
    r->retry_after_ms = store_http_retry_after_ms(&c->http);
    parse(&e, &c->http);
    switch (code) {
    case 401:
    case 403:
        return not_allowed(r, c, &e);
    case 404:
        return not_found(r, c, &e);
    case 409:
    case 412:
        return conflict(r, c, &e);
    case 429:
    case 503:
        return trouble(r, c, &e, -EAGAIN);
    case 501:
        return why_set(&r->why, -EOPNOTSUPP, "%s cannot do this %s: it answered 501 %s", c->azure->store.name,
                       store_op_name(r->op), e.code);
    default:
        if (code >= 300 && code < 400)
            return why_set(&r->why, -EINVAL, "%s sends us elsewhere (%d %s): check the endpoint",
                           c->azure->store.name, code, e.code);
        return code >= 400 && code < 500 ? bad_request(r, c, &e) : trouble(r, c, &e, -EIO);
    }
}
