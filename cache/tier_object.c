/* cache/tier_object.c - one read: look up (pool) -> base and frames, side by side -> open (pool) -> answer.
 *
 * Between look-up and fetch an object may go, because the source disk has its content now or it was moved:
 * the read starts again from the look-up. Objects never change, so what opens is right.
 */
#include "tier_object.h"
#include "check.h"
#include "log.h"
#include "map.h"
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

enum {
    GET_TIMEOUT_MS = 30000,
    RETRY_MIN_MS = 100,
    RETRY_MAX_MS = 5000,
    JOIN_GAP = 16 << 10, /* frames so near to each other are fetched together, */
    JOIN_MAX = 1 << 20   /* up to so much */
};

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

/* What one piece of the map becomes: sectors of a frame, within one block. */
struct use {
    uint64_t object;
    uint32_t frame_at, frame_bytes, frame_sector, nsectors;
    uint64_t lba;
};

/* A run of one object's bytes. */
struct range {
    struct object_read *read;
    struct store_req req;
    char key[MAP_NAME_MAX];
    struct map_object object;
    uint32_t from, to; /* in the object's frames */
    unsigned first_use, nuses;
    uint8_t *bytes;
    bool submitted;
};

struct object_read {
    TAILQ_ENTRY(object_read) entry;
    struct overlay overlay;
    struct tier_object *tier;
    struct work work;
    struct timer retry;
    unsigned retry_ms, again; /* how often it began anew for data that was not as it should be */
    uint64_t since_ns;
    struct use *uses;
    unsigned nuses;
    struct range *ranges;
    unsigned nranges, left; /* parts of the read under way: the base, and each range */
    int status;             /* of the store or of the opening */
    struct why why;
    bool starting, answered;
};

static void look_up(struct object_read *r);

static void forget(struct object_read *r)
{
    overlay_end(&r->overlay);
    for (unsigned i = 0; i < r->nranges; i++)
        free(r->ranges[i].bytes);
    free(r->ranges);
    free(r->uses);
    r->ranges = NULL;
    r->uses = NULL;
    r->nranges = r->nuses = 0;
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

/* Something of the store failed: away (wait, for ever), or wrong (look once more, then it is an error). */
static void begin_again(struct object_read *r)
{
    struct tier_object *o = r->tier;
    const struct block_req *req = r->overlay.req;
    bool wrong = r->status == -EBADMSG || r->status == -ENOENT;

    if (o->quiescing || r->status == -ECANCELED) {
        answer(r, -ECANCELED);
        return;
    }
    if (wrong && r->again++ > 0) {
        metric_add(o->corrupt, 1);
        log_error(o->vm, "disk %u: blocks %" PRIu64 "+%u cannot be read from the object store: %s", o->disk,
                  req->first, req->count, r->why.text);
        answer(r, -EIO);
        return;
    }
    log_debug(o->vm, "a read of the object store is tried again: %s", r->why.text);
    forget(r);
    timer_set_ms(&r->retry, wrong ? 1 : r->retry_ms);
    if (!wrong && r->retry_ms < RETRY_MAX_MS)
        r->retry_ms *= 2;
}

/* --- opening the frames ---------------------------------------------------------------------------------*/

static int open_range(struct object_read *r, const struct range *g)
{
    struct logobj_opener *opener =
        logobj_opener_new(&r->tier->master, r->tier->id, g->object.first, g->object.salt);
    uint8_t plain[LOGOBJ_FRAME_BYTES];
    uint32_t opened = UINT32_MAX;
    int n = 0, err = 0;

    for (unsigned i = g->first_use; i < g->first_use + g->nuses && !err; i++) {
        const struct use *u = &r->uses[i];

        if (u->frame_at != opened)
            n = logobj_frame_open(opener, u->frame_at, g->bytes + (u->frame_at - g->from), u->frame_bytes,
                                  plain);
        opened = u->frame_at;
        if (n < (int)((u->frame_sector + u->nsectors) * SECTOR_BYTES))
            err = why_set(&r->why, -EBADMSG, "object %s: the frame at %u was altered", g->key, u->frame_at);
        else
            memcpy(overlay_place(&r->overlay, u->lba), plain + (size_t)u->frame_sector * SECTOR_BYTES,
                   (size_t)u->nsectors * SECTOR_BYTES);
    }
    logobj_opener_free(&opener);
    return err;
}

static void open_run(struct work *w)
{
    struct object_read *r = container_of(w, struct object_read, work);

    for (unsigned i = 0; i < r->nranges && r->status == 0; i++)
        r->status = open_range(r, &r->ranges[i]);
}

static void open_done(struct work *w)
{
    struct object_read *r = container_of(w, struct object_read, work);

    if (r->status)
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
    if (r->status) {
        begin_again(r);
        return;
    }
    overlay_lay_zeros(o);
    if (!r->nuses) {
        answer(r, 0);
        return;
    }
    for (unsigned i = 0; i < r->nuses; i++)
        overlay_open_block(o, r->uses[i].lba);
    metric_add(r->tier->read_bytes, (uint64_t)r->nuses * BLOCK_BYTES);
    r->work = (struct work){.run = open_run, .done = open_done};
    loop_work(r->tier->tier.loop, &r->work);
}

/* --- fetching -------------------------------------------------------------------------------------------*/

static void on_got(struct store_req *req)
{
    struct range *g = container_of(req, struct range, req);
    struct object_read *r = g->read;

    g->submitted = false;
    if (req->status == 0 && req->len < g->to - g->from)
        req->status = why_set(&req->why, -EBADMSG, "it is shorter than it was");
    if (req->status && !r->status) {
        r->status = req->status;
        why_set(&r->why, 0, "object %s: %s", g->key, req->why.text);
    }
    metric_add(r->tier->store_bytes, req->len);
    arrived(r);
}

static void fetch(struct range *g)
{
    g->bytes = xmalloc(g->to - g->from);
    g->req = (struct store_req){.op = STORE_GET, .timeout_ms = GET_TIMEOUT_MS, .done = on_got, .key = g->key};
    g->req.get.buf = g->bytes;
    g->req.get.cap = g->to - g->from;
    g->req.get.offset = g->object.front_bytes + g->from;
    g->submitted = true;
    store_submit(g->read->tier->store, &g->req);
}

static int use_order(const void *a, const void *b)
{
    const struct use *x = a, *y = b;

    if (x->object != y->object)
        return x->object < y->object ? -1 : 1;
    if (x->frame_at != y->frame_at)
        return x->frame_at < y->frame_at ? -1 : 1;
    return x->lba < y->lba ? -1 : x->lba > y->lba;
}

/* Uses become ranges of objects. */
static int make_ranges(struct object_read *r)
{
    struct range *g = NULL;

    qsort(r->uses, r->nuses, sizeof *r->uses, use_order);
    r->ranges = xcalloc(r->nuses + 1, sizeof *r->ranges);
    for (unsigned i = 0; i < r->nuses; i++) {
        const struct use *u = &r->uses[i];
        uint32_t end = u->frame_at + u->frame_bytes;

        if (!g || g->object.first != u->object || u->frame_at > g->to + JOIN_GAP ||
            end - g->from > JOIN_MAX) {
            g = &r->ranges[r->nranges++];
            *g = (struct range){.read = r, .from = u->frame_at, .to = end, .first_use = i};
            if (map_object(r->tier->map, u->object, &g->object) < 0)
                return -ENOENT;
            map_object_name(g->key, r->tier->id, u->object);
        }
        if (end > g->to)
            g->to = end;
        g->nuses++;
    }
    return 0;
}

/* --- looking up -----------------------------------------------------------------------------------------*/

static void keep_data(struct object_read *r, struct map_piece p)
{
    while (p.nsectors) {
        uint32_t n = overlay_cut(p.lba, p.nsectors);

        r->uses[r->nuses++] = (struct use){p.object, p.frame_at, p.frame_bytes, p.frame_sector, n, p.lba};
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

    r->uses = xcalloc(left, sizeof *r->uses);
    while (left && r->status == 0) {
        r->status = map_lookup(r->tier->map, r->tier->disk, lba, left, pieces, sizeof pieces / sizeof *pieces,
                               &n, &covered);
        if (r->status) {
            why_set(&r->why, 0, "the map's rows of it cannot be read");
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
    if (r->status == 0 && (r->status = make_ranges(r)))
        why_set(&r->why, 0, "the map names an object that it does not know");
}

static void on_based(struct overlay *o)
{
    arrived(container_of(o, struct object_read, overlay));
}

static void look_up_done(struct work *w)
{
    struct object_read *r = container_of(w, struct object_read, work);

    if (r->status || r->tier->quiescing) {
        begin_again(r);
        return;
    }
    r->left = r->nranges + 1;
    for (unsigned i = 0; i < r->nranges; i++)
        fetch(&r->ranges[i]);
    overlay_read(&r->overlay, on_based);
}

static void look_up(struct object_read *r)
{
    r->status = 0;
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
        for (unsigned i = 0; i < r->nranges; i++)
            if (r->ranges[i].submitted)
                store_cancel(&r->ranges[i].req);
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
