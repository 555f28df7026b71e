/* initiator/wb_take.c - a message of write-back comes from the link: whose is it, and must it wait in line?
 */
#include "wb_impl.h"

#include "mem.h"

#include <errno.h>
#include <string.h>

enum { VMS_MAX = 4096 }; /* with those that were detached */

static int parse(struct wb_op *op)
{
    const struct link_request *r = op->request;
    int err;

    switch (op->type) {
    case PROTO_VM_ATTACH:
        op->attach = xcalloc(1, sizeof *op->attach);
        err = wb_get_attach(r->body, r->len, op->attach);
        memcpy(op->head.vm, op->attach->vm, WB_ID_BYTES);
        op->head.epoch = op->attach->epoch;
        break;
    case PROTO_WB_BEGIN:
        err = wb_get_begin(r->body, r->len, &op->begin);
        op->head = op->begin.head;
        break;
    case PROTO_WB_OFFER:
        err = wb_get_offer(r->body, r->len, &op->offer);
        op->head = op->offer.head;
        break;
    case PROTO_WB_DATA:
        err = wb_get_data(r->body, r->len, &op->data);
        op->head = op->data.head;
        break;
    case PROTO_WB_ZERO:
        err = wb_get_zero(r->body, r->len, &op->zero);
        op->head = op->zero.head;
        break;
    case PROTO_WB_END:
        err = wb_get_end(r->body, r->len, &op->end);
        op->head = op->end.head;
        break;
    case PROTO_VM_CLEAR_ALARM:
        err = wb_get_clear_alarm(r->body, r->len, &op->head);
        break;
    default:
        err = wb_get_head(r->body, r->len, &op->head);
    }
    return err;
}

static struct wb_vm *find_vm(const struct writeback *wb, const uint8_t id[WB_ID_BYTES])
{
    struct wb_vm *vm;

    TAILQ_FOREACH (vm, &wb->vms, entry)
        if (memcmp(vm->rec.vm, id, WB_ID_BYTES) == 0)
            break;
    return vm;
}

/* What does not change anything and need not wait in line. To look, a newer epoch than is known is no matter.
 */
static bool at_once(const struct wb_op *op)
{
    const struct wb_record *r = &op->vm->rec;

    if (!r->attached || op->vm->wb->closing)
        return false;
    return op->type == PROTO_WB_STATE ? op->head.epoch >= r->epoch
                                      : op->type == PROTO_WB_APPLIED && op->head.epoch == r->epoch;
}

/* ---- room for another VM ---- */

static bool make_forgotten(struct wb_vm *vm, struct wb_change *c, struct wb_record *next)
{
    (void)vm;
    c->forget = true;
    next->epoch = 0;
    return true;
}

static void done_forgotten(struct wb_vm *vm, struct wb_change *c, int status, const struct why *why)
{
    (void)status; /* another one makes room */
    (void)why;
    free(c);
    wb_pump(vm);
}

static bool is_idle(const struct wb_vm *vm)
{
    return !vm->rec.attached && !vm->op && TAILQ_EMPTY(&vm->ops) && !vm->change &&
           TAILQ_EMPTY(&vm->changes) && !vm->settling;
}

/* Of those that were detached the first one is forgotten. What was under way when it was detached has come
 * long ago. */
static bool make_room(struct writeback *wb)
{
    struct wb_change *c;
    struct wb_vm *vm;

    TAILQ_FOREACH (vm, &wb->vms, entry)
        if (is_idle(vm))
            break;
    if (!vm)
        return false;
    c = xcalloc(1, sizeof *c);
    c->make = make_forgotten;
    c->done = done_forgotten;
    wb_change(vm, c);
    return true;
}

/* ---- whose is it? ---- */

static void take(struct writeback *wb, struct wb_op *op)
{
    op->vm = find_vm(wb, op->head.vm);
    if (!op->vm && op->type != PROTO_VM_ATTACH && op->type != PROTO_VM_DETACH) {
        wb_op_answer(op, -ENOENT, "this VM is not attached to isthmus-onprem", NULL);
        return;
    }
    if (!op->vm && wb->nvms >= VMS_MAX && !make_room(wb)) {
        wb_op_answer(op, -ENOSPC, "isthmus-onprem knows as many VMs as it can", NULL);
        return;
    }
    if (!op->vm)
        op->vm = wb_vm_new(wb, op->head.vm);
    if (at_once(op) && op->type == PROTO_WB_STATE) {
        wb_op_answer(op, 0, NULL, wb_state_of(op->vm));
    } else if (at_once(op)) {
        TAILQ_INSERT_TAIL(&op->vm->waiting, op, entry);
        wb_wake(op->vm);
    } else {
        TAILQ_INSERT_TAIL(&op->vm->ops, op, entry);
        wb_pump(op->vm);
    }
}

bool writeback_request(struct writeback *wb, struct link_request *r)
{
    struct wb_op *op;

    if (r->type < PROTO_VM_ATTACH || r->type > PROTO_VM_CLEAR_ALARM)
        return false;
    op = xcalloc(1, sizeof *op);
    op->request = r;
    op->type = r->type;
    if (parse(op) != 0)
        wb_op_answer(op, -EBADMSG, "a message of write-back that does not follow the protocol", NULL);
    else
        take(wb, op);
    return true;
}
