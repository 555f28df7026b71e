/* journal/store/azure_blocks.c - a large put in blocks: up to PARALLEL at a time, then the list of them,
 * which makes the blob.
 *
 *      SUM ──► BLOCKS ──► LIST ──► (done)
 *       └────────┴──────────┴────► (done, with what went wrong)
 *
 * The condition goes with the list, so nothing is there before it holds. Blocks have names of their own for
 * each put: two puts of one blob cannot mix. Those that no list names are thrown away by the store within a
 * week, or by the next put of the blob.
 */
#include "azure_impl.h"
#include "check.h"
#include "mem.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

enum { PARALLEL = 4, ID_TEXT = 24, ID = 33 };

struct upload;

struct slot {
    struct upload *u;
    struct azure_call call;
    struct work work;
    unsigned number; /* of the block, from 1; 0: nothing is under way */
    bool hashing;
    char md5[AZURE_MD5];
};

struct upload {
    struct azure_op op; /* first */
    struct azure *azure;
    struct store_req *req;
    struct azure_call call; /* the list */
    struct work work;
    bool summing, listing;
    char md5[AZURE_MD5];
    uint64_t nonce, bytes;
    unsigned nblocks, begun, running;
    struct slot slots[PARALLEL];
    int status; /* the first failure */
    char *body;
    struct iovec iov;
};

/* All names of a blob's blocks have to have the same length. */
static void block_id(const struct upload *u, unsigned number, char id[ID])
{
    char text[ID_TEXT + 1];

    CHECK(snprintf(text, sizeof(text), "%016llx%08u", (unsigned long long)u->nonce, number) == ID_TEXT);
    CHECK(EVP_EncodeBlock((uint8_t *)id, (const uint8_t *)text, ID_TEXT) == ID - 1);
}

static void end(struct upload *u)
{
    struct store_req *r = u->req;
    int status = u->status;

    azure_call_clear(&u->call);
    free(u->body);
    free(u);
    store_finish(r, status);
}

/* Ends when nothing is under way any more. */
static void fail(struct upload *u, int status)
{
    if (u->status == 0) {
        u->status = status;
        for (int i = 0; i < PARALLEL; i++)
            if (u->slots[i].number && !u->slots[i].hashing)
                azure_call_cancel(&u->slots[i].call);
    }
    if (u->running == 0 && !u->listing && !u->summing)
        end(u);
}

static void cancel(struct azure_op *op)
{
    struct upload *u = container_of(op, struct upload, op);

    if (u->listing)
        azure_call_cancel(&u->call);
    else if (u->status == 0)
        fail(u, why_set(&u->req->why, -ECANCELED, "cancelled"));
}

/* --- the list --- */

static void on_listed(struct azure_call *c)
{
    struct upload *u = container_of(c, struct upload, call);
    struct store_req *r = u->req;

    u->listing = false;
    if (c->http.status != 0 || c->http.code != 201)
        u->status = azure_failure(r, c);
    else if (!store_web_etag(store_http_answer(&c->http, "ETag"), r->etag))
        u->status = why_set(&r->why, -EBADMSG, "%s answers a put without an ETag", c->azure->store.name);
    else
        r->clock_s = store_http_date_s(&c->http);
    end(u);
}

static void send_list(struct upload *u)
{
    struct azure_call *c = &u->call;
    char id[ID], md5[AZURE_MD5];
    size_t len = 0;
    FILE *f = open_memstream(&u->body, &len);

    CHECK(f);
    fputs("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>", f);
    for (unsigned i = 1; i <= u->nblocks; i++) {
        block_id(u, i, id);
        fprintf(f, "<Uncommitted>%s</Uncommitted>", id);
    }
    fputs("</BlockList>", f);
    CHECK(fclose(f) == 0);
    u->iov = (struct iovec){.iov_base = u->body, .iov_len = len};
    azure_md5(&u->iov, 1, 0, len, md5);
    c->azure = u->azure;
    c->key = u->req->key;
    c->http.method = "PUT";
    c->http.body = &u->iov;
    c->http.niov = 1;
    c->http.body_bytes = len;
    c->done = on_listed;
    azure_call_query(c, "comp", "blocklist");
    azure_call_header(c, "content-type", "application/xml");
    azure_call_header(c, "content-md5", "%s", md5);
    azure_call_header(c, "x-ms-blob-content-md5", "%s", u->md5);
    azure_call_header(c, "x-ms-blob-content-type", "application/octet-stream");
    azure_call_condition(c, u->req);
    u->listing = true;
    azure_call_start(c);
}

/* --- blocks --- */

static void begin_block(struct slot *);

static uint64_t block_at(const struct upload *u, unsigned number)
{
    return (number - 1) * u->azure->part_bytes;
}

static uint64_t block_size(const struct upload *u, unsigned number)
{
    uint64_t left = u->bytes - block_at(u, number);

    return left < u->azure->part_bytes ? left : u->azure->part_bytes;
}

static void next_block(struct slot *s)
{
    struct upload *u = s->u;

    u->running--;
    s->number = 0;
    if (u->status != 0)
        fail(u, u->status);
    else if (u->begun < u->nblocks)
        begin_block(s);
    else if (u->running == 0)
        send_list(u);
}

static void on_block(struct azure_call *c)
{
    struct slot *s = container_of(c, struct slot, call);
    struct upload *u = s->u;
    int status = c->http.status == 0 && c->http.code == 201 ? 0
                 : u->status                                ? u->status
                                                            : azure_failure(u->req, c);

    azure_call_clear(c);
    s->number = 0;
    if (status != 0) {
        u->running--;
        fail(u, status);
    } else {
        next_block(s);
    }
}

static void run_hash(struct work *w)
{
    struct slot *s = container_of(w, struct slot, work);
    const struct upload *u = s->u;

    azure_md5(u->req->put.iov, u->req->put.niov, block_at(u, s->number), block_size(u, s->number), s->md5);
}

static void on_hashed(struct work *w)
{
    struct slot *s = container_of(w, struct slot, work);
    struct upload *u = s->u;
    struct azure_call *c = &s->call;
    char id[ID];

    s->hashing = false;
    if (u->status != 0) {
        next_block(s);
        return;
    }
    block_id(u, s->number, id);
    c->azure = u->azure;
    c->key = u->req->key;
    c->http.method = "PUT";
    c->http.body = u->req->put.iov;
    c->http.niov = u->req->put.niov;
    c->http.body_offset = block_at(u, s->number);
    c->http.body_bytes = block_size(u, s->number);
    c->done = on_block;
    azure_call_query(c, "comp", "block");
    azure_call_query(c, "blockid", "%s", id);
    azure_call_header(c, "content-type", "application/octet-stream");
    azure_call_header(c, "content-md5", "%s", s->md5);
    azure_call_start(c);
}

static void begin_block(struct slot *s)
{
    struct upload *u = s->u;

    memset(&s->call, 0, sizeof(s->call));
    s->number = ++u->begun;
    s->hashing = true;
    s->work.run = run_hash;
    s->work.done = on_hashed;
    u->running++;
    loop_work(u->azure->store.loop, &s->work);
}

/* --- the beginning --- */

static void run_sum(struct work *w)
{
    struct upload *u = container_of(w, struct upload, work);

    azure_md5(u->req->put.iov, u->req->put.niov, 0, UINT64_MAX, u->md5);
}

static void on_sum(struct work *w)
{
    struct upload *u = container_of(w, struct upload, work);

    u->summing = false;
    if (u->status != 0) {
        end(u);
        return;
    }
    for (int i = 0; i < PARALLEL && u->begun < u->nblocks; i++)
        begin_block(&u->slots[i]);
}

void azure_blocks_start(struct azure *a, struct store_req *r)
{
    struct upload *u = xcalloc(1, sizeof(*u));

    u->op.cancel = cancel;
    u->azure = a;
    u->req = r;
    u->bytes = store_put_bytes(r);
    u->nblocks = (unsigned)((u->bytes + a->part_bytes - 1) / a->part_bytes);
    CHECK(u->nblocks <= AZURE_BLOCKS_MAX); /* the largest object in the smallest parts has 3,277 */
    loop_random(a->store.loop, &u->nonce, sizeof(u->nonce));
    for (int i = 0; i < PARALLEL; i++)
        u->slots[i].u = u;
    r->backend = &u->op;
    u->summing = true;
    u->work.run = run_sum;
    u->work.done = on_sum;
    loop_work(a->store.loop, &u->work);
}
