/* journal/store/s3_put.c - a put in one piece: hash, then send.
 *
 * The SHA-256 is what the signature covers, so the store checks the body against it; it also stays with the
 * object, so that a get can. Conditions go in one piece always: not every store looks at them when parts are
 * put together.
 */
#include "check.h"
#include "mem.h"
#include "s3_impl.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stddef.h>
#include <string.h>

enum { HASH_HERE_MAX = 64 * 1024 }; /* bytes that are hashed on the loop: some 50 us */

struct put {
    struct s3_op op; /* first */
    struct store_req *req;
    struct s3_call call;
    struct work work;
    bool hashing, cancelled;
};

void s3_sum_vector(const struct iovec *iov, size_t niov, uint64_t offset, uint64_t bytes,
                   char hex[S3_SUM_HEX])
{
    uint8_t sum[32];

    store_web_digest(EVP_sha256(), iov, niov, offset, bytes, sum);
    s3_hex(sum, sizeof(sum), hex);
}

static void end(struct put *p, int status)
{
    struct store_req *r = p->req;

    s3_call_clear(&p->call);
    free(p);
    store_finish(r, status);
}

static void on_answer(struct s3_call *c)
{
    struct put *p = container_of(c, struct put, call);
    struct store_req *r = p->req;

    if (c->http.status != 0 || c->http.code != 200) {
        end(p, s3_failure(r, c));
        return;
    }
    r->clock_s = store_http_date_s(&c->http);
    if (!store_web_etag(store_http_answer(&c->http, "ETag"), r->etag))
        end(p, why_set(&r->why, -EBADMSG, "%s answers a put without an ETag", c->s3->store.name));
    else
        end(p, 0);
}

static void send_put(struct put *p)
{
    struct store_req *r = p->req;
    struct s3_call *c = &p->call;

    c->http.method = "PUT";
    c->http.body = r->put.iov;
    c->http.niov = r->put.niov;
    c->http.body_bytes = store_put_bytes(r);
    c->done = on_answer;
    s3_call_header(c, "content-type", "application/octet-stream");
    s3_call_header(c, S3_META_SUM, "%s", c->sum);
    if (r->put.condition == STORE_IF_ABSENT)
        s3_call_header(c, "if-none-match", "*");
    /* Without quotes: Ceph compares them too, and the others take both. */
    if (r->put.condition == STORE_IF_MATCH)
        s3_call_header(c, "if-match", "%s", r->put.match);
    s3_call_sse(c);
    s3_call_start(c);
}

static void run_hash(struct work *w)
{
    struct put *p = container_of(w, struct put, work);

    s3_sum_vector(p->req->put.iov, p->req->put.niov, 0, UINT64_MAX, p->call.sum);
}

static void on_hashed(struct work *w)
{
    struct put *p = container_of(w, struct put, work);

    p->hashing = false;
    if (p->cancelled)
        end(p, -ECANCELED);
    else
        send_put(p);
}

static void cancel(struct s3_op *op)
{
    struct put *p = container_of(op, struct put, op);

    p->cancelled = true;
    if (!p->hashing)
        s3_call_cancel(&p->call);
}

void s3_put_start(struct s3 *s, struct store_req *r)
{
    uint64_t bytes = store_put_bytes(r);
    struct put *p;

    if (r->put.condition == STORE_ALWAYS && bytes > s->part_bytes) {
        s3_parts_start(s, r);
        return;
    }
    if (bytes > S3_PUT_MAX) {
        store_refuse(r, -EINVAL, "%s: %s is larger than a put under a condition may be (5 GiB)",
                     s->store.name, r->key);
        return;
    }
    p = xcalloc(1, sizeof(*p));
    p->op.cancel = cancel;
    p->req = r;
    p->call.s3 = s;
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
    loop_work(s->store.loop, &p->work);
}
