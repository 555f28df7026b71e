/* journal/frames.c - see frames.h.
 */
#include "frames.h"
#include "check.h"
#include "mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    GET_TIMEOUT_MS = 30000,
    JOIN_GAP = 16 << 10, /* frames so near to each other are fetched together, */
    JOIN_MAX = 1 << 20   /* up to so much */
};

/* A run of one object's bytes. */
struct frame_range {
    struct frames *frames;
    struct store_req req;
    char key[MAP_NAME_MAX];
    struct map_object object;
    uint32_t from, to; /* in the object's frames */
    unsigned first_use, nuses;
    uint8_t *bytes;
    bool submitted;
};

/* --- ranges ---------------------------------------------------------------------------------------------*/

static int use_order(const void *a, const void *b)
{
    const struct frame_use *x = a, *y = b;

    if (x->object != y->object)
        return x->object < y->object ? -1 : 1;
    if (x->frame_at != y->frame_at)
        return x->frame_at < y->frame_at ? -1 : 1;
    return x->frame_sector < y->frame_sector ? -1 : x->frame_sector > y->frame_sector;
}

int frames_plan(struct frames *f)
{
    struct frame_range *g = NULL;

    qsort(f->uses, f->nuses, sizeof *f->uses, use_order);
    f->ranges = xcalloc(f->nuses + 1, sizeof *f->ranges);
    for (unsigned i = 0; i < f->nuses; i++) {
        const struct frame_use *u = &f->uses[i];
        uint32_t end = u->frame_at + u->frame_bytes;

        if (!g || g->object.first != u->object || u->frame_at > g->to + JOIN_GAP ||
            end - g->from > JOIN_MAX) {
            g = &f->ranges[f->nranges++];
            *g = (struct frame_range){.frames = f, .from = u->frame_at, .to = end, .first_use = i};
            if (map_object(f->map, u->object, &g->object) < 0)
                return f->status = why_set(&f->why, -ENOENT, "the map names an object that it does not know");
            map_object_name(g->key, f->id, u->object);
        }
        if (end > g->to)
            g->to = end;
        g->nuses++;
    }
    return 0;
}

/* --- fetching -------------------------------------------------------------------------------------------*/

static void arrived(struct frames *f)
{
    if (--f->left == 0)
        f->fetched(f);
}

static void on_got(struct store_req *req)
{
    struct frame_range *g = container_of(req, struct frame_range, req);
    struct frames *f = g->frames;

    g->submitted = false;
    if (req->status == 0 && req->len < g->to - g->from)
        req->status = why_set(&req->why, -EBADMSG, "it is shorter than it was");
    if (req->status && !f->status) {
        f->status = req->status;
        why_set(&f->why, 0, "object %s: %s", g->key, req->why.text);
    }
    f->bytes += req->len;
    arrived(f);
}

static void fetch(struct frame_range *g)
{
    g->bytes = xmalloc(g->to - g->from);
    g->req = (struct store_req){.op = STORE_GET, .timeout_ms = GET_TIMEOUT_MS, .done = on_got, .key = g->key};
    g->req.get.buf = g->bytes;
    g->req.get.cap = g->to - g->from;
    g->req.get.offset = g->object.front_bytes + g->from;
    g->submitted = true;
    store_submit(g->frames->store, &g->req);
}

void frames_fetch(struct frames *f)
{
    f->left = f->nranges + 1; /* one for this function */
    for (unsigned i = 0; i < f->nranges; i++)
        fetch(&f->ranges[i]);
    arrived(f);
}

void frames_cancel(struct frames *f)
{
    for (unsigned i = 0; i < f->nranges; i++)
        if (f->ranges[i].submitted)
            store_cancel(&f->ranges[i].req);
}

/* --- opening --------------------------------------------------------------------------------------------*/

static int open_range(struct frames *f, const struct frame_range *g)
{
    struct logobj_opener *opener = logobj_opener_new(f->master, f->id, g->object.first, g->object.salt);
    uint8_t plain[LOGOBJ_FRAME_BYTES];
    uint32_t opened = UINT32_MAX;
    int n = 0, err = 0;

    for (unsigned i = g->first_use; i < g->first_use + g->nuses && !err; i++) {
        const struct frame_use *u = &f->uses[i];

        if (u->frame_at != opened)
            n = logobj_frame_open(opener, u->frame_at, g->bytes + (u->frame_at - g->from), u->frame_bytes,
                                  plain);
        opened = u->frame_at;
        if (n < (int)((u->frame_sector + u->nsectors) * 512))
            err = why_set(&f->why, -EBADMSG, "object %s: the frame at %u was altered", g->key, u->frame_at);
        else
            memcpy(u->to, plain + (size_t)u->frame_sector * 512, (size_t)u->nsectors * 512);
    }
    logobj_opener_free(&opener);
    return err;
}

int frames_open(struct frames *f)
{
    for (unsigned i = 0; i < f->nranges && f->status == 0; i++)
        f->status = open_range(f, &f->ranges[i]);
    return f->status;
}

void frames_end(struct frames *f)
{
    for (unsigned i = 0; i < f->nranges; i++)
        free(f->ranges[i].bytes);
    free(f->ranges);
    f->ranges = NULL;
    f->nranges = 0;
}
