/* journal/recover_beyond.c - the objects beside the cut that a recovery came to: those that it needs, and
 * those behind it, which make room for the log to go on.
 *
 * What a crash has left behind the cut is of no use to anybody, and stays: the log that goes on there
 * replaces it by a swap, or a checkpoint beyond removes it (sweep.h). A delete could be done late, when the
 * name is an object's of the new log: of this edge's, or of one that has taken the VM since. If something was
 * damaged, or an older cut was asked for, it is what the VM wrote: it is put aside, under vms/ID/lost/EPOCH/,
 * until somebody says that it may go.
 */
#include "check.h"
#include "commit_impl.h"
#include "mem.h"
#include "recover_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOST_NAME_MAX = MAP_NAME_MAX + 32, MISSING_TOLD = 20 };

static uint64_t number_of(const struct store_entry *e)
{
    return strtoull(strrchr(e->key, '/') + 1, NULL, 16);
}

/* Every log object behind the cut. */
static int each_beyond(struct recovery *r, int (*each)(void *arg, const struct store_page *), void *arg,
                       struct why *why)
{
    char prefix[MAP_NAME_MAX], after[MAP_NAME_MAX];

    recover_prefix(prefix, r->conf->entry.id, "/log/");
    map_object_name(after, r->conf->entry.id, r->result->state.committed);
    return recover_pages(r, prefix, after, each, arg, why);
}

/* --- counting them --------------------------------------------------------------------------------------*/

struct counting {
    struct recovery *r;
    bool gap;      /* there is none that goes on where the log ended */
    uint64_t ours; /* are of the log's own epoch, or cannot be read */
};

static int count_page(void *arg, const struct store_page *page)
{
    struct counting *c = arg;

    c->r->result->beyond += page->count;
    for (size_t i = 0; i < page->count; i++)
        if (number_of(&page->entries[i]) == c->r->next)
            c->gap = false;
    return 0;
}

/* A few objects are on their way at once: that many may be there before the one that they follow. */
static bool is_too_many(const struct recovery *r, uint64_t n)
{
    return n >= r->result->unfinished + COMMIT_OUTGOING;
}

/* 1: enough are known. */
static int count_ours(void *arg, const struct store_page *page)
{
    struct counting *c = arg;
    struct logobj_head head;
    struct why why;

    for (size_t i = 0; i < page->count; i++) {
        int64_t n = recover_get(c->r, page->entries[i].key, LOGOBJ_HEAD_BYTES, false, &why);

        if (n == -ENOENT)
            continue;
        if (n < 0 && n != -EBADMSG)
            return (int)n;
        c->ours += n < 0 ||
                   logobj_head_read(&head, c->r->bytes, (size_t)n, c->r->conf->entry.id,
                                    number_of(&page->entries[i]), &why) < 0 ||
                   !recover_is_left_over(c->r->conf, &head);
        if (is_too_many(c->r, c->ours))
            return 1;
    }
    return 0;
}

int recover_look_beyond(struct recovery *r, struct why *why)
{
    struct counting c = {.r = r, .gap = true};
    int err = each_beyond(r, count_page, &c, why);

    if (err || !c.gap || !is_too_many(r, r->result->beyond) || r->conf->through != UINT64_MAX ||
        !recover_was_written(r->conf))
        return err;
    err = each_beyond(r, count_ours, &c, why);
    if (err <= 0)
        return err;
    r->result->damaged = true; /* a crash leaves no more than that */
    recover_tell(r, "the log object at %" PRIu64 " is missing: %" PRIu64 " behind it are of no use", r->next,
                 r->result->beyond - r->result->unfinished);
    return 0;
}

/* --- those that are needed ------------------------------------------------------------------------------*/

struct needing {
    struct recovery *r;
    struct map_object *needed; /* rising, of which something is live */
    size_t n, room, at;
    uint64_t sectors;
};

static void keep_needed(void *arg, const struct map_object *o)
{
    struct needing *need = arg;

    if (o->live_sectors == 0)
        return;
    if (need->n == need->room) {
        need->room = need->room * 2 + 64;
        need->needed = xrealloc(need->needed, need->room * sizeof *need->needed);
    }
    need->needed[need->n++] = *o;
}

/* Those up to this number, which are not in the store. */
static void missing_until(struct needing *need, uint64_t number)
{
    for (; need->at < need->n && need->needed[need->at].first < number; need->at++) {
        const struct map_object *o = &need->needed[need->at];

        need->sectors += o->live_sectors;
        if (need->r->result->missing++ < MISSING_TOLD)
            recover_tell(need->r,
                         "the log object at %" PRIu64 " is missing: %" PRIu64
                         " bytes of this cut are in nothing else",
                         o->first, o->live_sectors * 512);
    }
}

static int compare_page(void *arg, const struct store_page *page)
{
    struct needing *need = arg;

    for (size_t i = 0; i < page->count; i++) {
        uint64_t number = number_of(&page->entries[i]);

        missing_until(need, number);
        if (need->at < need->n && need->needed[need->at].first == number)
            need->at++;
    }
    return 0;
}

int recover_look_behind(struct recovery *r, struct why *why)
{
    struct needing need = {.r = r};
    char prefix[MAP_NAME_MAX];
    int err;

    map_objects_each(r->map, keep_needed, &need);
    recover_prefix(prefix, r->conf->entry.id, "/log/");
    err = recover_pages(r, prefix, "", compare_page, &need, why);
    if (!err)
        missing_until(&need, UINT64_MAX);
    free(need.needed);
    if (err || !r->result->missing)
        return err;
    r->result->damaged = true;
    recover_tell(r,
                 "%" PRIu64 " log object(s) are missing, and %" PRIu64
                 " bytes of this cut with them: what reads those waits",
                 r->result->missing, need.sectors * 512);
    return 0;
}

/* --- away with them -------------------------------------------------------------------------------------*/

struct clearing {
    struct recovery *r;
    struct why *why;
    uint64_t kept;
};

static void lost_prefix(char prefix[LOST_NAME_MAX], const uint8_t *id)
{
    recover_prefix(prefix, id, "/lost/");
}

/* All of it, damaged or not; its length. */
static int64_t read_all(struct recovery *r, const char *key, size_t size, struct why *why)
{
    struct store_req req = {.op = STORE_GET, .timeout_ms = RECOVER_TIMEOUT_MS, .key = key};
    int err;

    r->bytes = xrealloc(r->bytes, size + 1);
    req.get.buf = r->bytes;
    req.get.cap = size;
    err = store_wait_through(r->conf->store, &req, r->conf->stop, "what is behind the cut is read");
    return err ? why_set(why, err, "%s", req.why.text) : (int64_t)req.len;
}

/* A copy in vms/ID/lost/EPOCH, EPOCH that of the recovery. One that is there already is of this recovery,
 * before a crash. */
static int put_aside(struct clearing *c, const struct store_entry *e)
{
    struct recovery *r = c->r;
    char name[LOST_NAME_MAX];
    struct why reason = {""};
    struct store_req req = {.op = STORE_PUT, .timeout_ms = RECOVER_TIMEOUT_MS, .key = name};
    int64_t n = e->size > LOGOBJ_BYTES_MAX ? -EFBIG : read_all(r, e->key, e->size, &reason);
    struct iovec iov = {r->bytes, n > 0 ? (size_t)n : 0};
    int err;

    if (n == -ENOENT)
        return 0;
    if (n == -EFBIG || n == -EBADMSG) {
        recover_tell(r, "%s cannot be read, and is removed: %s", e->key,
                     n == -EFBIG ? "it is larger than any of ours" : reason.text);
        return 0;
    }
    if (n < 0)
        return why_set(c->why, (int)n, "%s cannot be put aside: %s", e->key, reason.text);
    lost_prefix(name, r->conf->entry.id);
    snprintf(name + strlen(name), sizeof name - strlen(name), "%016" PRIx64 "/%s", r->conf->entry.epoch + 1,
             e->key + strlen("vms/") + 2 * VMLOG_ID_BYTES + 1);
    req.put.iov = &iov;
    req.put.niov = 1;
    req.put.condition = STORE_IF_ABSENT;
    err = store_wait_through(r->conf->store, &req, r->conf->stop, "what is behind the cut is put aside");
    if (err && err != -EEXIST)
        return why_set(c->why, err, "%s cannot be put aside: %s", e->key, req.why.text);
    c->kept++;
    return 0;
}

/* A page of names, rising: those behind the cut. */
static int clear_page(void *arg, const struct store_page *page)
{
    struct clearing *c = arg;
    CLEANUP_FREE const char **keys = xcalloc(page->count + 1, sizeof *keys);
    size_t n = 0;
    int err = 0;

    for (size_t i = 0; i < page->count && !err; i++) {
        if (number_of(&page->entries[i]) <= c->r->result->state.committed)
            continue;
        keys[n++] = page->entries[i].key;
        err = put_aside(c, &page->entries[i]);
    }
    return err ? err
               : store_wait_delete(c->r->conf->store, keys, n, c->r->conf->stop, "objects behind the cut",
                                   c->why);
}

/* Is it what the VM wrote? */
static bool is_of_use(const struct recover_conf *conf, const struct recover_result *result)
{
    return result->damaged || conf->through != UINT64_MAX;
}

int recover_keep_entry(const struct recover_conf *conf, const struct recover_result *result, struct why *why)
{
    struct recover_result copy = *result;
    struct recovery r = {.conf = conf, .result = &copy};
    struct clearing c = {.r = &r, .why = why};
    char name[MAP_NAME_MAX];
    int err;

    if (!is_of_use(conf, result) || (!result->beyond && conf->entry.newest.cut <= result->state.committed))
        return 0;
    vmobj_name(name, conf->entry.id);
    err = put_aside(&c, &(struct store_entry){name, VMOBJ_MAX});
    free(r.bytes);
    return err;
}

int recover_put_aside(const struct recover_conf *conf, const struct recover_result *result, struct why *why)
{
    struct recover_result copy = *result;
    struct recovery r = {.conf = conf, .result = &copy};
    struct clearing c = {.r = &r, .why = why};
    char prefix[MAP_NAME_MAX];
    int err;

    if (!is_of_use(conf, result))
        return 0;
    /* First what leads to the others. */
    recover_prefix(prefix, conf->entry.id, "/map/");
    err = recover_pages(&r, prefix, "", clear_page, &c, why);
    if (!err)
        err = each_beyond(&r, clear_page, &c, why);
    if (!err && c.kept)
        recover_tell(&r,
                     "%" PRIu64 " object(s) behind the cut are kept, in the folder lost/%016" PRIx64
                     " of the VM: `isthmusctl store drop-lost` removes them",
                     c.kept, conf->entry.epoch + 1);
    free(r.bytes);
    return err;
}

/* --- for tools ------------------------------------------------------------------------------------------*/

struct passing {
    int (*each)(void *arg, uint64_t first);
    void *arg;
};

static int pass_page(void *arg, const struct store_page *page)
{
    const struct passing *p = arg;
    int err = 0;

    for (size_t i = 0; i < page->count && !err; i++)
        err = p->each(p->arg, number_of(&page->entries[i]));
    return err;
}

int recover_each_object(const struct recover_conf *conf, int (*each)(void *arg, uint64_t first), void *arg,
                        struct why *why)
{
    struct recover_result none = {0};
    struct recovery r = {.conf = conf, .result = &none};
    struct passing p = {each, arg};

    return each_beyond(&r, pass_page, &p, why);
}

struct dropping {
    struct recovery *r;
    bool drop;
    uint64_t n, bytes;
    struct why *why;
};

static int drop_page(void *arg, const struct store_page *page)
{
    struct dropping *d = arg;
    CLEANUP_FREE const char **keys = xcalloc(page->count + 1, sizeof *keys);

    for (size_t i = 0; i < page->count; i++) {
        keys[i] = page->entries[i].key;
        d->bytes += page->entries[i].size;
    }
    d->n += page->count;
    return d->drop ? store_wait_delete(d->r->conf->store, keys, page->count, d->r->conf->stop,
                                       "what was put aside", d->why)
                   : 0;
}

int recover_lost(const struct recover_conf *conf, bool drop, uint64_t *n, uint64_t *bytes, struct why *why)
{
    struct recovery r = {.conf = conf};
    struct dropping d = {.r = &r, .drop = drop, .why = why};
    char prefix[LOST_NAME_MAX];
    int err;

    lost_prefix(prefix, conf->entry.id);
    err = recover_pages(&r, prefix, "", drop_page, &d, why);
    *n = d.n;
    *bytes = d.bytes;
    return err;
}
