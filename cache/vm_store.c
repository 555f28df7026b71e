/* cache/vm_store.c - see vm_store.h.
 */
#include "vm_store.h"
#include "mem.h"
#include "step.h"
#include "store_wait.h"
#include "vm_spec.h"
#include "vmobj.h"

#include <errno.h>
#include <string.h>

enum { TIMEOUT_MS = 30000 };

static int explain(int err, const struct store_req *r, const char *what, const char *vm, struct why *why)
{
    return err ? why_set(why, err, "%s of VM %s in the object store: %s", what, vm, r->why.text) : 0;
}

static int put(const struct vm_store *s, const struct vm_spec *spec, enum store_condition condition,
               const char *match, struct why *why)
{
    struct vmobj v = {.epoch = spec->epoch, .since = spec->since};
    uint8_t salt[AEAD_SALT_BYTES];
    char name[MAP_NAME_MAX], *text = vm_spec_to_json(spec, false);
    struct store_req r = {.op = STORE_PUT, .timeout_ms = TIMEOUT_MS, .key = name};
    struct buf *sealed;
    struct iovec iov;
    int err;

    memcpy(v.id, spec->id, sizeof v.id);
    memcpy(v.writer, s->writer, sizeof v.writer);
    loop_random(s->random, salt, sizeof salt);
    sealed = vmobj_seal(s->master, salt, &v, text, strlen(text));
    secret_free(&text);
    vmobj_name(name, spec->id);
    iov = (struct iovec){sealed->data, sealed->len};
    r.put.iov = &iov;
    r.put.niov = 1;
    r.put.condition = condition;
    r.put.match = match;
    err = store_wait(s->store, &r, s->stop);
    buf_unref(&sealed);
    return explain(err, &r, "the entry", spec->name, why);
}

int vm_store_create(const struct vm_store *s, const struct vm_spec *spec, struct why *why)
{
    return put(s, spec, STORE_IF_ABSENT, NULL, why);
}

static int get(const struct vm_store *s, const uint8_t id[VMLOG_ID_BYTES], struct vm_spec *spec,
               struct vmobj *v, char etag[VM_STORE_ETAG], struct why *why)
{
    CLEANUP_FREE uint8_t *bytes = xmalloc(VMOBJ_MAX);
    char name[MAP_NAME_MAX];
    struct store_req r = {.op = STORE_GET, .timeout_ms = TIMEOUT_MS, .key = name};
    struct why reason;
    struct buf *text;
    bool deleting;
    int err;

    vmobj_name(name, id);
    r.get.buf = bytes;
    r.get.cap = VMOBJ_MAX;
    r.get.whole = true;
    err = store_wait_through(s->store, &r, s->stop, "a VM's entry is read");
    if (err)
        return why_set(why, err, "%s in the object store: %s", name, r.why.text);
    snprintf(etag, VM_STORE_ETAG, "%s", r.etag);
    text = vmobj_open(s->master, id, bytes, r.len, v, &err, &reason);
    if (!text)
        return why_set(why, err, "%s in the object store: %s", name, reason.text);
    err = vm_spec_from_json((const char *)text->data, text->len, spec, &deleting, why);
    explicit_bzero(text->data, text->len);
    buf_unref(&text);
    if (!err) {
        spec->epoch = v->epoch;
        spec->since = v->since;
    }
    return err;
}

int vm_store_get(const struct vm_store *s, const uint8_t id[VMLOG_ID_BYTES], struct vm_spec *spec,
                 uint8_t *writer, char etag[VM_STORE_ETAG], struct why *why)
{
    struct vmobj v;
    int err = get(s, id, spec, &v, etag, why);

    if (!err && writer)
        memcpy(writer, v.writer, sizeof v.writer);
    return err;
}

int vm_store_change(const struct vm_store *s, const struct vm_spec *spec, struct why *why)
{
    struct vm_spec *found = xcalloc(1, sizeof *found);
    char etag[VM_STORE_ETAG];
    struct vmobj v;
    int err = get(s, spec->id, found, &v, etag, why);

    vm_spec_wipe(found);
    free(found);
    if (err)
        return err;
    if ((v.epoch != spec->epoch && v.epoch + 1 != spec->epoch) ||
        memcmp(v.writer, s->writer, sizeof v.writer) != 0)
        return why_set(why, -ESTALE, "another edge has taken VM %s over", spec->name);
    return put(s, spec, STORE_IF_MATCH, etag, why);
}

int vm_store_take(const struct vm_store *s, const struct vm_spec *spec, const char *etag, struct why *why)
{
    return put(s, spec, STORE_IF_MATCH, etag, why);
}

/* Pages of names: each page is walked with the store at rest. */
static int each_name(const struct vm_store *s, const char *prefix,
                     int (*each)(void *arg, const struct store_page *), void *arg, struct why *why)
{
    char after[STORE_KEY_MAX + 1] = "";
    bool more = true;
    int err = 0;

    while (more && !err) {
        struct store_req r = {.op = STORE_LIST, .timeout_ms = TIMEOUT_MS};

        r.list.prefix = prefix;
        r.list.after = after;
        r.list.limit = STORE_LIST_MAX;
        err = store_wait_through(s->store, &r, s->stop, "VMs are looked for");
        if (err)
            return why_set(why, err, "the object store cannot be listed: %s", r.why.text);
        more = r.page->next != NULL;
        if (r.page->count) {
            snprintf(after, sizeof after, "%s", r.page->entries[r.page->count - 1].key);
            err = each(arg, r.page);
        }
        store_page_free(&r.page);
    }
    return err;
}

struct ids {
    uint8_t (*list)[VMLOG_ID_BYTES];
    size_t n, room;
};

static int keep_ids(void *arg, const struct store_page *page)
{
    struct ids *ids = arg;

    for (size_t i = 0; i < page->count; i++) {
        const char *key = page->entries[i].key, *tail = strrchr(key, '/');
        uint8_t id[VMLOG_ID_BYTES];

        if (strcmp(tail, "/vm") != 0 || !vmobj_id_of(key, id))
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
    int err = each_name(s, "vms/", keep_ids, &ids, why);

    for (size_t i = 0; i < ids.n && !err; i++)
        err = each(arg, ids.list[i]);
    free(ids.list);
    return err;
}

struct removal {
    const struct vm_store *s;
    const char *last; /* goes last */
    struct why *why;
};

static int remove_page(void *arg, const struct store_page *page)
{
    struct removal *d = arg;
    CLEANUP_FREE const char **keys = xcalloc(page->count, sizeof *keys);
    struct store_req r = {.op = STORE_DELETE, .timeout_ms = TIMEOUT_MS};
    int err;

    r.del.keys = keys;
    for (size_t i = 0; i < page->count; i++)
        if (strcmp(page->entries[i].key, d->last) != 0)
            keys[r.del.nkeys++] = page->entries[i].key;
    if (!r.del.nkeys)
        return 0;
    err = store_wait_through(d->s->store, &r, d->s->stop, "a VM's objects are removed");
    STEP("delete.page", "some of a VM's objects are gone");
    return err ? why_set(d->why, err, "a VM's objects cannot be removed: %s", r.why.text) : 0;
}

int vm_store_remove(const struct vm_store *s, const uint8_t id[VMLOG_ID_BYTES], struct why *why)
{
    char entry[MAP_NAME_MAX], prefix[MAP_NAME_MAX];
    const char *keys[1] = {entry};
    struct removal d = {s, entry, why};
    struct store_req r = {.op = STORE_DELETE, .timeout_ms = TIMEOUT_MS};
    int err;

    vmobj_name(entry, id);
    strcpy(prefix, entry);
    *(strrchr(prefix, '/') + 1) = '\0';
    err = each_name(s, prefix, remove_page, &d, why);
    if (err)
        return err;
    r.del.keys = keys;
    r.del.nkeys = 1;
    err = store_wait_through(s->store, &r, s->stop, "a VM's entry is removed");
    return err ? why_set(why, err, "a VM's entry cannot be removed: %s", r.why.text) : 0;
}
