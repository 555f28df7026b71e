/* cache/vms_delete.c - VMs are deleted.
 *
 *   mark (pool) ► sessions out (vm->loop) ► last reference (vms.c) ► close ► erase (worker, vm_erase.c)
 *
 * From the mark until what there is here of a VM is erased it is `going`: its name is not given again, for
 * another VM's entry in the catalog would take the place of the mark; and the other edge of a pair takes no
 * VM of that id or name here, nor is its log kept. An erasure that fails is tried again, and finished by the
 * next start at the latest.
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "step.h"
#include "vm_leave.h"
#include "vm_life.h"
#include "vms_pair.h"

#include <errno.h>
#include <string.h>

static const char part[] = "vms";

enum { AGAIN_MS = 1000 };

/* --- those that are going -------------------------------------------------------------------------------*/

/* `listed`: it was in the list. */
static void add_going(struct vm *vm, bool listed)
{
    struct vms *vms = vm->in.vms;

    pthread_mutex_lock(&vms->lock);
    if (listed)
        TAILQ_REMOVE(&vms->list, vm, in.entry);
    TAILQ_INSERT_TAIL(&vms->going, vm, in.entry);
    pthread_mutex_unlock(&vms->lock);
}

static void take_out_going(struct vm *vm)
{
    struct vms *vms = vm->in.vms;

    pthread_mutex_lock(&vms->lock);
    TAILQ_REMOVE(&vms->going, vm, in.entry);
    pthread_mutex_unlock(&vms->lock);
}

static bool is_named(const struct vm *vm, const void *name)
{
    return strcmp(vm->spec.name, name) == 0;
}

static bool has_id(const struct vm *vm, const void *id)
{
    return memcmp(vm->spec.id, id, VMLOG_ID_BYTES) == 0;
}

/* The VM itself only on the main loop: nobody else frees it. */
static const struct vm *find_going(struct vms *vms, bool (*is_it)(const struct vm *, const void *),
                                   const void *what)
{
    const struct vm *vm;

    pthread_mutex_lock(&vms->lock);
    TAILQ_FOREACH (vm, &vms->going, in.entry)
        if (is_it(vm, what))
            break;
    pthread_mutex_unlock(&vms->lock);
    return vm;
}

bool vms_has_going(struct vms *vms, const char *name)
{
    return find_going(vms, is_named, name) != NULL;
}

bool vms_name_is_going(struct vms *vms, const char *name, struct why *why)
{
    const struct vm *vm = find_going(vms, is_named, name);

    if (vm && vm->in.rests)
        why_set(why, 0, "VM %s is still being deleted, which is tried again until it is done: %s", name,
                vm->in.why.text);
    else if (vm)
        why_set(why, 0, "VM %s is still being deleted: try again in a moment", name);
    return vm != NULL;
}

bool vms_is_going(struct vms *vms, const uint8_t id[VMLOG_ID_BYTES])
{
    return find_going(vms, has_id, id) != NULL;
}

/* It is not going any more. */
static void tell_pair(struct vm *vm, bool deleted)
{
    struct vms_pair *pair = vm->in.vms->pair;

    if (pair)
        vms_pair_gone(pair, deleted ? vm->spec.id : NULL);
}

/* --- erasing --------------------------------------------------------------------------------------------*/

static void erase(struct work *w)
{
    struct vm *vm = container_of(w, struct vm, in.work);
    struct vms *vms = vm->in.vms;

    vm->in.erasure.anothers = atomic_load(&vm->fenced);
    vm->in.status = vm_erase(vms, &vm->spec, &vm->in.erasure, &vm->in.why);
    if (!vm->in.status)
        take_out_going(
            vm); /* before the worker does anything else, such as taking it over from another edge */
}

static void nobody_waits(void *arg, int status, const struct why *why)
{
    (void)arg;
    (void)status;
    (void)why;
}

static void on_again(struct timer *t)
{
    struct vm *vm = container_of(t, struct vm, in.again);

    timer_free(&vm->in.again);
    vm->in.rests = false;
    vm_erase_closed(vm);
}

/* The log says so once, as is who asked. */
static void erase_again(struct vm *vm)
{
    struct why why;

    if (!vm->in.said)
        log_error(vm->spec.name, "could not be deleted wholly, and is tried again: %s", vm->in.why.text);
    vm->in.said = true;
    why_set(&why, 0, "VM %s is not deleted wholly yet, which is tried again until it is: %s", vm->spec.name,
            vm->in.why.text);
    vm->in.deleted(vm->in.deleted_arg, vm->in.status, &why);
    vm->in.deleted = nobody_waits;
    vm->in.rests = true;
    timer_init(&vm->in.again, vm->in.vms->conf.main, on_again);
    timer_set_ms(&vm->in.again, AGAIN_MS);
}

/* The other edge has taken it over before its entry said that it is being deleted: what was here of it is
 * gone, and the VM is there. */
static void tell_taken(struct vm *vm)
{
    vm->in.status = why_set(&vm->in.why, -ESTALE, "VM %s is not deleted: the other edge has taken it over",
                            vm->spec.name);
    log_warn(vm->spec.name, "%s", vm->in.why.text);
}

static void erased(struct work *w)
{
    struct vm *vm = container_of(w, struct vm, in.work);
    struct vms *vms = vm->in.vms;

    if (vm->in.status && !atomic_load(&vms->stop)) {
        erase_again(vm);
        return;
    }
    if (vm->in.status)
        take_out_going(vm);
    if (vm->in.status)
        log_error(vm->spec.name, "could not be deleted wholly, the next start goes on: %s", vm->in.why.text);
    else if (vm->in.ours && vm->in.erasure.anothers)
        tell_taken(vm);
    else
        log_info(vm->spec.name, "deleted");
    if (vm->in.erasure.held && !vm->in.status)
        vms_leave_tell(vms, &vm->spec, vm->in.erasure.absent);
    vm->in.deleted(vm->in.deleted_arg, vm->in.status, &vm->in.why);
    tell_pair(vm, !vm->in.status && !vm->in.erasure.anothers);
    vm_free(vm);
}

void vm_erase_closed(struct vm *vm)
{
    vm->in.erasing = true;
    vm->in.waits = vm->in.errands > 0;
    if (vm->in.waits)
        return;
    vm->in.work = (struct work){.run = erase, .done = erased};
    worker_do(vm->in.vms->conf.worker, vm->in.vms->conf.main, &vm->in.work);
}

void vms_each_going(struct vms *vms, void (*each)(void *arg, struct vm *), void *arg)
{
    struct vm *vm;

    pthread_mutex_lock(&vms->lock);
    TAILQ_FOREACH (vm, &vms->going, in.entry)
        if (!vm->in.erasing)
            each(arg, vm);
    pthread_mutex_unlock(&vms->lock);
}

void vm_errand_back(struct vm *vm)
{
    if (--vm->in.errands == 0 && vm->in.waits)
        vm_erase_closed(vm);
}

void vm_finish_off(struct vm *vm, bool held)
{
    atomic_store(&vm->deleting, true);
    add_going(vm, false);
    vm->in.erasure.held = held;
    vm->in.deleted = nobody_waits;
    vm_erase_closed(vm);
}

void vms_erase_end(struct vms *vms)
{
    struct vm *vm, *next;

    for (vm = TAILQ_FIRST(&vms->going); vm; vm = next) {
        next = TAILQ_NEXT(vm, in.entry);
        if (!vm->in.rests)
            continue;
        timer_free(&vm->in.again);
        take_out_going(vm);
        vm_free(vm);
    }
}

/* --- until it is closed ---------------------------------------------------------------------------------*/

static void on_going(struct task *t)
{
    struct vm *vm = container_of(t, struct vm, in.task);

    if (vm->in.vms->conf.going)
        vm->in.vms->conf.going(vm, VM_GONE);
    vm_unref(vm); /* the catalog's reference */
}

static void mark(struct work *w)
{
    struct vm *vm = container_of(w, struct vm, in.work);

    vm->in.erasure.held = !atomic_load(&vm->fenced) && vm_leave_needed(&vm->spec);
    vm->in.status = vm_save(vm->in.vms, &vm->spec, true, &vm->in.why);
    STEP("delete.mark", "a VM is marked as being deleted");
}

static void marked(struct work *w)
{
    struct vm *vm = container_of(w, struct vm, in.work);

    if (vm->in.status) {
        atomic_store(&vm->deleting, false);
        take_out_going(vm);
        vms_insert(vm);
        vm->in.deleted(vm->in.deleted_arg, vm->in.status, &vm->in.why);
        tell_pair(vm, false);
        return;
    }
    vm->in.task.run = on_going;
    loop_post(vm->loop, &vm->in.task);
}

/* An answer that is known at once still comes after vms_delete() has returned. */
struct refusal {
    struct task task;
    void (*done)(void *arg, int status, const struct why *);
    void *arg;
    int status;
    struct why why;
};

static void on_refusal(struct task *t)
{
    struct refusal *r = container_of(t, struct refusal, task);

    r->done(r->arg, r->status, &r->why);
    free(r);
}

static void refuse(struct vms *vms, int status, const struct why *why,
                   void (*done)(void *arg, int status, const struct why *), void *arg)
{
    struct refusal *r = xcalloc(1, sizeof *r);

    *r = (struct refusal){.done = done, .arg = arg, .status = status, .why = *why};
    r->task.run = on_refusal;
    loop_post(vms->conf.main, &r->task);
}

static void begin(struct vm *vm, void (*done)(void *arg, int status, const struct why *), void *arg)
{
    struct vms *vms = vm->in.vms;

    add_going(vm, true);
    atomic_store(&vm->deleting, true);
    vm->in.ours = vms->conf.gate && !atomic_load(&vm->fenced);
    vm->in.deleted = done;
    vm->in.deleted_arg = arg;
    vm->in.work = (struct work){.run = mark, .done = marked};
    loop_work(vms->conf.main, &vm->in.work);
}

static int may_delete(const struct vms *vms, struct vm *vm, bool force, struct why *why)
{
    unsigned sessions = atomic_load(&vm->sessions);

    if (vms->conf.gate && atomic_load(&vm->fenced))
        return why_set(why, -ESTALE, "VM %s is not deleted: the other edge has it: ask that one",
                       vm->spec.name);
    if (sessions && !force)
        return why_set(why, -EBUSY, "VM %s has %u session(s): log its initiator out, or force", vm->spec.name,
                       sessions);
    return vm->in.verb || vm->in.changing ? vm_change_begin(vm, why) : 0;
}

void vms_delete(struct vms *vms, const char *name, bool force,
                void (*done)(void *arg, int status, const struct why *), void *arg)
{
    struct vm *vm = vms_find(vms, name);
    struct why why = {""};
    int status = vm ? may_delete(vms, vm, force, &why) : why_set(&why, -ENOENT, "there is no VM %s", name);

    if (status)
        refuse(vms, status, &why, done, arg);
    else
        begin(vm, done, arg);
}

void vms_forget(struct vm *vm, void (*done)(void *arg, int status, const struct why *), void *arg)
{
    struct why why = {""};

    if (vm->in.verb || vm->in.changing)
        refuse(vm->in.vms, vm_change_begin(vm, &why), &why, done, arg);
    else
        begin(vm, done, arg);
}
