/* cache/vm_leave.c - see vm_leave.h.
 */
#include "vm_leave.h"
#include "check.h"
#include "log.h"
#include "vm_life.h"

#include <errno.h>

static const char part[] = "vms";

enum { LEAVE_MS = 10000 };

static const char *place_of(const struct vm *vm)
{
    unsigned lun = 0;

    while (!vm_has_disk(&vm->spec, lun))
        lun++;
    return vm->spec.disks[lun].onprem;
}

static void say(const struct vm *vm, const char *why)
{
    log_warn(vm->spec.name,
             "%s still has VM %s attached, which is being deleted here, and holds its disks: %s",
             place_of(vm), vm->spec.name, why);
}

static void on_left(struct writeback_wait *w)
{
    struct vm *vm = container_of(w, struct vm, in.leave);

    timer_free(&vm->in.leave_timer);
    if (w->status)
        say(vm, w->status == -ECANCELED ? "it does not answer" : w->why.text);
    vm->in.left(vm);
}

static void on_late(struct timer *t)
{
    struct vm *vm = container_of(t, struct vm, in.leave_timer);

    writeback_cancel(vm->writeback, &vm->in.leave);
}

void vm_leave(struct vm *vm, void (*done)(struct vm *))
{
    struct writeback_status s;

    if (!vm->writeback || atomic_load(&vm->fenced)) {
        done(vm);
        return;
    }
    writeback_status(vm->writeback, &s);
    if (!s.link_up) {
        if (s.attached)
            say(vm, s.why.text);
        done(vm);
        return;
    }
    vm->in.left = done;
    vm->in.leave = (struct writeback_wait){.done = on_left};
    timer_init(&vm->in.leave_timer, vm->loop, on_late);
    timer_set_ms(&vm->in.leave_timer, LEAVE_MS);
    writeback_detach(vm->writeback, &vm->in.leave);
}
