/* target/reserve_store.c - reservations as named values of the journal. Loading blocks its caller, saving a
 * thread of the pool. It does not know the rules (reserve.c), and does not delete: a VM's values go with the
 * VM (cache/vms.c), and a disk's with the disk.
 */
#include "reserve_store.h"

#include "check.h"
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct reserve_store {
    struct saved {
        char *key;
        uint8_t *bytes;
        size_t n;
    } * list;
    unsigned n;
    uint16_t only_target; /* of format 1 */
    struct why *why;      /* while loading */
};

static int load_one(void *arg, const char *key, const void *value, size_t n)
{
    struct reserve_store *store = arg;
    CLEANUP_FREE struct reserve *r = xmalloc(sizeof *r);
    int rc = reserve_get(r, value, n, store->only_target);

    if (rc == -EPROTONOSUPPORT)
        return why_set(store->why, rc, "the reservations %s in the journal are of a newer version of Isthmus",
                       key);
    if (rc)
        return why_set(store->why, rc, "the reservations %s in the journal cannot be read", key);
    store->list = xrealloc(store->list, (store->n + 1) * sizeof *store->list);
    store->list[store->n].key = xstrdup(key);
    store->list[store->n].bytes = xmalloc(n);
    store->list[store->n].n = n;
    memcpy(store->list[store->n++].bytes, value, n);
    return 0;
}

int reserve_store_load(struct reserve_store **out, struct journal *journal, uint16_t only_target,
                       struct why *why)
{
    struct reserve_store *store = xcalloc(1, sizeof *store);
    int rc;

    store->only_target = only_target;
    store->why = why;
    rc = journal_meta_each(journal, "pr/", load_one, store, why);
    store->why = NULL;
    *out = store;
    if (rc)
        reserve_store_free(out);
    return rc;
}

void reserve_store_free(struct reserve_store **pstore)
{
    struct reserve_store *store = *pstore;

    if (!store)
        return;
    *pstore = NULL;
    for (unsigned i = 0; i < store->n; i++) {
        free(store->list[i].key);
        free(store->list[i].bytes);
    }
    free(store->list);
    free(store);
}

bool reserve_store_get(const struct reserve_store *store, const struct vm_spec *vm, uint8_t number,
                       struct reserve *r)
{
    char key[VM_VALUE_KEY_MAX];

    vm_value_key(vm->id, number, key);
    for (unsigned i = 0; i < store->n; i++)
        if (!strcmp(store->list[i].key, key)) {
            /* as when it was loaded */
            CHECK(reserve_get(r, store->list[i].bytes, store->list[i].n, store->only_target) == 0);
            r->generation = 0;
            return r->aptpl; /* else it was kept for the other edge of a pair */
        }
    return false;
}

static void save_run(struct work *w)
{
    struct reserve_save *s = container_of(w, struct reserve_save, in.work);

    s->status = s->in.bytes ? journal_meta_put(s->in.journal, s->in.key, s->in.bytes, s->in.n, &s->why)
                            : journal_meta_delete(s->in.journal, s->in.key, &s->why);
}

static void save_done(struct work *w)
{
    struct reserve_save *s = container_of(w, struct reserve_save, in.work);

    free(s->in.bytes);
    s->in.bytes = NULL;
    s->done(s);
}

void reserve_store_save(struct reserve_save *s, struct loop *loop, struct journal *journal,
                        const struct vm_spec *vm, uint8_t number, const struct reserve *r)
{
    s->in.work = (struct work){.run = save_run, .done = save_done};
    s->in.journal = journal;
    vm_value_key(vm->id, number, s->in.key);
    if (r) {
        s->in.bytes = xmalloc(RESERVE_SAVED_MAX);
        s->in.n = reserve_put(r, s->in.bytes);
    }
    loop_work(loop, &s->in.work);
}
