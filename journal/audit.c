/* journal/audit.c - see audit.h.
 *
 *   the older checkpoint ► the newest cut, as a recovery would ► its objects, one by one ► the map against
 * them ► what is there beside them ► where one could go back to, if something is wrong
 */
#include "audit.h"
#include "check.h"
#include "map_region.h"
#include "mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GET_TIMEOUT_MS = 60000 };

struct frame {
    uint64_t object;
    uint32_t at, bytes;
};

struct audited {
    struct map_object object;
    uint64_t live; /* sectors, as the map has them */
    bool ends_cut, damaged;
};

struct audit {
    struct recover_conf conf; /* its tell is ours */
    const struct recover_conf *asked;
    struct audit_result *result;
    struct map *map;
    struct audited *objects;
    struct frame *frames;
    size_t nobjects, objects_room, nframes, frames_room;
    uint8_t *bytes;
    char last[600]; /* what recovery said last */
};

static void __attribute__((format(printf, 2, 3))) fault(struct audit *a, const char *format, ...)
{
    char sentence[600];
    va_list args;

    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    a->result->faults++;
    if (a->asked->tell)
        a->asked->tell(a->asked->arg, sentence);
}

/* --- recovering, and what that tells --------------------------------------------------------------------*/

static void flush_told(struct audit *a)
{
    if (*a->last)
        fault(a, "%s", a->last);
    *a->last = '\0';
}

static void on_told(void *arg, const char *sentence)
{
    struct audit *a = arg;

    flush_told(a);
    snprintf(a->last, sizeof a->last, "%s", sentence);
}

/* The map as of a cut. The last sentence of a recovery that went well says only where it ended. */
static int rebuild(struct audit *a, uint64_t through, struct recover_result *r, struct why *why)
{
    int err;

    map_close(&a->map);
    err = map_delete(a->conf.journal, a->conf.entry.id, why);
    if (err)
        return err;
    a->conf.through = through;
    err = recover_vm(&a->conf, r, why);
    if (err)
        flush_told(a);
    *a->last = '\0';
    return err ? err : map_open(&a->map, a->conf.journal, a->conf.entry.id, a->conf.vm, why);
}

/* --- an object ------------------------------------------------------------------------------------------*/

static void keep_frame(struct audit *a, uint64_t object, uint32_t at, uint32_t bytes)
{
    if (a->nframes == a->frames_room) {
        a->frames_room = a->frames_room * 2 + 1024;
        a->frames = xrealloc(a->frames, a->frames_room * sizeof *a->frames);
    }
    a->frames[a->nframes++] = (struct frame){object, at, bytes};
}

static int entry_order(const void *x, const void *y)
{
    const struct logobj_entry *a = x, *b = y;

    return a->frame_at < b->frame_at ? -1 : a->frame_at > b->frame_at;
}

static int open_frames(struct audit *a, const struct logobj_head *h, struct logobj_index *x, uint64_t n,
                       struct why *why)
{
    struct logobj_opener *opener = logobj_opener_new(a->conf.master, a->conf.entry.id, h->first, h->salt);
    uint64_t front = LOGOBJ_HEAD_BYTES + h->index_bytes;
    uint8_t plain[LOGOBJ_FRAME_BYTES];
    uint32_t done = UINT32_MAX;
    int err = 0, got = 0;

    qsort(x->entries, x->nentries, sizeof *x->entries, entry_order);
    for (unsigned i = 0; i < x->nentries && !err; i++) {
        const struct logobj_entry *e = &x->entries[i];

        if (!logobj_is_data(e->kind))
            continue;
        if (e->frame_at != done) {
            if (front + e->frame_at + e->frame_bytes > n)
                err = why_set(why, -EBADMSG, "it ends before its frame at %u does", e->frame_at);
            else
                got = logobj_frame_open(opener, e->frame_at, a->bytes + front + e->frame_at, e->frame_bytes,
                                        plain);
            if (!err && got < 0)
                err = why_set(why, -EBADMSG, "its frame at %u was altered", e->frame_at);
            if (!err)
                keep_frame(a, h->first, e->frame_at, e->frame_bytes);
            done = e->frame_at;
        }
        if (!err && got < (int)((e->frame_sector + e->nsectors) * 512))
            err = why_set(why, -EBADMSG, "its frame at %u is shorter than its index says", e->frame_at);
    }
    logobj_opener_free(&opener);
    return err;
}

static int read_object(struct audit *a, struct audited *o, struct why *why)
{
    char name[MAP_NAME_MAX];
    struct store_req r = {.op = STORE_GET, .timeout_ms = GET_TIMEOUT_MS, .key = name};
    struct logobj_index x = {0};
    struct logobj_head h;
    int err;

    map_object_name(name, a->conf.entry.id, o->object.first);
    r.get.buf = a->bytes;
    r.get.cap = LOGOBJ_BYTES_MAX;
    r.get.whole = true;
    err = store_wait_through(a->conf.store, &r, a->conf.stop, "the store is read");
    if (err == -ENOENT)
        return why_set(why, err, "it is missing");
    if (err)
        return why_set(why, err, "%s", r.why.text);
    err = logobj_head_read(&h, a->bytes, r.len, a->conf.entry.id, o->object.first, why);
    if (!err && (h.bytes != r.len || r.len < LOGOBJ_HEAD_BYTES + h.index_bytes))
        err = why_set(why, -EBADMSG, "it has %zu bytes and not %" PRIu64, r.len, h.bytes);
    if (!err && memcmp(h.salt, o->object.salt, sizeof h.salt) != 0)
        err = why_set(why, -EBADMSG, "it is not the one that was put there");
    if (!err)
        err = logobj_index_read(&x, a->conf.master, &h, a->bytes, why);
    if (!err)
        err = open_frames(a, &h, &x, r.len, why);
    o->ends_cut = !err && h.ends_cut;
    logobj_index_free(&x);
    return err;
}

static void keep_object(void *arg, const struct map_object *o)
{
    struct audit *a = arg;

    if (a->nobjects == a->objects_room) {
        a->objects_room = a->objects_room * 2 + 64;
        a->objects = xrealloc(a->objects, a->objects_room * sizeof *a->objects);
    }
    a->objects[a->nobjects++] = (struct audited){.object = *o};
    a->result->object_bytes += o->bytes;
}

static int read_objects(struct audit *a, struct why *why)
{
    map_objects_each(a->map, keep_object, a);
    a->result->objects = a->nobjects;
    for (size_t i = 0; i < a->nobjects; i++) {
        struct audited *o = &a->objects[i];
        struct why reason = {""};
        int err = read_object(a, o, &reason);

        if (err && err != -ENOENT && err != -EBADMSG && err != -ENOTSUP && err != -EFBIG)
            return why_set(why, err, "%s", reason.text);
        if (!err)
            continue;
        o->damaged = true;
        fault(a, "the log object at %" PRIu64 " is damaged: %s", o->object.first, reason.text);
    }
    return 0;
}

/* --- the map against them -------------------------------------------------------------------------------*/

static int object_order(const void *key, const void *item)
{
    uint64_t first = *(const uint64_t *)key;
    const struct audited *o = item;

    return first < o->object.first ? -1 : first > o->object.first;
}

static struct audited *find_object(struct audit *a, uint64_t first)
{
    return bsearch(&first, a->objects, a->nobjects, sizeof *a->objects, object_order);
}

static int frame_order(const void *x, const void *y)
{
    const struct frame *a = x, *b = y;

    if (a->object != b->object)
        return a->object < b->object ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

static int on_region(void *arg, uint8_t disk, uint64_t lba, const struct region *r)
{
    struct audit *a = arg;

    for (unsigned i = 0; i < r->n; i++) {
        const struct region_entry *e = &r->entries[i];
        struct audited *o = e->zero ? NULL : find_object(a, e->object);
        struct frame key = {e->object, e->frame_at, 0}, *f;

        if (e->zero)
            continue;
        if (!o) {
            fault(a,
                  "disk %u at sector %" PRIu64 ": the map names a log object at %" PRIu64
                  " that it does not know",
                  disk, lba + e->sector, e->object);
            continue;
        }
        o->live += e->nsectors;
        if (o->damaged) {
            a->result->lost_sectors += e->nsectors;
            continue;
        }
        f = bsearch(&key, a->frames, a->nframes, sizeof *a->frames, frame_order);
        if (!f || f->bytes != e->frame_bytes)
            fault(a, "disk %u at sector %" PRIu64 ": the log object at %" PRIu64 " has no frame at %u", disk,
                  lba + e->sector, e->object, e->frame_at);
    }
    return 0;
}

static int compare_map(struct audit *a)
{
    int err = map_each(a->map, on_region, a);

    for (size_t i = 0; i < a->nobjects && !err; i++) {
        const struct audited *o = &a->objects[i];

        a->result->live_bytes += o->live * 512;
        if (o->live != o->object.live_sectors)
            fault(a, "the log object at %" PRIu64 " has %" PRIu64 " live sectors, the map counts %" PRIu64,
                  o->object.first, o->live, o->object.live_sectors);
    }
    return err;
}

/* --- the rest -------------------------------------------------------------------------------------------*/

static int on_name(void *arg, uint64_t first)
{
    struct audit *a = arg;

    if (!find_object(a, first))
        a->result->left_over++;
    return 0;
}

static int on_touch(void *arg, uint8_t disk, uint64_t lba, const struct region *r)
{
    struct audit *a = arg;

    (void)disk;
    (void)lba;
    for (unsigned i = 0; i < r->n; i++) {
        struct audited *o = r->entries[i].zero ? NULL : find_object(a, r->entries[i].object);

        if (o && o->damaged)
            return 1;
    }
    return 0;
}

/* A cut before the first damaged object: does it do without all of them? */
static int look_back(struct audit *a, struct why *why)
{
    struct recover_result r;
    uint64_t cut = 0;
    int err;

    for (size_t i = 0; i < a->nobjects && !a->objects[i].damaged; i++)
        if (a->objects[i].ends_cut)
            cut = a->objects[i].object.last;
    if (!a->result->lost_sectors) {
        a->result->has_good_cut = a->result->cut != 0; /* nothing of the newest is in what is damaged */
        a->result->good_cut = a->result->cut;
        return 0;
    }
    if (!cut)
        return 0;
    a->conf.tell = NULL;
    err = rebuild(a, cut, &r, why);
    if (err == -ENOENT || err == -EBADMSG)
        return 0;
    if (!err)
        err = map_each(a->map, on_touch, a);
    if (err < 0)
        return err;
    a->result->has_good_cut = err == 0;
    a->result->good_cut = r.state.committed;
    return 0;
}

static int older_checkpoint(struct audit *a, struct why *why)
{
    const struct vmobj *entry = &a->conf.entry;
    bool before = entry->before.cut > a->conf.floor;
    struct recover_result r;
    int err;

    a->result->checkpoints = (entry->newest.cut > a->conf.floor ? 1U : 0U) + (before ? 1U : 0U);
    if (!before)
        return 0;
    err = rebuild(a, entry->before.cut, &r, why);
    return err == -ENOENT ? 0 : err; /* it was told */
}

int audit_vm(const struct recover_conf *conf, struct audit_result *result, struct why *why)
{
    struct audit a = {.conf = *conf, .asked = conf, .result = result, .bytes = xmalloc(LOGOBJ_BYTES_MAX)};
    struct recover_result r;
    int err;

    memset(result, 0, sizeof *result);
    a.conf.audited = true;
    a.conf.tell = on_told;
    a.conf.arg = &a;
    err = older_checkpoint(&a, why);
    if (!err)
        err = rebuild(&a, UINT64_MAX, &r, why);
    if (err == -ENOENT) { /* made and never written to, or nothing of it can be used: told */
        err = 0;
    } else if (!err) {
        result->cut = r.state.committed;
        err = read_objects(&a, why);
        if (!err)
            err = compare_map(&a);
        if (!err)
            err = recover_each_object(&a.conf, on_name, &a, why);
        if (!err && result->faults)
            err = look_back(&a, why);
    }
    map_close(&a.map);
    free(a.objects);
    free(a.frames);
    free(a.bytes);
    return err;
}
