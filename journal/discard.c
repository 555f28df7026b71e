/* journal/discard.c - see discard.h.
 */
#include "discard.h"
#include "check.h"
#include "mem.h"
#include "store_wait.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- here -----------------------------------------------------------------------------------------------*/

struct firsts {
    uint64_t *list, through;
    unsigned n, room;
};

static void keep_first(void *arg, const struct map_object *o)
{
    struct firsts *f = arg;

    if (o->last > f->through)
        return;
    if (f->n == f->room) {
        f->room = f->room * 2 + 64;
        f->list = xrealloc(f->list, f->room * sizeof *f->list);
    }
    f->list[f->n++] = o->first;
}

int discard_map(struct map *m, uint64_t floor, struct why *why)
{
    /* What on-prem has stays as it is; the next object follows none. */
    struct map_state state = {.committed = floor, .last = floor, .applied = map_state(m)->applied};
    struct firsts f = {.through = floor};
    struct map_change *change = NULL;
    int err = map_drop(m, floor, &state, &change, why);

    if (err)
        return err;
    map_install(m, &change);
    map_objects_each(m, keep_first, &f);
    err = map_forget(m, f.list, f.n, why);
    free(f.list);
    return err;
}

/* --- in the store ---------------------------------------------------------------------------------------*/

struct sweep {
    struct store *store;
    const atomic_bool *stop;
    uint64_t floor;
    size_t prefix; /* length of what is before the number in a name */
    struct why *why;
};

/* Names are in the order of their numbers: 1 when the rest is beyond it. */
static int sweep_page(void *arg, const struct store_page *page)
{
    const struct sweep *s = arg;
    CLEANUP_FREE const char **keys = xcalloc(page->count + 1, sizeof *keys);
    bool beyond = false;
    size_t n = 0;
    int err;

    for (size_t i = 0; i < page->count && !beyond; i++) {
        beyond = strtoull(page->entries[i].key + s->prefix, NULL, 16) > s->floor;
        if (!beyond)
            keys[n++] = page->entries[i].key;
    }
    err = store_wait_delete(s->store, keys, n, s->stop, "discarded objects", s->why);
    return err ? err : beyond;
}

static int sweep(struct sweep *s, const char *prefix)
{
    int err;

    s->prefix = strlen(prefix);
    err = store_wait_pages(s->store, prefix, "", s->stop, "discarded objects are listed", sweep_page, s,
                           s->why);
    return err == 1 ? 0 : err;
}

int discard_objects(struct store *store, const uint8_t id[VMLOG_ID_BYTES], uint64_t floor,
                    const atomic_bool *stop, struct why *why)
{
    struct sweep s = {.store = store, .stop = stop, .floor = floor, .why = why};
    char log[MAP_NAME_MAX], map[MAP_NAME_MAX];
    int err;

    map_object_name(log, id, 1);
    *(strrchr(log, '/') + 1) = '\0';
    strcpy(map, log);
    strcpy(map + strlen(map) - strlen("log/"), "map/");
    err = sweep(&s, map); /* first what leads to the others */
    return err ? err : sweep(&s, log);
}
