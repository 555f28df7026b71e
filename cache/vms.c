/* cache/vms.c - the catalog of VMs: opened at start-up, looked up at login, closed.
 *
 * The list is changed on the main loop, under the lock. A VM's entry in the journal outlives a crash at any
 * point of its deletion (vms_delete.c) and creation (vms_disks.c): it is marked before anything else is done;
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

/* --- the last reference --- */

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

    vm_close(vm, atomic_load(&vm->deleting) ? vm_erase_closed : on_closed);
}

void vm_unref(struct vm *vm)
{
    if (atomic_fetch_sub(&vm->refs, 1) != 1)
        return;
    vm->in.task.run = on_last_reference;
    loop_post(vm->in.vms->conf.main, &vm->in.task);
}

/* --- start-up and end --- */

struct opening {
    struct vms *vms;
    struct why *why;
};

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
    vms_erase_end(vms);
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
