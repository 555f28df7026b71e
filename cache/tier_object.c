/* cache/tier_object.c - one read: look up (pool) -> base and frames, side by side -> open (pool) -> answer.
 *
 * Between look-up and fetch an object may go, because the source disk has its content now or it was moved:
 * the read starts again from the look-up. Objects never change, so what opens is right.
 */
#include "tier_object.h"
#include "check.h"
#include "frames.h"
#include "log.h"
#include "mem.h"
#include "metric.h"
#include "overlay.h"
#include "store.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/queue.h>

static const char part[] = "object";

enum { RETRY_MIN_MS = 100, RETRY_MAX_MS = 5000 };

struct tier_object {
    struct tier tier;
    struct map *map;
    struct store *store;
    struct aead_key master;
    uint8_t id[16], disk;
    char *vm;
    bool quiescing;
    TAILQ_HEAD(, object_read) reads;
    struct metric *hits, *misses, *read_bytes, *read_seconds, *store_bytes, *corrupt;
};

struct object_read {
    TAILQ_ENTRY(object_read) entry;
    struct overlay overlay;
    struct tier_object *tier;
    struct work work;
    struct timer retry;
    unsigned retry_ms, again; /* how often it began anew for data that was not as it should be */
    uint64_t since_ns;
    struct frames frames; /* a use's tag is its LBA; status and why are the read's, too */
    unsigned left;        /* parts of the read under way: the base, and the frames */
    bool fetching;
    bool starting, answered;
};

static void look_up(struct object_read *r);

static void forget(struct object_read *r)
{
    overlay_end(&r->overlay);
    frames_end(&r->frames);
    free(r->frames.uses);
    r->frames.uses = NULL;
    r->frames.nuses = 0;
}

static void answer(struct object_read *r, int status)
{
    struct block_req *req = r->overlay.req;

    metric_observe_ns(r->tier->read_seconds, loop_now_ns(r->tier->tier.loop) - r->since_ns);
    forget(r);
    req->status = status;
    if (r->starting) {
        r->answered = true;
        return;
    }
    TAILQ_REMOVE(&r->tier->reads, r, entry);
    timer_free(&r->retry);
    free(r);
    req->done(req);
}

/* --- when something does not come -----------------------------------------------------------------------*/

static void on_retry(struct timer *t)
{
    struct object_read *r = container_of(t, struct object_read, retry);

    if (r->tier->quiescing)
        answer(r, -ECANCELED);
    else
        look_up(r);
}

/* Something of the store failed: away (wait, for ever), or wrong. What was damaged on its way is right the
 * next time: it is looked at FRAMES_WRONG_MAX times more, ever later, before it is an error. */
static void begin_again(struct object_read *r)
{
    struct tier_object *o = r->tier;
    const struct block_req *req = r->overlay.req;
    bool wrong = r->frames.status == -EBADMSG || r->frames.status == -ENOENT;

    if (o->quiescing || r->frames.status == -ECANCELED) {
        answer(r, -ECANCELED);
        return;
    }
    if (wrong && r->again++ == FRAMES_WRONG_MAX) {
        metric_add(o->corrupt, 1);
        log_error(o->vm, "disk %u: blocks %" PRIu64 "+%u cannot be read from the object store: %s", o->disk,
                  req->first, req->count, r->frames.why.text);
        answer(r, -EIO);
        return;
    }
    log_debug(o->vm, "a read of the object store is tried again: %s", r->frames.why.text);
    forget(r);
    if (wrong && r->again == 1) { /* most likely the object has gone: it was written back, or moved */
        timer_set_ms(&r->retry, 1);
        return;
    }
    timer_set_ms(&r->retry, r->retry_ms);
    if (r->retry_ms < RETRY_MAX_MS)
        r->retry_ms *= 2;
}

/* --- opening the frames ---------------------------------------------------------------------------------*/

static void open_run(struct work *w)
{
    frames_open(&container_of(w, struct object_read, work)->frames);
}

static void open_done(struct work *w)
{
    struct object_read *r = container_of(w, struct object_read, work);

    if (r->frames.status)
        begin_again(r);
    else
        answer(r, 0);
}

/* One of base and ranges has come. */
static void arrived(struct object_read *r)
{
    struct overlay *o = &r->overlay;

    if (--r->left)
        return;
    if (o->status) {
        answer(r, o->status);
        return;
    }
    if (r->frames.status) {
        begin_again(r);
        return;
    }
    overlay_lay_zeros(o);
    if (!r->frames.nuses) {
        answer(r, 0);
        return;
    }
    for (unsigned i = 0; i < r->frames.nuses; i++)
        overlay_open_block(o, r->frames.uses[i].tag);
    metric_add(r->tier->read_bytes, (uint64_t)r->frames.nuses * BLOCK_BYTES);
    r->work = (struct work){.run = open_run, .done = open_done};
    loop_work(r->tier->tier.loop, &r->work);
}

static void on_fetched(struct frames *f)
{
    struct object_read *r = container_of(f, struct object_read, frames);

    r->fetching = false;
    metric_add(r->tier->store_bytes, f->bytes);
    arrived(r);
}

/* --- looking up -----------------------------------------------------------------------------------------*/

static void keep_data(struct object_read *r, struct map_piece p)
{
    while (p.nsectors) {
        uint32_t n = overlay_cut(p.lba, p.nsectors);

        r->frames.uses[r->frames.nuses++] = (struct frame_use){.object = p.object,
                                                               .frame_at = p.frame_at,
                                                               .frame_bytes = p.frame_bytes,
                                                               .frame_sector = p.frame_sector,
                                                               .nsectors = n,
                                                               .to = overlay_place(&r->overlay, p.lba),
                                                               .tag = p.lba};
        p.lba += n;
        p.frame_sector += n;
        p.nsectors -= n;
    }
}

static void look_up_run(struct work *w)
{
    struct object_read *r = container_of(w, struct object_read, work);
    struct map_piece pieces[64];
    uint64_t lba = r->overlay.req->first * BLOCK_SECTORS;
    uint32_t left = r->overlay.req->count * BLOCK_SECTORS, covered;
    unsigned n;

    r->frames.uses = xcalloc(left, sizeof *r->frames.uses);
    while (left && r->frames.status == 0) {
        r->frames.status = map_lookup(r->tier->map, r->tier->disk, lba, left, pieces,
                                      sizeof pieces / sizeof *pieces, &n, &covered);
        if (r->frames.status) {
            why_set(&r->frames.why, 0, "the map's rows of it cannot be read");
            return;
        }
        for (unsigned i = 0; i < n; i++)
            if (pieces[i].kind == PIECE_ABSENT)
                overlay_absent(&r->overlay, pieces[i].lba, pieces[i].nsectors);
            else if (pieces[i].kind == PIECE_ZERO)
                overlay_zero(&r->overlay, pieces[i].lba, pieces[i].nsectors);
            else
                keep_data(r, pieces[i]);
        lba += covered;
        left -= covered;
    }
    if (r->frames.status == 0)
        frames_plan(&r->frames);
}

static void on_based(struct overlay *o)
{
    arrived(container_of(o, struct object_read, overlay));
}

static void look_up_done(struct work *w)
{
    struct object_read *r = container_of(w, struct object_read, work);

    if (r->frames.status || r->tier->quiescing) {
        begin_again(r);
        return;
    }
    r->left = 2;
    r->fetching = true;
    frames_fetch(&r->frames);
    overlay_read(&r->overlay, on_based);
}

static void look_up(struct object_read *r)
{
    r->frames = (struct frames){.store = r->tier->store,
                                .map = r->tier->map,
                                .master = &r->tier->master,
                                .id = r->tier->id,
                                .fetched = on_fetched};
    overlay_begin(&r->overlay, &r->tier->tier, r->overlay.req);
    r->work = (struct work){.run = look_up_run, .done = look_up_done};
    loop_work(r->tier->tier.loop, &r->work);
}

/* Nothing of it is in the store: the next tier's, as if we were not here. */
static void pass(struct object_read *r)
{
    const struct block_req *req = r->overlay.req;

    r->left = 1;
    overlay_begin(&r->overlay, &r->tier->tier, r->overlay.req);
    overlay_absent(&r->overlay, req->first * BLOCK_SECTORS, req->count * BLOCK_SECTORS);
    overlay_read(&r->overlay, on_based);
}

static bool object_read(struct tier *t, struct block_req *req)
{
    struct tier_object *o = container_of(t, struct tier_object, tier);
    struct object_read *r = xcalloc(1, sizeof *r);
    bool answered;

    r->tier = o;
    r->overlay.req = req;
    r->since_ns = loop_now_ns(t->loop);
    r->retry_ms = RETRY_MIN_MS;
    timer_init(&r->retry, t->loop, on_retry);
    TAILQ_INSERT_TAIL(&o->reads, r, entry);
    req->status = 0;
    req->tier_private = r;
    r->starting = true;
    if (!map_knows(o->map, o->disk, req->first) &&
        map_alike(o->map, o->disk, req->first, req->count) == req->count) {
        metric_add(o->misses, req->count);
        pass(r);
    } else {
        metric_add(o->hits, req->count);
        look_up(r);
    }
    r->starting = false;
    answered = r->answered;
    if (answered) {
        TAILQ_REMOVE(&o->reads, r, entry);
        timer_free(&r->retry);
        free(r);
    }
    return answered;
}

/* --- the tier -------------------------------------------------------------------------------------------*/

static uint32_t object_alike(struct tier *t, uint64_t first, uint32_t count)
{
    struct tier_object *o = container_of(t, struct tier_object, tier);
    uint32_t n = map_alike(o->map, o->disk, first, count);

    return map_holds(o->map, o->disk, first) ? n : tier_alike(t->next, first, n);
}

static void object_promote(struct tier *t, struct block_req *req)
{
    struct object_read *r = req->tier_private;

    (void)t;
    req->class = TIER_DEMAND;
    if (r->left) /* else the look-up has the overlay, or what comes next will see the class */
        overlay_promote(&r->overlay);
}

static void object_quiesce(struct tier *t)
{
    struct tier_object *o = container_of(t, struct tier_object, tier);
    struct object_read *r;

    o->quiescing = true;
    /* What rests between two tries, or is being looked up or opened, ends by itself. */
    TAILQ_FOREACH (r, &o->reads, entry)
        if (r->fetching)
            frames_cancel(&r->frames);
}

static void object_free(struct tier *t)
{
    struct tier_object *o = container_of(t, struct tier_object, tier);
    struct metric **metrics[] = {&o->hits,         &o->misses,      &o->read_bytes,
                                 &o->read_seconds, &o->store_bytes, &o->corrupt};

    CHECK(TAILQ_EMPTY(&o->reads));
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        metric_free(metrics[i]);
    explicit_bzero(&o->master, sizeof o->master);
    free(o->vm);
    free(o);
}

static const struct tier_ops object_ops = {.name = "object",
                                           .read = object_read,
                                           .promote = object_promote,
                                           .alike = object_alike,
                                           .quiesce = object_quiesce,
                                           .free = object_free};

struct tier *tier_object_new(const struct tier_object_conf *conf)
{
    static const char blocks[] = "isthmus_tier_blocks_total", blocks_help[] = "Blocks asked of a tier";
    struct tier_object *o = xcalloc(1, sizeof *o);

    o->tier = (struct tier){.ops = &object_ops, .next = conf->next, .loop = conf->loop};
    o->map = conf->map;
    o->store = conf->store;
    o->master = *conf->master;
    memcpy(o->id, conf->id, sizeof o->id);
    o->disk = conf->disk;
    o->vm = xstrdup(conf->vm);
    TAILQ_INIT(&o->reads);
    o->hits =
        metric_new(METRIC_COUNTER, blocks, blocks_help, "vm=\"%s\",tier=\"object\",result=\"hit\"", o->vm);
    o->misses =
        metric_new(METRIC_COUNTER, blocks, blocks_help, "vm=\"%s\",tier=\"object\",result=\"miss\"", o->vm);
    o->read_bytes = metric_new(METRIC_COUNTER, "isthmus_tier_bytes_total", "Bytes a tier has handed upwards",
                               "vm=\"%s\",tier=\"object\",direction=\"read\"", o->vm);
    o->read_seconds = metric_new(METRIC_HISTOGRAM, "isthmus_tier_read_seconds",
                                 "How long a tier and those below it took to answer a read",
                                 "vm=\"%s\",tier=\"object\"", o->vm);
    o->store_bytes = metric_new(METRIC_COUNTER, "isthmus_store_read_bytes_total",
                                "Bytes fetched from log objects to answer reads.", "vm=\"%s\"", o->vm);
    o->corrupt =
        metric_new(METRIC_COUNTER, "isthmus_store_corrupt_total",
                   "Reads that failed because an object was altered or missing.", "vm=\"%s\"", o->vm);
    return &o->tier;
}
