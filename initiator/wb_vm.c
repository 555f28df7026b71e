/* initiator/wb_vm.c - the messages of a VM, one after the other: attach, begin, clear the alarm, detach.
 *
 *    unknown ──attach──► idle ──begin──► open ──end──► staged ──► applying ──► idle
 *
 * Every step is a change that is stable before it is answered (wb_change).
 */
#include "wb_impl.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "step.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "writeback";

enum { LET_GO_MS = 100, LET_GO_TRIES = 100 };

/* ---- answers ---- */

void wb_op_answer(struct wb_op *op, int status, const char *why, struct buf *body)
{
    struct iovec iov = {0};

    if (body)
        iov = (struct iovec){.iov_base = body->data, .iov_len = body->len};
    if (status)
        log_peer(op->vm && op->vm->rec.attached ? op->vm->rec.name : NULL, "message %u refused: %s", op->type,
                 why);
    link_reply(&op->request, status, why, &iov, body ? 1 : 0);
    buf_unref(&body);
    if (op->type == PROTO_VM_ATTACH)
        free(op->attach);
    free(op);
}

void wb_op_end(struct wb_op *op, int status, const char *why, struct buf *body)
{
    struct wb_vm *vm = op->vm;

    CHECK(vm->op == op);
    vm->op = NULL;
    wb_op_answer(op, status, why, body);
    wb_pump(vm);
}

void wb_op_state(struct wb_op *op)
{
    wb_op_end(op, 0, NULL, wb_state_of(op->vm));
}

static void __attribute__((format(printf, 3, 4)))
refuse(struct wb_op *op, int status, const char *format, ...)
{
    struct why why;
    va_list args;

    va_start(args, format);
    vsnprintf(why.text, sizeof why.text, format, args);
    va_end(args);
    wb_op_end(op, status, why.text, NULL);
}

/* ---- attach ---- */

static bool same_disks(const struct wb_record *r, const struct wb_attach *a)
{
    if (r->ndisks != a->ndisks)
        return false;
    for (unsigned i = 0; i < a->ndisks; i++)
        if (strcmp(r->disks[i], a->disks[i]) != 0)
            return false;
    return true;
}

/* Another VM that has one of the disks. */
static const struct wb_vm *disk_owner(const struct wb_vm *vm, const struct wb_attach *a, const char **disk)
{
    const struct wb_vm *other;

    TAILQ_FOREACH (other, &vm->wb->vms, entry) {
        if (other == vm || !other->rec.attached)
            continue;
        for (unsigned i = 0; i < a->ndisks; i++)
            for (unsigned j = 0; j < other->rec.ndisks; j++)
                if (strcmp(a->disks[i], other->rec.disks[j]) == 0) {
                    *disk = a->disks[i];
                    return other;
                }
    }
    return NULL;
}

static bool give_up(struct wb_change *c, struct wb_record *next)
{
    if (next->stage == WB_STAGE_NONE)
        return false;
    c->drop = next->number;
    next->stage = WB_STAGE_NONE;
    next->number = next->target = next->target_ms = next->pieces = next->bytes = 0;
    return true;
}

static bool make_attach(struct wb_vm *vm, struct wb_change *c, struct wb_record *next)
{
    const struct wb_attach *a = container_of(c, struct wb_op, change)->attach;

    if (next->attached && next->epoch == a->epoch && next->policy == a->policy &&
        strcmp(next->name, a->name) == 0)
        return false;
    if (!next->attached) {
        memset(next, 0, sizeof *next);
        memcpy(next->vm, vm->rec.vm, WB_ID_BYTES);
        next->attached = true;
        next->ndisks = a->ndisks;
        memcpy(next->disks, a->disks, sizeof next->disks);
        next->applied = a->base;
    } else if (a->policy == WB_CLOUD_PERSIST && next->stage == WB_STAGE_OPEN) {
        give_up(c, next);
    }
    next->epoch = a->epoch;
    next->policy = a->policy;
    memcpy(next->name, a->name, sizeof next->name);
    return true;
}

static void done_attach(struct wb_vm *vm, struct wb_change *c, int status, const struct why *why)
{
    struct wb_op *op = container_of(c, struct wb_op, change);

    if (status) {
        wb_op_end(op, status, why->text, NULL);
        return;
    }
    STEP("onprem.vm.attach", "a VM is known, with its disks and policy");
    if (vm->write_needed)
        log_info(vm->rec.name, "attached: %u disks, %s, epoch %llu", vm->rec.ndisks,
                 vm->rec.policy == WB_WRITE_BACK ? "write-back" : "cloud-persist",
                 (unsigned long long)vm->rec.epoch);
    wb_hold(vm, true);
    wb_settle(vm);
    wb_op_state(op);
}

static void attach(struct wb_op *op)
{
    struct wb_vm *vm = op->vm;
    const struct wb_record *r = &vm->rec;
    const char *disk = NULL;
    const struct wb_vm *owner = disk_owner(vm, op->attach, &disk);

    if (owner)
        refuse(op, -EBUSY, "disk %s belongs to VM %s, which is attached", disk, owner->rec.name);
    else if (r->attached && !same_disks(r, op->attach))
        refuse(op, -EINVAL, "VM %s is attached with other disks: detach it first", r->name);
    else if (r->attached && op->attach->policy == WB_CLOUD_PERSIST && r->stage >= WB_STAGE_STAGED)
        refuse(op, -EBUSY, "cut %llu of VM %s is staged: it becomes cloud-persist once that is applied",
               (unsigned long long)r->target, r->name);
    else {
        op->change = (struct wb_change){.make = make_attach, .done = done_attach};
        wb_change(vm, &op->change);
    }
}

/* ---- begin ---- */

static bool make_begin(struct wb_vm *vm, struct wb_change *c, struct wb_record *next)
{
    const struct wb_begin *b = &container_of(c, struct wb_op, change)->begin;

    give_up(c, next);
    next->stage = WB_STAGE_OPEN;
    next->number = vm->wb->next_number++;
    next->target = b->head.target;
    next->target_ms = b->instant_ms;
    return true;
}

static void done_begin(struct wb_vm *vm, struct wb_change *c, int status, const struct why *why)
{
    struct wb_op *op = container_of(c, struct wb_op, change);

    if (status) {
        wb_op_end(op, status, why->text, NULL);
        return;
    }
    STEP("onprem.stage.begin", "a stage is open, and what an older one had is gone");
    vm->pieces = vm->bytes = vm->bytes_applied = 0;
    wb_op_state(op);
}

static void begin(struct wb_op *op)
{
    struct wb_vm *vm = op->vm;
    const struct wb_record *r = &vm->rec;
    uint64_t target = op->head.target;

    if (r->policy != WB_WRITE_BACK)
        refuse(op, -EPERM, "VM %s is cloud-persist: nothing of it is written back", r->name);
    else if (target == r->applied || (r->stage != WB_STAGE_NONE && target == r->target))
        wb_op_state(op); /* sent again, or the same stage goes on */
    else if (r->stage >= WB_STAGE_STAGED)
        refuse(op, -EBUSY, "cut %llu of VM %s is staged and must be applied first",
               (unsigned long long)r->target, r->name);
    else if (op->begin.base != r->applied)
        refuse(op, -ESTALE, "the disks of VM %s are at cut %llu, not %llu", r->name,
               (unsigned long long)r->applied, (unsigned long long)op->begin.base);
    else {
        op->change = (struct wb_change){.make = make_begin, .done = done_begin};
        wb_change(vm, &op->change);
    }
}

/* ---- the alarm ---- */

static bool make_clear(struct wb_vm *vm, struct wb_change *c, struct wb_record *next)
{
    (void)vm;
    if (next->alarm == WB_ALARM_NONE)
        return false;
    if (next->alarm == WB_ALARM_DAMAGED)
        give_up(c, next); /* what it has written is in the next cut from this base, too */
    next->alarm = WB_ALARM_NONE;
    next->alarm_text[0] = 0;
    for (unsigned i = 0; i < next->ndisks; i++)
        next->marks[i].known = false;
    return true;
}

static void done_clear(struct wb_vm *vm, struct wb_change *c, int status, const struct why *why)
{
    struct wb_op *op = container_of(c, struct wb_op, change);

    if (status) {
        wb_op_end(op, status, why->text, NULL);
        return;
    }
    STEP("onprem.vm.clear", "an alarm is cleared, marks are to be taken anew");
    if (vm->write_needed)
        log_warn(vm->rec.name, "alarm cleared: the cloud's history counts");
    wb_hold(vm, true);
    wb_settle(vm);
    wb_apply_go(vm);
    wb_op_state(op);
}

/* ---- detach ---- */

static bool make_detach(struct wb_vm *vm, struct wb_change *c, struct wb_record *next)
{
    uint64_t epoch = next->epoch;

    (void)vm;
    give_up(c, next);
    memset(next, 0, sizeof *next);
    memcpy(next->vm, vm->rec.vm, WB_ID_BYTES);
    next->epoch = epoch;
    return true;
}

static void done_detach(struct wb_vm *vm, struct wb_change *c, int status, const struct why *why)
{
    struct wb_op *op = container_of(c, struct wb_op, change);

    if (status) {
        wb_hold(vm, true);
        wb_op_end(op, status, why->text, NULL);
        return;
    }
    STEP("onprem.vm.detach", "a VM is unknown again");
    TAILQ_REMOVE(&vm->wb->vms, vm, entry); /* the order in which they are forgotten (wb_take.c) */
    TAILQ_INSERT_TAIL(&vm->wb->vms, vm, entry);
    wb_wake(vm);
    wb_op_state(op);
}

static bool still_held(const struct wb_vm *vm)
{
    const struct datastore_info *info;

    for (unsigned i = 0; i < vm->rec.ndisks; i++) {
        struct datastore *ds = wb_disk(vm, i, &info);

        if (ds && ds->ops->held(ds))
            return true;
    }
    return false;
}

/* Who detaches a VM wants to start it on-prem: not before its disks are free, or cannot be asked. */
void wb_let_go(struct timer *t)
{
    struct wb_vm *vm = container_of(t, struct wb_vm, let_go);
    bool held = still_held(vm);

    if (held && ++vm->let_go_tries < LET_GO_TRIES && !vm->wb->closing) {
        timer_set_ms(t, LET_GO_MS);
        return;
    }
    if (held)
        log_warn(vm->rec.name, "a disk of it is still reserved: its target does not answer");
    vm->op->change = (struct wb_change){.make = make_detach, .done = done_detach};
    wb_change(vm, &vm->op->change);
    wb_go_idle(vm->wb);
}

static void detach(struct wb_op *op)
{
    struct wb_vm *vm = op->vm;

    if (!vm->rec.attached) {
        wb_op_state(op);
        return;
    }
    if (vm->rec.stage >= WB_STAGE_STAGED) {
        refuse(op, -EBUSY, "cut %llu of VM %s is staged and must be applied first",
               (unsigned long long)vm->rec.target, vm->rec.name);
        return;
    }
    log_info(vm->rec.name, "is detached at cut %llu", (unsigned long long)vm->rec.applied);
    wb_hold(vm, false);
    vm->let_go_tries = 0;
    wb_busy(vm->wb);
    timer_set_ms(&vm->let_go, 0);
}

/* ---- one after the other ---- */

static void run(struct wb_op *op)
{
    switch (op->type) {
    case PROTO_VM_ATTACH:
        attach(op);
        break;
    case PROTO_VM_DETACH:
        detach(op);
        break;
    case PROTO_WB_BEGIN:
        begin(op);
        break;
    case PROTO_WB_OFFER:
        wb_on_offer(op);
        break;
    case PROTO_WB_DATA:
        wb_on_data(op);
        break;
    case PROTO_WB_ZERO:
        wb_on_zero(op);
        break;
    case PROTO_WB_END:
        wb_on_end(op);
        break;
    case PROTO_VM_CLEAR_ALARM:
        op->change = (struct wb_change){.make = make_clear, .done = done_clear};
        wb_change(op->vm, &op->change);
        break;
    case PROTO_WB_APPLIED:
        TAILQ_INSERT_TAIL(&op->vm->waiting, op, entry);
        op->vm->op = NULL;
        wb_wake(op->vm);
        break;
    default:
        wb_op_state(op);
    }
}

/* A newer epoch is stable before anything is done under it. That of a DETACH is, too, if the VM is not known:
 * what an attachment of before is overtaken by must keep it out when it comes. */
static bool make_epoch(struct wb_vm *vm, struct wb_change *c, struct wb_record *next)
{
    (void)vm;
    next->epoch = container_of(c, struct wb_op, change)->head.epoch;
    return true;
}

static void done_epoch(struct wb_vm *vm, struct wb_change *c, int status, const struct why *why)
{
    struct wb_op *op = container_of(c, struct wb_op, change);

    if (status) {
        wb_op_end(op, status, why->text, NULL);
        return;
    }
    wb_wake(vm);
    run(op);
    wb_pump(vm);
}

static void judge(struct wb_op *op)
{
    struct wb_vm *vm = op->vm;
    const struct wb_record *r = &vm->rec;

    if (vm->wb->closing)
        wb_op_end(op, -ECANCELED, "isthmus-onprem is ending", NULL);
    else if (op->head.epoch < r->epoch)
        refuse(op, -ESTALE, "epoch %llu has lost VM %s to epoch %llu", (unsigned long long)op->head.epoch,
               r->attached ? r->name : "(detached)", (unsigned long long)r->epoch);
    else if (op->type == PROTO_VM_ATTACH)
        run(op);
    else if (!r->attached && op->type != PROTO_VM_DETACH)
        refuse(op, -ENOENT, "this VM is not attached to isthmus-onprem");
    else if (op->head.epoch > r->epoch) {
        op->change = (struct wb_change){.make = make_epoch, .done = done_epoch};
        wb_change(vm, &op->change);
    } else
        run(op);
}

void wb_pump(struct wb_vm *vm)
{
    struct wb_op *op;

    if (vm->pumping)
        return;
    vm->pumping = true;
    while (!vm->op && (op = TAILQ_FIRST(&vm->ops))) {
        TAILQ_REMOVE(&vm->ops, op, entry);
        vm->op = op;
        judge(op);
    }
    vm->pumping = false;
    if (!vm->op && !vm->rec.attached && vm->rec.epoch == 0 && !vm->change && TAILQ_EMPTY(&vm->changes) &&
        !vm->settling && !vm->wb->closing)
        wb_vm_forget(vm); /* what would have made it known did not come true */
}

void wb_wake(struct wb_vm *vm)
{
    const struct wb_record *r = &vm->rec;
    struct wb_op *op, *next;

    for (op = TAILQ_FIRST(&vm->waiting); op; op = next) {
        bool comes = r->stage >= WB_STAGE_STAGED && op->head.target == r->target && !r->alarm;
        bool stale = op->head.epoch < r->epoch;
        struct why why;

        next = TAILQ_NEXT(op, entry);
        if (!stale && comes)
            continue;
        TAILQ_REMOVE(&vm->waiting, op, entry);
        if (stale)
            wb_op_answer(op, -ESTALE, "another edge has this VM now", NULL);
        else if (!r->attached)
            wb_op_answer(op, -ENOENT, "this VM is not attached to isthmus-onprem", NULL);
        else if (op->head.target <= r->applied || r->alarm)
            wb_op_answer(op, 0, NULL, wb_state_of(vm));
        else {
            why_set(&why, 0, "cut %llu of VM %s is not staged: begin again",
                    (unsigned long long)op->head.target, r->name);
            wb_op_answer(op, -EAGAIN, why.text, NULL);
        }
    }
}
