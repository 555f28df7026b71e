/* cache/vm_swap.c - see vm_swap.h.
 */
#include "vm_swap.h"
#include "check.h"
#include "mem.h"
#include "step.h"

#include <errno.h>
#include <stddef.h>

struct vm *vm_empty(struct vm *vm, void (*closed)(void *arg), void *arg)
{
    struct vm *empty = vm_new(vm->in.vms, &vm->spec, vm);

    atomic_store(&empty->shut, atomic_load(&vm->shut));
    atomic_store(&empty->admitted, atomic_load(&vm->admitted));
    empty->in.verb = vm->in.verb;
    vm->in.verb = NULL;
    vms_replace(vm, empty);
    vm->in.emptied = closed;
    vm->in.emptied_arg = arg;
    vm_unref(vm);
    return empty;
}

struct filling {
    struct vm *empty; /* a reference */
    struct vm *vm;
    struct work work;
    struct task task;
    int status;
    struct why why;
    void (*done)(void *arg, struct vm *, int status, const struct why *);
    void *arg;
};

static void filled(struct filling *f)
{
    struct vms *vms = f->empty->in.vms;

    if (!f->status && atomic_load(&vms->stop)) {
        vm_unref(f->vm); /* closes it: the catalog has let go of all its VMs, or is about to */
        f->status = -ECANCELED;
    } else if (!f->status) {
        atomic_store(&f->vm->shut, atomic_load(&f->empty->shut));
        atomic_store(&f->vm->admitted, atomic_load(&f->empty->admitted));
        f->vm->in.verb = f->empty->in.verb;
        f->empty->in.verb = NULL;
        vms_replace(f->empty, f->vm);
        vm_unref(f->empty); /* the catalog's */
        vms_refresh(f->vm); /* what the daemons said meanwhile was heard by nobody */
    }
    f->done(f->arg, f->status ? NULL : f->vm, f->status, &f->why);
    vm_unref(f->empty);
    free(f);
}

static void on_back(struct task *t)
{
    filled(container_of(t, struct filling, task));
}

static void on_vm_loop(struct task *t)
{
    struct filling *f = container_of(t, struct filling, task);

    CHECK(vm_open_volumes(f->vm, &f->why) == 0); /* the tier specification was checked at start-up */
    f->task.run = on_back;
    loop_post(f->vm->in.vms->conf.main, &f->task);
}

static void open_run(struct work *w)
{
    struct filling *f = container_of(w, struct filling, work);

    f->status = vm_open_log(f->vm, &f->why);
    STEP("verb.fill", "the log and the map of a VM that was closed are open again");
}

static void on_closed_again(void *arg)
{
    filled(arg);
}

static void open_done(struct work *w)
{
    struct filling *f = container_of(w, struct filling, work);

    if (f->status) {
        f->vm->in.emptied = on_closed_again;
        f->vm->in.emptied_arg = f;
        vm_unref(f->vm);
        return;
    }
    f->task.run = on_vm_loop;
    loop_post(f->vm->loop, &f->task);
}

void vm_fill(struct vm *empty, void (*done)(void *arg, struct vm *, int status, const struct why *),
             void *arg)
{
    struct filling *f = xcalloc(1, sizeof *f);

    atomic_fetch_add(&empty->refs, 1);
    f->empty = empty;
    f->vm = vm_new(empty->in.vms, &empty->spec, empty);
    f->done = done;
    f->arg = arg;
    f->work = (struct work){.run = open_run, .done = open_done};
    loop_work(empty->in.vms->conf.main, &f->work);
}
