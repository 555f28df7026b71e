/* initiator/wb_offer.c - blocks offered by hash: which of them need not be sent.
 *
 * In batches of 1 MiB: what the stage has (on the writing thread), then what the source disk has at the same
 * place, then what another place had once: both are read and hashed (on the pool). What is found is copied
 * into the stage: the cut is whole there, whatever happens to the disks before it is applied.
 */
#include "wb_impl.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "step.h"

#include <errno.h>
#include <string.h>

enum { BATCH = 256 };

/* One block that is read to see whether it is the one. */
struct candidate {
    struct source_read read;
    struct offering *o;
    bool asked, was_read;
};

struct offering {
    struct wb_op *op;
    struct work work;
    unsigned first, n; /* of the batch */
    uint64_t blocks[BATCH];
    const uint8_t *hashes[BATCH]; /* in the message */
    enum wb_offer_result results[BATCH];
    bool has_known[BATCH];
    struct stage_content known[BATCH];
    struct candidate candidates[BATCH];
    unsigned pending;
    enum wb_offer_result looking_for; /* OFFER_SAME_PLACE, OFFER_ELSEWHERE */
    int status;
    struct why why;
    uint64_t put; /* pieces, since the last time they were counted */
    bool wanted[WB_OFFER_MAX];
    uint8_t data[BATCH][PROTO_BLOCK];
};

static void next_batch(struct offering *o);
static void look_at(struct offering *o, enum wb_offer_result where);

static void finish(struct offering *o)
{
    struct wb_op *op = o->op;

    if (o->status)
        wb_op_end(op, o->status, o->why.text, NULL);
    else
        wb_op_end(op, 0, NULL, wb_put_wanted(o->wanted, op->offer.n));
    free(o);
}

/* ---- the stage: on the writing thread ---- */

static int put_found(struct offering *o, enum wb_offer_result result)
{
    struct stage_piece pieces[BATCH];
    unsigned n = 0;

    for (unsigned i = 0; i < o->n; i++)
        if (o->results[i] == result)
            pieces[n++] = (struct stage_piece){.disk = o->op->offer.disk,
                                               .kind = WB_PIECE_DATA,
                                               .lba = o->blocks[i] * WB_BLOCK_SECTORS,
                                               .nsectors = WB_BLOCK_SECTORS,
                                               .data = o->data[i],
                                               .hash = o->hashes[i]};
    o->put += n;
    return n ? stage_put(o->op->vm->wb->stage, o->op->number, pieces, n, &o->why) : 0;
}

/* -ENOENT is no error: nothing is there. */
static int or_nothing(int err)
{
    return err == -ENOENT ? 0 : err;
}

static int look_in_stage(struct offering *o, unsigned i, bool *there)
{
    struct stage *s = o->op->vm->wb->stage;
    uint64_t number = o->op->number;
    int err = stage_has(s, number, o->op->offer.disk, o->blocks[i], o->hashes[i], &o->why);

    *there = err == 0;
    if (err == -ENOENT) {
        err = stage_find(s, number, o->hashes[i], o->data[i], &o->why);
        if (err == 0)
            o->results[i] = OFFER_IN_STAGE;
    }
    if (err == -ENOENT && (err = stage_known(s, o->hashes[i], &o->known[i], &o->why)) == 0)
        o->has_known[i] = true;
    return or_nothing(err);
}

static void run_stage(struct work *w)
{
    struct offering *o = container_of(w, struct offering, work);
    bool there[BATCH];
    int err = 0;

    for (unsigned i = 0; i < o->n && !err; i++)
        err = look_in_stage(o, i, &there[i]);
    if (err == -EBADMSG)
        err = 0; /* it is sent, then, or the end will say so */
    if (!err)
        err = put_found(o, OFFER_IN_STAGE);
    for (unsigned i = 0; i < o->n && !err; i++)
        if (there[i])
            o->results[i] = OFFER_IN_STAGE; /* at its place already: not put again */
    o->status = err;
}

static void done_stage(struct work *w)
{
    struct offering *o = container_of(w, struct offering, work);
    struct writeback *wb = o->op->vm->wb;

    if (o->status)
        finish(o);
    else
        look_at(o, OFFER_SAME_PLACE);
    wb_go_idle(wb);
}

/* ---- the source disks ---- */

static void run_hash(struct work *w)
{
    struct offering *o = container_of(w, struct offering, work);
    uint8_t hash[WB_HASH_BYTES];

    for (unsigned i = 0; i < o->n; i++) {
        if (!o->candidates[i].was_read)
            continue;
        wb_hash(o->data[i], PROTO_BLOCK, hash);
        if (memcmp(hash, o->hashes[i], sizeof hash) == 0)
            o->results[i] = o->looking_for;
    }
}

static void run_found(struct work *w)
{
    struct offering *o = container_of(w, struct offering, work);

    o->status = put_found(o, OFFER_SAME_PLACE);
    if (!o->status)
        o->status = put_found(o, OFFER_ELSEWHERE);
    if (!o->status)
        STEP("onprem.stage.found", "blocks that were found here are in an open stage");
}

static void done_found(struct work *w)
{
    struct offering *o = container_of(w, struct offering, work);
    struct wb_vm *vm = o->op->vm;

    if (o->status) {
        finish(o);
    } else {
        vm->pieces += o->put;
        vm->bytes += o->put * PROTO_BLOCK;
        metric_add(vm->metrics.staged_bytes, o->put * PROTO_BLOCK);
        for (unsigned i = 0; i < o->n; i++) {
            metric_add(vm->metrics.offered[o->results[i]], 1);
            o->wanted[o->first + i] = o->results[i] == OFFER_WANTED;
        }
        o->first += o->n;
        next_batch(o);
    }
    wb_go_idle(vm->wb);
}

static void done_hash(struct work *w)
{
    struct offering *o = container_of(w, struct offering, work);
    struct writeback *wb = o->op->vm->wb;

    if (o->looking_for == OFFER_SAME_PLACE) {
        look_at(o, OFFER_ELSEWHERE);
    } else {
        o->work = (struct work){.run = run_found, .done = done_found};
        wb_write(wb, &o->work);
    }
    wb_go_idle(wb);
}

static void all_read(struct offering *o)
{
    o->work = (struct work){.run = run_hash, .done = done_hash};
    wb_pool(o->op->vm->wb, &o->work);
}

static void on_read(struct source_read *read, int status, const struct why *why, const uint8_t *data)
{
    struct candidate *c = container_of(read, struct candidate, read);
    struct offering *o = c->o;
    struct writeback *wb = o->op->vm->wb;

    (void)why; /* what cannot be read is sent */
    c->was_read = status == 0;
    if (c->was_read)
        memcpy(o->data[c - o->candidates], data, PROTO_BLOCK);
    if (--o->pending == 0)
        all_read(o);
    wb_go_idle(wb);
}

/* May this block be read now? Nothing here waits for a datastore that is away. */
static struct source *readable(const struct writeback *wb, const char *disk, uint64_t block)
{
    struct source *source = wb_source(wb, disk);
    const struct datastore_info *info = source ? source_info(source) : NULL;

    if (!info || source_trouble(source) || block >= info->bytes / PROTO_BLOCK)
        return NULL;
    return source;
}

static void look_at(struct offering *o, enum wb_offer_result where)
{
    struct wb_vm *vm = o->op->vm;
    struct source *sources[BATCH] = {NULL};

    o->looking_for = where;
    o->pending = 0;
    for (unsigned i = 0; i < o->n; i++) {
        bool same = where == OFFER_SAME_PLACE;
        uint64_t block = same ? o->blocks[i] : o->known[i].block;

        o->candidates[i] = (struct candidate){.o = o};
        if (o->results[i] != OFFER_WANTED || (!same && !o->has_known[i]))
            continue;
        sources[i] = readable(vm->wb, same ? vm->rec.disks[o->op->offer.disk] : o->known[i].disk, block);
        if (!sources[i])
            continue;
        o->candidates[i].read = (struct source_read){
            .offset = block * PROTO_BLOCK, .bytes = PROTO_BLOCK, .class = LINK_WRITEBACK, .done = on_read};
        o->pending++;
    }
    if (o->pending == 0) {
        all_read(o);
        return;
    }
    for (unsigned i = 0; i < o->n; i++) {
        if (sources[i]) {
            wb_busy(vm->wb);
            source_read(sources[i], &o->candidates[i].read);
        }
    }
}

/* ---- batches ---- */

static void next_batch(struct offering *o)
{
    const struct wb_offer *offer = &o->op->offer;

    if (o->first == offer->n || o->op->vm->wb->closing) {
        if (o->first < offer->n)
            o->status = why_set(&o->why, -ECANCELED, "isthmus-onprem is ending");
        finish(o);
        return;
    }
    o->n = offer->n - o->first < BATCH ? offer->n - o->first : BATCH;
    o->put = 0;
    for (unsigned i = 0; i < o->n; i++) {
        wb_offer_row(offer, o->first + i, &o->blocks[i], &o->hashes[i]);
        o->results[i] = OFFER_WANTED;
        o->has_known[i] = false;
    }
    o->work = (struct work){.run = run_stage, .done = done_stage};
    wb_write(o->op->vm->wb, &o->work);
}

void wb_on_offer(struct wb_op *op)
{
    struct offering *o;
    int err = 0;

    if (!wb_stage_wants(op, op->offer.disk))
        return;
    for (unsigned i = 0; i < op->offer.n && !err; i++) {
        const uint8_t *hash;
        uint64_t block;

        wb_offer_row(&op->offer, i, &block, &hash);
        err = wb_span_check(op->vm, op->offer.disk, block * WB_BLOCK_SECTORS, WB_BLOCK_SECTORS, &op->why);
    }
    if (err) {
        wb_op_end(op, err, op->why.text, NULL);
        return;
    }
    o = xcalloc(1, sizeof *o);
    o->op = op;
    op->number = op->vm->rec.number;
    next_batch(o);
}
