/* cache/vm_peer.c - see vm_peer.h.
 */
#include "vm_peer.h"
#include "mem.h"
#include "tier_peer.h"
#include "vms_pair.h"
#include "volume_peer.h"

#include <string.h>

struct tier *vm_over_peer(struct vm *vm, const struct vm_disk *d, struct tier *next)
{
    const struct vms_conf *conf = &vm->in.vms->conf;
    struct tier_peer_conf c = {.loop = vm->loop,
                               .link_loop = conf->main,
                               .next = next,
                               .peer = vms_pair_peer(vm->in.vms),
                               .under_way = &vm->in.vms->asking,
                               .wait_ms = vm->in.vms->peer_wait_ms,
                               .epoch = vm->spec.epoch,
                               .seq = vm->spec.since - 1,
                               .disk = d->number,
                               .nblocks = (d->sectors + BLOCK_SECTORS - 1) / BLOCK_SECTORS,
                               .vm = vm->spec.name};

    memcpy(c.id, vm->spec.id, sizeof c.id);
    return tier_peer_new(&c);
}

struct remains_vm *vm_remains(const struct vm *vm, uint64_t seq)
{
    struct remains_vm *r = xcalloc(1, sizeof *r);

    memcpy(r->id, vm->spec.id, sizeof r->id);
    r->epoch = vm->spec.epoch;
    r->seq = seq;
    r->loop = vm->loop;
    for (unsigned lun = 0; lun < VM_DISKS_MAX; lun++)
        if (vm->volumes[lun])
            r->disks[volume_disk(vm->volumes[lun])] = volume_remains(vm->volumes[lun]);
    return r;
}
