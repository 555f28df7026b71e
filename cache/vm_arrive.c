/* cache/vm_arrive.c - see vm_arrive.h.
 *
 *   log, map (pool) ► volumes (its loop) ► in the catalog (main)
 */
#include "vm_arrive.h"
#include "check.h"
#include "step.h"
#include "vms_far.h"

static void on_opened(struct task *t)
{
    struct vm_arrival *a = container_of(t, struct vm_arrival, task);

    atomic_store(&a->vm->admitted, true);
    vms_insert(a->vm);
    vms_far_taken(a->vms, a->vm);
    STEP("recover.open", "the VM is served");
    a->done(a);
}

static void on_vm_loop(struct task *t)
{
    struct vm_arrival *a = container_of(t, struct vm_arrival, task);
    int rc = a->handed ? vm_open_handed(a->vm, &a->why) : vm_open_volumes(a->vm, &a->why);

    CHECK(rc == 0); /* the tier specification was checked at start-up */
    a->task.run = on_opened;
    loop_post(a->vms->conf.main, &a->task);
}

static void open_run(struct work *w)
{
    struct vm_arrival *a = container_of(w, struct vm_arrival, work);

    a->status = vm_open_log(a->vm, &a->why);
}

static void open_done(struct work *w)
{
    struct vm_arrival *a = container_of(w, struct vm_arrival, work);

    if (a->status) {
        vm_free(a->vm);
        a->done(a);
        return;
    }
    a->task.run = on_vm_loop;
    loop_post(a->vm->loop, &a->task);
}

void vm_arrive(struct vm_arrival *a, const struct vm_spec *spec)
{
    a->status = 0;
    a->vm = vm_new(a->vms, spec, vms_far_find(a->vms, spec->id));
    a->vm->taken = true;
    if (spec->home) {
        a->task.run = on_opened;
        loop_post(a->vms->conf.main, &a->task);
        return;
    }
    a->work = (struct work){.run = open_run, .done = open_done};
    loop_work(a->vms->conf.main, &a->work);
}
