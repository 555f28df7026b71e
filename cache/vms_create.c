/* cache/vms_create.c - VMs are made.
 *
 * A creation asks for each disk's size, writes the catalog and the VM's entry in the store, both as of a VM
 * that is being deleted, and has on-prem attach the disks. Then both say that it is there; the (empty) log is
 * read, the volumes are built on the VM's loop, and it is answered. It gives up when the on-prem daemon does
 * not answer in time: nobody is using the VM yet, and the person who asked is waiting. A crash in between
 * leaves a VM that is deleted, by the next start or, when the edge was lost with its disks, by who recovers
 * what it had: on-prem lets go of the disks.
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "step.h"
#include "vm_hold.h"
#include "vm_leave.h"
#include "vm_life.h"
#include "vm_sizes.h"
#include "vm_spec.h"
#include "vms_pair.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "vms";

enum { STAT_TIMEOUT_MS = 20000, TURN_MS = 100 };

struct vms_creation {
    TAILQ_ENTRY(vms_creation) entry;
    struct vms *vms;
    struct vm_spec spec;
    struct vm *vm;
    struct vm_sizes sizes;
    struct vm_hold hold;
    struct timer timeout, turn;
    uint64_t asked_ns;
    struct work work;
    struct task task;
    struct vm_erasure erasure;
    bool waits;     /* until it is known which names are taken: it has none yet */
    bool left_over; /* it was not made, and is not all gone */
    int status;
    struct why why;
    void (*done)(void *arg, struct vm *, const struct why *);
    void *arg;
};

bool vms_is_creating(struct vms *vms, const uint8_t id[VMLOG_ID_BYTES])
{
    struct vms_creation *c;

    pthread_mutex_lock(&vms->lock);
    TAILQ_FOREACH (c, &vms->creating, entry)
        if (memcmp(c->spec.id, id, VMLOG_ID_BYTES) == 0)
            break;
    pthread_mutex_unlock(&vms->lock);
    return c != NULL;
}

static bool have_one_name(const struct vm_spec *a, const struct vm_spec *b)
{
    return strcmp(a->name, b->name) == 0 || strcmp(a->iqn, b->iqn) == 0;
}

bool vms_creates_name(struct vms *vms, const struct vm_spec *spec)
{
    struct vms_creation *c;

    pthread_mutex_lock(&vms->lock);
    TAILQ_FOREACH (c, &vms->creating, entry)
        if (!c->waits && have_one_name(&c->spec, spec))
            break;
    pthread_mutex_unlock(&vms->lock);
    return c != NULL;
}

static void add(struct vms_creation *c)
{
    pthread_mutex_lock(&c->vms->lock);
    TAILQ_INSERT_TAIL(&c->vms->creating, c, entry);
    pthread_mutex_unlock(&c->vms->lock);
}

static void take_out(struct vms_creation *c)
{
    pthread_mutex_lock(&c->vms->lock);
    TAILQ_REMOVE(&c->vms->creating, c, entry);
    pthread_mutex_unlock(&c->vms->lock);
}

static void finish(struct vms_creation *c)
{
    struct vm *vm = c->status ? NULL : c->vm;
    struct vms *vms = c->vms;

    timer_free(&c->timeout);
    timer_free(&c->turn);
    if (vm) {
        atomic_store(&vm->admitted, true);
        vms_insert(vm);
        log_info(vm->spec.name, "created: %u disk(s), %s", vm->spec.ndisks, vm->spec.iqn);
    } else {
        log_warn(c->spec.name, "not created: %s", c->why.text);
    }
    take_out(c); /* in the list by now: at no moment is it nowhere */
    c->done(c->arg, vm, &c->why);
    vm_spec_wipe(&c->spec);
    free(c);
    vms_end(vms);
}

static void on_opened(struct task *t)
{
    finish(container_of(t, struct vms_creation, task));
}

static void on_vm_loop(struct task *t)
{
    struct vms_creation *c = container_of(t, struct vms_creation, task);

    c->status = vm_open_volumes(c->vm, &c->why);
    CHECK(c->status == 0); /* the tier specification was checked by every VM before, and at start-up */
    c->task.run = on_opened;
    loop_post(c->vms->conf.main, &c->task);
}

static void no_answer(struct vms_creation *c, const struct vm_disk *d)
{
    why_set(&c->why, 0, "disk %s:%s: no answer from an on-prem daemon named %s within %d s", d->onprem,
            d->disk, d->onprem, STAT_TIMEOUT_MS / 1000);
}

/* --- it is not to be: whatever there is of it goes --- */

static void undo(struct work *w)
{
    struct vms_creation *c = container_of(w, struct vms_creation, work);
    struct why why = {""};

    c->left_over = vm_erase(c->vms, &c->spec, &c->erasure, &why) != 0;
}

static void undone(struct work *w)
{
    struct vms_creation *c = container_of(w, struct vms_creation, work);

    if (c->left_over) { /* who asked does not wait for that */
        vm_finish_off(c->vm, c->erasure.held);
    } else {
        if (c->erasure.held)
            vms_leave_tell(c->vms, &c->spec, c->erasure.absent);
        vm_free(c->vm);
    }
    finish(c);
}

static void begin_undo(struct vms_creation *c)
{
    c->work = (struct work){.run = undo, .done = undone};
    worker_do(c->vms->conf.worker, c->vms->conf.main, &c->work);
}

/* --- its disks are its own: opened --- */

static void open_log(struct work *w)
{
    struct vms_creation *c = container_of(w, struct vms_creation, work);
    struct vm_store store = vm_store_of(c->vms);

    c->status = vm_store_change(&store, &c->spec, &c->why);
    STEP("create.kept", "a new VM's entry says that it is there");
    if (!c->status)
        c->status = vm_save(c->vms, &c->spec, false, &c->why);
    STEP("create.catalog", "it is in the catalog");
    if (!c->status)
        c->status = vm_open_log(c->vm, &c->why);
}

static void opened_log(struct work *w)
{
    struct vms_creation *c = container_of(w, struct vms_creation, work);

    if (c->status) {
        begin_undo(c);
        return;
    }
    c->task.run = on_vm_loop;
    loop_post(c->vm->loop, &c->task);
}

static void begin_opening(struct vms_creation *c)
{
    c->work = (struct work){.run = open_log, .done = opened_log};
    worker_do(c->vms->conf.worker, c->vms->conf.main, &c->work);
}

static void on_held(struct vm_hold *h)
{
    struct vms_creation *c = container_of(h, struct vms_creation, hold);

    timer_stop(&c->timeout);
    c->status = h->status;
    c->why = h->why;
    c->erasure.held = !c->status || c->status == -ECANCELED || h->resent;
    if (c->status == -ECANCELED)
        no_answer(c, &c->spec.disks[0]);
    if (c->status) {
        begin_undo(c);
        return;
    }
    STEP("create.hold", "on-prem keeps its disks for it");
    begin_opening(c);
}

/* --- it is made --- */

static void save(struct work *w)
{
    struct vms_creation *c = container_of(w, struct vms_creation, work);
    struct vm_store store = vm_store_of(c->vms);

    c->status = vm_save(c->vms, &c->spec, true, &c->why);
    STEP("create.mark", "the catalog says that a VM is being made, or deleted");
    if (!c->status)
        c->status = vm_store_create(&store, &c->spec, &c->why);
    STEP("create.entry", "a new VM's entry is in the store, and says the same");
    if (!c->status && c->vms->pair) /* who goes alone after this finds the entry; who went before, never */
        c->status = vms_pair_look_member(c->vms->pair, &c->why);
}

static void saved(struct work *w)
{
    struct vms_creation *c = container_of(w, struct vms_creation, work);

    if (c->status) { /* who asked need not wait for a store that is away */
        vm_finish_off(c->vm, false);
        finish(c);
    } else if (!vm_at_one_place(&c->spec)) {
        begin_opening(c);
    } else {
        c->hold = (struct vm_hold){.vms = c->vms, .spec = &c->spec, .done = on_held};
        timer_set_ms(&c->timeout, STAT_TIMEOUT_MS);
        vm_hold_ask(&c->hold);
    }
}

/* It gives up when the daemon does not answer in time. */
static void on_sizes(struct vm_sizes *s)
{
    struct vms_creation *c = container_of(s, struct vms_creation, sizes);

    timer_stop(&c->timeout);
    c->status = s->status;
    c->why = s->why;
    if (c->status == -ECANCELED)
        no_answer(c, &c->spec.disks[s->disk]);
    if (c->status) {
        finish(c);
        return;
    }
    c->vm = vm_new(c->vms, &c->spec, NULL);
    c->work = (struct work){.run = save, .done = saved};
    worker_do(c->vms->conf.worker, c->vms->conf.main, &c->work);
}

/* Whatever it waits for. */
static void cancel(struct vms_creation *c)
{
    if (c->waits)
        return; /* it looks for itself */
    vm_sizes_cancel(&c->sizes);
    vm_hold_cancel(&c->hold);
}

static void on_timeout(struct timer *t)
{
    cancel(container_of(t, struct vms_creation, timeout));
}

void vms_cancel_creations(struct vms *vms)
{
    struct vms_creation *c;

    TAILQ_FOREACH (c, &vms->creating, entry)
        cancel(c);
}

static bool is_late(const struct vms_creation *c)
{
    return loop_now_ns(c->vms->conf.main) - c->asked_ns > STAT_TIMEOUT_MS * UINT64_C(1000000);
}

static void begin(struct vms_creation *c)
{
    struct vms *vms = c->vms;

    if (c->status == 0 && atomic_load(&vms->stop))
        c->status = why_set(&c->why, -ESHUTDOWN, "the edge is stopping");
    if (c->status == 0 && !vms_names_are_known(vms))
        c->status = why_set(&c->why, -EAGAIN,
                            "VMs are being taken over here, of which one may be named %s: try again later",
                            c->spec.name);
    if (c->status == 0)
        c->status = vms_check_name(vms, &c->spec, &c->why);
    if (c->status == 0 && !vms_admitted(vms, &c->why))
        c->status = -EAGAIN;
    if (c->status) {
        finish(c);
        return;
    }
    pthread_mutex_lock(&vms->lock);
    c->waits = false;
    pthread_mutex_unlock(&vms->lock);
    c->sizes = (struct vm_sizes){.spec = &c->spec, .done = on_sizes};
    timer_set_ms(&c->timeout, STAT_TIMEOUT_MS);
    vm_sizes_ask(&c->sizes, vms->conf.link);
}

static void on_turn(struct timer *t)
{
    struct vms_creation *c = container_of(t, struct vms_creation, turn);

    if (c->status == 0 && !atomic_load(&c->vms->stop) && !vms_names_are_known(c->vms) && !is_late(c))
        timer_set_ms(&c->turn, TURN_MS);
    else
        begin(c);
}

void vms_create(struct vms *vms, const struct vm_spec *spec,
                void (*done)(void *arg, struct vm *, const struct why *), void *arg)
{
    struct vms_creation *c = xcalloc(1, sizeof *c);

    vms_begin(vms);
    c->vms = vms;
    c->spec = *spec;
    c->done = done;
    c->arg = arg;
    c->waits = true;
    c->asked_ns = loop_now_ns(vms->conf.main);
    timer_init(&c->timeout, vms->conf.main, on_timeout);
    timer_init(&c->turn, vms->conf.main, on_turn);
    for (unsigned lun = 0; lun < VM_DISKS_MAX; lun++)
        c->spec.disks[lun].number = (uint8_t)lun;
    c->spec.next_number = c->spec.ndisks;
    loop_random(vms->conf.main, c->spec.id, sizeof c->spec.id);
    if (!c->spec.storage)
        c->spec.storage = WB_CLOUD_PERSIST;
    if (!*c->spec.iqn)
        snprintf(c->spec.iqn, sizeof c->spec.iqn, "%s:%s", vms->conf.iqn_prefix, c->spec.name);
    if (!*c->spec.prefers && vms->conf.edge)
        snprintf(c->spec.prefers, sizeof c->spec.prefers, "%s", vms->conf.edge);
    else if (*c->spec.prefers && !vms_pair_is_edge(vms, c->spec.prefers, &c->why))
        c->status = -EINVAL;
    if (c->status == 0)
        c->status = vm_spec_check(&c->spec, &c->why);
    if (c->status == 0 && c->spec.storage == WB_WRITE_BACK && !vm_at_one_place(&c->spec))
        c->status =
            why_set(&c->why, -EINVAL,
                    "the disks of VM %s are at more than one on-prem daemon: it can only be cloud-persist",
                    c->spec.name);
    add(c);
    timer_set_ms(&c->turn, 0);
}
