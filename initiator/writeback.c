/* initiator/writeback.c - the VMs whose disks are here, their disks, and what of them is made stable; see
 * writeback.h.
 */
#include "wb_impl.h"

#include "check.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char part[] = "writeback";

/* ---- what is out ---- */

void wb_busy(struct writeback *wb)
{
    wb->busy++;
}

static void end(struct task *t)
{
    struct writeback *wb = container_of(t, struct writeback, task);
    struct wb_vm *vm;

    while ((vm = TAILQ_FIRST(&wb->vms)))
        wb_vm_forget(vm);
    worker_free(&wb->writer);
    worker_free(&wb->scanner);
    stage_close(&wb->stage);
    metric_free(&wb->stage_bytes);
    wb->done(wb->arg);
    free(wb);
}

void wb_go_idle(struct writeback *wb)
{
    CHECK(wb->busy > 0);
    if (--wb->busy == 0 && wb->closing)
        loop_post(wb->loop, &wb->task);
}

void wb_write(struct writeback *wb, struct work *w)
{
    wb_busy(wb);
    worker_do(wb->writer, wb->loop, w);
}

void wb_pool(struct writeback *wb, struct work *w)
{
    wb_busy(wb);
    loop_work(wb->loop, w);
}

const char *wb_instant(uint64_t ms, char text[32])
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    size_t n = gmtime_r(&seconds, &tm) ? strftime(text, 24, "%Y-%m-%dT%H:%M:%S", &tm) : 0;

    snprintf(text + n, 32 - n, ".%03uZ", (unsigned)(ms % 1000));
    return ms ? text : "an unknown time"; /* its number came with an attach */
}

/* ---- disks ---- */

struct source *wb_source(const struct writeback *wb, const char *disk)
{
    return wb->disks.find(wb->disks.arg, disk);
}

struct datastore *wb_disk(const struct wb_vm *vm, unsigned i, const struct datastore_info **info)
{
    struct source *source = wb_source(vm->wb, vm->rec.disks[i]);
    struct datastore *ds = source ? source_datastore(source) : NULL;

    *info = ds ? ds->ops->info(ds) : NULL;
    return *info ? ds : NULL;
}

bool wb_disks_ready(const struct wb_vm *vm, struct why *why)
{
    for (unsigned i = 0; i < vm->rec.ndisks; i++) {
        const struct datastore_info *info;
        struct source *source = wb_source(vm->wb, vm->rec.disks[i]);
        const struct why *trouble;

        if (source && wb_disk(vm, i, &info))
            continue;
        trouble = source ? source_trouble(source) : NULL;
        if (!source)
            why_set(why, 0, "disk %s of VM %s is not in the configuration of isthmus-onprem",
                    vm->rec.disks[i], vm->rec.name);
        else if (trouble)
            *why = *trouble;
        else
            why_set(why, 0, "disk %s: the datastore is still connecting", vm->rec.disks[i]);
        return false;
    }
    return true;
}

/* The VM's disk of that name, or ndisks. */
static unsigned disk_number(const struct wb_vm *vm, const char *disk)
{
    unsigned i = 0;

    while (i < vm->rec.ndisks && strcmp(vm->rec.disks[i], disk) != 0)
        i++;
    return i;
}

void writeback_disk_up(struct writeback *wb, const char *disk)
{
    struct wb_vm *vm;

    TAILQ_FOREACH (vm, &wb->vms, entry) {
        unsigned i = disk_number(vm, disk);

        if (!vm->rec.attached || i == vm->rec.ndisks)
            continue;
        wb_hold_disk(vm, i, true);
        wb_settle(vm);
        wb_apply_go(vm);
    }
}

void writeback_disk_gone(struct writeback *wb, const char *disk)
{
    struct wb_vm *vm;

    TAILQ_FOREACH (vm, &wb->vms, entry)
        if (disk_number(vm, disk) < vm->rec.ndisks)
            vm->apply->redo = true;
}

void writeback_disk_taken(struct writeback *wb, const char *disk, const struct why *why)
{
    struct wb_vm *vm;

    TAILQ_FOREACH (vm, &wb->vms, entry)
        if (vm->rec.attached && disk_number(vm, disk) < vm->rec.ndisks)
            wb_raise_alarm(vm, WB_ALARM_TAKEN, why->text);
}

bool writeback_healthy(void *writeback, struct why *why)
{
    struct writeback *wb = writeback;
    struct wb_vm *vm;

    TAILQ_FOREACH (vm, &wb->vms, entry) {
        if (vm->rec.attached && vm->rec.alarm != WB_ALARM_NONE) {
            why_set(why, 0, "VM %s: %s", vm->rec.name, vm->rec.alarm_text);
            return false;
        }
    }
    return true;
}

/* ---- what is made stable ---- */

static void start_change(struct wb_vm *vm);

static void run_write(struct work *w)
{
    struct wb_vm *vm = container_of(w, struct wb_vm, write);
    uint8_t row[WB_RECORD_MAX];

    vm->write_status = 0;
    if (vm->write_needed && vm->change->forget)
        vm->write_status = stage_remove_vm(vm->wb->stage, vm->rec.vm, &vm->write_why);
    else if (vm->write_needed)
        vm->write_status = stage_put_vm(vm->wb->stage, vm->rec.vm, row, wb_record_put(&vm->next, row),
                                        vm->change->drop, &vm->write_why);
}

static void done_write(struct work *w)
{
    struct wb_vm *vm = container_of(w, struct wb_vm, write);
    struct writeback *wb = vm->wb;
    struct wb_change *c = vm->change;
    bool more = !TAILQ_EMPTY(&vm->changes);

    if (vm->write_status == 0 && vm->write_needed)
        vm->rec = vm->next;
    if (vm->write_status)
        log_error(vm->rec.name, "%s", vm->write_why.text);
    vm->change = NULL;
    metric_set(wb->stage_bytes, stage_bytes(wb->stage));
    wb_show_metrics(vm);
    c->done(vm, c, vm->write_status, &vm->write_why); /* without more, it may be the end of the VM */
    if (more)
        start_change(vm);
    wb_go_idle(wb);
}

static void start_change(struct wb_vm *vm)
{
    struct wb_change *c = TAILQ_FIRST(&vm->changes);

    if (vm->change || !c)
        return;
    TAILQ_REMOVE(&vm->changes, c, entry);
    vm->change = c;
    vm->next = vm->rec;
    c->drop = 0;
    c->forget = false;
    vm->write_needed = c->make(vm, c, &vm->next);
    wb_write(vm->wb, &vm->write);
}

void wb_change(struct wb_vm *vm, struct wb_change *c)
{
    TAILQ_INSERT_TAIL(&vm->changes, c, entry);
    start_change(vm);
}

/* An alarm of its own: nobody waits for it. */
struct alarm_change {
    struct wb_change change;
    enum wb_alarm alarm;
    char text[WB_TEXT_MAX + 1];
};

static bool make_alarm(struct wb_vm *vm, struct wb_change *c, struct wb_record *next)
{
    struct alarm_change *a = container_of(c, struct alarm_change, change);

    (void)vm;
    if (!next->attached || next->alarm != WB_ALARM_NONE)
        return false; /* the first one says most */
    next->alarm = a->alarm;
    memcpy(next->alarm_text, a->text, sizeof next->alarm_text);
    return true;
}

static void done_alarm(struct wb_vm *vm, struct wb_change *c, int status, const struct why *why)
{
    (void)why;
    wb_wake(vm);
    if (status) /* the cause will be found again */
        wb_apply_later(vm);
    free(container_of(c, struct alarm_change, change));
}

void wb_raise_alarm(struct wb_vm *vm, enum wb_alarm alarm, const char *text)
{
    struct alarm_change *a = xcalloc(1, sizeof *a);

    log_error(vm->rec.name, "alarm, nothing is applied any more: %s", text);
    a->change.make = make_alarm;
    a->change.done = done_alarm;
    a->alarm = alarm;
    snprintf(a->text, sizeof a->text, "%.*s", WB_TEXT_MAX, text);
    wb_change(vm, &a->change);
}

/* ---- VMs ---- */

struct wb_vm *wb_vm_new(struct writeback *wb, const uint8_t id[WB_ID_BYTES])
{
    struct wb_vm *vm = xcalloc(1, sizeof *vm);

    vm->wb = wb;
    memcpy(vm->rec.vm, id, WB_ID_BYTES);
    TAILQ_INIT(&vm->changes);
    TAILQ_INIT(&vm->ops);
    TAILQ_INIT(&vm->waiting);
    vm->write.run = run_write;
    vm->write.done = done_write;
    wb_apply_new(vm);
    timer_init(&vm->let_go, wb->loop, wb_let_go);
    TAILQ_INSERT_TAIL(&wb->vms, vm, entry);
    wb->nvms++;
    return vm;
}

static void refuse_rest(struct wb_ops *ops)
{
    struct wb_op *op;

    while ((op = TAILQ_FIRST(ops))) {
        TAILQ_REMOVE(ops, op, entry);
        wb_op_answer(op, -ECANCELED, "isthmus-onprem is ending", NULL);
    }
}

void wb_vm_forget(struct wb_vm *vm)
{
    CHECK(!vm->change && TAILQ_EMPTY(&vm->changes));
    refuse_rest(&vm->ops);
    refuse_rest(&vm->waiting);
    TAILQ_REMOVE(&vm->wb->vms, vm, entry);
    vm->wb->nvms--;
    vm->rec.attached = false;
    wb_show_metrics(vm);
    wb_apply_free(vm);
    timer_free(&vm->let_go);
    free(vm);
}

static int load(void *arg, const uint8_t id[WB_ID_BYTES], const uint8_t *row, size_t n)
{
    struct writeback *wb = arg;
    struct wb_vm *vm = wb_vm_new(wb, id);
    int err = wb_record_get(id, row, n, &vm->rec);

    if (err)
        return err;
    if (vm->rec.number >= wb->next_number)
        wb->next_number = vm->rec.number + 1;
    return 0;
}

static void tell(const struct wb_vm *vm)
{
    const struct wb_record *r = &vm->rec;
    char now[32], then[32];

    if (r->stage == WB_STAGE_APPLYING)
        log_warn(r->name,
                 "its disks are between cut %llu of %s and cut %llu of %s, which goes on being applied",
                 (unsigned long long)r->applied, wb_instant(r->applied_ms, now),
                 (unsigned long long)r->target, wb_instant(r->target_ms, then));
    else if (r->applied)
        log_info(r->name, "its disks are at cut %llu of %s", (unsigned long long)r->applied,
                 wb_instant(r->applied_ms, now));
    else
        log_info(r->name, "nothing was written back to its disks yet");
    if (r->stage == WB_STAGE_STAGED)
        log_info(r->name, "cut %llu of %s is staged and will be applied", (unsigned long long)r->target,
                 wb_instant(r->target_ms, then));
    if (r->alarm)
        log_error(r->name, "alarm, nothing is applied: %s", r->alarm_text);
}

static void begin_vm(struct wb_vm *vm)
{
    if (!vm->rec.attached)
        return;
    tell(vm);
    wb_show_metrics(vm);
    wb_hold(vm, true);
    wb_settle(vm);
    wb_apply_go(vm);
}

static uint64_t lowest_number(const struct writeback *wb)
{
    uint64_t lowest = UINT64_MAX;
    struct wb_vm *vm;

    TAILQ_FOREACH (vm, &wb->vms, entry)
        if (vm->rec.number && vm->rec.number < lowest)
            lowest = vm->rec.number;
    return lowest;
}

int writeback_open(struct writeback **wbp, struct loop *loop, struct stage **stage,
                   const struct wb_disks *disks, struct why *why)
{
    struct writeback *wb = xcalloc(1, sizeof *wb);
    struct wb_vm *vm;
    int err;

    wb->loop = loop;
    wb->stage = *stage;
    wb->disks = *disks;
    wb->next_number = 1;
    wb->task.run = end;
    TAILQ_INIT(&wb->vms);
    why_set(why, 0, "what the stage knows of a VM is damaged");
    err = stage_vms(wb->stage, load, wb, why);
    if (err) {
        while ((vm = TAILQ_FIRST(&wb->vms)))
            wb_vm_forget(vm);
        free(wb);
        return err;
    }
    *stage = NULL;
    wb->stage_bytes = metric_new(METRIC_GAUGE, "isthmus_onprem_stage_disk_bytes",
                                 "Bytes that the stage takes on the disk.", "%s", "");
    wb->writer = worker_new("stage");
    wb->scanner = worker_new("stage-scan");
    stage_sweep(wb->stage, lowest_number(wb));
    metric_set(wb->stage_bytes, stage_bytes(wb->stage));
    *wbp = wb;
    TAILQ_FOREACH (vm, &wb->vms, entry)
        begin_vm(vm);
    return 0;
}

void writeback_close(struct writeback **wbp, void (*done)(void *arg), void *arg)
{
    struct writeback *wb = *wbp;

    *wbp = NULL;
    wb->closing = true;
    wb->done = done;
    wb->arg = arg;
    wb_busy(wb);
    wb_go_idle(wb);
}
