/* initiator/wb_data.c - pieces that come into a stage, and the end of it: is it whole? */
#include "wb_impl.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "step.h"

#include <errno.h>
#include <string.h>

static const char part[] = "writeback";

/* ---- data and zeros ---- */

static void done_put(struct work *w)
{
    struct wb_op *op = container_of(w, struct wb_op, work);
    struct wb_vm *vm = op->vm;
    struct writeback *wb = vm->wb;

    if (op->status == 0) {
        vm->pieces += op->pieces;
        vm->bytes += op->bytes;
        metric_add(vm->metrics.staged_bytes, op->bytes);
    }
    metric_set(wb->stage_bytes, stage_bytes(wb->stage));
    wb_op_end(op, op->status, op->why.text, NULL);
    wb_go_idle(wb);
}

static int put_data(struct wb_op *op, uint8_t *plain)
{
    struct stage_piece pieces[WB_DATA_MAX];
    uint8_t hashes[WB_DATA_MAX][WB_HASH_BYTES], *pages[WB_DATA_MAX], n;
    bool zero[WB_DATA_MAX];
    const struct wb_data *d = &op->data;

    for (unsigned i = 0; i < d->n; i++)
        pages[i] = plain + (size_t)i * PROTO_BLOCK;
    if (runs_decode(d->runs, d->runs_len, pages, zero, d->n) != 0)
        return why_set(&op->why, -EBADMSG, "data of write-back that does not follow the protocol");
    for (unsigned i = 0; i < d->n; i++) {
        struct stage_piece *p = &pieces[i];

        if (zero[i])
            memset(pages[i], 0, PROTO_BLOCK);
        *p =
            (struct stage_piece){.disk = d->disk, .kind = WB_PIECE_DATA, .data = pages[i], .hash = hashes[i]};
        wb_data_row(d, i, &p->lba, &n);
        p->nsectors = n;
        wb_hash(p->data, (size_t)n * 512, hashes[i]);
        op->bytes += (size_t)n * 512;
    }
    op->pieces = d->n;
    return stage_put(op->vm->wb->stage, op->number, pieces, d->n, &op->why);
}

static void run_data(struct work *w)
{
    struct wb_op *op = container_of(w, struct wb_op, work);
    CLEANUP_FREE uint8_t *plain = xmalloc((size_t)op->data.n * PROTO_BLOCK);

    op->status = put_data(op, plain);
    if (op->status == 0)
        STEP("onprem.stage.data", "pieces of data are in an open stage");
}

void wb_on_data(struct wb_op *op)
{
    if (!wb_stage_wants(op, op->data.disk))
        return;
    for (unsigned i = 0; i < op->data.n; i++) {
        uint64_t lba;
        uint8_t n;
        int err;

        wb_data_row(&op->data, i, &lba, &n);
        err = wb_span_check(op->vm, op->data.disk, lba, n, &op->why);
        if (err) {
            wb_op_end(op, err, op->why.text, NULL);
            return;
        }
    }
    op->number = op->vm->rec.number;
    op->work = (struct work){.run = run_data, .done = done_put};
    wb_write(op->vm->wb, &op->work);
}

static void run_zero(struct work *w)
{
    struct wb_op *op = container_of(w, struct wb_op, work);
    const struct wb_zero *z = &op->zero;
    CLEANUP_FREE struct stage_piece *pieces = xcalloc(z->n, sizeof *pieces);

    for (unsigned i = 0; i < z->n; i++) {
        pieces[i] = (struct stage_piece){.disk = z->disk, .kind = WB_PIECE_ZERO};
        wb_zero_row(z, i, &pieces[i].lba, &pieces[i].nsectors);
        op->bytes += pieces[i].nsectors * 512;
    }
    op->pieces = z->n;
    op->status = stage_put(op->vm->wb->stage, op->number, pieces, z->n, &op->why);
    if (op->status == 0)
        STEP("onprem.stage.zero", "runs of zeros are in an open stage");
}

void wb_on_zero(struct wb_op *op)
{
    if (!wb_stage_wants(op, op->zero.disk))
        return;
    for (unsigned i = 0; i < op->zero.n; i++) {
        uint64_t lba, n;
        int err;

        wb_zero_row(&op->zero, i, &lba, &n);
        err = wb_span_check(op->vm, op->zero.disk, lba, n, &op->why);
        if (err) {
            wb_op_end(op, err, op->why.text, NULL);
            return;
        }
    }
    op->number = op->vm->rec.number;
    op->work = (struct work){.run = run_zero, .done = done_put};
    wb_write(op->vm->wb, &op->work);
}

/* ---- end ---- */

struct tally {
    struct wb_digest *digest;
    uint64_t pieces, bytes, end; /* end: of the last piece, on `disk` */
    uint8_t disk;
    bool overlap;
};

static int count(void *arg, const struct stage_piece *p)
{
    struct tally *t = arg;

    if (t->pieces && p->disk == t->disk && p->lba < t->end)
        t->overlap = true;
    t->disk = p->disk;
    t->end = p->lba + p->nsectors;
    t->pieces++;
    t->bytes += p->nsectors * 512;
    wb_digest_add(t->digest, p->disk, p->kind, p->lba, p->nsectors, p->hash);
    return 0;
}

/* Every piece is opened and hashed into the digest, so that what is staged can be read, too. */
static void run_end(struct work *w)
{
    struct wb_op *op = container_of(w, struct wb_op, work);
    struct tally t = {.digest = wb_digest_new()};
    uint8_t digest[WB_HASH_BYTES];

    op->status = stage_scan(op->vm->wb->stage, op->number, 0, 0, count, &t, &op->why);
    wb_digest_end(&t.digest, digest);
    op->pieces = t.pieces;
    op->bytes = t.bytes;
    op->same = op->status == 0 && !t.overlap && t.pieces == op->end.pieces &&
               memcmp(digest, op->end.digest, sizeof digest) == 0;
}

static bool make_end(struct wb_vm *vm, struct wb_change *c, struct wb_record *next)
{
    const struct wb_op *op = container_of(c, struct wb_op, change);

    (void)vm;
    if (op->same) {
        next->stage = WB_STAGE_STAGED;
        next->pieces = op->pieces;
        next->bytes = op->bytes;
    } else {
        c->drop = next->number;
        next->stage = WB_STAGE_NONE;
        next->number = next->target = next->target_ms = 0;
    }
    return true;
}

static void done_end(struct wb_vm *vm, struct wb_change *c, int status, const struct why *why)
{
    struct wb_op *op = container_of(c, struct wb_op, change);

    if (status) {
        wb_op_end(op, status, why->text, NULL);
    } else if (op->same) {
        STEP("onprem.stage.staged", "a stage is whole and stable");
        wb_apply_go(vm);
        wb_op_state(op);
    } else {
        STEP("onprem.stage.given_up", "a stage that was not whole is gone");
        log_warn(vm->rec.name, "%s", op->why.text);
        wb_wake(vm);
        wb_op_end(op, -EAGAIN, op->why.text, NULL);
    }
}

static void done_scan(struct work *w)
{
    struct wb_op *op = container_of(w, struct wb_op, work);
    struct writeback *wb = op->vm->wb;

    if (op->status && op->status != -EBADMSG) {
        wb_op_end(op, op->status, op->why.text, NULL);
    } else {
        if (op->status == 0 && !op->same)
            why_set(&op->why, 0,
                    "the stage for cut %llu of VM %s is not whole: %llu pieces came of %llu; begin again",
                    (unsigned long long)op->head.target, op->vm->rec.name, (unsigned long long)op->pieces,
                    (unsigned long long)op->end.pieces);
        op->change = (struct wb_change){.make = make_end, .done = done_end};
        wb_change(op->vm, &op->change);
    }
    wb_go_idle(wb);
}

void wb_on_end(struct wb_op *op)
{
    struct writeback *wb = op->vm->wb;

    if (!wb_stage_wants(op, 0))
        return;
    op->number = op->vm->rec.number;
    op->work = (struct work){.run = run_end, .done = done_scan};
    wb_busy(wb);
    worker_do(wb->scanner, wb->loop, &op->work); /* as long as it takes to read the stage */
}
