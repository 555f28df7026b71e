/* tests/lib/store_ram.c - see store_ram.h. A sorted array of objects; one thread. */
#include "store_ram.h"

#include "check.h"
#include "mem.h"
#include "store_backend.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct object {
    char *key;
    uint8_t *bytes;
    size_t size;
    char etag[24];
};

struct ram_bucket {
    struct object *objects; /* by key */
    size_t count;
    uint64_t puts;
};

struct ram {
    struct store store; /* first */
    struct ram_bucket *bucket;
};

struct ram_bucket *ram_bucket_new(void)
{
    return xcalloc(1, sizeof(struct ram_bucket));
}

static void object_free(struct object *o)
{
    free(o->key);
    free(o->bytes);
}

void ram_bucket_free(struct ram_bucket **b)
{
    for (size_t i = 0; *b && i < (*b)->count; i++)
        object_free(&(*b)->objects[i]);
    if (*b)
        free((*b)->objects);
    free(*b);
    *b = NULL;
}

size_t ram_bucket_count(const struct ram_bucket *b)
{
    return b->count;
}

/* Where key is or would be. */
static size_t place(const struct ram_bucket *b, const char *key)
{
    size_t low = 0, high = b->count;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (strcmp(b->objects[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct object *find(const struct ram_bucket *b, const char *key)
{
    size_t i = place(b, key);

    return i < b->count && strcmp(b->objects[i].key, key) == 0 ? &b->objects[i] : NULL;
}

static struct object *insert(struct ram_bucket *b, const char *key)
{
    size_t i = place(b, key);

    b->objects = xrealloc(b->objects, (b->count + 1) * sizeof(*b->objects));
    memmove(&b->objects[i + 1], &b->objects[i], (b->count - i) * sizeof(*b->objects));
    b->count++;
    b->objects[i] = (struct object){.key = xstrdup(key)};
    return &b->objects[i];
}

static void put(struct ram_bucket *b, struct store_req *r)
{
    struct object *o = find(b, r->key);
    size_t n = 0;

    if (r->put.condition == STORE_IF_ABSENT && o) {
        store_refuse(r, -EEXIST, "ram: %s is there already", r->key);
        return;
    }
    if (r->put.condition == STORE_IF_MATCH && (!o || strcmp(o->etag, r->put.match) != 0)) {
        store_refuse(r, -ESTALE, "ram: %s is not the one with etag %s", r->key, r->put.match);
        return;
    }
    if (!o)
        o = insert(b, r->key);
    free(o->bytes);
    o->size = store_put_bytes(r);
    o->bytes = xmalloc(o->size + 1);
    for (size_t i = 0; i < r->put.niov; n += r->put.iov[i++].iov_len)
        memcpy(o->bytes + n, r->put.iov[i].iov_base, r->put.iov[i].iov_len);
    snprintf(o->etag, sizeof(o->etag), "e%llu", (unsigned long long)++b->puts);
    strcpy(r->etag, o->etag);
    store_finish(r, 0);
}

static void get(struct ram_bucket *b, struct store_req *r)
{
    const struct object *o = find(b, r->key);

    if (!o) {
        store_refuse(r, -ENOENT, "ram: there is no %s", r->key);
        return;
    }
    r->size = o->size;
    strcpy(r->etag, o->etag);
    if (r->op == STORE_GET && r->get.whole && r->get.cap < o->size) {
        store_refuse(r, -EFBIG, "ram: %s has %zu bytes", r->key, o->size);
        return;
    }
    if (r->op == STORE_GET && r->get.offset < o->size) {
        r->len = o->size - (size_t)r->get.offset < r->get.cap ? o->size - (size_t)r->get.offset : r->get.cap;
        memcpy(r->get.buf, o->bytes + r->get.offset, r->len);
    }
    store_finish(r, 0);
}

static void list(const struct ram_bucket *b, struct store_req *r)
{
    const char *after = r->list.token ? r->list.token : r->list.after ? r->list.after : "";
    size_t n = strlen(r->list.prefix);

    r->page = store_page_new(r->list.limit);
    for (size_t i = place(b, r->list.prefix);
         i < b->count && strncmp(b->objects[i].key, r->list.prefix, n) == 0; i++) {
        if (strcmp(b->objects[i].key, after) <= 0)
            continue;
        if (r->page->count == r->list.limit) {
            r->page->next = xstrdup(r->page->entries[r->page->count - 1].key);
            break;
        }
        store_page_add(&r->page, b->objects[i].key, b->objects[i].size);
    }
    store_finish(r, 0);
}

static void delete_many(struct ram_bucket *b, struct store_req *r)
{
    for (; r->ndeleted < r->del.nkeys; r->ndeleted++) {
        struct object *o = find(b, r->del.keys[r->ndeleted]);

        if (!o)
            continue;
        object_free(o);
        b->count--;
        memmove(o, o + 1, (size_t)(&b->objects[b->count] - o) * sizeof(*o));
    }
    store_finish(r, 0);
}

static void ram_start(struct store *s, struct store_req *r)
{
    struct ram_bucket *b = container_of(s, struct ram, store)->bucket;

    switch (r->op) {
    case STORE_PUT:
        put(b, r);
        return;
    case STORE_GET:
    case STORE_HEAD:
        get(b, r);
        return;
    case STORE_LIST:
        list(b, r);
        return;
    case STORE_DELETE:
        delete_many(b, r);
        return;
    case STORE_OPS:
        CHECK(false);
    }
}

static void ram_cancel(struct store *s, struct store_req *r)
{
    (void)s;
    (void)r;
    CHECK(false); /* a request has ended when it has started */
}

static void ram_free(struct store *s)
{
    free(container_of(s, struct ram, store));
}

static const struct store_ops ram_ops = {
    .name = "ram", .start = ram_start, .cancel = ram_cancel, .free = ram_free};

struct store *store_ram_new(struct loop *loop, struct ram_bucket *b, unsigned inflight_max)
{
    struct ram *r = xcalloc(1, sizeof(*r));

    store_init(&r->store, &ram_ops, loop, "ram:", inflight_max);
    r->bucket = b;
    return &r->store;
}
