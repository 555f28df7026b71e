/* initiator/wb_apply.c - a staged cut goes to the source disks.
 *
 *    MARKS ──► WRITE ──► FLUSH ──► NEW_MARKS ──► DONE
 *      │         ▲ └ an error: later, all of it again
 *      └ alarm   └── FLUSH: writes may have been lost
 *
 * A redo is the same bytes at the same places, so any part of it may be done any number of times. Marks are
 * compared before the first byte only: afterwards it was us who wrote.
 */
#include "wb_impl.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "step.h"

#include <errno.h>
#include <string.h>

static const char part[] = "writeback";

enum { RETRY_MS = 1000, RETRY_MAX_MS = 30000, IO_MAX = 1 << 20 };

/* ---- when it does not go on ---- */

static void on_retry(struct timer *t)
{
    struct wb_vm *vm = container_of(t, struct wb_apply, retry)->vm;

    wb_apply_go(vm);
}

void wb_apply_later(struct wb_vm *vm)
{
    struct wb_apply *a = vm->apply;
    uint64_t ms = (uint64_t)RETRY_MS << (a->fails < 5 ? a->fails : 5);

    a->fails++;
    timer_set_ms(&a->retry, ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS);
}

/* An operator has to see to it, or it is tried again. */
static void fail(struct wb_vm *vm, int status, const struct why *why)
{
    struct wb_apply *a = vm->apply;

    a->phase = APPLY_IDLE;
    if (vm->wb->closing)
        return;
    if (status == -EBUSY) {
        wb_raise_alarm(vm, WB_ALARM_TAKEN, why->text);
    } else if (status == -EBADMSG) {
        wb_raise_alarm(vm, WB_ALARM_DAMAGED, why->text);
    } else {
        if (a->fails > 0 && strcmp(a->said.text, why->text) != 0) { /* not what is over in a second */
            log_warn(vm->rec.name, "cut %llu waits: %s", (unsigned long long)vm->rec.target, why->text);
            a->said = *why;
        }
        vm->trouble = *why;
        wb_apply_later(vm);
    }
}

/* Is it to go on? Not if somebody raised the alarm meanwhile, or a disk went away: what was written to it is
 * not what a flush or a mark of the one that came back is about. */
static bool goes_on(struct wb_vm *vm, int status, const struct why *why)
{
    struct why away;

    if (vm->rec.alarm || vm->wb->closing) {
        vm->apply->phase = APPLY_IDLE;
    } else if (status == -ECANCELED || vm->apply->redo || !wb_disks_ready(vm, &away)) {
        why_set(&away, 0, "a disk of VM %s went away: all of it again", vm->rec.name);
        fail(vm, -EAGAIN, &away);
    } else if (status) {
        fail(vm, status, why);
    } else {
        return true;
    }
    return false;
}

static void changed(struct wb_vm *vm, bool (*make)(struct wb_vm *, struct wb_change *, struct wb_record *),
                    void (*done)(struct wb_vm *, struct wb_change *, int, const struct why *))
{
    vm->apply->change = (struct wb_change){.make = make, .done = done};
    wb_change(vm, &vm->apply->change);
}

/* ---- the end ---- */

static bool make_applied(struct wb_vm *vm, struct wb_change *c, struct wb_record *next)
{
    c->drop = next->number;
    next->applied = next->target;
    next->applied_ms = next->target_ms;
    next->stage = WB_STAGE_NONE;
    next->number = next->target = next->target_ms = next->pieces = next->bytes = 0;
    memcpy(next->marks, vm->apply->marks, sizeof next->marks);
    return true;
}

static void done_applied(struct wb_vm *vm, struct wb_change *c, int status, const struct why *why)
{
    struct wb_apply *a = vm->apply;
    char text[32];

    (void)c;
    if (status) {
        fail(vm, status == -EBADMSG ? -EIO : status, why);
        return;
    }
    STEP("onprem.apply.applied", "the disks are at the cut, and it is noted");
    metric_observe_ns(vm->metrics.apply_seconds, loop_now_ns(vm->wb->loop) - a->started_ns);
    log_info(vm->rec.name, "its disks are at cut %llu of %s", (unsigned long long)vm->rec.applied,
             wb_instant(vm->rec.applied_ms, text));
    a->phase = APPLY_IDLE;
    a->fails = 0;
    a->said.text[0] = 0;
    wb_wake(vm);
}

static void on_new_marks(struct wb_round *round)
{
    struct wb_vm *vm = round->vm;
    struct wb_apply *a = vm->apply;

    if (goes_on(vm, round->status, &round->why)) {
        for (unsigned i = 0; i < vm->rec.ndisks; i++) {
            a->marks[i] = (struct wb_mark){.known = true, .len = round->io[i].io.mark_len};
            memcpy(a->marks[i].bytes, round->io[i].io.mark, sizeof a->marks[i].bytes);
        }
        a->phase = APPLY_DONE;
        changed(vm, make_applied, done_applied);
    }
    free(round);
}

/* ---- the flush ---- */

static bool writes_lost(const struct wb_vm *vm)
{
    const struct datastore_info *info;

    for (unsigned i = 0; i < vm->rec.ndisks; i++) {
        struct datastore *ds = wb_disk(vm, i, &info);

        if (!ds || ds->ops->generation(ds) != vm->apply->generation[i])
            return true;
    }
    return false;
}

static void on_flushed(struct wb_round *round)
{
    struct wb_vm *vm = round->vm;
    bool goes = goes_on(vm, round->status, &round->why);
    struct why why;

    free(round);
    if (goes && writes_lost(vm)) {
        why_set(&why, 0, "a datastore may have lost what was written before the flush: all of it again");
        fail(vm, -EAGAIN, &why);
    } else if (goes) {
        STEP("onprem.apply.flushed", "all of a cut is stable on the datastores");
        vm->apply->phase = APPLY_NEW_MARKS;
        wb_round_start(vm, DATASTORE_MARK, on_new_marks);
    }
}

/* ---- writing ---- */

void wb_apply_written(struct wb_vm *vm)
{
    struct wb_apply *a = vm->apply;

    CHECK(a->phase == APPLY_WRITE && !a->reading && a->inflight == 0);
    if (goes_on(vm, a->status, &a->why)) {
        STEP("onprem.apply.written", "all of a cut is written to the datastores, not flushed");
        a->phase = APPLY_FLUSH;
        wb_round_start(vm, DATASTORE_FLUSH, on_flushed);
    }
}

static void write_all(struct wb_vm *vm)
{
    struct wb_apply *a = vm->apply;
    const struct datastore_info *info;

    a->phase = APPLY_WRITE;
    a->redo = a->read_all = false;
    a->status = 0;
    a->next_disk = 0;
    a->next_lba = 0;
    a->zeros.nsectors = 0;
    a->max_io_bytes = a->max_zero_bytes = IO_MAX;
    vm->bytes_applied = 0;
    for (unsigned i = 0; i < vm->rec.ndisks; i++) {
        struct datastore *ds = wb_disk(vm, i, &info);

        a->generation[i] = ds->ops->generation(ds);
        if (info->max_io_bytes < a->max_io_bytes)
            a->max_io_bytes = info->max_io_bytes;
        if (i == 0 || info->max_zero_bytes < a->max_zero_bytes)
            a->max_zero_bytes = info->max_zero_bytes / PROTO_BLOCK * PROTO_BLOCK;
    }
    wb_chunks(vm);
}

/* ---- the marks ---- */

static bool make_applying(struct wb_vm *vm, struct wb_change *c, struct wb_record *next)
{
    (void)vm;
    (void)c;
    next->stage = WB_STAGE_APPLYING;
    return true;
}

static void done_applying(struct wb_vm *vm, struct wb_change *c, int status, const struct why *why)
{
    struct why away;

    (void)c;
    if (status) {
        fail(vm, status == -EBADMSG ? -EIO : status, why);
        return;
    }
    STEP("onprem.apply.begin", "that writing begins is noted");
    if (wb_disks_ready(vm, &away))
        write_all(vm);
    else
        fail(vm, -EAGAIN, &away);
}

/* The first disk with a mark that is another than it was; ndisks if there is none. */
static unsigned written_by_others(const struct wb_vm *vm, const struct wb_round *round)
{
    unsigned i = 0;

    for (; i < vm->rec.ndisks; i++) {
        const struct wb_mark *m = &vm->rec.marks[i];
        const struct datastore_io *io = &round->io[i].io;

        if (m->known && (m->len != io->mark_len || memcmp(m->bytes, io->mark, m->len) != 0))
            break;
    }
    return i;
}

static void on_marks(struct wb_round *round)
{
    struct wb_vm *vm = round->vm;
    unsigned disk = written_by_others(vm, round);
    struct why why;

    if (round->status) {
        fail(vm, round->status, &round->why);
    } else if (vm->wb->closing || vm->rec.alarm) {
        vm->apply->phase = APPLY_IDLE;
    } else if (disk < vm->rec.ndisks) {
        vm->apply->phase = APPLY_IDLE;
        why_set(&why, 0, "disk %s was written by somebody else since cut %llu: say which history counts",
                vm->rec.disks[disk], (unsigned long long)vm->rec.applied);
        wb_raise_alarm(vm, WB_ALARM_WRITTEN, why.text);
    } else {
        changed(vm, make_applying, done_applying);
    }
    free(round);
}

/* ---- going on ---- */

void wb_apply_go(struct wb_vm *vm)
{
    struct wb_apply *a = vm->apply;
    struct why why;

    if (a->phase != APPLY_IDLE || vm->rec.stage < WB_STAGE_STAGED || vm->rec.alarm || vm->wb->closing)
        return;
    timer_stop(&a->retry);
    if (!wb_disks_ready(vm, &why)) {
        fail(vm, -EAGAIN, &why);
        return;
    }
    vm->trouble.text[0] = 0;
    a->started_ns = loop_now_ns(vm->wb->loop);
    a->phase = APPLY_MARKS;
    a->redo = false;
    if (vm->rec.stage == WB_STAGE_STAGED)
        wb_round_start(vm, DATASTORE_MARK, on_marks);
    else if (a->fails) /* a write opens the stage again, if it is closed after an error */
        changed(vm, make_applying, done_applying);
    else
        write_all(vm);
}

void wb_apply_new(struct wb_vm *vm)
{
    vm->apply = xcalloc(1, sizeof *vm->apply);
    vm->apply->vm = vm;
    timer_init(&vm->apply->retry, vm->wb->loop, on_retry);
}

void wb_apply_free(struct wb_vm *vm)
{
    timer_free(&vm->apply->retry);
    free(vm->apply);
}
