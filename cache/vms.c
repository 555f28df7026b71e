/* cache/vms.c - the catalog of VMs: opened at start-up, looked up at login, deleted.
 *
 * The list is changed on the main loop, under the lock. A VM's entry in the journal outlives a crash at any
 * point of its deletion (vm_erase.c) and creation (vms_disks.c): it is marked before anything else is done;
 * an entry found marked at start-up is finished off.
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "step.h"
#include "vm_leave.h"
#include "vm_life.h"
#include "vm_spec.h"
#include "vms_far.h"
#include "vms_pair.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const char part[] = "vms";

struct vm *vms_find(struct vms *vms, const char *name)
{
    struct vm *vm;

    TAILQ_FOREACH (vm, &vms->list, in.entry)
        if (strcmp(vm->spec.name, name) == 0)
            return vm;
    return NULL;
}

struct vm *vms_find_exported(struct vms *vms, const char *name)
{
    struct vm *vm = vms_find(vms, name);

    if (!vm)
        TAILQ_FOREACH (vm, &vms->far, in.entry)
            if (strcmp(vm->spec.name, name) == 0)
                break;
    return vm;
}

void vms_each(struct vms *vms, void (*each)(void *arg, struct vm *), void *arg)
{
    struct vm *vm;

    TAILQ_FOREACH (vm, &vms->list, in.entry)
        each(arg, vm);
}

void vms_each_far(struct vms *vms, void (*each)(void *arg, struct vm *), void *arg)
{
    struct vm *vm;

    TAILQ_FOREACH (vm, &vms->far, in.entry)
        each(arg, vm);
}

struct vm *vms_find_iqn(struct vms *vms, const char *iqn)
{
    struct vm *vm;

    pthread_mutex_lock(&vms->lock);
    TAILQ_FOREACH (vm, &vms->list, in.entry)
        if (strcmp(vm->spec.iqn, iqn) == 0)
            break;
    if (!vm)
        TAILQ_FOREACH (vm, &vms->far, in.entry)
            if (strcmp(vm->spec.iqn, iqn) == 0)
                break;
    if (vm)
        atomic_fetch_add(&vm->refs, 1);
    pthread_mutex_unlock(&vms->lock);
    return vm;
}

struct vm *vms_find_id(struct vms *vms, const uint8_t id[VMLOG_ID_BYTES])
{
    struct vm *vm;

    pthread_mutex_lock(&vms->lock);
    TAILQ_FOREACH (vm, &vms->list, in.entry)
        if (memcmp(vm->spec.id, id, VMLOG_ID_BYTES) == 0)
            break;
    if (vm)
        atomic_fetch_add(&vm->refs, 1);
    pthread_mutex_unlock(&vms->lock);
    return vm;
}

void vms_each_iqn(struct vms *vms, void (*each)(void *arg, const char *iqn), void *arg)
{
    struct vm *vm;

    pthread_mutex_lock(&vms->lock);
    TAILQ_FOREACH (vm, &vms->list, in.entry)
        each(arg, vm->spec.iqn);
    TAILQ_FOREACH (vm, &vms->far, in.entry)
        each(arg, vm->spec.iqn);
    pthread_mutex_unlock(&vms->lock);
}

void vms_insert(struct vm *vm)
{
    struct vms *vms = vm->in.vms;

    if (vms->pair)
        vms_pair_came(vms->pair, vm);
    pthread_mutex_lock(&vms->lock);
    TAILQ_INSERT_TAIL(&vms->list, vm, in.entry);
    pthread_mutex_unlock(&vms->lock);
}

void vms_replace(struct vm *vm, struct vm *by)
{
    struct vms *vms = vm->in.vms;

    if (vms->pair)
        vms_pair_came(vms->pair, by);
    pthread_mutex_lock(&vms->lock);
    TAILQ_INSERT_AFTER(&vms->list, vm, by, in.entry);
    TAILQ_REMOVE(&vms->list, vm, in.entry);
    pthread_mutex_unlock(&vms->lock);
}

static void vms_remove(struct vm *vm)
{
    struct vms *vms = vm->in.vms;

    pthread_mutex_lock(&vms->lock);
    TAILQ_REMOVE(&vms->list, vm, in.entry);
    pthread_mutex_unlock(&vms->lock);
}

/* It is being deleted from now on. `listed`: it was in the list. */
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

bool vms_has_going(struct vms *vms, const char *name)
{
    struct vm *vm;

    pthread_mutex_lock(&vms->lock);
    TAILQ_FOREACH (vm, &vms->going, in.entry)
        if (strcmp(vm->spec.name, name) == 0)
            break;
    pthread_mutex_unlock(&vms->lock);
    return vm != NULL;
}

bool vms_is_going(struct vms *vms, const uint8_t id[VMLOG_ID_BYTES])
{
    struct vm *vm;

    pthread_mutex_lock(&vms->lock);
    TAILQ_FOREACH (vm, &vms->going, in.entry)
        if (memcmp(vm->spec.id, id, VMLOG_ID_BYTES) == 0)
            break;
    pthread_mutex_unlock(&vms->lock);
    return vm != NULL;
}

/* --- changing --- */

void vm_set_shut(struct vm *vm, enum vm_shut shut)
{
    atomic_store(&vm->shut, shut);
    if (vm->in.vms->pair)
        vms_pair_changed(vm->in.vms->pair, vm);
}

int vm_change_begin(struct vm *vm, struct why *why)
{
    if (vm->in.verb)
        return why_set(why, -EBUSY, "a task works on VM %s: cancel it or wait for its end", vm->spec.name);
    if (vm->in.changing)
        return why_set(why, -EBUSY, "VM %s is being changed: try again in a moment", vm->spec.name);
    vm->in.changing = true;
    return 0;
}

void vm_change_end(struct vm *vm)
{
    vm->in.changing = false;
    if (!vm->in.ask_again)
        return;
    vm->in.ask_again = false;
    vms_refresh(vm);
}

/* --- deleting: mark (pool) -> sessions out (vm->loop) -> last reference -> close -> erase (pool) --- */

static void erase(struct work *w)
{
    struct vm *vm = container_of(w, struct vm, in.work);

    vm->in.status = vm_erase(vm->in.vms, &vm->spec, atomic_load(&vm->fenced), &vm->in.held, &vm->in.why);
    take_out_going(vm); /* before the worker does anything else, such as taking it over from another edge */
}

static void erased(struct work *w)
{
    struct vm *vm = container_of(w, struct vm, in.work);

    if (vm->in.status)
        log_error(vm->spec.name, "could not be deleted wholly, the next start goes on: %s", vm->in.why.text);
    else
        log_info(vm->spec.name, "deleted");
    if (vm->in.held)
        vms_leave_tell(vm->in.vms, &vm->spec);
    vm->in.deleted(vm->in.deleted_arg, vm->in.status, &vm->in.why);
    vm_free(vm);
}

static void on_closed_for_deletion(struct vm *vm)
{
    vm->in.work = (struct work){.run = erase, .done = erased};
    worker_do(vm->in.vms->conf.worker, vm->in.vms->conf.main, &vm->in.work);
}

static void on_closed(struct vm *vm)
{
    void (*emptied)(void *arg) = vm->in.emptied;
    void *arg = vm->in.emptied_arg;

    if (emptied)
        emptied(arg);
    vm_free(vm); /* last: whoever waits for the catalog's end waits for this */
}

static void on_last_reference(struct task *t)
{
    struct vm *vm = container_of(t, struct vm, in.task);

    vm_close(vm, atomic_load(&vm->deleting) ? on_closed_for_deletion : on_closed);
}

void vm_unref(struct vm *vm)
{
    if (atomic_fetch_sub(&vm->refs, 1) != 1)
        return;
    vm->in.task.run = on_last_reference;
    loop_post(vm->in.vms->conf.main, &vm->in.task);
}

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

    vm->in.held = !atomic_load(&vm->fenced) && vm_leave_needed(&vm->spec);
    vm->in.status = vm_save(vm->in.vms, &vm->spec, true, &vm->in.why);
    STEP("delete.mark", "a VM is marked as being deleted");
}

static void marked(struct work *w)
{
    struct vm *vm = container_of(w, struct vm, in.work);

    if (vm->in.status) {
        vm->in.deleted(vm->in.deleted_arg, vm->in.status, &vm->in.why);
        atomic_store(&vm->deleting, false);
        take_out_going(vm);
        vms_insert(vm);
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

void vms_delete(struct vms *vms, const char *name, bool force,
                void (*done)(void *arg, int status, const struct why *), void *arg)
{
    struct vm *vm = vms_find(vms, name);
    unsigned sessions = vm ? atomic_load(&vm->sessions) : 0;

    if (!vm || vm->in.verb || vm->in.changing || (sessions && !force)) {
        struct refusal *r = xcalloc(1, sizeof *r);

        r->task.run = on_refusal;
        r->done = done;
        r->arg = arg;
        if (!vm)
            r->status = why_set(&r->why, -ENOENT, "there is no VM %s", name);
        else if (sessions && !force)
            r->status = why_set(&r->why, -EBUSY, "VM %s has %u session(s): log its initiator out, or force",
                                name, sessions);
        else
            r->status = vm_change_begin(vm, &r->why);
        loop_post(vms->conf.main, &r->task);
        return;
    }
    add_going(vm, true);
    atomic_store(&vm->deleting, true);
    vm->in.deleted = done;
    vm->in.deleted_arg = arg;
    vm->in.work = (struct work){.run = mark, .done = marked};
    loop_work(vms->conf.main, &vm->in.work);
}

/* --- start-up and end --- */

struct opening {
    struct vms *vms;
    struct why *why;
};

static void on_finished_off(void *arg, int status, const struct why *why)
{
    (void)arg;
    (void)status;
    (void)why;
}

void vm_finish_off(struct vm *vm, bool held)
{
    atomic_store(&vm->deleting, true);
    add_going(vm, false);
    vm->in.held = held;
    vm->in.deleted = on_finished_off;
    on_closed_for_deletion(vm);
}

static int open_entry(void *arg, const char *key, const void *value, size_t n)
{
    struct opening *o = arg;
    struct vm_spec spec;
    bool deleting;
    struct vm *vm;
    int rc;

    (void)key;
    rc = vm_spec_from_json(value, n, &spec, &deleting, o->why);
    if (rc == 0 && deleting) { /* when the process ended: it goes on once the loops run */
        vm_finish_off(vm_new(o->vms, &spec, NULL), vm_leave_needed(&spec) /* perhaps */);
        vm_spec_wipe(&spec);
        return 0;
    }
    if (rc == 0)
        rc = vm_spec_check(&spec, o->why);
    if (rc)
        return rc;
    vm = vm_new(o->vms, &spec, NULL);
    if (!spec.home)
        rc = vm_open_log(vm, o->why);
    if (rc == 0 && !spec.home)
        rc = vm_open_volumes(vm, o->why);
    if (rc == 0) {
        if (spec.home)
            log_info(spec.name, "runs on-prem: %u disk(s), %s", vm_spec_disks(&spec), spec.iqn);
        else
            log_info(spec.name, "open: %u disk(s), log at %lu, %s", vm_spec_disks(&spec), vmlog_last(vm->log),
                     spec.iqn);
        vms_insert(vm);
    }
    vm_spec_wipe(&spec);
    return rc;
}

int vms_open(struct vms **out, const struct vms_conf *conf, struct why *why)
{
    struct vms *vms = xcalloc(1, sizeof *vms);
    struct opening opening = {vms, why};
    int rc;

    vms->conf = *conf;
    pthread_mutex_init(&vms->lock, NULL);
    TAILQ_INIT(&vms->list);
    TAILQ_INIT(&vms->far);
    TAILQ_INIT(&vms->creating);
    TAILQ_INIT(&vms->changes);
    TAILQ_INIT(&vms->going);
    TAILQ_INIT(&vms->leaving);
    vms->pinned = xcalloc(conf->nloops, sizeof *vms->pinned);
    *out = vms;
    rc = journal_meta_each(conf->journal, "vm/", open_entry, &opening, why);
    return rc ? rc : vms_leave_resume(vms, why);
}

static void vms_free(struct vms *vms)
{
    pthread_mutex_destroy(&vms->lock);
    free(vms->pinned);
    free(vms);
}

void vms_begin(struct vms *vms)
{
    vms->pending++;
}

void vms_end(struct vms *vms)
{
    void (*closed)(void *arg) = vms->closed;
    void *arg = vms->closed_arg;

    if (--vms->pending || !closed)
        return;
    vms_free(vms);
    closed(arg);
}

static void on_close(struct task *t)
{
    struct vms *vms = container_of(t, struct vms, task);
    struct vm *vm;

    vms_admission_end(vms);
    vms_cancel_creations(vms);
    vms_cancel_changes(vms);
    vms_leave_end(vms);
    while ((vm = TAILQ_FIRST(&vms->list))) {
        vms_remove(vm);
        vm_unref(vm);
    }
    vms_far_end(vms);
    vms_end(vms);
}

void vms_close(struct vms *vms, void (*done)(void *arg), void *arg)
{
    vms->closed = done;
    vms->closed_arg = arg;
    atomic_store(&vms->stop, true);
    vms_begin(vms);
    vms->task.run = on_close;
    loop_post(vms->conf.main, &vms->task);
}
