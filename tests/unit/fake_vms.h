/* tests/unit/fake_vms.h - a catalog of VMs, and the pair it belongs to, that answer what the test says.
 *
 * Stands in for vms.h, vms_pair.h, failback.h and paths.h. Answers come on `loop`, as the real ones do.
 * Include once.
 */
#ifndef ISTHMUS_FAKE_VMS_H
#define ISTHMUS_FAKE_VMS_H

#include "failback.h"
#include "mem.h"
#include "paths.h"
#include "vms_pair.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct loop *loop;

/* --- the VMs --- */

struct vms {
    struct vm *vm[8];
    unsigned n;
} catalog;

static struct vm_spec last_spec;

/* VMs of the other edge: their names begin with "far". */
struct vm *vms_find_exported(struct vms *vms, const char *name)
{
    for (unsigned i = 0; i < vms->n; i++)
        if (strcmp(vms->vm[i]->spec.name, name) == 0)
            return vms->vm[i];
    return NULL;
}

struct vm *vms_find(struct vms *vms, const char *name)
{
    return strncmp(name, "far", 3) == 0 ? NULL : vms_find_exported(vms, name);
}

void vms_each(struct vms *vms, void (*each)(void *, struct vm *), void *arg)
{
    for (unsigned i = 0; i < vms->n; i++)
        each(arg, vms->vm[i]);
}

struct answer {
    struct task task;
    struct loop *loop;
    struct vms *vms;
    struct vm_spec spec;
    char name[64];
    bool force;
    void (*created)(void *, struct vm *, const struct why *);
    void (*deleted)(void *, int, const struct why *);
    void *arg;
};

static struct recovery {
    char name[64];
    uint64_t through;
    void (*tell)(void *, const char *);
    void (*done)(void *, int, unsigned, const struct why *);
    void *arg;
    struct task task;
} recovery;

static void on_recovery(struct task *t)
{
    struct why why = {"the object store knows no VM absent that is not here"};

    (void)t;
    recovery.tell(recovery.arg, "recovered to record 7");
    if (strcmp(recovery.name, "absent") == 0)
        recovery.done(recovery.arg, -ENOENT, 0, &why);
    else
        recovery.done(recovery.arg, 0, 2, &why);
}

void vms_recover(struct vms *vms, const char *name, uint64_t through, void (*tell)(void *, const char *),
                 void (*done)(void *, int, unsigned, const struct why *), void *arg)
{
    (void)vms;
    recovery = (struct recovery){.through = through, .tell = tell, .done = done, .arg = arg};
    snprintf(recovery.name, sizeof recovery.name, "%s", name ? name : "");
    recovery.task.run = on_recovery;
    loop_post(loop, &recovery.task);
}

static void on_create(struct task *t)
{
    struct answer *a = container_of(t, struct answer, task);
    struct why why = {"dc1 has no disk absent"};
    struct vm *vm = NULL;

    last_spec = a->spec;
    if (strcmp(a->spec.disks[0].disk, "absent") != 0) {
        vm = a->vms->vm[a->vms->n++] = xcalloc(1, sizeof(*vm));
        vm->spec = a->spec;
        vm->loop = loop;
        vm->spec.disks[0].sectors = 2048;
        vm->spec.disks[0].block_bytes = 512;
        snprintf(vm->spec.iqn, sizeof(vm->spec.iqn), "iqn.2026-11.test:%s", vm->spec.name);
    }
    a->created(a->arg, vm, &why);
    free(a);
}

void vms_create(struct vms *vms, const struct vm_spec *spec,
                void (*done)(void *, struct vm *, const struct why *), void *arg)
{
    struct answer *a = xcalloc(1, sizeof(*a));

    *a = (struct answer){.task.run = on_create, .vms = vms, .spec = *spec, .created = done, .arg = arg};
    loop_post(loop, &a->task);
}

static void on_delete(struct task *t)
{
    struct answer *a = container_of(t, struct answer, task);
    struct why why = {"VM busy has 1 session(s)"};
    int status = 0;

    if (strcmp(a->name, "busy") == 0 && !a->force)
        status = -EBUSY;
    for (unsigned i = 0; status == 0 && i < a->vms->n; i++)
        if (strcmp(a->vms->vm[i]->spec.name, a->name) == 0) {
            free(a->vms->vm[i]);
            a->vms->vm[i] = a->vms->vm[--a->vms->n];
        }
    a->deleted(a->arg, status, &why);
    free(a);
}

void vms_delete(struct vms *vms, const char *name, bool force, void (*done)(void *, int, const struct why *),
                void *arg)
{
    struct answer *a = xcalloc(1, sizeof(*a));

    *a = (struct answer){.task.run = on_delete, .vms = vms, .force = force, .deleted = done, .arg = arg};
    snprintf(a->name, sizeof(a->name), "%s", name);
    loop_post(loop, &a->task);
}

void vm_status(struct vm *vm, struct vm_status *s)
{
    (void)vm;
    *s = (struct vm_status){.open = true, .written = 7, .committed = 5, .store_why = {"the bucket is gone"}};
}

/* --- their disks --- */

struct lun_change {
    struct task task;
    char name[64];
    int lun;
    bool force;
    struct vm_disk disk;
    void (*added)(void *, int, const struct why *);
    void (*removed)(void *, int, const struct why *);
    void *arg;
};
static struct vm_disk last_disk;

static void on_lun_change(struct task *t)
{
    struct lun_change *c = container_of(t, struct lun_change, task);
    struct why why = {"so it is"};

    last_disk = c->disk;
    if (c->added)
        c->added(c->arg, c->lun == 7 ? -EEXIST : c->lun < 0 ? 1 : c->lun, &why);
    else
        c->removed(c->arg, c->lun == 9 ? -ENOENT : c->force ? 0 : -EBUSY, &why);
    free(c);
}

void vms_add_disk(struct vms *vms, const char *name, int lun, const struct vm_disk *disk,
                  void (*done)(void *arg, int lun, const struct why *), void *arg)
{
    struct lun_change *c = xcalloc(1, sizeof(*c));

    (void)vms;
    *c = (struct lun_change){.task.run = on_lun_change, .lun = lun, .disk = *disk, .added = done, .arg = arg};
    snprintf(c->name, sizeof(c->name), "%s", name);
    loop_post(loop, &c->task);
}

void vms_remove_disk(struct vms *vms, const char *name, unsigned lun, bool force,
                     void (*done)(void *arg, int status, const struct why *), void *arg)
{
    struct lun_change *c = xcalloc(1, sizeof(*c));

    (void)vms;
    *c = (struct lun_change){
        .task.run = on_lun_change, .lun = (int)lun, .force = force, .removed = done, .arg = arg};
    snprintf(c->name, sizeof(c->name), "%s", name);
    loop_post(loop, &c->task);
}

/* --- the pair --- */

static const char *other_portals[3]; /* up to NULL */

void paths_each(struct target *t, void (*each)(void *arg, const char *address, uint16_t group), void *arg)
{
    (void)t;
    for (unsigned i = 0; other_portals[i]; i++)
        each(arg, other_portals[i], 32769);
}

void vms_each_far(struct vms *vms, void (*each)(void *, struct vm *), void *arg)
{
    for (unsigned i = 0; i < vms->n; i++)
        if (!vms_find(vms, vms->vm[i]->spec.name))
            each(arg, vms->vm[i]);
}

static struct pair_status pair;

bool vms_pair_mirrors(const struct vms *vms, struct vm *vm)
{
    (void)vms;
    return strcmp(vm->spec.name, "unmirrored") != 0;
}

void failback_why(const struct failback *f, const struct vm *vm, struct why *why)
{
    (void)f;
    why_set(why, 0, "%s", strcmp(vm->spec.name, "astray") == 0 ? "failback is off here" : "");
}

bool vms_pair_status(const struct vms *vms, struct pair_status *s)
{
    (void)vms;
    *s = pair;
    return pair.name != NULL;
}

static struct losing {
    struct task task;
    void (*done)(void *, int, const struct vms_losses *, const struct why *);
    void *arg;
    bool forced, broken;
} losing;

static void on_losses(struct task *t)
{
    struct vms_loss list[] = {{.vm = "web", .whose = VMS_LOSS_THEIRS, .cut = 77, .put_s = 1795447231},
                              {.vm = "mine", .whose = VMS_LOSS_OURS},
                              {.vm = "else", .whose = VMS_LOSS_NOBODYS},
                              {.vm = "gone", .whose = VMS_LOSS_NOBODYS, .deleting = true}};
    struct vms_losses losses = {.member.name = "edge-b", .list = list, .n = 4, .unreadable = 1};
    struct why why = {"the store is away"};

    (void)t;
    losing.done(losing.arg, losing.broken ? -EIO : 0, &losses, &why);
}

int vms_pair_losses(struct vms *vms, void (*done)(void *, int, const struct vms_losses *, const struct why *),
                    void *arg, struct why *why)
{
    (void)vms;
    if (!pair.name)
        return why_set(why, -ENOENT, "this edge is in no pair");
    losing.task.run = on_losses;
    losing.done = done;
    losing.arg = arg;
    loop_post(loop, &losing.task);
    return 0;
}

int vms_pair_force(struct vms *vms, const struct vms_losses *losses, struct why *why)
{
    (void)vms;
    assert_string_equal(losses->member.name, "edge-b");
    if (pair.role != PAIR_OUT)
        return why_set(why, -EINVAL, "only one that is out");
    losing.forced = true;
    return 0;
}

static bool giving;

int failback_give_all(struct failback *f, bool all, struct why *why)
{
    (void)f;
    giving = all && pair.role == PAIR_BOTH;
    return all && !giving ? why_set(why, -EAGAIN, "the pair is not whole") : 0;
}

bool failback_gives_all(const struct failback *f, unsigned *left)
{
    (void)f;
    *left = 5;
    return giving;
}

#endif
