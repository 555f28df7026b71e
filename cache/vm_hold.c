/* cache/vm_hold.c - see vm_hold.h.
 *
 * VMs of one edge may share a source disk that none of them writes back to: on-prem knows the first of them.
 * When it refuses the new VM, it is asked about those here that have one of the disks, under their epochs:
 * one that it knows is the one that it means, as it gives a disk to one VM only.
 */
#include "vm_hold.h"
#include "check.h"
#include "vm_spec.h"

#include <errno.h>

static void ask_about_next(struct vm_hold *h);

static bool shares_a_disk(const struct vm_spec *a, const struct vm_spec *b)
{
    for (unsigned i = 0; i < a->ndisks; i++)
        for (unsigned j = 0; j < b->ndisks; j++)
            if (vm_has_disk(a, i) && vm_has_disk(b, j) &&
                strcmp(a->disks[i].onprem, b->disks[j].onprem) == 0 &&
                strcmp(a->disks[i].disk, b->disks[j].disk) == 0)
                return true;
    return false;
}

static bool may_share(const struct vm_hold *h, const struct vm *vm)
{
    return h->spec->storage == WB_CLOUD_PERSIST && vm->spec.storage == WB_CLOUD_PERSIST && !vm->spec.home &&
           !vm->in.verb && !atomic_load(&vm->fenced) && vm_at_one_place(&vm->spec) &&
           shares_a_disk(h->spec, &vm->spec);
}

const struct vm *vm_hold_sharer(const struct vms *vms, const struct vm *vm)
{
    const struct vm *other;

    TAILQ_FOREACH (other, &vms->list, in.entry)
        if (other != vm && !other->spec.home && shares_a_disk(&vm->spec, &other->spec))
            return other;
    return NULL;
}

static void call(struct vm_hold *h, enum proto_type type, struct buf *body, void (*done)(struct link_call *))
{
    h->in.call = (struct link_call){.type = (uint8_t)type, .class = LINK_CONTROL, .body = body, .done = done};
    h->in.asking = true;
    link_call(link_peer(h->vms->conf.link, vm_spec_onprem(h->spec)), &h->in.call);
}

static int answer(struct vm_hold *h)
{
    h->in.asking = false;
    buf_unref(&h->in.call.body);
    buf_unref(&h->in.call.reply);
    return h->in.call.status;
}

static void on_known(struct link_call *c)
{
    struct vm_hold *h = container_of(c, struct vm_hold, in.call);
    int status = answer(h);

    if (status && status != -ECANCELED) {
        ask_about_next(h);
        return;
    }
    h->status = status;
    h->done(h);
}

static void ask_about_next(struct vm_hold *h)
{
    struct wb_head head = {0};
    unsigned at = 0;
    struct vm *vm;

    TAILQ_FOREACH (vm, &h->vms->list, in.entry)
        if (at++ >= h->in.asked && may_share(h, vm))
            break;
    h->in.asked = at;
    if (!vm) {
        h->done(h); /* as on-prem has refused it */
        return;
    }
    memcpy(head.vm, vm->spec.id, sizeof head.vm);
    head.epoch = vm->spec.epoch;
    call(h, PROTO_WB_STATE, wb_put_head(&head), on_known);
}

static void on_attached(struct link_call *c)
{
    struct vm_hold *h = container_of(c, struct vm_hold, in.call);

    h->status = answer(h);
    h->resent = c->resent;
    if (h->status)
        why_set(&h->why, 0, "%s: %s", vm_spec_onprem(h->spec), c->why.text);
    if (h->status == -EBUSY)
        ask_about_next(h);
    else
        h->done(h);
}

void vm_hold_ask(struct vm_hold *h)
{
    struct wb_attach a = {.epoch = h->spec->epoch, .policy = h->spec->storage};

    memcpy(a.vm, h->spec->id, sizeof a.vm);
    snprintf(a.name, sizeof a.name, "%s", h->spec->name);
    for (unsigned lun = 0; lun < h->spec->ndisks; lun++) /* their numbers are their LUNs */
        if (vm_has_disk(h->spec, lun))
            snprintf(a.disks[a.ndisks++], sizeof a.disks[0], "%s", h->spec->disks[lun].disk);
    h->in.asked = 0;
    call(h, PROTO_VM_ATTACH, wb_put_attach(&a), on_attached);
}

void vm_hold_cancel(struct vm_hold *h)
{
    if (h->in.asking)
        link_call_cancel(&h->in.call);
}
