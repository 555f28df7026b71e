/* tests/sim/sim_store.c - see sim_store.h.
 */
#include "sim_store.h"

#include "broken.h"

#include "check.h"
#include "mem.h"
#include "store_backend.h"

#include <bsd/sys/tree.h>
#include <errno.h>
#include <string.h>

struct object {
    RB_ENTRY(object) node;
    char *key;
    uint8_t *bytes; /* never changed: copies of the bucket share them */
    size_t size;
    uint64_t etag;
};
RB_HEAD(objects, object);

struct cut_off {
    LIST_ENTRY(cut_off) entry;
    const struct sim_node *node;
    bool requests, answers; /* nothing of it arrives */
};

struct sim_bucket {
    struct objects objects;
    size_t n;
    uint64_t etags, latency_ns, requests;
    struct sim_store_faults faults;
    LIST_HEAD(, cut_off) cuts;
    LIST_HEAD(, journey) puts; /* that have not arrived */
    void (*watch)(const char *key, const void *bytes, size_t n);
};

struct sim_store {
    struct store store; /* first */
    struct sim_bucket *bucket;
};

/* A request on its way; everything in it is its own, for who asked may have given up. */
struct journey {
    LIST_ENTRY(journey) entry; /* of puts */
    struct sim_bucket *bucket;
    struct sim_node *node;
    unsigned life;
    struct store_req *req; /* NULL: given up */
    enum store_op op;
    char *key, *after, *match;
    enum store_condition condition;
    uint8_t *bytes; /* of a put; then of a get's answer */
    size_t size;
    uint64_t offset;
    size_t cap, limit;
    bool whole, travels; /* travels: of puts */
    char **keys;
    size_t nkeys;
    /* the answer */
    int status;
    uint64_t etag, object_bytes;
    struct store_page *page;
};

static int object_compare(const struct object *a, const struct object *b)
{
    return strcmp(a->key, b->key);
}

RB_GENERATE_INTERNAL(objects, object, node, object_compare, __attribute__((unused)) static)

struct sim_bucket *sim_bucket_new(uint64_t latency_ns)
{
    struct sim_bucket *b = xcalloc(1, sizeof *b);

    RB_INIT(&b->objects);
    LIST_INIT(&b->cuts);
    LIST_INIT(&b->puts);
    b->latency_ns = latency_ns;
    return b;
}

struct sim_bucket *sim_bucket_copy(const struct sim_bucket *from)
{
    struct sim_bucket *b = sim_bucket_new(from->latency_ns);
    struct object *o;

    RB_FOREACH (o, objects, (struct objects *)(uintptr_t)&from->objects) {
        struct object *twin = xmalloc(sizeof *twin);

        *twin = *o;
        twin->key = xstrdup(o->key);
        RB_INSERT(objects, &b->objects, twin);
    }
    b->n = from->n;
    b->etags = from->etags;
    return b;
}

struct sim_store_faults *sim_bucket_faults(struct sim_bucket *b)
{
    return &b->faults;
}

size_t sim_bucket_objects(const struct sim_bucket *b)
{
    return b->n;
}

uint64_t sim_bucket_requests(const struct sim_bucket *b)
{
    return b->requests;
}

static struct cut_off *cut_of(const struct sim_bucket *b, const struct sim_node *node)
{
    struct cut_off *c;

    LIST_FOREACH(c, &b->cuts, entry)
    if (c->node == node)
        break;
    return c;
}

void sim_bucket_cut(struct sim_bucket *b, const struct sim_node *node, bool requests, bool answers)
{
    struct cut_off *c = cut_of(b, node);

    if (!c) {
        c = xcalloc(1, sizeof *c);
        c->node = node;
        LIST_INSERT_HEAD(&b->cuts, c, entry);
    }
    c->requests = requests;
    c->answers = answers;
}

void sim_bucket_watch(struct sim_bucket *b, void (*put)(const char *key, const void *bytes, size_t n))
{
    b->watch = put;
}

bool sim_bucket_awaits(const struct sim_bucket *b, const struct sim_node *node, const char *key)
{
    const struct journey *j;

    LIST_FOREACH(j, &b->puts, entry)
    if (j->node == node && strcmp(j->key, key) == 0)
        return true;
    return false;
}

static struct object *find(struct sim_bucket *b, const char *key)
{
    struct object probe = {.key = (char *)(uintptr_t)key};

    return RB_FIND(objects, &b->objects, &probe);
}

static void take_away(struct sim_bucket *b, struct object *o)
{
    RB_REMOVE(objects, &b->objects, o);
    b->n--;
    free(o->key);
    free(o);
}

const char *sim_bucket_last(struct sim_bucket *b, const char *part)
{
    struct object *o, *last = NULL;

    RB_FOREACH (o, objects, &b->objects)
        if (strstr(o->key, part))
            last = o;
    return last ? last->key : NULL;
}

/* --- what is done in the bucket --- */

static void do_put(struct journey *j)
{
    struct object *o = find(j->bucket, j->key);

    if (broken == BROKEN_SWAP && strncmp(j->key, "pairs/", 6) == 0)
        j->condition = STORE_ALWAYS;
    if (j->bucket->faults.full) {
        j->status = -ENOSPC;
    } else if (j->condition == STORE_IF_ABSENT && o) {
        j->status = -EEXIST;
    } else if (j->condition == STORE_IF_MATCH && (!o || o->etag != strtoull(j->match + 1, NULL, 10))) {
        j->status = -ESTALE;
    } else {
        if (!o) {
            o = xcalloc(1, sizeof *o);
            o->key = xstrdup(j->key);
            RB_INSERT(objects, &j->bucket->objects, o);
            j->bucket->n++;
        }
        o->bytes = j->bytes;
        o->size = j->size;
        j->bytes = NULL;
        o->etag = j->etag = ++j->bucket->etags;
        j->status = 0;
        if (j->bucket->watch)
            j->bucket->watch(o->key, o->bytes, o->size);
    }
}

static void do_get(struct journey *j)
{
    const struct object *o = find(j->bucket, j->key);

    if (!o) {
        j->status = -ENOENT;
        return;
    }
    j->object_bytes = o->size;
    j->etag = o->etag;
    j->size = 0;
    if (j->op == STORE_GET && j->whole && j->cap < o->size) {
        j->status = -EFBIG;
    } else if (j->op == STORE_GET && j->offset < o->size) {
        j->size = o->size - j->offset < j->cap ? (size_t)(o->size - j->offset) : j->cap;
        j->bytes = xmalloc(j->size + 1);
        memcpy(j->bytes, o->bytes + j->offset, j->size);
    }
}

static void do_list(struct journey *j)
{
    struct object probe = {.key = j->key}, *o;
    size_t n = strlen(j->key);

    j->page = store_page_new(j->limit);
    for (o = RB_NFIND(objects, &j->bucket->objects, &probe); o && strncmp(o->key, j->key, n) == 0;
         o = RB_NEXT(objects, &j->bucket->objects, o)) {
        if (strcmp(o->key, j->after) <= 0)
            continue;
        if (j->page->count == j->limit) {
            j->page->next = xstrdup(j->page->entries[j->page->count - 1].key);
            break;
        }
        store_page_add(&j->page, o->key, o->size);
    }
}

static void do_delete(struct journey *j)
{
    for (size_t i = 0; i < j->nkeys; i++) {
        struct object *o = find(j->bucket, j->keys[i]);

        if (o)
            take_away(j->bucket, o);
    }
}

static void do_it(struct journey *j)
{
    j->status = 0;
    if (j->op == STORE_PUT)
        do_put(j);
    else if (j->op == STORE_LIST)
        do_list(j);
    else if (j->op == STORE_DELETE)
        do_delete(j);
    else
        do_get(j);
}

/* --- the ways there and back --- */

static void arrive(void *arg);

static void arrived(struct journey *j)
{
    if (j->travels)
        LIST_REMOVE(j, entry);
    j->travels = false;
}

static void journey_free(struct journey *j)
{
    arrived(j);
    for (size_t i = 0; i < j->nkeys; i++)
        free(j->keys[i]);
    free(j->keys);
    free(j->key);
    free(j->after);
    free(j->match);
    free(j->bytes);
    store_page_free(&j->page);
    free(j);
}

static bool somebody_waits(const struct journey *j)
{
    return j->req && j->node->alive && j->node->life == j->life;
}

static void answer(struct journey *j)
{
    struct store_req *r = j->req;
    int status = j->status;

    r->size = j->object_bytes;
    if (j->etag)
        snprintf(r->etag, sizeof r->etag, "e%llu", (unsigned long long)j->etag);
    if (j->op == STORE_GET && status == 0) {
        memcpy(r->get.buf, j->bytes ? j->bytes : (const uint8_t *)"", j->size);
        r->len = j->size;
    }
    r->page = j->page;
    j->page = NULL;
    r->ndeleted = j->op == STORE_DELETE && status == 0 ? j->nkeys : 0;
    r->backend = NULL;
    journey_free(j);
    if (status)
        store_refuse(r, status, "the simulated store: %s of %s: %s", store_op_name(r->op),
                     r->key ? r->key : "", strerror(-status));
    else
        store_finish(r, 0);
}

/* On the bucket's side nobody is paused; the client may be. */
static void arrive_back(void *arg)
{
    struct journey *j = arg;

    if (somebody_waits(j) && j->node->paused_until > sim_now)
        sim_after(NULL, j->node->paused_until - sim_now, arrive_back, j);
    else if (somebody_waits(j))
        answer(j);
    else
        journey_free(j);
}

static void never_back(struct journey *j)
{
    if (somebody_waits(j))
        j->req->backend = NULL; /* it ends at its deadline */
    journey_free(j);
}

/* While the node is cut off some of what it sent is lost, and some arrives much later. */
static bool is_stuck(struct journey *j)
{
    const struct cut_off *c = cut_of(j->bucket, j->node);

    if (!c || !c->requests)
        return false;
    if (sim_chance(300000))
        never_back(j);
    else
        sim_after(NULL, sim_between(500, 8000) * SIM_MS, arrive, j);
    return true;
}

static bool answer_is_lost(const struct journey *j)
{
    const struct cut_off *c = cut_of(j->bucket, j->node);

    return c && c->answers;
}

static void arrive(void *arg)
{
    struct journey *j = arg;
    struct sim_bucket *b = j->bucket;

    if (is_stuck(j))
        return;
    b->requests++;
    if (b->faults.down) {
        j->status = -ENOTCONN;
        if (sim_chance(500000))
            never_back(j);
        else
            arrive_back(j);
        return;
    }
    if (sim_chance(b->faults.refused)) {
        j->status = sim_chance(500000) ? -EAGAIN : -EIO;
        arrive_back(j);
        return;
    }
    arrived(j);
    do_it(j);
    if (answer_is_lost(j)) {
        never_back(j);
        return;
    }
    if (sim_chance(b->faults.lost)) {
        if (sim_chance(500000)) {
            never_back(j);
            return;
        }
        store_page_free(&j->page);
        j->status = -EIO;
        j->etag = 0;
    }
    sim_after(NULL, sim_latency(b->latency_ns / 2), arrive_back, j);
}

static uint8_t *gather(const struct store_req *r, size_t n)
{
    uint8_t *bytes = xmalloc(n + 1);
    size_t at = 0;

    for (size_t i = 0; i < r->put.niov; at += r->put.iov[i++].iov_len)
        if (r->put.iov[i].iov_len)
            memcpy(bytes + at, r->put.iov[i].iov_base, r->put.iov[i].iov_len);
    return bytes;
}

static struct journey *journey_new(struct sim_store *s, struct store_req *r)
{
    struct journey *j = xcalloc(1, sizeof *j);

    j->bucket = s->bucket;
    j->node = sim_loop_node(s->store.loop);
    j->life = j->node->life;
    j->req = r;
    j->op = r->op;
    switch (r->op) {
    case STORE_PUT:
        j->condition = r->put.condition;
        j->match = xstrdup(r->put.match ? r->put.match : "");
        j->size = (size_t)store_put_bytes(r);
        j->bytes = gather(r, j->size);
        break;
    case STORE_GET:
        j->offset = r->get.offset;
        j->cap = r->get.cap;
        j->whole = r->get.whole;
        break;
    case STORE_LIST:
        j->key = xstrdup(r->list.prefix);
        j->after = xstrdup(r->list.token ? r->list.token : r->list.after ? r->list.after : "");
        j->limit = r->list.limit;
        break;
    case STORE_DELETE:
        j->nkeys = r->del.nkeys;
        j->keys = xcalloc(j->nkeys, sizeof *j->keys);
        for (size_t i = 0; i < j->nkeys; i++)
            j->keys[i] = xstrdup(r->del.keys[i]);
        break;
    case STORE_HEAD:
    case STORE_OPS:
        break;
    }
    if (!j->key)
        j->key = xstrdup(r->key ? r->key : "");
    return j;
}

static void sim_start(struct store *store, struct store_req *r)
{
    struct sim_store *s = (struct sim_store *)store;
    struct journey *j = journey_new(s, r);
    uint64_t way = sim_latency(s->bucket->latency_ns / 2);

    if (sim_chance(s->bucket->faults.late))
        way += sim_below(120 * SIM_S);
    j->travels = j->op == STORE_PUT;
    if (j->travels)
        LIST_INSERT_HEAD(&s->bucket->puts, j, entry);
    r->backend = j;
    sim_after(NULL, way, arrive, j);
}

static void sim_cancel_req(struct store *store, struct store_req *r)
{
    struct journey *j = r->backend;

    (void)store;
    if (j)
        j->req = NULL;
    r->backend = NULL;
    store_finish(r, -ECANCELED);
}

static void sim_free(struct store *store)
{
    free(store);
}

static const struct store_ops sim_store_ops = {
    .name = "sim", .start = sim_start, .cancel = sim_cancel_req, .free = sim_free};

struct store *sim_store_new(struct loop *loop, struct sim_bucket *bucket)
{
    struct sim_store *s = xcalloc(1, sizeof *s);

    store_init(&s->store, &sim_store_ops, loop, "sim:", 16);
    s->bucket = bucket;
    return &s->store;
}
