/* initiator/wb_chunk.c - pieces of a stage, joined, on their way to a datastore.
 *
 * A chunk is what one look into the stage gives, up to 1 MiB of one disk: pieces that follow each other are
 * one I/O, scattered ones are many. One chunk is read at a time (on the pool), several are being written.
 * What was written is noted as known content, which is a hint: nothing fails if it cannot be.
 */
#include "wb_impl.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "step.h"

#include <errno.h>
#include <string.h>

static const char part[] = "writeback";

enum {
    CHUNKS_MAX = 4,      /* of one VM */
    CHUNKS_ALL_MAX = 64, /* of all; a VM always may have one */
    CHUNK_BYTES = 1 << 20,
    RUNS_MAX = 256,
    BLOCKS_MAX = CHUNK_BYTES / PROTO_BLOCK
};

struct chunk;

struct run {
    struct datastore_io io;
    struct chunk *chunk;
    enum wb_kind kind;
    uint64_t lba, nsectors;
    uint8_t *data;
};

struct chunk {
    struct work work;
    struct wb_vm *vm;
    uint64_t number; /* of the stage */
    uint8_t disk;
    char name[PROTO_NAME_MAX + 1]; /* of the disk */
    uint64_t zeros; /* of the last run, if that is longer than one I/O: what is left behind it */
    uint32_t max_io_bytes, max_zero_sectors, bytes;
    int status; /* of the reading, then the first that went wrong with a run */
    struct why why;
    unsigned nruns, writing;
    unsigned nblocks; /* whole ones */
    uint64_t blocks[BLOCKS_MAX];
    uint8_t hashes[BLOCKS_MAX][WB_HASH_BYTES];
    struct run runs[RUNS_MAX]; /* none: the stage is at its end */
    uint8_t data[CHUNK_BYTES];
};

/* ---- reading ---- */

static struct run *run_new(struct chunk *c, enum wb_kind kind, uint64_t lba)
{
    struct run *r = &c->runs[c->nruns++];

    memset(r, 0, sizeof *r);
    r->chunk = c;
    r->kind = kind;
    r->lba = lba;
    r->data = c->data + c->bytes;
    return r;
}

static void take_zeros(struct chunk *c, uint64_t lba, uint64_t nsectors)
{
    struct run *r = run_new(c, WB_PIECE_ZERO, lba);

    r->nsectors = nsectors < c->max_zero_sectors ? nsectors : c->max_zero_sectors;
    c->zeros = nsectors - r->nsectors;
}

static void take_data(struct chunk *c, const struct stage_piece *p)
{
    struct run *r = c->nruns ? &c->runs[c->nruns - 1] : NULL;

    if (!r || r->kind != WB_PIECE_DATA || p->lba != r->lba + r->nsectors ||
        (r->nsectors + p->nsectors) * 512 > c->max_io_bytes)
        r = run_new(c, WB_PIECE_DATA, p->lba);
    memcpy(c->data + c->bytes, p->data, (size_t)p->nsectors * 512);
    c->bytes += (uint32_t)p->nsectors * 512;
    r->nsectors += p->nsectors;
    if (p->nsectors == WB_BLOCK_SECTORS) {
        c->blocks[c->nblocks] = p->lba / WB_BLOCK_SECTORS;
        memcpy(c->hashes[c->nblocks++], p->hash, WB_HASH_BYTES);
    }
}

/* 1: the chunk is full, this piece is the next one's. */
static int gather(void *arg, const struct stage_piece *p)
{
    struct chunk *c = arg;

    if (c->nruns == 0)
        c->disk = p->disk;
    if (p->disk != c->disk || c->nruns == RUNS_MAX || c->zeros)
        return 1;
    if (p->kind == WB_PIECE_ZERO) {
        take_zeros(c, p->lba, p->nsectors);
        return 0;
    }
    if (c->bytes + p->nsectors * 512 > CHUNK_BYTES)
        return 1;
    take_data(c, p);
    return 0;
}

static void run_read(struct work *w)
{
    struct chunk *c = container_of(w, struct chunk, work);
    struct wb_apply *a = c->vm->apply; /* nobody changes these while reading is set */
    int got = stage_scan(c->vm->wb->stage, c->number, a->next_disk, a->next_lba, gather, c, &c->why);

    c->status = got < 0 ? got : 0;
}

/* ---- writing ---- */

static void end_chunk(struct chunk *c)
{
    struct wb_vm *vm = c->vm;
    struct writeback *wb = vm->wb;

    vm->apply->inflight--;
    wb->nchunks--;
    free(c);
    wb_chunks(vm);
    wb_go_idle(wb);
}

static void run_note(struct work *w)
{
    struct chunk *c = container_of(w, struct chunk, work);

    if (stage_note(c->vm->wb->stage, c->name, c->blocks, (const uint8_t(*)[WB_HASH_BYTES])c->hashes,
                   c->nblocks, &c->why) != 0)
        log_debug(c->name, "contents are not noted: %s", c->why.text);
}

static void done_note(struct work *w)
{
    struct wb_vm *vm = container_of(w, struct chunk, work)->vm;

    end_chunk(container_of(w, struct chunk, work));
    wb_go_idle(vm->wb);
}

static void failed(struct wb_apply *a, int status, const struct why *why)
{
    if (a->status)
        return;
    a->status = status;
    a->why = *why;
}

static void chunk_written(struct chunk *c)
{
    struct wb_vm *vm = c->vm;

    if (c->status || c->nblocks == 0 || vm->wb->closing) {
        end_chunk(c);
        return;
    }
    memcpy(c->name, vm->rec.disks[c->disk], sizeof c->name);
    c->work = (struct work){.run = run_note, .done = done_note};
    wb_write(vm->wb, &c->work);
}

static void on_written(struct datastore_io *io)
{
    struct run *r = container_of(io, struct run, io);
    struct chunk *c = r->chunk;
    struct wb_vm *vm = c->vm;

    if (io->status) {
        c->status = io->status;
        failed(vm->apply, io->status, &io->why);
    } else {
        STEP("onprem.apply.write", "one write of a cut is on a datastore, not flushed");
        vm->bytes_applied += r->nsectors * 512;
        metric_add(vm->metrics.applied_bytes, r->nsectors * 512);
    }
    if (--c->writing == 0)
        chunk_written(c);
}

static void submit(struct chunk *c)
{
    const struct datastore_info *info;
    struct datastore *ds = c->disk < c->vm->rec.ndisks ? wb_disk(c->vm, c->disk, &info) : NULL;

    if (!ds) {
        c->vm->apply->redo = true;
        end_chunk(c);
        return;
    }
    c->writing = c->nruns;
    for (unsigned i = 0; i < c->nruns; i++) {
        struct run *r = &c->runs[i];

        r->io = (struct datastore_io){.op = r->kind == WB_PIECE_DATA ? DATASTORE_WRITE : DATASTORE_ZERO,
                                      .offset = r->lba * 512,
                                      .len = (uint32_t)(r->nsectors * 512),
                                      .data = r->kind == WB_PIECE_DATA ? r->data : NULL,
                                      .done = on_written};
        ds->ops->submit(ds, &r->io);
    }
}

/* Reading goes on behind it. */
static void pass(struct wb_apply *a, const struct chunk *c)
{
    const struct run *last = &c->runs[c->nruns - 1];

    a->next_disk = a->zeros.disk = c->disk;
    a->next_lba = a->zeros.lba = last->lba + last->nsectors;
    a->zeros.nsectors = c->zeros;
}

static void done_read(struct work *w)
{
    struct chunk *c = container_of(w, struct chunk, work);
    struct wb_vm *vm = c->vm;
    struct wb_apply *a = vm->apply;

    a->reading = false;
    if (c->status == 0 && c->nruns) {
        pass(a, c);
        submit(c);
        wb_chunks(vm);
    } else {
        if (c->status)
            failed(a, c->status, &c->why);
        a->read_all = true;
        end_chunk(c);
    }
}

static struct chunk *chunk_new(struct wb_vm *vm)
{
    struct chunk *c = xmalloc(sizeof *c);

    memset(c, 0, offsetof(struct chunk, blocks));
    c->vm = vm;
    c->number = vm->rec.number;
    c->max_io_bytes = vm->apply->max_io_bytes;
    c->max_zero_sectors = vm->apply->max_zero_bytes / 512;
    vm->apply->inflight++;
    vm->wb->nchunks++;
    wb_busy(vm->wb);
    return c;
}

static void next_zeros(struct wb_vm *vm)
{
    struct wb_apply *a = vm->apply;
    struct chunk *c = chunk_new(vm);

    c->disk = a->zeros.disk;
    take_zeros(c, a->zeros.lba, a->zeros.nsectors);
    pass(a, c);
    submit(c);
}

static void next_pieces(struct wb_vm *vm)
{
    struct chunk *c = chunk_new(vm);

    vm->apply->reading = true;
    c->work = (struct work){.run = run_read, .done = done_read};
    loop_work(vm->wb->loop, &c->work);
}

void wb_chunks(struct wb_vm *vm)
{
    struct wb_apply *a = vm->apply;

    while (a->phase == APPLY_WRITE && !a->reading && !a->read_all && !a->status && !a->redo &&
           !vm->rec.alarm && !vm->wb->closing && a->inflight < CHUNKS_MAX &&
           (a->inflight == 0 || vm->wb->nchunks < CHUNKS_ALL_MAX)) {
        if (a->zeros.nsectors)
            next_zeros(vm);
        else
            next_pieces(vm);
    }
    if (a->phase == APPLY_WRITE && !a->reading && a->inflight == 0)
        wb_apply_written(vm);
}
