/* journal/store/azure_read.c - get and head.
 *
 * A whole get is verified against the MD5 that our puts leave with the blob; a range of up to 4 MiB against
 * one that the store computes (it does so for no larger ones).
 */
#include "azure_impl.h"
#include "check.h"
#include "mem.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

enum { RANGE_MD5_MAX = 4 << 20 };

struct read {
    struct azure_op op; /* first */
    struct store_req *req;
    struct azure_call call;
    EVP_MD_CTX *sum;
    uint8_t nothing; /* where the nothing of an empty buffer goes */
};

static void cancel(struct azure_op *op)
{
    azure_call_cancel(&container_of(op, struct read, op)->call);
}

static void end(struct read *g, int status)
{
    struct store_req *r = g->req;

    azure_call_clear(&g->call);
    EVP_MD_CTX_free(g->sum);
    free(g);
    store_finish(r, status);
}

static struct read *read_new(struct azure *a, struct store_req *r)
{
    struct read *g = xcalloc(1, sizeof(*g));

    g->op.cancel = cancel;
    g->req = r;
    g->call.azure = a;
    g->call.key = r->key;
    r->backend = &g->op;
    return g;
}

/* The blob's description from a 200 or 206. */
static int describe(struct read *g)
{
    const struct store_http_call *h = &g->call.http;
    struct store_req *r = g->req;

    r->clock_s = store_http_date_s(h);
    r->put_s = store_http_put_s(h);
    if (!store_web_size(h, &r->size) || !store_web_etag(store_http_answer(h, "ETag"), r->etag))
        return why_set(&r->why, -EBADMSG, "%s answers without the size or the ETag of %s",
                       g->call.azure->store.name, r->key);
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
    const char *wanted = store_http_answer(&g->call.http, "Content-MD5");
    char base64[AZURE_MD5];
    uint8_t sum[16];

    CHECK(EVP_DigestFinal_ex(g->sum, sum, NULL) == 1);
    EVP_EncodeBlock((uint8_t *)base64, sum, sizeof(sum));
    if (!wanted || strcmp(wanted, base64) == 0)
        return 0;
    return why_set(&g->req->why, -EBADMSG, "%s: %s is not what was put there", g->call.azure->store.name,
                   g->req->key);
}

static int too_large(struct read *g)
{
    struct store_req *r = g->req;
    const char *name = g->call.azure->store.name;

    if (!r->get.whole)
        return why_set(&r->why, -EOPNOTSUPP, "%s does not serve ranges of objects", name);
    store_web_size(&g->call.http, &r->size);
    return why_set(&r->why, -EFBIG, "%s: %s has %llu bytes, %zu were expected", name, r->key,
                   (unsigned long long)r->size, r->get.cap);
}

static uint64_t expected(const struct store_req *r)
{
    if (r->get.whole)
        return r->size;
    return r->size - r->get.offset < r->get.cap ? r->size - r->get.offset : r->get.cap;
}

static int take_get(struct read *g)
{
    const struct store_http_call *h = &g->call.http;
    struct store_req *r = g->req;
    int status;

    if (h->status == -EFBIG && h->code / 100 == 2)
        return too_large(g);
    if (h->status != 0 || (h->code != 200 && h->code != 206))
        return azure_failure(r, &g->call);
    r->len = h->into_len;
    status = describe(g);
    if (status != 0)
        return status;
    if (!r->get.whole && h->code != 206)
        return why_set(&r->why, -EOPNOTSUPP, "%s does not serve ranges of objects",
                       g->call.azure->store.name);
    if (r->len != expected(r))
        return why_set(&r->why, -EBADMSG, "%s: another range of %s came than was asked for",
                       g->call.azure->store.name, r->key);
    return g->sum ? verify(g) : 0;
}

static void on_get(struct azure_call *c)
{
    struct read *g = container_of(c, struct read, call);
    struct store_req *r = g->req;

    if (c->http.status != 0 || c->http.code != 416 || r->get.whole) {
        end(g, take_get(g));
        return;
    }
    /* Past the end: there is still to say how large it is. */
    azure_call_clear(c);
    EVP_MD_CTX_free(g->sum);
    free(g);
    azure_head_start(container_of(r->store, struct azure, store), r);
}

void azure_get_start(struct azure *a, struct store_req *r)
{
    struct read *g;

    if (!r->get.whole && r->get.cap == 0) {
        azure_head_start(a, r);
        return;
    }
    g = read_new(a, r);
    g->call.http.method = "GET";
    g->call.http.into = r->get.cap ? r->get.buf : &g->nothing;
    g->call.http.into_cap = r->get.cap;
    g->call.done = on_get;
    if (!r->get.whole)
        azure_call_header(&g->call, "x-ms-range", "bytes=%llu-%llu", (unsigned long long)r->get.offset,
                          (unsigned long long)(r->get.offset + r->get.cap - 1));
    if (!r->get.whole && r->get.cap <= RANGE_MD5_MAX)
        azure_call_header(&g->call, "x-ms-range-get-content-md5", "true");
    if (r->get.whole || r->get.cap <= RANGE_MD5_MAX) {
        g->sum = EVP_MD_CTX_new();
        CHECK(g->sum && EVP_DigestInit_ex(g->sum, EVP_md5(), NULL) == 1);
        g->call.http.got = on_piece;
    }
    azure_call_start(&g->call);
}

/* --- head --- */

static void on_head(struct azure_call *c)
{
    struct read *g = container_of(c, struct read, call);

    end(g, c->http.status == 0 && c->http.code == 200 ? describe(g) : azure_failure(g->req, c));
}

void azure_head_start(struct azure *a, struct store_req *r)
{
    struct read *g = read_new(a, r);

    g->call.http.method = "HEAD";
    g->call.done = on_head;
    azure_call_start(&g->call);
}
