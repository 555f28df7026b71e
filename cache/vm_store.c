/* cache/vm_store.c - see vm_store.h.
 */
#include "vm_store.h"
#include "mem.h"
#include "step.h"
#include "store_wait.h"
#include "vm_spec.h"

#include <errno.h>
#include <string.h>

static struct entry_access access_of(const struct vm_store *s)
{
    return (struct entry_access){
        .store = s->store, .master = s->master, .random = s->random, .stop = s->stop};
}

static int explain(int err, const struct vm_spec *spec, struct why *why)
{
    struct why reason;

    if (!err)
        return 0;
    reason = *why;
    return why_set(why, err, "the entry of VM %s in the object store: %s", spec->name, reason.text);
}

/* As this edge's. */
static struct vmobj mine(const struct vm_store *s, const struct vm_spec *spec)
{
    struct vmobj v = {.epoch = spec->epoch, .since = spec->since};

    memcpy(v.id, spec->id, sizeof v.id);
    memcpy(v.writer, s->writer, sizeof v.writer);
    return v;
}

static int put(const struct vm_store *s, const struct vm_spec *spec, bool deleting, const struct vmobj *v,
               const char *etag, struct why *why)
{
    struct entry_access a = access_of(s);
    char *text = vm_spec_to_json(spec, deleting);
    int err = entry_put(&a, v, text, etag, why);

    secret_free(&text);
    return explain(err, spec, why);
}

int vm_store_create(const struct vm_store *s, const struct vm_spec *spec, struct why *why)
{
    struct vmobj v = mine(s, spec);

    return put(s, spec, true, &v, NULL, why);
}

int vm_store_look(const struct vm_store *s, const uint8_t id[VMLOG_ID_BYTES], struct vm_spec *spec,
                  struct vmobj *v, char etag[ENTRY_ETAG], bool *deleting, struct why *why)
{
    struct entry_access a = access_of(s);
    struct why reason;
    struct buf *text;
    int err = entry_read(&a, id, v, &text, etag, &reason);

    if (err) {
        char name[MAP_NAME_MAX];

        vmobj_name(name, id);
        return why_set(why, err, "%s in the object store: %s", name, reason.text);
    }
    err = vm_spec_from_json((const char *)text->data, text->len, spec, deleting, why);
    vmobj_wipe(&text);
    if (!err) {
        spec->epoch = v->epoch;
        spec->since = v->since;
    }
    return err;
}

int vm_store_get(const struct vm_store *s, const uint8_t id[VMLOG_ID_BYTES], struct vm_spec *spec,
                 struct vmobj *v, char etag[ENTRY_ETAG], struct why *why)
{
    bool deleting;
    int err = vm_store_look(s, id, spec, v, etag, &deleting, why);

    if (!err && deleting)
        err = why_set(why, -ENOENT, "VM %s is being deleted", spec->name);
    return err;
}

static int change(const struct vm_store *s, const struct vm_spec *spec, bool deleting, struct why *why)
{
    struct entry_access a = access_of(s);
    char *text = vm_spec_to_json(spec, deleting);
    struct entry_edit e = {.mine = mine(s, spec), .text = text};
    struct vmobj now;
    int err = entry_change(&a, &e, &now, why);

    secret_free(&text);
    if (err == -ESTALE)
        return why_set(why, err, "another edge has taken VM %s over", spec->name);
    return explain(err, spec, why);
}

int vm_store_change(const struct vm_store *s, const struct vm_spec *spec, struct why *why)
{
    return change(s, spec, false, why);
}

int vm_store_condemn(const struct vm_store *s, const struct vm_spec *spec, struct why *why)
{
    return change(s, spec, true, why);
}

static int take(const struct vm_store *s, const struct vm_spec *spec, bool deleting,
                const struct vmobj *entry, const char *etag, struct why *why)
{
    struct vmobj v = mine(s, spec);

    v.newest = entry->newest;
    v.before = entry->before;
    v.whole = entry->whole;
    return put(s, spec, deleting, &v, etag, why);
}

int vm_store_take(const struct vm_store *s, const struct vm_spec *spec, const struct vmobj *entry,
                  const char *etag, struct why *why)
{
    return take(s, spec, false, entry, etag, why);
}

int vm_store_take_condemned(const struct vm_store *s, const struct vm_spec *spec, const struct vmobj *entry,
                            const char *etag, struct why *why)
{
    return take(s, spec, true, entry, etag, why);
}

int vm_store_fence(const struct vm_store *s, const struct vm_spec *spec, struct why *why)
{
    struct vm_spec *found = xcalloc(1, sizeof *found);
    struct vmobj entry;
    char etag[ENTRY_ETAG];
    int err = vm_store_get(s, spec->id, found, &entry, etag, why);

    if (!err && (memcmp(entry.writer, s->writer, sizeof entry.writer) != 0 || entry.epoch != spec->epoch)) {
        err = why_set(why, -ESTALE, "another edge has taken VM %s over", spec->name);
    } else if (!err) {
        err = vm_store_take(s, found, &entry, etag, why);
        if (err == -ESTALE)
            err = -EAGAIN; /* something else has come between */
    }
    vm_spec_wipe(found);
    free(found);
    return err;
}

int vm_store_settle(const struct vm_store *s, const struct vm_spec *spec, const struct vm_spec *found,
                    struct why *why)
{
    bool same = spec->home == found->home && spec->floor == found->floor;

    return same || spec->task <= found->task ? 0 : vm_store_change(s, spec, why);
}

struct ids {
    uint8_t (*list)[VMLOG_ID_BYTES];
    size_t n, room;
};

static int keep_ids(void *arg, const struct store_page *page)
{
    struct ids *ids = arg;

    for (size_t i = 0; i < page->count; i++) {
        const char *key = page->entries[i].key;
        char name[MAP_NAME_MAX];
        uint8_t id[VMLOG_ID_BYTES];

        if (!vmobj_id_of(key, id))
            continue;
        vmobj_name(name, id);
        if (strcmp(key, name) != 0) /* another object of it, or an entry that was put aside */
            continue;
        if (ids->n == ids->room) {
            ids->room = ids->room * 2 + 16;
            ids->list = xrealloc(ids->list, ids->room * sizeof *ids->list);
        }
        memcpy(ids->list[ids->n++], id, VMLOG_ID_BYTES);
    }
    return 0;
}

int vm_store_each(const struct vm_store *s, int (*each)(void *arg, const uint8_t id[VMLOG_ID_BYTES]),
                  void *arg, struct why *why)
{
    struct ids ids = {0};
    /* Each page is walked with the store at rest. */
    int err = store_wait_pages(s->store, "vms/", "", s->stop, "VMs are looked for", keep_ids, &ids, why);

    for (size_t i = 0; i < ids.n && !err; i++)
        err = each(arg, ids.list[i]);
    free(ids.list);
    return err;
}

struct removal {
    const struct vm_store *s;
    const char *last; /* stays */
    struct why *why;
};

static int remove_page(void *arg, const struct store_page *page)
{
    struct removal *d = arg;
    CLEANUP_FREE const char **keys = xcalloc(page->count, sizeof *keys);
    size_t n = 0;
    int err;

    for (size_t i = 0; i < page->count; i++)
        if (strcmp(page->entries[i].key, d->last) != 0)
            keys[n++] = page->entries[i].key;
    if (n == 0)
        return 0;
    err = store_wait_delete(d->s->store, keys, n, d->s->stop, "a VM's objects", d->why);
    STEP("delete.page", "some of a VM's objects are gone");
    return err;
}

int vm_store_clear(const struct vm_store *s, const uint8_t id[VMLOG_ID_BYTES], struct why *why)
{
    char entry[MAP_NAME_MAX], prefix[MAP_NAME_MAX];
    struct removal d = {s, entry, why};

    vmobj_name(entry, id);
    strcpy(prefix, entry);
    *(strrchr(prefix, '/') + 1) = '\0';
    return store_wait_pages(s->store, prefix, "", s->stop, "a VM's objects are looked for", remove_page, &d,
                            why);
}

int vm_store_remove(const struct vm_store *s, const uint8_t id[VMLOG_ID_BYTES], struct why *why)
{
    char entry[MAP_NAME_MAX];
    const char *keys[1] = {entry};
    int err = vm_store_clear(s, id, why);

    vmobj_name(entry, id);
    return err ? err : store_wait_delete(s->store, keys, 1, s->stop, "a VM's entry", why);
}

int vm_store_bury(const struct vm_store *s, const uint8_t id[VMLOG_ID_BYTES], struct why *why)
{
    struct vm_spec *spec = xcalloc(1, sizeof *spec);
    struct vmobj entry;
    char etag[ENTRY_ETAG];
    bool deleting;
    int err = vm_store_look(s, id, spec, &entry, etag, &deleting, why);

    if (!err && deleting && memcmp(entry.writer, s->writer, sizeof entry.writer) == 0)
        err = vm_store_remove(s, id, why);
    vm_spec_wipe(spec);
    free(spec);
    return err == -ENOENT ? 0 : err;
}
