/* journal/store/s3_read.c - get and head.
 *
 * A head that is refused is asked again as a get of one byte, because an answer to HEAD has no body to say
 * why (and 404 could be the bucket). A whole get is verified against the SHA-256 that our puts leave with the
 * object.
 */
#include "check.h"
#include "mem.h"
#include "s3_impl.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct read {
    struct s3_op op; /* first */
    struct store_req *req;
    struct s3_call call;
    EVP_MD_CTX *sum; /* of a whole get */
    uint8_t byte;    /* where the byte goes that is read for a head, and the nothing of an empty buffer */
};

static void cancel(struct s3_op *op)
{
    s3_call_cancel(&container_of(op, struct read, op)->call);
}

static void end(struct read *g, int status)
{
    struct store_req *r = g->req;

    s3_call_clear(&g->call);
    EVP_MD_CTX_free(g->sum);
    free(g);
    store_finish(r, status);
}

static struct read *read_new(struct s3 *s, struct store_req *r)
{
    struct read *g = xcalloc(1, sizeof(*g));

    g->op.cancel = cancel;
    g->req = r;
    g->call.s3 = s;
    g->call.key = r->key;
    r->backend = &g->op;
    return g;
}

/* The object's description from a 200 or 206. */
static int describe(struct read *g)
{
    const struct store_http_call *h = &g->call.http;
    struct store_req *r = g->req;

    r->clock_s = store_http_date_s(h);
    r->put_s = store_http_put_s(h);
    if (!store_web_size(h, &r->size) || !store_web_etag(store_http_answer(h, "ETag"), r->etag))
        return why_set(&r->why, -EBADMSG, "%s answers without the size or the ETag of %s",
                       g->call.s3->store.name, r->key);
    return 0;
}

/* --- get --- */

static void on_piece(struct store_http_call *h, const void *bytes, size_t n)
{
    struct read *g = container_of(h, struct read, call.http);

    CHECK(EVP_DigestUpdate(g->sum, bytes, n) == 1);
}

static int verify(struct read *g)
{
    const char *wanted = store_http_answer(&g->call.http, S3_META_SUM);
    struct store_req *r = g->req;
    char hex[S3_SUM_HEX];
    uint8_t sum[32];

    CHECK(EVP_DigestFinal_ex(g->sum, sum, NULL) == 1);
    s3_hex(sum, sizeof(sum), hex);
    if (r->len != r->size || (wanted && strcmp(wanted, hex) != 0))
        return why_set(&r->why, -EBADMSG, "%s: %s is not what was put there", g->call.s3->store.name, r->key);
    return 0;
}

static int too_large(struct read *g)
{
    struct store_req *r = g->req;

    if (!r->get.whole)
        return why_set(&r->why, -EOPNOTSUPP, "%s does not serve ranges of objects", g->call.s3->store.name);
    store_web_size(&g->call.http, &r->size);
    return why_set(&r->why, -EFBIG, "%s: %s has %llu bytes, %zu were expected", g->call.s3->store.name,
                   r->key, (unsigned long long)r->size, r->get.cap);
}

static int take_get(struct read *g)
{
    const struct store_http_call *h = &g->call.http;
    struct store_req *r = g->req;
    int status;

    if (h->status == -EFBIG && h->code / 100 == 2)
        return too_large(g);
    if (h->status == 0 && h->code == 416 && !r->get.whole) {
        r->clock_s = store_http_date_s(h);
        store_web_size(h, &r->size);
        return 0; /* past the end */
    }
    if (h->status != 0 || (h->code != 200 && h->code != 206))
        return s3_failure(r, &g->call);
    r->len = h->into_len;
    status = describe(g);
    if (status == 0 && !r->get.whole && h->code != 206)
        return why_set(&r->why, -EOPNOTSUPP, "%s does not serve ranges of objects", g->call.s3->store.name);
    if (status == 0 && r->get.whole)
        return verify(g);
    if (status == 0 &&
        r->len != (r->size - r->get.offset < r->get.cap ? r->size - r->get.offset : r->get.cap))
        return why_set(&r->why, -EBADMSG, "%s: another range of %s came than was asked for",
                       g->call.s3->store.name, r->key);
    return status;
}

static void on_get(struct s3_call *c)
{
    struct read *g = container_of(c, struct read, call);

    end(g, take_get(g));
}

void s3_get_start(struct s3 *s, struct store_req *r)
{
    struct read *g;

    if (!r->get.whole && r->get.cap == 0) {
        s3_head_start(s, r);
        return;
    }
    g = read_new(s, r);
    g->call.http.method = "GET";
    g->call.http.into = r->get.cap ? r->get.buf : &g->byte;
    g->call.http.into_cap = r->get.cap;
    g->call.done = on_get;
    if (r->get.whole) {
        g->sum = EVP_MD_CTX_new();
        CHECK(g->sum && EVP_DigestInit_ex(g->sum, EVP_sha256(), NULL) == 1);
        g->call.http.got = on_piece;
    } else {
        s3_call_header(&g->call, "range", "bytes=%llu-%llu", (unsigned long long)r->get.offset,
                       (unsigned long long)(r->get.offset + r->get.cap - 1));
    }
    s3_call_start(&g->call);
}

/* --- head --- */

static void on_first_byte(struct s3_call *c)
{
    struct read *g = container_of(c, struct read, call);

    if (c->http.status == 0 && (c->http.code == 206 || c->http.code == 200))
        end(g, describe(g));
    else
        end(g, s3_failure(g->req, c));
}

static void on_head(struct s3_call *c)
{
    struct read *g = container_of(c, struct read, call);
    struct read *again;

    if (c->http.status != 0 || c->http.code == 200 || c->http.code >= 500) {
        end(g, c->http.status == 0 && c->http.code == 200 ? describe(g) : s3_failure(g->req, c));
        return;
    }
    again = read_new(c->s3, g->req);
    s3_call_clear(c);
    free(g);
    again->call.http.method = "GET";
    again->call.http.into = &again->byte;
    again->call.http.into_cap = 1;
    again->call.done = on_first_byte;
    s3_call_header(&again->call, "range", "bytes=0-0");
    s3_call_start(&again->call);
}

void s3_head_start(struct s3 *s, struct store_req *r)
{
    struct read *g = read_new(s, r);

    g->call.http.method = "HEAD";
    g->call.done = on_head;
    s3_call_start(&g->call);
}
