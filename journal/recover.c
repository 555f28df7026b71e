/* journal/recover.c - see recover.h.
 *
 * Objects of one cut are applied together, when its end was found: until then only their fronts are kept.
 */
#include "check.h"
#include "checkpoint.h"
#include "log.h"
#include "mem.h"
#include "recover_impl.h"
#include "step.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char part[] = "recover";

enum { FRONT_FIRST = 256 << 10, FRONT_MAX = 4 << 20 };

/* An object of the cut being gathered. */
struct front {
    struct logobj_head head;
    struct logobj_index index;
};

void recover_tell(struct recovery *r, const char *format, ...)
{
    char sentence[500];
    va_list args;

    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    log_info(r->conf->vm, "%s", sentence);
    if (r->conf->tell)
        r->conf->tell(r->conf->arg, sentence);
}

int64_t recover_get(struct recovery *r, const char *name, size_t cap, bool whole, struct why *why)
{
    struct store_req req = {.op = STORE_GET, .timeout_ms = RECOVER_TIMEOUT_MS, .key = name};
    int err;

    req.get.buf = r->bytes;
    req.get.cap = cap;
    req.get.whole = whole;
    err = store_wait_through(r->conf->store, &req, r->conf->stop, "the store is read for a recovery");
    if (err && why)
        *why = req.why;
    return err ? err : (int64_t)req.len;
}

/* --- names ----------------------------------------------------------------------------------------------*/

void recover_prefix(char prefix[MAP_NAME_MAX], const uint8_t *id, const char *folder)
{
    map_object_name(prefix, id, 1);
    strcpy(strstr(prefix, "/log/"), folder);
}

int recover_pages(struct recovery *r, const char *prefix, const char *from,
                  int (*each)(void *arg, const struct store_page *), void *arg, struct why *why)
{
    return store_wait_pages(r->conf->store, prefix, from, r->conf->stop, "the store is listed for a recovery",
                            each, arg, why);
}

/* --- the checkpoint -------------------------------------------------------------------------------------*/

/* What it says of the source disks holds, whatever becomes of its parts. */
static int load_end(struct recovery *r, const struct checkpoint_id *c, struct map_state *state,
                    uint32_t *parts, struct why *why)
{
    const uint8_t *id = r->conf->entry.id;
    char name[MAP_NAME_MAX];
    int64_t n;
    int err;

    checkpoint_name(name, id, c, CHECKPOINT_END);
    n = recover_get(r, name, CHECKPOINT_PART_MAX, true, why);
    err =
        n < 0 ? (int)n : checkpoint_load_end(r->conf->master, id, c, r->bytes, (size_t)n, state, parts, why);
    if (!err && state->applied > r->result->applied)
        r->result->applied = state->applied;
    return err;
}

/* What a newer program wrote is no damage: it must not be put aside. Who only looks goes on. */
static bool is_newer(const struct recovery *r, int err)
{
    return err == -ENOTSUP && !r->conf->audited;
}

static bool is_unusable(const struct recovery *r, int err)
{
    return err == -ENOENT || err == -EBADMSG || (err == -ENOTSUP && !is_newer(r, err));
}

static int refuse_newer(const char *name, struct why *why)
{
    struct why reason = *why;

    return why_set(why, -ENOTSUP, "%s: %s", name, reason.text);
}

/* A checkpoint behind the cut that is wanted: where were the source disks? */
static int look_ahead(struct recovery *r, const struct checkpoint_id *c, bool *looked, struct why *why)
{
    struct map_state state;
    uint32_t parts;
    int err = *looked ? 0 : load_end(r, c, &state, &parts, why);

    if (is_unusable(r, err))
        return 0;
    *looked = true;
    return err;
}

static int load_checkpoint(struct recovery *r, const struct checkpoint_id *id, struct why *why)
{
    const struct recover_conf *c = r->conf;
    char name[MAP_NAME_MAX];
    uint32_t parts = 0;
    int64_t n;
    int err;

    checkpoint_name(name, c->entry.id, id, CHECKPOINT_END);
    err = load_end(r, id, &r->result->state, &parts, why);
    for (uint32_t i = 0; i < parts && !err; i++) {
        checkpoint_name(name, c->entry.id, id, i);
        n = recover_get(r, name, CHECKPOINT_PART_MAX, true, why);
        err = n < 0 ? (int)n
                    : checkpoint_load(c->journal, c->master, c->entry.id, id, i, r->bytes, (size_t)n, why);
    }
    if (!err) {
        r->result->newest = *id;
        r->result->state.checkpoint = id->cut;
    } else if (is_newer(r, err)) {
        refuse_newer(name, why);
    } else if (is_unusable(r, err)) {
        struct why damage = *why;

        r->result->damaged = true;
        recover_tell(r, "checkpoint %s cannot be used (%s): going back to the one before", name, damage.text);
    }
    return err;
}

/* Without a checkpoint the log begins at its first object, or behind what was thrown away. */
static void begin_without(struct recovery *r)
{
    r->result->state = (struct map_state){.committed = r->conf->floor, .last = r->conf->floor};
}

/* Where an earlier recovery has ended. */
static void go_on(struct recovery *r)
{
    const struct recover_result *from = r->conf->from;

    r->result->state = from->state;
    r->result->newest = from->newest;
    r->result->before = from->before;
    r->result->applied = from->applied;
    r->result->damaged = from->damaged;
}

static int begin(struct recovery *r, struct why *why)
{
    const struct checkpoint_id *named[] = {&r->conf->entry.newest, &r->conf->entry.before};
    bool looked = false;
    int err = 0;

    if (r->conf->from) {
        go_on(r);
        return 0;
    }
    begin_without(r);
    for (unsigned i = 0; i < 2 && !err; i++) {
        if (named[i]->cut <= r->conf->floor)
            continue;
        if (named[i]->cut > r->conf->through) {
            err = look_ahead(r, named[i], &looked, why);
            continue;
        }
        err = load_checkpoint(r, named[i], why);
        if (err == 0 && i == 0 && named[1]->cut > r->conf->floor)
            r->result->before = *named[1];
        if (!is_unusable(r, err))
            return err;
        begin_without(r);
        err = map_delete(r->conf->journal, r->conf->entry.id, why);
    }
    return err;
}

/* --- the log behind it ----------------------------------------------------------------------------------*/

bool recover_is_left_over(const struct recover_conf *c, const struct logobj_head *head)
{
    return head->first >= c->entry.since && head->epoch < c->entry.epoch;
}

/* 0; 1: the log ends here (nothing by that name that counts, or it is not usable: *why says what). */
static int read_front(struct recovery *r, uint64_t first, const uint8_t *chain, struct front *f,
                      struct why *why)
{
    const struct recover_conf *c = r->conf;
    char name[MAP_NAME_MAX];
    size_t cap = FRONT_FIRST;
    int64_t n;
    int err;

    map_object_name(name, c->entry.id, first);
    memset(f, 0, sizeof *f);
    why->text[0] = '\0';
    for (;;) {
        n = recover_get(r, name, cap, false, why);
        if (n == -ENOENT) {
            why->text[0] = '\0';
            return 1;
        }
        if (n < 0)
            return n == -EBADMSG ? 1 : (int)n;
        err = logobj_head_read(&f->head, r->bytes, (size_t)n, c->entry.id, first, why);
        if (err)
            return is_newer(r, err) ? refuse_newer(name, why) : 1;
        if ((size_t)n >= LOGOBJ_HEAD_BYTES + f->head.index_bytes)
            break;
        if (cap == FRONT_MAX || (size_t)n < cap) {
            why_set(why, 0, "it is shorter than its index");
            return 1;
        }
        cap = FRONT_MAX;
    }
    if (logobj_index_read(&f->index, c->master, &f->head, r->bytes, why))
        return 1;
    if (!recover_is_left_over(c, &f->head)) {
        if (memcmp(f->head.chain, chain, LOGOBJ_TAG_BYTES) == 0)
            return 0;
        why_set(why, 0, "it does not follow the object before it");
    }
    logobj_index_free(&f->index);
    return 1;
}

static void forget_fronts(struct recovery *r)
{
    for (unsigned i = 0; i < r->nfronts; i++)
        logobj_index_free(&r->fronts[i].index);
    r->nfronts = 0;
}

/* A cut is whole: into the map with it. */
static int apply_cut(struct recovery *r, struct why *why)
{
    struct recover_result *res = r->result;
    int err = 0;

    for (unsigned i = 0; i < r->nfronts && !err; i++) {
        const struct front *f = &r->fronts[i];
        struct map_change *change = NULL;

        res->state.last = f->head.last;
        if (f->head.ends_cut)
            res->state.committed = f->head.last;
        memcpy(res->state.tag, f->index.tag, LOGOBJ_TAG_BYTES);
        err = map_apply(r->map, &f->head, f->index.entries, f->index.nentries, &res->state, f->head.ends_cut,
                        &change, why);
        if (!err)
            map_install(r->map, &change);
        res->objects++;
        res->entries += f->index.nentries;
    }
    forget_fronts(r);
    STEP("recover.objects", "the objects of one cut are in the map");
    return err;
}

static void keep_front(struct recovery *r, const struct front *f)
{
    if (r->nfronts == r->room) {
        r->room = r->room * 2 + 8;
        r->fronts = xrealloc(r->fronts, r->room * sizeof *r->fronts);
    }
    r->fronts[r->nfronts++] = *f;
}

static int walk(struct recovery *r, struct why *why)
{
    uint64_t next = r->result->state.last + 1;
    uint8_t chain[LOGOBJ_TAG_BYTES];
    int err = 0;

    memcpy(chain, r->result->state.tag, sizeof chain);
    while (!err) {
        struct front f;

        err = read_front(r, next, chain, &f, why);
        if (err)
            break;
        if (f.head.last > r->conf->through) {
            logobj_index_free(&f.index);
            err = 1;
            why->text[0] = '\0';
            break;
        }
        keep_front(r, &f);
        memcpy(chain, f.index.tag, sizeof chain);
        next = f.head.last + 1;
        if (f.head.ends_cut)
            err = apply_cut(r, why);
    }
    if (err == 1) {
        if (*why->text) {
            r->result->damaged = true;
            recover_tell(r, "the log object at %" PRIu64 " cannot be used: %s", next, why->text);
        }
        err = 0;
    }
    r->result->unfinished = r->nfronts;
    r->next = next;
    forget_fronts(r);
    return err;
}

static void recovery_end(struct recovery *r)
{
    map_close(&r->map);
    free(r->fronts);
    free(r->bytes);
}

bool recover_was_written(const struct recover_conf *c)
{
    return c->entry.whole > c->floor;
}

/* Is it a cut to come back to? */
static int judge_cut(struct recovery *r, struct why *why)
{
    const struct recover_conf *c = r->conf;
    struct recover_result *res = r->result;
    uint64_t cut = res->state.committed;
    bool lost = recover_was_written(c) && c->entry.whole <= c->through && c->entry.whole > cut;

    if (lost) {
        res->damaged = true;
        recover_tell(r,
                     "the object store held a whole cut at record %" PRIu64 " or later, and leads to none "
                     "after record %" PRIu64 ": something is missing or damaged",
                     c->entry.whole, cut);
    }
    res->unwritten = cut == 0 && !recover_was_written(c);
    if (cut == 0 || (lost && cut == c->floor))
        return why_set(why, -ENOENT, "the store holds no whole cut of VM %s", c->vm);
    if (res->applied > cut)
        return why_set(why, -ENOENT,
                       "VM %s cannot be brought to record %" PRIu64
                       ": its source disks are at record %" PRIu64 " already",
                       c->vm, cut, res->applied);
    return 0;
}

static int store_state(struct recovery *r, struct why *why)
{
    struct map_change *change = NULL;
    int err = map_state_store(r->map, &r->result->state, &change, why);

    if (!err)
        map_install(r->map, &change);
    return err;
}

int recover_vm(const struct recover_conf *conf, struct recover_result *result, struct why *why)
{
    struct recovery r = {.conf = conf, .result = result, .bytes = xmalloc(CHECKPOINT_PART_MAX)};
    int err;

    memset(result, 0, sizeof *result);
    err = conf->through < conf->floor ? why_set(why, -ENOENT,
                                                "VM %s cannot go back to record %" PRIu64
                                                ": what it wrote up to %" PRIu64 " was discarded",
                                                conf->vm, conf->through, conf->floor)
                                      : begin(&r, why);
    STEP("recover.checkpoint", "the newest good checkpoint is loaded");
    if (!err)
        err = map_open(&r.map, conf->journal, conf->entry.id, conf->vm, why);
    if (!err)
        err = walk(&r, why);
    if (!err)
        err = recover_look_beyond(&r, why);
    if (!err)
        err = judge_cut(&r, why);
    if (!err)
        err = store_state(&r, why);
    if (!err && !conf->audited)
        err = recover_look_behind(&r, why);
    if (!err)
        recover_tell(&r,
                     "recovered to record %" PRIu64 ": checkpoint at %" PRIu64 ", %" PRIu64
                     " object(s) after it, %" PRIu64 " behind the cut",
                     result->state.committed, result->newest.cut, result->objects, result->beyond);
    recovery_end(&r);
    return err;
}

struct vmobj recover_entry(const struct recover_conf *conf, const struct recover_result *result)
{
    struct vmobj v = conf->entry;

    v.newest = result->newest;
    v.before = result->before;
    v.whole = result->state.committed;
    return v;
}
