/* cache/vms_luns.c - disks that come and go while their VM works.
 *
 * A disk that comes: size asked for, entries written (store, then journal), volume opened on the VM's loop.
 * One that goes: entries written, so that no start finds it again; then its LUN is taken from the initiators,
 * its volume closed, and what log and map have of it is dropped. A crash before that end leaves records of a
 * number that no disk has: vm_open_log() drops them. Numbers are not given twice, so nothing of a disk can
 * turn up in another one.
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "vm_life.h"
#include "vm_sizes.h"
#include "vm_spec.h"
#include "vm_value.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "vms";

enum { STAT_TIMEOUT_MS = 20000 };

struct vms_change {
    TAILQ_ENTRY(vms_change) entry;
    struct vms *vms;
    struct vm *vm; /* a reference; NULL: refused */
    unsigned lun;
    bool adds;
    struct vm_disk disk;
    struct vm_spec spec;  /* as it is to be */
    struct vm_spec asked; /* of that disk alone */
    struct vm_sizes sizes;
    struct timer timeout;
    struct work work;
    struct task task;
    struct volume *volume; /* that goes */
    struct commit_turn turn;
    struct map_change *dropped;
    int status;
    struct why why;
    void (*added)(void *arg, int lun, const struct why *);
    void (*removed)(void *arg, int status, const struct why *);
    void *arg;
};

static void finish(struct vms_change *c)
{
    struct vms *vms = c->vms;

    timer_free(&c->timeout);
    TAILQ_REMOVE(&vms->changes, c, entry);
    if (c->vm) {
        vm_change_end(c->vm);
        if (c->status)
            log_warn(c->vm->spec.name, "LUN %u is not %s: %s", c->lun, c->adds ? "added" : "removed",
                     c->why.text);
        else
            log_info(c->vm->spec.name, "LUN %u is %s: %s:%s", c->lun, c->adds ? "added" : "removed",
                     c->disk.onprem, c->disk.disk);
        vm_unref(c->vm);
    }
    if (c->adds)
        c->added(c->arg, c->status ? c->status : (int)c->lun, &c->why);
    else
        c->removed(c->arg, c->status, &c->why);
    vm_spec_wipe(&c->spec);
    free(c);
    vms_end(vms);
}

static void on_end(struct task *t)
{
    finish(container_of(t, struct vms_change, task));
}

/* From any thread. */
static void finish_on_main(void *arg)
{
    struct vms_change *c = arg;

    c->task.run = on_end;
    loop_post(c->vms->conf.main, &c->task);
}

void vms_cancel_changes(struct vms *vms)
{
    struct vms_change *c;

    TAILQ_FOREACH (c, &vms->changes, entry)
        vm_sizes_cancel(&c->sizes);
}

/* --- the entries ---------------------------------------------------------------------------------------*/

static void on_loop_add(struct task *);
static void on_loop_remove(struct task *);

/* The store's entry first: it is the one that may be out of reach, or another edge's. */
static void save(struct work *w)
{
    struct vms_change *c = container_of(w, struct vms_change, work);
    struct vm_store store = vm_store_of(c->vms);
    struct why why = {""};

    c->status = vm_store_change(&store, &c->spec, &c->why);
    if (c->status)
        return;
    c->status = vm_save(c->vms, &c->spec, false, &c->why);
    if (c->status && vm_store_change(&store, &c->vm->spec, &why)) /* nobody changes that meanwhile */
        log_error(c->vm->spec.name, "its entry in the object store has other disks than here: %s", why.text);
}

static void saved(struct work *w)
{
    struct vms_change *c = container_of(w, struct vms_change, work);

    if (c->status) {
        finish(c);
        return;
    }
    c->vm->spec = c->spec;
    if (c->adds)
        c->vm->in.peers[c->lun] = link_peer(c->vms->conf.link, c->disk.onprem);
    c->task.run = c->adds ? on_loop_add : on_loop_remove;
    loop_post(c->vm->loop, &c->task);
}

static void save_spec(struct vms_change *c)
{
    c->work = (struct work){.run = save, .done = saved};
    worker_do(c->vms->conf.worker, c->vms->conf.main, &c->work);
}

/* --- one comes -----------------------------------------------------------------------------------------*/

static void on_loop_add(struct task *t)
{
    struct vms_change *c = container_of(t, struct vms_change, task);

    CHECK(vm_open_volume(c->vm, c->lun, &c->disk, &c->why) == 0); /* as at start-up */
    if (c->vms->conf.lun_came)
        c->vms->conf.lun_came(c->vm, c->lun);
    vm_swap_writeback(c->vm, finish_on_main, c);
}

static void on_sizes(struct vm_sizes *sizes)
{
    struct vms_change *c = container_of(sizes, struct vms_change, sizes);

    timer_stop(&c->timeout);
    c->disk = c->asked.disks[0];
    c->status = sizes->status;
    c->why = sizes->why;
    if (c->status == -ECANCELED)
        why_set(&c->why, 0, "disk %s:%s: no answer from an on-prem daemon named %s within %d s",
                c->disk.onprem, c->disk.disk, c->disk.onprem, STAT_TIMEOUT_MS / 1000);
    if (c->status) {
        finish(c);
        return;
    }
    c->spec = c->vm->spec;
    c->disk.number = (uint8_t)c->spec.next_number++;
    c->spec.disks[c->lun] = c->disk;
    if (c->lun >= c->spec.ndisks)
        c->spec.ndisks = c->lun + 1;
    c->status = vm_spec_check(&c->spec, &c->why);
    if (!c->status && c->spec.storage == WB_WRITE_BACK && !vm_at_one_place(&c->spec))
        c->status =
            why_set(&c->why, -EINVAL,
                    "VM %s is written back, and that goes to one on-prem daemon: %s is not the one of "
                    "its other disks",
                    c->spec.name, c->disk.onprem);
    if (c->status)
        finish(c);
    else
        save_spec(c);
}

/* --- one goes ------------------------------------------------------------------------------------------*/

/* What is not done here the next start does. */
static void drop_rest(struct commit_turn *turn)
{
    struct vms_change *c = container_of(turn, struct vms_change, turn);
    char key[VM_VALUE_KEY_MAX];
    struct why why = {""};

    vm_value_key(c->spec.id, c->disk.number, key);
    if (map_drop_disk(c->vm->map, c->disk.number, &c->dropped, &why) < 0 ||
        journal_meta_delete(c->vms->conf.journal, key, &why) < 0)
        log_error(c->vm->spec.name, "what was LUN %u has left something in the journal: %s", c->lun,
                  why.text);
}

static void rest_dropped(struct commit_turn *turn)
{
    struct vms_change *c = container_of(turn, struct vms_change, turn);

    if (c->dropped)
        map_install(c->vm->map, &c->dropped);
    vm_swap_writeback(c->vm, finish_on_main, c);
}

static void on_volume_closed(void *arg)
{
    struct vms_change *c = arg;

    vmlog_discard(c->vm->log, c->disk.number);
    c->turn = (struct commit_turn){.run = drop_rest, .done = rest_dropped};
    commit_take_turn(c->vm->commit, &c->turn);
}

static void on_unused(void *arg)
{
    struct vms_change *c = arg;

    volume_close(c->volume, on_volume_closed, c);
}

static void on_loop_remove(struct task *t)
{
    struct vms_change *c = container_of(t, struct vms_change, task);

    c->volume = c->vm->volumes[c->lun];
    c->vm->volumes[c->lun] = NULL;
    if (c->vms->conf.lun_going)
        c->vms->conf.lun_going(c->vm, c->lun, on_unused, c);
    else
        on_unused(c);
}

static void remove_from_spec(struct vms_change *c)
{
    struct vm_spec *s = &c->spec;

    *s = c->vm->spec;
    c->disk = s->disks[c->lun];
    memset(&s->disks[c->lun], 0, sizeof s->disks[c->lun]);
    while (s->ndisks && !vm_has_disk(s, s->ndisks - 1))
        s->ndisks--;
}

/* --- what is asked for ---------------------------------------------------------------------------------*/

static void on_timeout(struct timer *t)
{
    vm_sizes_cancel(&container_of(t, struct vms_change, timeout)->sizes);
}

static struct vms_change *change_new(struct vms *vms, const char *name, void *arg)
{
    struct vms_change *c = xcalloc(1, sizeof *c);
    struct vm *vm = vms_find(vms, name);

    vms_begin(vms);
    c->vms = vms;
    c->arg = arg;
    timer_init(&c->timeout, vms->conf.main, on_timeout);
    TAILQ_INSERT_TAIL(&vms->changes, c, entry);
    if (!vm)
        c->status = why_set(&c->why, -ENOENT, "there is no VM %s", name);
    else if (vm->spec.home)
        c->status = why_set(&c->why, -EINVAL, "VM %s runs on-prem: its disks change when it is here", name);
    else
        c->status = vm_change_begin(vm, &c->why);
    if (c->status == 0) {
        atomic_fetch_add(&vm->refs, 1);
        c->vm = vm;
    }
    return c;
}

static int choose_lun(struct vms_change *c, int lun)
{
    const struct vm_spec *s = &c->vm->spec;

    if (s->next_number >= VM_DISKS_MAX)
        return why_set(&c->why, -ENOSPC, "VM %s has had %d disks, and a VM has no more in its life", s->name,
                       VM_DISKS_MAX);
    if (lun < 0)
        for (lun = 0; vm_has_disk(s, (unsigned)lun);)
            lun++;
    c->lun = (unsigned)lun;
    if (lun >= VM_DISKS_MAX)
        return why_set(&c->why, -EINVAL, "a LUN is 0 to %d", VM_DISKS_MAX - 1);
    return vm_has_disk(s, c->lun) ? why_set(&c->why, -EEXIST, "VM %s has a LUN %d already", s->name, lun) : 0;
}

void vms_add_disk(struct vms *vms, const char *name, int lun, const struct vm_disk *disk,
                  void (*done)(void *arg, int lun, const struct why *), void *arg)
{
    struct vms_change *c = change_new(vms, name, arg);

    c->adds = true;
    c->added = done;
    c->disk = *disk;
    if (c->status == 0)
        c->status = choose_lun(c, lun);
    if (c->status) {
        finish_on_main(c);
        return;
    }
    c->asked.disks[0] = c->disk;
    c->asked.ndisks = 1;
    c->sizes = (struct vm_sizes){.spec = &c->asked, .done = on_sizes};
    timer_set_ms(&c->timeout, STAT_TIMEOUT_MS);
    vm_sizes_ask(&c->sizes, vms->conf.link);
}

void vms_remove_disk(struct vms *vms, const char *name, unsigned lun, bool force,
                     void (*done)(void *arg, int status, const struct why *), void *arg)
{
    struct vms_change *c = change_new(vms, name, arg);
    unsigned sessions = c->vm ? atomic_load(&c->vm->sessions) : 0;

    c->removed = done;
    c->lun = lun;
    if (c->status == 0 && !vm_has_disk(&c->vm->spec, lun))
        c->status = why_set(&c->why, -ENOENT, "VM %s has no LUN %u", name, lun);
    else if (c->status == 0 && vm_spec_disks(&c->vm->spec) == 1)
        c->status =
            why_set(&c->why, -EINVAL, "a VM has at least one disk, and this is the last one of %s", name);
    else if (sessions && !force)
        c->status =
            why_set(&c->why, -EBUSY, "VM %s has %u session(s): let go of the disk in the guest, and force",
                    name, sessions);
    if (c->status) {
        finish_on_main(c);
        return;
    }
    remove_from_spec(c);
    save_spec(c);
}
