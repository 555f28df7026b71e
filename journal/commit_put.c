/* journal/commit_put.c - the objects of a cut: built in order, put several at a time, applied to the map in
 * order.
 *
 * Building goes in slices on the pool, so that a large cut does not keep others from reading. A name that is
 * taken is looked at: ours from before a crash is adopted as it is, and the cut starts again behind it; one
 * of ours that no object leads to is replaced; another edge's is the end of our ownership.
 */
#include "check.h"
#include "commit_impl.h"
#include "extents.h"
#include "log.h"
#include "mem.h"
#include "step.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "commit";

enum {
    PUT_TIMEOUT_MS = 60000,
    FRONT_MAX = LOGOBJ_HEAD_BYTES + 24 + LOGOBJ_ENTRIES_MAX * LOGOBJ_ENTRY_BYTES + LOGOBJ_FRAME_OVERHEAD
};

static struct outgoing *out_at(struct commit *c, unsigned i)
{
    return &c->out[(c->first + i) % COMMIT_OUTGOING];
}

static void free_out(struct commit *c, struct outgoing *o)
{
    logobj_built_free(&o->built);
    o->state = OUT_FREE;
    commit_slot_give(c);
}

/* --- building -------------------------------------------------------------------------------------------*/

static void build_run(struct work *w)
{
    commit_build(container_of(w, struct commit, build));
}

static void put_object(struct commit *c, struct outgoing *o);

static void build_done(struct work *w)
{
    struct commit *c = container_of(w, struct commit, build);
    struct outgoing *o = c->filling;

    if (c->build_status == 0 && c->builder && !c->failed) { /* the next slice */
        loop_work(c->conf.loop, w);
        return;
    }
    c->building = false;
    logobj_free(&c->builder);
    if (c->build_status) {
        struct why none = {""};

        o->state = OUT_FAILED;
        commit_fail(c, c->build_status, "the journal cannot be read for a commit", &none);
    } else if (c->failed) {
        o->state = OUT_FAILED;
    } else {
        c->built_last = o->built.head.ends_cut;
        c->next_first = o->built.head.last + 1;
        memcpy(c->chain, o->built.tag, sizeof c->chain);
        STEP("commit.build", "a log object is built and not put");
        put_object(c, o);
    }
    commit_moved(c);
}

static void build_begin(struct commit *c)
{
    struct outgoing *o = out_at(c, c->count);
    struct logobj_head h = {.first = c->next_first, .epoch = c->conf.epoch};

    memcpy(h.vm, c->conf.id, sizeof h.vm);
    memcpy(h.chain, c->chain, sizeof h.chain);
    loop_random(c->conf.loop, h.salt, sizeof h.salt);
    c->builder = logobj_begin(&c->conf.master, &h, c->conf.writer);
    c->count++;
    c->move.ready = false;
    o->commit = c;
    o->match[0] = '\0';
    o->state = OUT_BUILDING;
    c->building = true;
    c->filling = o;
    c->build = (struct work){.run = build_run, .done = build_done};
    loop_work(c->conf.loop, &c->build);
}

/* --- applying -------------------------------------------------------------------------------------------*/

static void apply_run(struct work *w)
{
    struct commit *c = container_of(w, struct commit, apply);

    c->apply_status = map_apply(c->conf.map, c->apply_head, c->apply_entries, c->apply_n, &c->apply_state,
                                c->apply_stable, &c->change, &c->why);
}

static void apply_begin(struct commit *c, const struct logobj_head *head, const struct logobj_entry *entries,
                        unsigned n, const uint8_t *tag, void (*done)(struct work *))
{
    c->apply_state = c->next;
    c->apply_state.last = head->last;
    if (head->ends_cut)
        c->apply_state.committed = head->last;
    memcpy(c->apply_state.tag, tag, sizeof c->apply_state.tag);
    c->apply_head = head;
    c->apply_entries = entries;
    c->apply_n = n;
    c->apply_stable = head->ends_cut;
    c->applying = true;
    c->apply = (struct work){.run = apply_run, .done = done};
    loop_work(c->conf.loop, &c->apply);
}

static bool apply_end(struct commit *c)
{
    struct why why = c->why;

    c->applying = false;
    if (c->apply_status) {
        commit_fail(c, c->apply_status, "the map cannot be changed", &why);
        return false;
    }
    map_install(c->conf.map, &c->change);
    c->next = c->apply_state;
    return true;
}

/* What of an object is the guest's, and what was moved. */
struct contents {
    uint64_t guest_bytes, moved_bytes;
    unsigned guest_entries;
};

static struct contents contents_of(const struct logobj_built *b)
{
    struct contents all = {0};

    for (unsigned i = 0; i < b->nentries; i++) {
        const struct logobj_entry *e = &b->entries[i];

        all.guest_entries += !logobj_is_moved(e->kind);
        if (e->kind == LOGOBJ_DATA)
            all.guest_bytes += (uint64_t)e->nsectors * 512;
        else if (e->kind == LOGOBJ_MOVED_DATA)
            all.moved_bytes += (uint64_t)e->nsectors * 512;
    }
    return all;
}

static void on_applied(struct work *w)
{
    struct commit *c = container_of(w, struct commit, apply);
    struct outgoing *o = out_at(c, 0);
    struct contents has = contents_of(&o->built);

    if (apply_end(c)) {
        STEP("commit.map", "a log object is in the map");
        metric_add(c->m_objects, 1);
        metric_add(c->m_guest_bytes, has.guest_bytes);
        metric_add(c->m_moved_bytes, has.moved_bytes);
        metric_add(c->m_object_bytes, o->built.head.bytes);
        commit_took(c, has.guest_bytes + (uint64_t)has.guest_entries * (EXTENT_COST + RECORD_COST));
        c->first = (c->first + 1) % COMMIT_OUTGOING;
        c->count--;
        free_out(c, o);
    }
    commit_moved(c);
}

/* --- a name that is taken -------------------------------------------------------------------------------*/

static void look_end(struct commit *c)
{
    buf_unref(&c->found);
    logobj_index_free(&c->found_index);
    c->looking = false;
}

static void on_adopted(struct work *w)
{
    struct commit *c = container_of(w, struct commit, apply);

    if (apply_end(c)) {
        STEP("commit.adopt", "an object of ours from before a crash is in the map");
        log_info(c->vm, "records %" PRIu64 " to %" PRIu64 " were in the object store already",
                 c->found_head.first, c->found_head.last);
        c->failed = true; /* what was built behind it does not follow: a new cut goes on there */
        c->again = true;
    }
    look_end(c);
    commit_moved(c);
}

/* By a swap: a delete could be done late, when the name is another object's. */
static void replace_leftover(struct commit *c, struct outgoing *o)
{
    log_info(c->vm, "object %s is left over from a cut that was never finished: replaced", o->key);
    snprintf(o->match, sizeof o->match, "%s", c->look.etag);
    look_end(c);
    put_object(c, o);
}

static void judge_run(struct work *w)
{
    struct commit *c = container_of(w, struct commit, judge);
    const struct outgoing *o = out_at(c, 0);
    struct why *why = &c->found_why;

    c->found_status =
        logobj_head_read(&c->found_head, c->found->data, c->found->len, c->conf.id, o->built.head.first, why);
    if (c->found_status == 0 && c->found->len < LOGOBJ_HEAD_BYTES + c->found_head.index_bytes)
        c->found_status = why_set(why, -EBADMSG, "it is shorter than its index");
    if (c->found_status == 0)
        c->found_status =
            logobj_index_read(&c->found_index, &c->conf.master, &c->found_head, c->found->data, why);
}

static void judge_done(struct work *w)
{
    struct commit *c = container_of(w, struct commit, judge);
    struct outgoing *o = out_at(c, 0);
    struct why why;

    if (c->failed) {
        look_end(c);
    } else if (c->found_status) {
        why_set(&why, 0, "object %s: %s", o->key, c->found_why.text);
        commit_fail(c, c->found_status, "an object of this VM's log is not as it should be", &why);
        look_end(c);
    } else if (memcmp(c->found_head.salt, o->built.head.salt, AEAD_SALT_BYTES) == 0) {
        o->state = OUT_PUT; /* it is this very object: the answer had been lost */
        look_end(c);
    } else if (c->found_head.epoch < c->conf.epoch) { /* of an edge that had lost the VM by then */
        replace_leftover(c, o);
    } else if (memcmp(c->found_index.writer, c->conf.writer, LOGOBJ_WRITER_BYTES) != 0) {
        why_set(&why, 0,
                "another edge writes this VM's log (object %s is not ours): this edge stops serving the VM; "
                "it must run on one edge only",
                o->key);
        commit_fence(c, &why);
        look_end(c);
    } else if (memcmp(c->found_head.chain, o->built.head.chain, LOGOBJ_TAG_BYTES) != 0) {
        replace_leftover(c, o);
    } else {
        o->state = OUT_OURS;
        c->looking = false;
    }
    commit_moved(c);
}

static void on_looked(struct store_req *r)
{
    struct commit *c = container_of(r, struct commit, look);

    if (r->status == 0 && !c->failed) {
        c->found->len = (uint32_t)r->len;
        c->judge = (struct work){.run = judge_run, .done = judge_done};
        loop_work(c->conf.loop, &c->judge);
        return;
    }
    if (r->status)
        commit_fail(c, r->status, "an object whose name is taken cannot be read", &r->why);
    look_end(c);
    commit_moved(c);
}

/* Only the oldest object on its way: those behind it wait for what it turns out to be. */
static void look(struct commit *c, struct outgoing *o)
{
    c->looking = true;
    c->found = buf_new(FRONT_MAX);
    c->look =
        (struct store_req){.op = STORE_GET, .timeout_ms = PUT_TIMEOUT_MS, .done = on_looked, .key = o->key};
    c->look.get.buf = c->found->data;
    c->look.get.cap = FRONT_MAX;
    store_submit(c->conf.store, &c->look);
}

/* --- putting --------------------------------------------------------------------------------------------*/

static void on_put(struct store_req *r)
{
    struct outgoing *o = container_of(r, struct outgoing, req);
    struct commit *c = o->commit;

    if (r->status == 0) {
        STEP("commit.put", "a log object is in the store");
        o->state = OUT_PUT;
    } else if (r->status == -EEXIST || r->status == -ESTALE) {
        o->state = OUT_TAKEN;
    } else {
        o->state = OUT_FAILED;
        commit_fail(c, r->status, "the object store does not take the log", &r->why);
    }
    commit_moved(c);
}

static void put_object(struct commit *c, struct outgoing *o)
{
    map_object_name(o->key, c->conf.id, o->built.head.first);
    o->iov[0] = (struct iovec){o->built.front->data, o->built.front->len};
    o->iov[1] = (struct iovec){o->built.frames->data, o->built.frames->len};
    o->req = (struct store_req){.op = STORE_PUT, .timeout_ms = PUT_TIMEOUT_MS, .done = on_put, .key = o->key};
    o->req.put.iov = o->iov;
    o->req.put.niov = 2;
    o->req.put.condition = *o->match ? STORE_IF_MATCH : STORE_IF_ABSENT;
    o->req.put.match = o->match;
    o->state = OUT_PUTTING;
    store_submit(c->conf.store, &o->req);
}

/* --- all of them ----------------------------------------------------------------------------------------*/

void commit_put_begin(struct commit *c)
{
    c->first = c->count = 0;
    c->at = 0;
    c->at_sector = 0;
    c->sorted = c->built_last = false;
    commit_move_begin(c);
    c->build_status = 0;
    c->next_first = c->next.last + 1;
    memcpy(c->chain, c->next.tag, sizeof c->chain);
    if (!c->scratch)
        c->scratch = xmalloc(CUT_READ_SECTORS * 512);
}

void commit_put_advance(struct commit *c)
{
    struct outgoing *o = c->count ? out_at(c, 0) : NULL;

    if (o && o->state == OUT_PUT && !c->applying && commit_whole(c, &o->built.head))
        apply_begin(c, &o->built.head, o->built.entries, o->built.nentries, o->built.tag, on_applied);
    else if (o && o->state == OUT_OURS && !c->applying && commit_whole(c, &c->found_head))
        apply_begin(c, &c->found_head, c->found_index.entries, c->found_index.nentries, c->found_index.tag,
                    on_adopted);
    else if (o && o->state == OUT_TAKEN && !c->looking)
        look(c, o);
    if (c->building || c->built_last || c->move.busy || c->count == COMMIT_OUTGOING)
        return;
    if (!c->move.ready && commit_move_wanted(c))
        commit_move_fetch(c);
    else if (commit_slot_take(c))
        build_begin(c);
}

bool commit_put_idle(const struct commit *c)
{
    if (c->building || c->applying || c->looking || c->naming || c->move.busy)
        return false;
    for (unsigned i = 0; i < COMMIT_OUTGOING; i++)
        if (c->out[i].state == OUT_PUTTING)
            return false;
    return true;
}

void commit_put_cancel(struct commit *c)
{
    commit_slot_leave(c);
    commit_move_cancel(c);
    atomic_store(&c->name_stop, true);
    for (unsigned i = 0; i < COMMIT_OUTGOING; i++)
        if (c->out[i].state == OUT_PUTTING)
            store_cancel(&c->out[i].req);
}

void commit_put_end(struct commit *c)
{
    commit_slot_leave(c);
    look_end(c);
    for (unsigned i = 0; i < COMMIT_OUTGOING; i++)
        if (c->out[i].state != OUT_FREE)
            free_out(c, &c->out[i]);
    c->count = 0;
    c->move.ready = false;
    c->move.nuses = 0;
}

bool commit_put_complete(const struct commit *c)
{
    return c->built_last && c->count == 0 && commit_put_idle(c);
}
