/* journal/store/azure_delete.c - delete many: one request a blob, PARALLEL at a time.
 *
 * Snapshots of a blob go with it. After a failure those under way are waited for and no others are begun.
 */
#include "azure_impl.h"
#include "check.h"
#include "mem.h"

#include <errno.h>
#include <string.h>

enum { PARALLEL = 8 };

struct deletion;

struct slot {
    struct deletion *d;
    struct azure_call call;
    bool busy;
};

struct deletion {
    struct azure_op op; /* first */
    struct store_req *req;
    struct slot slots[PARALLEL];
    size_t begun, running;
    bool cancelled;
    int status; /* the first failure */
};

static void begin(struct slot *);

static bool deleted(const struct azure_call *c)
{
    char code[64];

    if (c->http.status != 0)
        return false;
    azure_error_code(&c->http, code);
    return c->http.code == 202 || (c->http.code == 404 && strcmp(code, "BlobNotFound") == 0);
}

/* The key is named in the sentence. */
static int failure(struct deletion *d, const struct azure_call *c)
{
    int status;

    d->req->key = c->key;
    status = azure_failure(d->req, c);
    d->req->key = NULL;
    return status;
}

static void on_answer(struct azure_call *c)
{
    struct slot *s = container_of(c, struct slot, call);
    struct deletion *d = s->d;
    struct store_req *r = d->req;
    int status;

    if (deleted(c)) {
        r->ndeleted++;
        r->clock_s = store_http_date_s(&c->http);
    } else if (d->status == 0) {
        d->status = failure(d, c);
    }
    azure_call_clear(c);
    s->busy = false;
    d->running--;
    if (d->status == 0 && !d->cancelled && d->begun < r->del.nkeys) {
        begin(s);
        return;
    }
    if (d->running > 0)
        return;
    status = d->status;
    if (status == 0 && d->cancelled && r->ndeleted < r->del.nkeys)
        status = why_set(&r->why, -ECANCELED, "cancelled");
    free(d);
    store_finish(r, status);
}

static void begin(struct slot *s)
{
    struct deletion *d = s->d;
    struct azure_call *c = &s->call;

    memset(c, 0, sizeof(*c));
    c->azure = container_of(d->req->store, struct azure, store);
    c->key = d->req->del.keys[d->begun++];
    c->http.method = "DELETE";
    c->done = on_answer;
    azure_call_header(c, "x-ms-delete-snapshots", "include");
    s->busy = true;
    d->running++;
    azure_call_start(c);
}

static void cancel(struct azure_op *op)
{
    struct deletion *d = container_of(op, struct deletion, op);

    d->cancelled = true;
    for (int i = 0; i < PARALLEL; i++)
        if (d->slots[i].busy)
            azure_call_cancel(&d->slots[i].call);
}

void azure_delete_start(struct azure *a, struct store_req *r)
{
    struct deletion *d = xcalloc(1, sizeof(*d));

    (void)a;
    d->op.cancel = cancel;
    d->req = r;
    r->backend = &d->op;
    for (int i = 0; i < PARALLEL && d->begun < r->del.nkeys; i++) {
        d->slots[i].d = d;
        begin(&d->slots[i]);
    }
}
