/* initiator/wb_marks.c - what goes to all disks of a VM at once: marks, flushes, reservations. */
#include "wb_impl.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "wire.h"

#include <string.h>

static const char part[] = "writeback";

/* ---- one I/O to each disk ---- */

static void on_round(struct datastore_io *io)
{
    struct wb_round *round = container_of(io, struct wb_round_io, io)->round;
    struct writeback *wb = round->vm->wb;

    if (io->status && round->status == 0) {
        round->status = io->status;
        round->why = io->why;
    }
    if (--round->pending == 0) {
        round->done(round);
        wb_go_idle(wb);
    }
}

void wb_round_start(struct wb_vm *vm, enum datastore_op op, void (*done)(struct wb_round *))
{
    struct wb_round *round = xcalloc(1, sizeof *round);
    const struct datastore_info *info;

    round->vm = vm;
    round->done = done;
    round->pending = vm->rec.ndisks;
    wb_busy(vm->wb);
    for (unsigned i = 0; i < vm->rec.ndisks; i++) {
        struct datastore *ds = wb_disk(vm, i, &info);

        CHECK(ds);
        round->io[i].round = round;
        round->io[i].io = (struct datastore_io){.op = op, .done = on_round};
        ds->ops->submit(ds, &round->io[i].io);
    }
}

/* ---- marks that are not known yet ---- */

struct settling {
    struct wb_change change;
    struct wb_mark marks[WB_DISKS_MAX];
};

static bool make_settle(struct wb_vm *vm, struct wb_change *c, struct wb_record *next)
{
    const struct settling *s = container_of(c, struct settling, change);
    bool changed = false;

    (void)vm;
    if (!next->attached || next->stage == WB_STAGE_APPLYING)
        return false; /* what is being written makes them others */
    for (unsigned i = 0; i < next->ndisks; i++) {
        if (!next->marks[i].known) {
            next->marks[i] = s->marks[i];
            changed = true;
        }
    }
    return changed;
}

/* It may be the end of the VM, which was detached meanwhile. */
static void end_settling(struct wb_vm *vm)
{
    vm->settling = false;
    wb_pump(vm);
}

static void done_settle(struct wb_vm *vm, struct wb_change *c, int status, const struct why *why)
{
    (void)status; /* asked for again when they are needed */
    (void)why;
    free(container_of(c, struct settling, change));
    end_settling(vm);
}

static void on_marks(struct wb_round *round)
{
    struct wb_vm *vm = round->vm;
    struct settling *s;

    if (round->status || vm->wb->closing) {
        free(round);
        end_settling(vm);
        return;
    }
    s = xcalloc(1, sizeof *s);
    s->change.make = make_settle;
    s->change.done = done_settle;
    for (unsigned i = 0; i < vm->rec.ndisks; i++) {
        s->marks[i] = (struct wb_mark){.known = true, .len = round->io[i].io.mark_len};
        memcpy(s->marks[i].bytes, round->io[i].io.mark, sizeof s->marks[i].bytes);
    }
    free(round);
    wb_change(vm, &s->change);
}

void wb_settle(struct wb_vm *vm)
{
    struct why why;
    bool known = true;

    for (unsigned i = 0; i < vm->rec.ndisks; i++)
        known = known && vm->rec.marks[i].known;
    if (known || vm->settling || vm->rec.stage == WB_STAGE_APPLYING || vm->wb->closing ||
        !wb_disks_ready(vm, &why))
        return;
    vm->settling = true;
    wb_round_start(vm, DATASTORE_MARK, on_marks);
}

/* ---- reservations ---- */

/* The same over restarts, another for each VM. */
static uint64_t hold_key(const struct wb_vm *vm)
{
    static const char label[] = "isthmus hold";
    uint8_t bytes[sizeof label + WB_ID_BYTES], hash[WB_HASH_BYTES];
    uint64_t key;

    memcpy(bytes, label, sizeof label);
    memcpy(bytes + sizeof label, vm->rec.vm, WB_ID_BYTES);
    wb_hash(bytes, sizeof bytes, hash);
    key = get64(hash);
    return key ? key : 1;
}

void wb_hold_disk(struct wb_vm *vm, unsigned i, bool hold)
{
    struct source *source = wb_source(vm->wb, vm->rec.disks[i]);
    struct datastore *ds = source ? source_datastore(source) : NULL;

    if (ds)
        ds->ops->hold(ds, hold ? hold_key(vm) : 0);
}

void wb_hold(struct wb_vm *vm, bool hold)
{
    log_debug(vm->rec.name, "%s its disks", hold ? "holds" : "lets go of");
    for (unsigned i = 0; i < vm->rec.ndisks; i++)
        wb_hold_disk(vm, i, hold);
}
