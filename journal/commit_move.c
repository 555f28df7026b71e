/* journal/commit_move.c - what is still live in objects that are mostly dead goes along with a cut.
 *
 *   chosen, when the cut begins ──► for each of its objects, before that is built:
 *   front of a victim (store) ► which entries are live (pool) ► their frames (store) ► opened (pool) ► built
 * in
 *
 * It is only ever extra: whatever fails here is left to the next cut, the commit goes on without. Each victim
 * is taken once in a cut, as the map does not yet know what objects on their way hold; what does not fit
 * stays for the next cut. A moved entry that comes too late, because the guest wrote there, applies nowhere
 * (map.h).
 */
#include "check.h"
#include "commit_impl.h"
#include "log.h"
#include "mem.h"
#include "step.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char part[] = "commit";

enum { VICTIMS_AN_OBJECT = 8, GET_TIMEOUT_MS = 30000, PIECES = 64 };

/* --- which ----------------------------------------------------------------------------------------------*/

struct choosing {
    struct commit_move *m;
    uint64_t committed, bytes, dead;
    size_t room;
};

static uint64_t dead_of(const struct map_object *o)
{
    return o->data_sectors ? o->bytes - o->bytes / o->data_sectors * o->live_sectors : 0;
}

static void consider(void *arg, const struct map_object *o)
{
    struct choosing *c = arg;
    struct commit_move *m = c->m;

    c->bytes += o->bytes;
    c->dead += dead_of(o);
    if (o->last > c->committed || o->live_sectors == 0 || o->live_sectors * 2 >= o->data_sectors)
        return;
    if (m->nvictims == c->room) {
        c->room = c->room * 2 + 64;
        m->victims = xrealloc(m->victims, c->room * sizeof *m->victims);
    }
    m->victims[m->nvictims++] = *o;
}

/* The emptiest first. */
static int victim_order(const void *a, const void *b)
{
    const struct map_object *x = a, *y = b;
    uint64_t l = x->live_sectors * y->data_sectors, r = y->live_sectors * x->data_sectors;

    return l != r ? (l < r ? -1 : 1) : x->first < y->first ? -1 : x->first > y->first;
}

void commit_move_begin(struct commit *c)
{
    struct commit_move *m = &c->move;
    struct choosing choosing = {.m = m, .committed = map_state(c->conf.map)->committed};

    m->nvictims = m->next = 0;
    if (!m->dead_percent)
        return;
    map_objects_each(c->conf.map, consider, &choosing);
    if (choosing.dead < c->conf.object_bytes / 2 || choosing.dead * 100 < choosing.bytes * m->dead_percent)
        m->nvictims = 0;
    if (m->nvictims)
        qsort(m->victims, m->nvictims, sizeof *m->victims, victim_order);
}

bool commit_move_wanted(const struct commit *c)
{
    return c->move.next < c->move.nvictims && !c->failed && !c->stopping;
}

/* --- one batch ------------------------------------------------------------------------------------------*/

static void look_at_victim(struct commit *c);

static void end(struct commit *c)
{
    struct commit_move *m = &c->move;

    if (m->status) {
        if (m->status != -ECANCELED)
            log_warn(c->vm, "dead space in the object store is not reclaimed now: %s", m->why.text);
        m->nuses = 0;
        m->nvictims = 0; /* not again in this cut */
    }
    if (m->nuses)
        STEP("commit.move", "live data of mostly dead objects was read, and is in no other object yet");
    buf_unref(&m->front);
    m->busy = false;
    m->ready = true;
    commit_moved(c);
}

static void open_run(struct work *w)
{
    struct commit *c = container_of(w, struct commit, move.work);

    frames_open(&c->move.frames);
}

static void open_done(struct work *w)
{
    struct commit *c = container_of(w, struct commit, move.work);
    struct commit_move *m = &c->move;

    m->status = m->frames.status;
    m->why = m->frames.why;
    frames_end(&m->frames);
    end(c);
}

static void on_fetched(struct frames *f)
{
    struct commit *c = container_of(f, struct commit, move.frames);
    struct commit_move *m = &c->move;

    m->fetching = false;
    if (f->status) {
        m->status = f->status;
        m->why = f->why;
        frames_end(f);
        end(c);
        return;
    }
    m->work = (struct work){.run = open_run, .done = open_done};
    loop_work(c->conf.loop, &m->work);
}

static void fetch(struct commit *c)
{
    struct commit_move *m = &c->move;

    m->frames = (struct frames){.store = c->conf.store,
                                .map = c->conf.map,
                                .master = &c->conf.master,
                                .id = c->conf.id,
                                .uses = m->uses,
                                .nuses = m->nuses,
                                .fetched = on_fetched};
    if (!m->nuses || c->failed || frames_plan(&m->frames)) {
        m->status = m->frames.status;
        m->why = m->frames.why;
        if (m->nuses && !c->failed)
            frames_end(&m->frames);
        if (c->failed)
            m->nuses = 0;
        end(c);
        return;
    }
    m->fetching = true;
    frames_fetch(&m->frames);
}

/* --- what of a victim is live ---------------------------------------------------------------------------*/

static bool is_full(const struct commit *c)
{
    return c->move.sectors >= c->move.sectors_max || c->move.nuses == COMMIT_MOVE_USES;
}

/* The parts of this entry that the map still has from here. */
static int find_live(struct commit *c, const struct map_object *o, const struct logobj_entry *e)
{
    struct commit_move *m = &c->move;
    struct map_piece pieces[PIECES];

    for (uint64_t at = e->lba, last = e->lba + e->nsectors; at < last && !is_full(c);) {
        unsigned n;
        uint32_t covered;
        int err = map_lookup(c->conf.map, e->disk, at, (uint32_t)(last - at), pieces, PIECES, &n, &covered);

        if (err)
            return err;
        for (unsigned i = 0; i < n && !is_full(c); i++) {
            const struct map_piece *p = &pieces[i];

            if (p->kind != PIECE_DATA || p->object != o->first || p->frame_at != e->frame_at ||
                m->sectors + p->nsectors > m->sectors_max)
                continue;
            m->uses[m->nuses] = (struct frame_use){.object = o->first,
                                                   .frame_at = p->frame_at,
                                                   .frame_bytes = p->frame_bytes,
                                                   .frame_sector = p->frame_sector,
                                                   .nsectors = p->nsectors,
                                                   .to = m->bytes + (size_t)m->sectors * 512,
                                                   .tag = (uint64_t)e->disk << 56 | p->lba};
            m->nuses++;
            m->sectors += p->nsectors;
        }
        at += covered;
    }
    return 0;
}

static void live_run(struct work *w)
{
    struct commit *c = container_of(w, struct commit, move.work);
    struct commit_move *m = &c->move;
    const struct map_object *o = &m->victims[m->next];
    struct logobj_index x = {0};
    struct logobj_head h;

    m->status = logobj_head_read(&h, m->front->data, m->front->len, c->conf.id, o->first, &m->why);
    if (!m->status && m->front->len < LOGOBJ_HEAD_BYTES + h.index_bytes)
        m->status = why_set(&m->why, -EBADMSG, "it is shorter than its index");
    if (!m->status)
        m->status = logobj_index_read(&x, &c->conf.master, &h, m->front->data, &m->why);
    for (unsigned i = 0; i < x.nentries && !m->status && !is_full(c); i++)
        if (logobj_is_data(x.entries[i].kind))
            m->status = find_live(c, o, &x.entries[i]);
    logobj_index_free(&x);
}

static void live_done(struct work *w)
{
    struct commit *c = container_of(w, struct commit, move.work);
    struct commit_move *m = &c->move;

    m->next++;
    if (m->status) {
        struct why reason = m->why;

        why_set(&m->why, 0, "object %s: %s", m->key, reason.text);
        end(c);
    } else if (!is_full(c) && ++m->taken < VICTIMS_AN_OBJECT && commit_move_wanted(c)) {
        look_at_victim(c);
    } else {
        fetch(c);
    }
}

static void on_front(struct store_req *r)
{
    struct commit *c = container_of(r, struct commit, move.get);
    struct commit_move *m = &c->move;

    m->getting = false;
    if (r->status || c->failed) {
        m->status = r->status ? r->status : -ECANCELED;
        m->why = r->why;
        end(c);
        return;
    }
    m->front->len = (uint32_t)r->len;
    m->work = (struct work){.run = live_run, .done = live_done};
    loop_work(c->conf.loop, &m->work);
}

static void look_at_victim(struct commit *c)
{
    struct commit_move *m = &c->move;
    const struct map_object *o = &m->victims[m->next];

    buf_unref(&m->front);
    m->front = buf_new(o->front_bytes);
    map_object_name(m->key, c->conf.id, o->first);
    m->get =
        (struct store_req){.op = STORE_GET, .timeout_ms = GET_TIMEOUT_MS, .done = on_front, .key = m->key};
    m->get.get.buf = m->front->data;
    m->get.get.cap = o->front_bytes;
    m->getting = true;
    store_submit(c->conf.store, &m->get);
}

void commit_move_fetch(struct commit *c)
{
    struct commit_move *m = &c->move;

    m->sectors_max = c->conf.object_bytes / 2 / 512;
    if (!m->bytes) {
        m->bytes = xmalloc((size_t)m->sectors_max * 512);
        m->uses = xmalloc(COMMIT_MOVE_USES * sizeof *m->uses);
    }
    m->nuses = m->taken = 0;
    m->sectors = 0;
    m->status = 0;
    m->busy = true;
    look_at_victim(c);
}

/* --- into an object -------------------------------------------------------------------------------------*/

void commit_move_build(struct commit *c)
{
    struct commit_move *m = &c->move;

    for (unsigned i = 0; i < m->nuses; i++) {
        const struct frame_use *u = &m->uses[i];
        struct logobj_entry e = {.kind = LOGOBJ_MOVED_DATA,
                                 .disk = (uint8_t)(u->tag >> 56),
                                 .lba = u->tag & ((UINT64_C(1) << 56) - 1),
                                 .nsectors = u->nsectors,
                                 .seq = u->object};

        logobj_add(c->builder, &e, u->to);
    }
    m->nuses = 0;
}

void commit_move_cancel(struct commit *c)
{
    if (c->move.getting)
        store_cancel(&c->move.get);
    if (c->move.fetching)
        frames_cancel(&c->move.frames);
}

void commit_move_free(struct commit *c)
{
    free(c->move.victims);
    free(c->move.bytes);
    free(c->move.uses);
}

void commit_set_move(struct commit *c, unsigned dead_percent)
{
    c->move.dead_percent = dead_percent;
}
