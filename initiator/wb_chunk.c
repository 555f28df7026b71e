/* initiator/wb_chunk.c - pieces of a stage, joined, on their way to a datastore.
 *
 * One chunk is read from the stage at a time (on the pool), several are being written. What was written is
 * noted as known content, which is a hint: nothing fails if it cannot be.
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
    BLOCKS_MAX = (1 << 20) / PROTO_BLOCK
};

struct chunk {
    struct work work;
    struct datastore_io io;
    struct wb_vm *vm;
    uint64_t number; /* of the stage */
    uint8_t disk;
    char name[PROTO_NAME_MAX + 1]; /* of the disk */
    enum wb_kind kind;
    uint64_t lba, nsectors; /* none: the stage is at its end */
    uint64_t zeros;         /* a run that is longer than one I/O: what is left of it behind this */
    uint32_t room;          /* bytes of data */
    uint32_t max_zero_sectors;
    int status;
    struct why why;
    unsigned nblocks; /* whole ones */
    uint64_t blocks[BLOCKS_MAX];
    uint8_t hashes[BLOCKS_MAX][WB_HASH_BYTES];
    uint8_t data[];
};

/* ---- reading ---- */

static void take_zeros(struct chunk *c, uint64_t nsectors)
{
    c->nsectors = nsectors < c->max_zero_sectors ? nsectors : c->max_zero_sectors;
    c->zeros = nsectors - c->nsectors;
}

static int gather(void *arg, const struct stage_piece *p)
{
    struct chunk *c = arg;

    if (c->nsectors == 0) {
        c->disk = p->disk;
        c->kind = p->kind;
        c->lba = p->lba;
        if (p->kind == WB_PIECE_ZERO) {
            take_zeros(c, p->nsectors);
            return 1;
        }
    } else if (p->kind != WB_PIECE_DATA || p->disk != c->disk || p->lba != c->lba + c->nsectors ||
               (c->nsectors + p->nsectors) * 512 > c->room) {
        return 1;
    }
    memcpy(c->data + c->nsectors * 512, p->data, (size_t)p->nsectors * 512);
    if (p->nsectors == WB_BLOCK_SECTORS) {
        c->blocks[c->nblocks] = p->lba / WB_BLOCK_SECTORS;
        memcpy(c->hashes[c->nblocks++], p->hash, WB_HASH_BYTES);
    }
    c->nsectors += p->nsectors;
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

static void on_written(struct datastore_io *io)
{
    struct chunk *c = container_of(io, struct chunk, io);
    struct wb_vm *vm = c->vm;

    if (io->status) {
        failed(vm->apply, io->status, &io->why);
    } else {
        STEP("onprem.apply.write", "one write of a cut is on a datastore, not flushed");
        vm->bytes_applied += c->nsectors * 512;
        metric_add(vm->metrics.applied_bytes, c->nsectors * 512);
    }
    if (io->status || c->nblocks == 0 || vm->wb->closing) {
        end_chunk(c);
        return;
    }
    memcpy(c->name, vm->rec.disks[c->disk], sizeof c->name);
    c->work = (struct work){.run = run_note, .done = done_note};
    wb_write(vm->wb, &c->work);
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
    c->io = (struct datastore_io){.op = c->kind == WB_PIECE_DATA ? DATASTORE_WRITE : DATASTORE_ZERO,
                                  .offset = c->lba * 512,
                                  .len = (uint32_t)(c->nsectors * 512),
                                  .data = c->kind == WB_PIECE_DATA ? c->data : NULL,
                                  .done = on_written};
    ds->ops->submit(ds, &c->io);
}

static void done_read(struct work *w)
{
    struct chunk *c = container_of(w, struct chunk, work);
    struct wb_vm *vm = c->vm;
    struct wb_apply *a = vm->apply;

    a->reading = false;
    if (c->status == 0 && c->nsectors) {
        a->next_disk = c->disk;
        a->next_lba = c->lba + c->nsectors;
        a->zeros.disk = c->disk;
        a->zeros.lba = c->lba + c->nsectors;
        a->zeros.nsectors = c->zeros;
        submit(c);
        wb_chunks(vm);
    } else {
        if (c->status)
            failed(a, c->status, &c->why);
        a->read_all = true;
        end_chunk(c);
    }
}

static struct chunk *chunk_new(struct wb_vm *vm, uint32_t room)
{
    struct chunk *c = xmalloc(sizeof *c + room);

    memset(c, 0, sizeof *c);
    c->vm = vm;
    c->number = vm->rec.number;
    c->room = room;
    c->max_zero_sectors = vm->apply->max_zero_bytes / 512;
    vm->apply->inflight++;
    vm->wb->nchunks++;
    wb_busy(vm->wb);
    return c;
}

static void next_zeros(struct wb_vm *vm)
{
    struct wb_apply *a = vm->apply;
    struct chunk *c = chunk_new(vm, 0);

    c->kind = WB_PIECE_ZERO;
    c->disk = a->zeros.disk;
    c->lba = a->zeros.lba;
    take_zeros(c, a->zeros.nsectors);
    a->zeros.lba += c->nsectors;
    a->zeros.nsectors = c->zeros;
    a->next_lba = a->zeros.lba;
    submit(c);
}

static void next_pieces(struct wb_vm *vm)
{
    struct chunk *c = chunk_new(vm, vm->apply->max_io_bytes);

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
