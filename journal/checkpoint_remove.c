/* journal/checkpoint_remove.c - see checkpoint_remove.h.
 */
#include "checkpoint_remove.h"
#include "mem.h"
#include "store_wait.h"

#include <stdlib.h>
#include <string.h>

int checkpoint_remove_dead(const struct checkpoint_dead *dead, struct store *store,
                           const uint8_t id[VMLOG_ID_BYTES], const atomic_bool *stop, struct why *why)
{
    char(*names)[MAP_NAME_MAX] = xcalloc(STORE_DELETE_MAX, sizeof *names);
    const char **keys = xcalloc(STORE_DELETE_MAX, sizeof *keys);
    int err = 0;

    for (unsigned i = 0; i < dead->n && !err;) {
        size_t n = 0;

        for (; i < dead->n && n < STORE_DELETE_MAX; i++, n++) {
            map_object_name(names[n], id, dead->firsts[i]);
            keys[n] = names[n];
        }
        err = store_wait_delete(store, keys, n, stop, "objects without life", why);
    }
    free(names);
    free(keys);
    return err;
}

struct removing {
    const struct vmobj *entry;
    uint64_t epoch;
    struct store *store;
    const atomic_bool *stop;
    struct why *why;
};

/* Not named, and of no later epoch: nobody will ever name it. An entry that could have been swapped for one
 * that names it has been swapped for ours. */
static bool is_old(const struct removing *r, const char *name)
{
    struct checkpoint_id c;

    return checkpoint_of(name, &c) && c.epoch <= r->epoch && !checkpoint_same(&c, &r->entry->newest) &&
           !checkpoint_same(&c, &r->entry->before);
}

static int remove_page(void *arg, const struct store_page *page)
{
    const struct removing *r = arg;
    CLEANUP_FREE const char **keys = xcalloc(page->count + 1, sizeof *keys);
    size_t n = 0;

    for (size_t i = 0; i < page->count; i++)
        if (is_old(r, page->entries[i].key))
            keys[n++] = page->entries[i].key;
    return store_wait_delete(r->store, keys, n, r->stop, "old checkpoints", r->why);
}

int checkpoint_remove_old(const struct vmobj *entry, uint64_t epoch, struct store *store,
                          const atomic_bool *stop, struct why *why)
{
    struct removing r = {entry, epoch, store, stop, why};
    char prefix[MAP_NAME_MAX];

    checkpoint_name(prefix, entry->id, &entry->newest, CHECKPOINT_END);
    *(strrchr(prefix, '/') + 1) = '\0';
    return store_wait_pages(store, prefix, "", stop, "checkpoints are listed", remove_page, &r, why);
}
