/* tests/sim/sim_table.c - see sim_table.h. A tree for each space, and what undoes the batches that are not
 * stable.
 */
#include "sim_table.h"

#include "check.h"
#include "mem.h"

#include <bsd/sys/tree.h>
#include <string.h>
#include <sys/queue.h>

struct row {
    RB_ENTRY(row) node;
    uint8_t *value;
    size_t key_len, len;
    uint8_t key[];
};
RB_HEAD(rows, row);

struct change {
    enum { CHANGE_PUT, CHANGE_DELETE, CHANGE_RANGE } what;
    uint8_t space;
    uint8_t *key, *value; /* RANGE: from, to */
    size_t key_len, len;
};

struct sim_batch {
    struct change *changes;
    size_t n, room;
};

/* What puts one key back: value NULL: it was not there. */
struct undo {
    TAILQ_ENTRY(undo) entry;
    uint64_t batch;
    unsigned space;
    uint8_t *key, *value;
    size_t key_len, len;
};
TAILQ_HEAD(undos, undo);

struct sim_table {
    struct rows rows[SIM_TABLE_SPACES];
    struct undos undos; /* oldest first */
    uint64_t applied, synced, bytes;
};

int sim_key_compare(const void *a, size_t a_len, const void *b, size_t b_len)
{
    size_t n = a_len < b_len ? a_len : b_len;
    int c = n ? memcmp(a, b, n) : 0;

    return c ? c : (a_len > b_len) - (a_len < b_len);
}

static int row_compare(const struct row *a, const struct row *b)
{
    return sim_key_compare(a->key, a->key_len, b->key, b->key_len);
}

RB_GENERATE_INTERNAL(rows, row, node, row_compare, __attribute__((unused)) static)

static uint8_t *copy(const void *bytes, size_t n)
{
    uint8_t *p = xmalloc(n + 1);

    if (bytes && n)
        memcpy(p, bytes, n);
    return p;
}

/* --- batches --- */

struct sim_batch *sim_batch_new(void)
{
    return xcalloc(1, sizeof(struct sim_batch));
}

void sim_batch_clear(struct sim_batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        free(b->changes[i].key);
        free(b->changes[i].value);
    }
    b->n = 0;
}

void sim_batch_free(struct sim_batch *b)
{
    sim_batch_clear(b);
    free(b->changes);
    free(b);
}

static struct change *add(struct sim_batch *b, struct change c)
{
    if (b->n == b->room) {
        b->room = b->room ? 2 * b->room : 16;
        b->changes = xrealloc(b->changes, b->room * sizeof *b->changes);
    }
    b->changes[b->n] = c;
    return &b->changes[b->n++];
}

void *sim_batch_put(struct sim_batch *b, unsigned space, const void *key, size_t key_len, const void *value,
                    size_t len)
{
    return add(b, (struct change){CHANGE_PUT, (uint8_t)space, copy(key, key_len), copy(value, len), key_len,
                                  len})
        ->value;
}

void sim_batch_delete(struct sim_batch *b, unsigned space, const void *key, size_t key_len)
{
    add(b, (struct change){CHANGE_DELETE, (uint8_t)space, copy(key, key_len), NULL, key_len, 0});
}

void sim_batch_delete_range(struct sim_batch *b, unsigned space, const void *from, size_t from_len,
                            const void *to, size_t to_len)
{
    add(b, (struct change){CHANGE_RANGE, (uint8_t)space, copy(from, from_len), copy(to, to_len), from_len,
                           to_len});
}

size_t sim_batch_count(const struct sim_batch *b)
{
    return b->n;
}

/* --- the table --- */

struct sim_table *sim_table_new(void)
{
    struct sim_table *t = xcalloc(1, sizeof *t);

    for (unsigned i = 0; i < SIM_TABLE_SPACES; i++)
        RB_INIT(&t->rows[i]);
    TAILQ_INIT(&t->undos);
    return t;
}

static struct row *row_new(const void *key, size_t n)
{
    struct row *r = xcalloc(1, sizeof *r + n + 1);

    r->key_len = n;
    if (n)
        memcpy(r->key, key, n);
    return r;
}

static struct row *find(const struct sim_table *t, unsigned space, const void *key, size_t n, bool next)
{
    struct rows *rows = (struct rows *)(uintptr_t)&t->rows[space];
    struct row *at = RB_ROOT(rows), *best = NULL;

    while (at) {
        int c = sim_key_compare(key, n, at->key, at->key_len);

        if (c == 0)
            return at;
        if (c < 0)
            best = at;
        at = c < 0 ? RB_LEFT(at, node) : RB_RIGHT(at, node);
    }
    return next ? best : NULL;
}

static void drop(struct sim_table *t, unsigned space, struct row *r)
{
    RB_REMOVE(rows, &t->rows[space], r);
    t->bytes -= r->key_len + r->len;
    free(r->value);
    free(r);
}

/* Takes value. */
static void set(struct sim_table *t, unsigned space, const void *key, size_t n, uint8_t *value, size_t len)
{
    struct row *r = find(t, space, key, n, false);

    if (!r) {
        r = row_new(key, n);
        RB_INSERT(rows, &t->rows[space], r);
        t->bytes += n;
    }
    t->bytes += len - r->len;
    free(r->value);
    r->value = value;
    r->len = len;
}

/* What is there under that key now is taken away, and kept for a crash. */
static void remember(struct sim_table *t, unsigned space, const void *key, size_t n)
{
    struct row *r = find(t, space, key, n, false);
    struct undo *u = xcalloc(1, sizeof *u);

    u->batch = t->applied;
    u->space = space;
    u->key = copy(key, n);
    u->key_len = n;
    if (r) {
        u->value = r->value;
        u->len = r->len;
        t->bytes -= r->len;
        r->value = NULL;
        r->len = 0;
        drop(t, space, r);
    }
    TAILQ_INSERT_TAIL(&t->undos, u, entry);
}

static void apply_range(struct sim_table *t, const struct change *c)
{
    struct row *r;

    while ((r = find(t, c->space, c->key, c->key_len, true)) &&
           sim_key_compare(r->key, r->key_len, c->value, c->len) < 0) {
        uint8_t *key = copy(r->key, r->key_len);

        remember(t, c->space, key, r->key_len);
        free(key);
    }
}

void sim_table_apply(struct sim_table *t, const struct sim_batch *b)
{
    t->applied++;
    for (size_t i = 0; i < b->n; i++) {
        const struct change *c = &b->changes[i];

        if (c->what == CHANGE_RANGE) {
            apply_range(t, c);
            continue;
        }
        remember(t, c->space, c->key, c->key_len);
        if (c->what == CHANGE_PUT)
            set(t, c->space, c->key, c->key_len, copy(c->value, c->len), c->len);
    }
}

uint64_t sim_table_applied(const struct sim_table *t)
{
    return t->applied;
}

static void undo_free(struct sim_table *t, struct undo *u)
{
    TAILQ_REMOVE(&t->undos, u, entry);
    free(u->key);
    free(u->value);
    free(u);
}

void sim_table_sync(struct sim_table *t, uint64_t n)
{
    struct undo *u;

    if (n > t->synced)
        t->synced = n;
    while ((u = TAILQ_FIRST(&t->undos)) && u->batch <= t->synced)
        undo_free(t, u);
}

uint64_t sim_table_unsynced(const struct sim_table *t)
{
    return t->applied - t->synced;
}

void sim_table_lose(struct sim_table *t, uint64_t keep)
{
    struct undo *u;

    while ((u = TAILQ_LAST(&t->undos, undos)) && u->batch > t->synced + keep) {
        struct row *r = find(t, u->space, u->key, u->key_len, false);

        if (u->value)
            set(t, u->space, u->key, u->key_len, u->value, u->len);
        else if (r)
            drop(t, u->space, r);
        u->value = NULL;
        undo_free(t, u);
    }
    sim_table_sync(t, t->applied);
}

void sim_table_wipe(struct sim_table *t)
{
    struct row *r;

    for (unsigned i = 0; i < SIM_TABLE_SPACES; i++)
        while ((r = RB_ROOT(&t->rows[i])))
            drop(t, i, r);
    sim_table_sync(t, t->applied);
}

void sim_table_copy(struct sim_table *to, const struct sim_table *from)
{
    struct row *r;

    for (unsigned i = 0; i < SIM_TABLE_SPACES; i++)
        RB_FOREACH (r, rows, (struct rows *)(uintptr_t)&from->rows[i])
            set(to, i, r->key, r->key_len, copy(r->value, r->len), r->len);
}

uint64_t sim_table_bytes(const struct sim_table *t)
{
    return t->bytes;
}

static bool show(const struct row *r, struct sim_pair *p)
{
    if (r)
        *p = (struct sim_pair){r->key, r->value, r->key_len, r->len};
    return r != NULL;
}

bool sim_table_get(const struct sim_table *t, unsigned space, const void *key, size_t key_len,
                   struct sim_pair *p)
{
    return show(find(t, space, key, key_len, false), p);
}

bool sim_table_next(const struct sim_table *t, unsigned space, const void *from, size_t from_len, bool after,
                    struct sim_pair *p)
{
    struct row *r = find(t, space, from, from_len, true);

    if (r && after && sim_key_compare(r->key, r->key_len, from, from_len) == 0)
        r = RB_NEXT(rows, (struct rows *)(uintptr_t)&t->rows[space], r);
    return show(r, p);
}
