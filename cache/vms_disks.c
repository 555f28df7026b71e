/* cache/vms_disks.c - what the on-prem daemons say about the VMs' disks: one has grown.
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "vm_life.h"
#include "vm_spec.h"
#include "vm_store.h"
#include "vms_pair.h"

#include <errno.h>
#include <string.h>

static const char part[] = "vms";

struct growth {
    struct vm *vm; /* holds a reference */
    unsigned lun;
    uint64_t sectors;
    struct vm_spec spec;
    struct task task;
    struct work work;
    int status;
    struct why why;
};

static void on_grow(struct task *t)
{
    struct growth *g = container_of(t, struct growth, task);

    volume_grow(g->vm->volumes[g->lun], g->sectors);
    atomic_fetch_add(&g->vm->capacity_generation, 1);
    vm_unref(g->vm);
    free(g);
}

static void save_growth(struct work *w)
{
    struct growth *g = container_of(w, struct growth, work);

    struct vm_store store = vm_store_of(g->vm->in.vms);

    g->status = vm_save(g->vm->in.vms, &g->spec, false, &g->why);
    if (!g->status)
        g->status = vm_store_change(&store, &g->spec, &g->why);
}

static void growth_saved(struct work *w)
{
    struct growth *g = container_of(w, struct growth, work);

    vm_spec_wipe(&g->spec);
    if (g->status)
        log_error(g->vm->spec.name, "disk %u's new size is not in the catalog: %s", g->lun, g->why.text);
    g->task.run = on_grow;
    vm_change_end(g->vm);
    loop_post(g->vm->loop, &g->task);
}

static void disk_grew(struct vm *vm, unsigned lun, uint64_t sectors)
{
    struct growth *g;
    struct why why;

    if (vm_change_begin(vm, &why) < 0) {
        vm->in.ask_again = true;
        return;
    }
    g = xcalloc(1, sizeof *g);
    log_info(vm->spec.name, "disk %u has grown from %lu to %lu sectors", lun, vm->spec.disks[lun].sectors,
             sectors);
    vm->spec.disks[lun].sectors = sectors;
    atomic_fetch_add(&vm->refs, 1);
    g->vm = vm;
    g->lun = lun;
    g->sectors = sectors;
    g->spec = vm->spec;
    g->work = (struct work){.run = save_growth, .done = growth_saved};
    worker_do(vm->in.vms->conf.worker, vm->in.vms->conf.main, &g->work);
}

void vms_disk_changed(struct vms *vms, struct peer *peer, const struct proto_stat *stat)
{
    struct vm *vm;

    TAILQ_FOREACH (vm, &vms->list, in.entry)
        for (unsigned lun = 0; lun < vm->spec.ndisks && vm->log; lun++) {
            const struct vm_disk *d = &vm->spec.disks[lun];
            uint64_t sectors;

            if (!vm_has_disk(&vm->spec, lun) || strcmp(d->onprem, peer_name(peer)) != 0 ||
                strcmp(d->disk, stat->name) != 0)
                continue;
            sectors = stat->bytes / d->block_bytes * (d->block_bytes / SECTOR_BYTES);
            if (stat->block_bytes > d->block_bytes || sectors < d->sectors)
                log_error(vm->spec.name,
                          "disk %u (%s:%s) is now %lu sectors with blocks of %u, was %lu with %u: a disk may "
                          "only grow; it is served as it was",
                          lun, d->onprem, d->disk, sectors, stat->block_bytes, d->sectors, d->block_bytes);
            else if (sectors > d->sectors)
                disk_grew(vm, lun, sectors);
        }
}

struct refresh {
    struct link_call call;
    struct vms *vms;
    struct peer *peer;
    char *vm;
};

static void on_refreshed(struct link_call *call)
{
    struct refresh *r = container_of(call, struct refresh, call);
    struct proto_stat stat;

    if (call->status == 0 && proto_get_stat(call->reply->data, call->reply->len, &stat) == 0)
        vms_disk_changed(r->vms, r->peer, &stat);
    else if (call->status && call->status != -ECANCELED)
        log_warn(r->vm, "%s: %s", peer_name(r->peer), call->why.text);
    buf_unref(&call->body);
    buf_unref(&call->reply);
    free(r->vm);
    free(r);
}

static void refresh(struct vms *vms, const struct vm *vm, unsigned lun)
{
    struct refresh *r = xcalloc(1, sizeof *r);

    r->vms = vms;
    r->peer = vm->in.peers[lun];
    r->vm = xstrdup(vm->spec.name);
    r->call = (struct link_call){.type = PROTO_DISK_STAT,
                                 .class = LINK_CONTROL,
                                 .body = proto_put_stat_call(vm->spec.disks[lun].disk),
                                 .done = on_refreshed};
    link_call(r->peer, &r->call);
}

void vms_peer_up(struct vms *vms, struct peer *peer)
{
    struct vm *vm;

    if (vms->pair)
        vms_pair_up(vms->pair, peer);
    TAILQ_FOREACH (vm, &vms->list, in.entry)
        for (unsigned lun = 0; lun < vm->spec.ndisks && vm->log; lun++)
            if (vm_has_disk(&vm->spec, lun) && vm->in.peers[lun] == peer)
                refresh(vms, vm, lun);
}

void vms_refresh(struct vm *vm)
{
    for (unsigned lun = 0; lun < vm->spec.ndisks; lun++)
        if (vm_has_disk(&vm->spec, lun) && peer_up(vm->in.peers[lun]))
            refresh(vm->in.vms, vm, lun);
}
