/* journal/entry.c - see entry.h.
 *
 *   read ─► is it ours? ─► edited ─► swapped ─► done       (an edit that is there already: done, too)
 *    ▲                                  │
 *    └────── another swap was first, or how it ended is not known
 */
#include "entry.h"
#include "mem.h"
#include "store_wait.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { TIMEOUT_MS = 30000, TRIES = 8 };

static void fetch(const struct entry_access *a, const char *name, uint8_t bytes[VMOBJ_MAX],
                  struct store_req *r)
{
    *r = (struct store_req){.op = STORE_GET, .timeout_ms = TIMEOUT_MS, .key = name};
    r->get.buf = bytes;
    r->get.cap = VMOBJ_MAX;
    r->get.whole = true;
    store_wait_through(a->store, r, a->stop, "a VM's entry is read");
}

int entry_read(const struct entry_access *a, const uint8_t id[VMLOG_ID_BYTES], struct vmobj *v,
               struct buf **text, char etag[ENTRY_ETAG], struct why *why)
{
    CLEANUP_FREE uint8_t *bytes = xmalloc(VMOBJ_MAX);
    char name[MAP_NAME_MAX];
    struct store_req r;
    int err;

    *text = NULL;
    vmobj_name(name, id);
    fetch(a, name, bytes, &r);
    if (r.status) {
        *why = r.why;
        return r.status;
    }
    snprintf(etag, ENTRY_ETAG, "%s", r.etag);
    *text = vmobj_open(a->master, id, bytes, r.len, v, &err, why);
    return err;
}

/* etag NULL: there must be none yet. */
static int put(const struct entry_access *a, const struct vmobj *v, const void *text, size_t n,
               const char *etag, bool patient, struct why *why)
{
    uint8_t salt[AEAD_SALT_BYTES];
    char name[MAP_NAME_MAX];
    struct store_req r = {.op = STORE_PUT, .timeout_ms = TIMEOUT_MS, .key = name};
    struct buf *sealed;
    struct iovec iov;
    int err;

    loop_random(a->random, salt, sizeof salt);
    sealed = vmobj_seal(a->master, salt, v, text, n);
    vmobj_name(name, v->id);
    iov = (struct iovec){sealed->data, sealed->len};
    r.put.iov = &iov;
    r.put.niov = 1;
    r.put.condition = etag ? STORE_IF_MATCH : STORE_IF_ABSENT;
    r.put.match = etag;
    err = patient ? store_wait_through(a->store, &r, a->stop, "a VM's entry is changed")
                  : store_wait(a->store, &r, a->stop);
    buf_unref(&sealed);
    if (err)
        *why = r.why;
    return err;
}

int entry_put(const struct entry_access *a, const struct vmobj *v, const char *text, const char *etag,
              struct why *why)
{
    return put(a, v, text, strlen(text), etag, false, why);
}

static int read_ours(const struct entry_access *a, const struct entry_edit *e, struct vmobj *v,
                     struct buf **text, char etag[ENTRY_ETAG], struct why *why)
{
    CLEANUP_FREE uint8_t *bytes = xmalloc(VMOBJ_MAX);
    struct vmobj earlier = e->mine;
    char name[MAP_NAME_MAX];
    struct store_req r;
    int err;

    vmobj_name(name, e->mine.id);
    fetch(a, name, bytes, &r);
    *why = r.why;
    snprintf(etag, ENTRY_ETAG, "%s", r.etag);
    err = vmobj_judge(a->master, &e->mine, r.status, bytes, r.len, v, text, why);
    if (err == -ESTALE && r.status == 0 && e->text) {
        earlier.epoch--;
        err = vmobj_judge(a->master, &earlier, 0, bytes, r.len, v, text, why);
    }
    return r.status == -ENOENT ? -ENOENT : err;
}

/* true: it is to be put. The first time a text is put even if it is the same: who read the entry before, to
 * take the VM over, has to begin anew. */
static bool edit(const struct entry_edit *e, bool first, struct vmobj *v, struct buf **text)
{
    size_t n = e->text ? strlen(e->text) : 0;
    bool changed = false;

    if (e->text && (first || v->epoch != e->mine.epoch || v->since != e->mine.since || n != (*text)->len ||
                    memcmp(e->text, (*text)->data, n) != 0)) {
        v->epoch = e->mine.epoch;
        v->since = e->mine.since;
        vmobj_wipe(text);
        *text = buf_new(n);
        memcpy((*text)->data, e->text, n);
        changed = true;
    }
    if (e->checkpoint.cut && !checkpoint_same(&e->checkpoint, &v->newest)) {
        v->before = v->newest;
        v->newest = e->checkpoint;
        changed = true;
    }
    if (e->whole > v->whole) {
        v->whole = e->whole;
        changed = true;
    }
    return changed;
}

int entry_change(const struct entry_access *a, const struct entry_edit *e, struct vmobj *now, struct why *why)
{
    int err = 0;

    for (unsigned i = 0; i < TRIES; i++) {
        struct buf *text = NULL;
        char etag[ENTRY_ETAG];

        err = read_ours(a, e, now, &text, etag, why);
        if (err)
            return err;
        if (edit(e, i == 0, now, &text))
            err = put(a, now, text->data, text->len, etag, e->patient, why);
        vmobj_wipe(&text);
        if (err != -ESTALE && err != -EIO && err != -ETIMEDOUT)
            return err;
    }
    return err == -ESTALE ? why_set(why, -EAGAIN, "the VM's entry in the object store never stays as it is")
                          : err;
}
