/* journal/store/azure_put.c - a put in one piece: hash, then send.
 *
 * The store checks the body against its MD5 and keeps that with the blob.
 */
#include "azure_impl.h"
#include "check.h"
#include "mem.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stddef.h>
#include <string.h>

enum { HASH_HERE_MAX = 64 * 1024 }; /* bytes that are hashed on the loop: some 100 us */

struct put {
    struct azure_op op; /* first */
    struct store_req *req;
    struct azure_call call;
    struct work work;
    char md5[AZURE_MD5];
    bool hashing, cancelled;
};

void azure_md5(const struct iovec *iov, size_t niov, uint64_t offset, uint64_t bytes, char base64[AZURE_MD5])
{
    uint8_t sum[16];

    store_web_digest(EVP_md5(), iov, niov, offset, bytes, sum);
    EVP_EncodeBlock((uint8_t *)base64, sum, sizeof(sum));
}

static void end(struct put *p, int status)
{
    struct store_req *r = p->req;

    azure_call_clear(&p->call);
    free(p);
    store_finish(r, status);
}

static void on_answer(struct azure_call *c)
{
    struct put *p = container_of(c, struct put, call);
    struct store_req *r = p->req;

    if (c->http.status != 0 || c->http.code != 201) {
        end(p, azure_failure(r, c));
        return;
    }
    r->clock_s = store_http_date_s(&c->http);
    if (store_web_etag(store_http_answer(&c->http, "ETag"), r->etag))
        end(p, 0);
    else
        end(p, why_set(&r->why, -EBADMSG, "%s answers a put without an ETag", c->azure->store.name));
}

static void send_put(struct put *p)
{
    struct store_req *r = p->req;
    struct azure_call *c = &p->call;

    c->http.method = "PUT";
    c->http.body = r->put.iov;
    c->http.niov = r->put.niov;
    c->http.body_bytes = store_put_bytes(r);
    c->done = on_answer;
    azure_call_header(c, "content-type", "application/octet-stream");
    azure_call_header(c, "content-md5", "%s", p->md5);
    azure_call_header(c, "x-ms-blob-type", "BlockBlob");
    azure_call_condition(c, r);
    azure_call_start(c);
}

static void run_hash(struct work *w)
{
    struct put *p = container_of(w, struct put, work);

    azure_md5(p->req->put.iov, p->req->put.niov, 0, UINT64_MAX, p->md5);
}

static void on_hashed(struct work *w)
{
    struct put *p = container_of(w, struct put, work);

    p->hashing = false;
    if (p->cancelled)
        end(p, why_set(&p->req->why, -ECANCELED, "cancelled"));
    else
        send_put(p);
}

static void cancel(struct azure_op *op)
{
    struct put *p = container_of(op, struct put, op);

    p->cancelled = true;
    if (!p->hashing)
        azure_call_cancel(&p->call);
}

void azure_put_start(struct azure *a, struct store_req *r)
{
    uint64_t bytes = store_put_bytes(r);
    struct put *p;

    if (bytes > a->part_bytes) {
        azure_blocks_start(a, r);
        return;
    }
    p = xcalloc(1, sizeof(*p));
    p->op.cancel = cancel;
    p->req = r;
    p->call.azure = a;
    p->call.key = r->key;
    r->backend = &p->op;
    if (bytes <= HASH_HERE_MAX) {
        run_hash(&p->work);
        send_put(p);
        return;
    }
    p->hashing = true;
    p->work.run = run_hash;
    p->work.done = on_hashed;
    loop_work(a->store.loop, &p->work);
}
