/* journal/store/s3_parts.c - a large put in parts: begin, send up to PARALLEL parts at a time, put together.
 *
 *      SUM ──► BEGIN ──► PARTS ──► COMPLETE ──► (done)
 *                │         └───────────┴──────► ABORT ──► (done, with what went wrong)
 *                └────────────────────────────► (done, with what went wrong)
 *
 * Parts are hashed on the pool before they are sent. What fails or is cancelled is aborted, so that no parts
 * are left to pay for; if the abort itself does not come through within ABORT_MS, a rule of the bucket must
 * see to it.
 */
#include "check.h"
#include "mem.h"
#include "s3_impl.h"
#include "store_xml.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { PARALLEL = 4, ABORT_MS = 3000 };

struct upload;

struct slot {
    struct upload *u;
    struct s3_call call;
    struct work work;
    unsigned number; /* of the part, from 1 */
    bool hashing;
};

struct upload {
    struct s3_op op; /* first */
    struct s3 *s3;
    struct store_req *req;
    struct s3_call call; /* begin, complete, abort */
    struct work work;
    struct timer timer;
    bool summing, calling, aborting;
    char sum[S3_SUM_HEX], *id;
    uint64_t bytes, part_bytes;
    unsigned nparts, begun, running;
    char (*etags)[STORE_ETAG_MAX + 1];
    struct slot slots[PARALLEL];
    int status; /* the first failure */
    char *body;
    struct iovec iov;
};

static void end(struct upload *u)
{
    struct store_req *r = u->req;
    int status = u->status;

    s3_call_clear(&u->call);
    timer_free(&u->timer);
    free(u->id);
    free(u->etags);
    free(u->body);
    free(u);
    store_finish(r, status);
}

static void call(struct upload *u, const char *method, char *query, void (*done)(struct s3_call *))
{
    s3_call_clear(&u->call);
    memset(&u->call, 0, sizeof(u->call));
    u->call.s3 = u->s3;
    u->call.key = u->req->key;
    u->call.query = query;
    u->call.http.method = method;
    u->call.http.text_max = S3_TEXT_MAX;
    u->call.done = done;
    u->calling = true;
}

/* --- abort --- */

static void on_aborted(struct s3_call *c)
{
    end(container_of(c, struct upload, call));
}

static void on_abort_timer(struct timer *t)
{
    struct upload *u = container_of(t, struct upload, timer);

    s3_call_cancel(&u->call);
}

/* When nothing is under way any more. */
static void abort_upload(struct upload *u)
{
    if (u->running > 0 || u->calling || u->summing)
        return;
    if (!u->id) {
        end(u);
        return;
    }
    u->aborting = true;
    call(u, "DELETE", xasprintf("uploadId=%s", u->id), on_aborted);
    timer_set_ms(&u->timer, ABORT_MS);
    s3_call_start(&u->call);
}

static void fail(struct upload *u, int status)
{
    if (u->status == 0) {
        u->status = status;
        for (int i = 0; i < PARALLEL; i++)
            if (u->slots[i].number && !u->slots[i].hashing)
                s3_call_cancel(&u->slots[i].call);
    }
    abort_upload(u);
}

static void cancel(struct s3_op *op)
{
    struct upload *u = container_of(op, struct upload, op);

    if (u->aborting || u->status != 0)
        return;
    if (u->calling)
        s3_call_cancel(&u->call);
    else
        fail(u, -ECANCELED);
}

/* --- complete --- */

static void on_looked(struct s3_call *c)
{
    struct upload *u = container_of(c, struct upload, call);

    u->calling = false;
    if (c->http.status == 0 && c->http.code == 200 &&
        store_web_etag(store_http_answer(&c->http, "ETag"), u->req->etag))
        end(u);
    else
        fail(u, s3_failure(u->req, c));
}

static void on_result(void *arg, const char *path, const char *value)
{
    if (strcmp(path, "CompleteMultipartUploadResult/ETag") == 0)
        store_web_etag(value, ((struct store_req *)arg)->etag);
}

/* Ceph 16 gives no ETag here. */
static void on_completed(struct s3_call *c)
{
    struct upload *u = container_of(c, struct upload, call);
    const struct store_http_call *h = &c->http;

    u->calling = false;
    if (h->status != 0 || h->code != 200 ||
        !store_xml_is(h->text, h->text_len, "CompleteMultipartUploadResult")) {
        fail(u, s3_failure(u->req, c));
        return;
    }
    u->req->clock_s = store_http_date_s(h);
    free(u->id); /* there is nothing to abort any more */
    u->id = NULL;
    store_xml_each(h->text, h->text_len, on_result, u->req);
    if (u->req->etag[0]) {
        end(u);
        return;
    }
    call(u, "HEAD", NULL, on_looked);
    s3_call_start(&u->call);
}

static void complete(struct upload *u)
{
    size_t len = 0;
    FILE *f = open_memstream(&u->body, &len);

    CHECK(f);
    fputs("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">", f);
    for (unsigned i = 0; i < u->nparts; i++) {
        CLEANUP_FREE char *etag = store_xml_escape(u->etags[i]);
        fprintf(f, "<Part><PartNumber>%u</PartNumber><ETag>&quot;%s&quot;</ETag></Part>", i + 1, etag);
    }
    fputs("</CompleteMultipartUpload>", f);
    CHECK(fclose(f) == 0);
    call(u, "POST", xasprintf("uploadId=%s", u->id), on_completed);
    u->iov = (struct iovec){.iov_base = u->body, .iov_len = len};
    u->call.http.body = &u->iov;
    u->call.http.niov = 1;
    u->call.http.body_bytes = len;
    s3_sum(u->body, len, u->call.sum);
    s3_call_header(&u->call, "content-type", "application/xml");
    s3_call_start(&u->call);
}

/* --- parts --- */

static void begin_part(struct slot *);

static uint64_t part_size(const struct upload *u, unsigned number)
{
    uint64_t at = (number - 1) * u->part_bytes;

    return u->bytes - at < u->part_bytes ? u->bytes - at : u->part_bytes;
}

static void next_part(struct slot *s)
{
    struct upload *u = s->u;

    u->running--;
    s->number = 0;
    if (u->status != 0)
        abort_upload(u);
    else if (u->begun < u->nparts)
        begin_part(s);
    else if (u->running == 0)
        complete(u);
}

static void on_part(struct s3_call *c)
{
    struct slot *s = container_of(c, struct slot, call);
    struct upload *u = s->u;
    bool ok = c->http.status == 0 && c->http.code == 200 &&
              store_web_etag(store_http_answer(&c->http, "ETag"), u->etags[s->number - 1]);

    if (!ok && u->status == 0) {
        int status = s3_failure(u->req, c);

        s3_call_clear(c);
        s->number = 0;
        u->running--;
        fail(u, status);
        return;
    }
    s3_call_clear(c);
    next_part(s);
}

static void run_hash(struct work *w)
{
    struct slot *s = container_of(w, struct slot, work);
    struct upload *u = s->u;

    s3_sum_vector(u->req->put.iov, u->req->put.niov, (s->number - 1) * u->part_bytes, part_size(u, s->number),
                  s->call.sum);
}

static void on_hashed(struct work *w)
{
    struct slot *s = container_of(w, struct slot, work);
    struct upload *u = s->u;
    struct s3_call *c = &s->call;

    s->hashing = false;
    if (u->status != 0) {
        next_part(s);
        return;
    }
    c->s3 = u->s3;
    c->key = u->req->key;
    c->query = xasprintf("partNumber=%u&uploadId=%s", s->number, u->id);
    c->http.method = "PUT";
    c->http.body = u->req->put.iov;
    c->http.niov = u->req->put.niov;
    c->http.body_offset = (s->number - 1) * u->part_bytes;
    c->http.body_bytes = part_size(u, s->number);
    c->done = on_part;
    s3_call_start(c);
}

static void begin_part(struct slot *s)
{
    struct upload *u = s->u;

    memset(&s->call, 0, sizeof(s->call));
    s->number = ++u->begun;
    s->hashing = true;
    s->work.run = run_hash;
    s->work.done = on_hashed;
    u->running++;
    loop_work(u->s3->store.loop, &s->work);
}

/* --- begin --- */

static void on_begun_element(void *arg, const char *path, const char *value)
{
    char **id = arg;

    if (strcmp(path, "InitiateMultipartUploadResult/UploadId") == 0 && !*id && value[0])
        *id = store_web_encode(value, false);
}

static void on_begun(struct s3_call *c)
{
    struct upload *u = container_of(c, struct upload, call);

    u->calling = false;
    if (c->http.status == 0 && c->http.code == 200)
        store_xml_each(c->http.text, c->http.text_len, on_begun_element, &u->id);
    if (!u->id) {
        fail(u, s3_failure(u->req, c));
        return;
    }
    for (int i = 0; i < PARALLEL && u->begun < u->nparts; i++)
        begin_part(&u->slots[i]);
}

static void run_sum(struct work *w)
{
    struct upload *u = container_of(w, struct upload, work);

    s3_sum_vector(u->req->put.iov, u->req->put.niov, 0, UINT64_MAX, u->sum);
}

static void on_sum(struct work *w)
{
    struct upload *u = container_of(w, struct upload, work);

    u->summing = false;
    if (u->status != 0) {
        abort_upload(u);
        return;
    }
    call(u, "POST", xstrdup("uploads="), on_begun);
    s3_call_header(&u->call, "content-type", "application/octet-stream");
    s3_call_header(&u->call, S3_META_SUM, "%s", u->sum);
    s3_call_sse(&u->call);
    s3_call_start(&u->call);
}

void s3_parts_start(struct s3 *s, struct store_req *r)
{
    struct upload *u = xcalloc(1, sizeof(*u));

    u->op.cancel = cancel;
    u->s3 = s;
    u->req = r;
    u->bytes = store_put_bytes(r);
    u->part_bytes = s->part_bytes;
    while (u->bytes / u->part_bytes >= S3_PARTS_MAX)
        u->part_bytes *= 2;
    u->nparts = (unsigned)((u->bytes + u->part_bytes - 1) / u->part_bytes);
    u->etags = xcalloc(u->nparts, sizeof(*u->etags));
    for (int i = 0; i < PARALLEL; i++)
        u->slots[i].u = u;
    timer_init(&u->timer, s->store.loop, on_abort_timer);
    r->backend = &u->op;
    u->summing = true;
    u->work.run = run_sum;
    u->work.done = on_sum;
    loop_work(s->store.loop, &u->work);
}
