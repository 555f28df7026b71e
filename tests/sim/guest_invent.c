/* tests/sim/guest_invent.c - what a guest does next.
 */
#include "guest_inside.h"

#include "check.h"
#include "mem.h"

#include <string.h>

static void choose_range(const struct guest *g, struct op *op)
{
    uint64_t kind = sim_below(100);
    uint32_t hot = g->conf.nsectors / 16;

    op->disk = (uint8_t)sim_below(g->conf.ndisks);
    op->nsectors = (uint32_t)(kind < 40   ? 8 * sim_between(1, 2)
                              : kind < 90 ? sim_between(1, 16)
                                          : sim_between(1, 200));
    op->lba = (uint32_t)sim_below(sim_chance(500000) ? hot : g->conf.nsectors);
    if (kind < 40)
        op->lba &= ~7U;
    if (op->nsectors > g->conf.nsectors - op->lba)
        op->nsectors = g->conf.nsectors - op->lba;
}

static bool is_free(const struct guest *g, const struct op *op)
{
    for (uint32_t i = 0; i < op->nsectors; i++)
        if (g->sectors[op->disk][op->lba + i].busy)
            return false;
    return true;
}

static void note_write(struct guest *g, const struct op *op, bool zeros)
{
    if (op->number >= g->room) {
        uint32_t room = op->number * 2 + 256;

        g->writes = xrealloc(g->writes, room * sizeof *g->writes);
        memset(g->writes + g->room, 0, (room - g->room) * sizeof *g->writes);
        g->room = room;
    }
    g->nwrites = op->number + 1;
    g->writes[op->number] = (struct write){
        .disk = op->disk, .zeros = zeros, .lba = op->lba, .nsectors = op->nsectors, .begun_ns = sim_now};
    for (uint32_t i = 0; i < op->nsectors; i++) {
        struct sector *s = &g->sectors[op->disk][op->lba + i];

        s->busy = true;
        sector_add(s, op->number, zeros);
    }
}

void guest_stamp(const struct guest *g, struct op *op)
{
    op->io.data = buf_new((size_t)op->nsectors * STAMP_SECTOR);
    for (uint32_t i = 0; i < op->nsectors; i++)
        stamp_make((struct stamp *)(void *)(op->io.data->data + (size_t)i * STAMP_SECTOR),
                   g->model.disks[op->disk].id, op->lba + i, op->number);
}

static void begin_write(struct guest *g, struct op *op, bool zeros)
{
    op->io.op = zeros ? IO_ZERO : IO_WRITE;
    if (!g->flushing && sim_chance(80000)) {
        op->io.fua = g->flushing = true;
        cut_flush(&g->model, false);
    }
    op->number = cut_begin(&g->model, op->disk, zeros, op->lba, op->nsectors);
    note_write(g, op, zeros);
    if (!zeros)
        guest_stamp(g, op);
}

void guest_read(const struct guest *g, struct op *op)
{
    op->io.op = IO_READ;
    op->floors = xmalloc(op->nsectors * sizeof *op->floors);
    for (uint32_t i = 0; i < op->nsectors; i++)
        op->floors[i] = g->sectors[op->disk][op->lba + i].floor;
}

void guest_write_elsewhere(struct guest *g, uint8_t *const *disks)
{
    for (uint64_t left = sim_between(1, 8); left > 0; left--) {
        struct op op = {.lba = 0};

        choose_range(g, &op);
        if (!is_free(g, &op))
            continue;
        op.number = cut_begin(&g->model, op.disk, false, op.lba, op.nsectors);
        note_write(g, &op, false);
        guest_stamp(g, &op);
        memcpy(disks[op.disk] + (size_t)op.lba * STAMP_SECTOR, op.io.data->data, op.io.data->len);
        buf_unref(&op.io.data);
        cut_done(&g->model, op.number);
        g->writes[op.number].done_ns = sim_now; /* in no log: no number */
        for (uint32_t i = 0; i < op.nsectors; i++) {
            struct sector *s = &g->sectors[op.disk][op.lba + i];

            s->busy = false;
            s->floor = s->n - 1;
        }
    }
}

void guest_invent(struct guest *g)
{
    struct op *op = xcalloc(1, sizeof *op);
    uint64_t kind = sim_below(100);

    choose_range(g, op);
    if (kind < 8 && !g->flushing) {
        op->io.op = IO_FLUSH;
        op->lba = 0;
        op->nsectors = 0;
        g->flushing = true;
        cut_flush(&g->model, false);
    } else if (kind < 65 && is_free(g, op)) {
        begin_write(g, op, sim_chance(200000));
    } else {
        guest_read(g, op);
    }
    guest_submit(g, op);
}
