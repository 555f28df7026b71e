/* journal/sweep.c - see sweep.h.
 */
#include "sweep.h"
#include "map.h"
#include "mem.h"
#include "store_wait.h"

#include <stdlib.h>
#include <string.h>

static void note(void *arg, const struct map_object *o)
{
    struct sweep *s = arg;

    if (o->first <= s->from || o->first > s->through)
        return;
    if (s->n == s->room) {
        s->room = s->room * 2 + 64;
        s->firsts = xrealloc(s->firsts, s->room * sizeof *s->firsts);
    }
    s->firsts[s->n++] = o->first;
}

void sweep_note(struct sweep *s, struct map *map, uint64_t from, uint64_t through)
{
    *s = (struct sweep){.from = from, .through = through};
    map_objects_each(map, note, s);
}

void sweep_clear(struct sweep *s)
{
    free(s->firsts);
    *s = (struct sweep){0};
}

struct sweeping {
    const struct sweep *s;
    struct store *store;
    const atomic_bool *stop;
    struct why *why;
    size_t at; /* in firsts */
};

/* 1: the rest is behind the cut. */
static int sweep_page(void *arg, const struct store_page *page)
{
    struct sweeping *w = arg;
    CLEANUP_FREE const char **keys = xcalloc(page->count + 1, sizeof *keys);
    bool behind = false;
    size_t n = 0;
    int err;

    for (size_t i = 0; i < page->count && !behind; i++) {
        uint64_t first = strtoull(strrchr(page->entries[i].key, '/') + 1, NULL, 16);

        behind = first > w->s->through;
        while (w->at < w->s->n && w->s->firsts[w->at] < first)
            w->at++;
        if (!behind && (w->at == w->s->n || w->s->firsts[w->at] != first))
            keys[n++] = page->entries[i].key;
    }
    err = store_wait_delete(w->store, keys, n, w->stop, "objects that nothing leads to", w->why);
    return err ? err : behind;
}

int sweep_run(const struct sweep *s, struct store *store, const uint8_t id[VMLOG_ID_BYTES],
              const atomic_bool *stop, struct why *why)
{
    struct sweeping w = {s, store, stop, why, 0};
    char prefix[MAP_NAME_MAX], after[MAP_NAME_MAX];
    int err;

    map_object_name(after, id, s->from);
    memcpy(prefix, after, sizeof prefix);
    *(strrchr(prefix, '/') + 1) = '\0';
    err = store_wait_pages(store, prefix, after, stop, "log objects are listed", sweep_page, &w, why);
    return err > 0 ? 0 : err;
}
