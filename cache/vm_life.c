/* cache/vm_life.c - a VM's log and volumes, opened and closed on the loop it is pinned to.
 *
 *    log, map (blocking) ──► volumes, commit, upkeep, write-back (vm->loop) ──► in the catalog
 *    ──► volumes closed (vm->loop) ──► write-back, upkeep, commit stopped ──► log, map closed
 */
#include "vm_life.h"
#include "check.h"
#include "discard.h"
#include "mem.h"
#include "mirror.h"
#include "onprem.h"
#include "ram.h"
#include "readahead.h"
#include "step.h"
#include "tier_journal.h"
#include "tier_object.h"
#include "tier_wrap.h"
#include "vm_leave.h"
#include "vm_peer.h"
#include "vm_place.h"
#include "vm_spec.h"
#include "vm_value.h"
#include "volume_peer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Percent of a VM's objects that may be dead before live data is moved: what is written back goes anyway. */
enum { MOVE_DEAD_PERSIST = 33, MOVE_DEAD_WRITE_BACK = 75 };

/* A lone miss fetches 16 KiB; a stream is followed at most 8 MiB ahead. */
static const struct readahead_limits readahead_limits = {.miss_blocks = 4, .max_blocks = 2048};

static unsigned loop_index(const struct vm *vm)
{
    unsigned i = 0;

    while (vm->in.vms->conf.loops[i] != vm->loop)
        i++;
    return i;
}

struct vm *vm_new(struct vms *vms, const struct vm_spec *spec, const struct vm *like)
{
    struct vm *vm = xcalloc(1, sizeof *vm);
    unsigned least = like ? loop_index(like) : 0;

    for (unsigned i = 1; i < vms->conf.nloops && !like; i++)
        if (vms->pinned[i] < vms->pinned[least])
            least = i;
    vms->pinned[least]++;
    vms_begin(vms);
    vm->spec = *spec;
    vm->taken = like && like->taken;
    for (unsigned lun = 0; lun < spec->ndisks; lun++)
        if (vm_has_disk(spec, lun))
            vm->in.peers[lun] = link_peer(vms->conf.link, spec->disks[lun].onprem);
    vm->loop = vms->conf.loops[least];
    vm->in.vms = vms;
    TAILQ_INIT(&vm->in.waiting);
    atomic_init(&vm->refs, 1);
    atomic_init(&vm->shut, spec->home ? VM_HOME : VM_OPEN);
    pthread_mutex_init(&vm->in.seen.lock, NULL);
    return vm;
}

void vm_free(struct vm *vm)
{
    struct vms *vms = vm->in.vms;

    vms->pinned[loop_index(vm)]--;
    vm_spec_wipe(&vm->spec);
    for (unsigned i = 0; i < VMLOG_DISKS; i++)
        buf_unref(&vm->reserved[i]);
    pthread_mutex_destroy(&vm->in.seen.lock);
    free(vm);
    vms_end(vms);
}

/* What a removed disk has left, when the process ended before all of it was dropped, or the VM came back from
 * the object store. */
static int drop_removed(struct vm *vm, struct why *why)
{
    uint64_t there = 0; /* a bit for each number */
    int rc = 0;

    for (unsigned lun = 0; lun < vm->spec.ndisks; lun++)
        if (vm_has_disk(&vm->spec, lun))
            there |= UINT64_C(1) << vm->spec.disks[lun].number;
    for (unsigned number = 0; number < vm->spec.next_number && rc == 0; number++) {
        struct map_change *change;

        if (there >> number & 1)
            continue;
        vmlog_discard(vm->log, (uint8_t)number);
        rc = map_drop_disk(vm->map, (uint8_t)number, &change, why);
        if (rc == 0)
            map_install(vm->map, &change);
    }
    return rc;
}

/* As the edge had them that had the VM, APTPL or not: initiators have not seen this device lose its power. */
static int take_reserved(void *arg, uint8_t number, const void *value, size_t n)
{
    struct vm *vm = arg;

    if (number >= VMLOG_DISKS)
        return 0;
    vm->reserved[number] = buf_new(n);
    memcpy(vm->reserved[number]->data, value, n);
    return 0;
}

int vm_open_log(struct vm *vm, struct why *why)
{
    struct journal *journal = vm->in.vms->conf.journal;
    int rc = vmlog_open(&vm->log, journal, vm->loop, vm->spec.id, vm->spec.name, why);

    if (rc == 0)
        rc = map_open(&vm->map, journal, vm->spec.id, vm->spec.name, why);
    if (rc == 0 && map_state(vm->map)->committed < vm->spec.floor)
        rc = discard_map(vm->map, vm->spec.floor, why);
    if (rc == 0)
        rc = vm_place_load(vm, why);
    if (rc == 0 && vm->taken)
        rc = vm_value_each(journal, vm->spec.id, take_reserved, vm, why);
    if (rc == 0)
        cut_resume(vm->log, map_state(vm->map)->committed);
    return rc ? rc : drop_removed(vm, why);
}

static int open_volume(struct vm *vm, unsigned lun, const struct vm_disk *d, bool handed, struct why *why)
{
    const struct vms_conf *conf = &vm->in.vms->conf;
    struct readahead *readahead = readahead_new(&readahead_limits);
    struct tier *t =
        tier_onprem_new(vm->loop, conf->main, vm->in.peers[lun], d->disk, vm->spec.name, readahead);
    struct tier *wrapped = tier_wrap(conf->tiers, vm->loop, t, why), *peer = NULL;

    if (!wrapped) {
        tier_stack_free(&t);
        readahead_free(&readahead);
        return -EINVAL;
    }
    t = tier_object_new(&(struct tier_object_conf){.loop = vm->loop,
                                                   .next = wrapped,
                                                   .map = vm->map,
                                                   .store = conf->stores[loop_index(vm)],
                                                   .master = &conf->master,
                                                   .id = vm->spec.id,
                                                   .disk = d->number,
                                                   .vm = vm->spec.name});
    if (handed && vm->in.vms->peer_wait_ms)
        t = peer = vm_over_peer(vm, d, t);
    t = tier_journal_new(vm->loop, t, vm->log, d->number, vm->spec.name);
    t = tier_ram_new(conf->rams[loop_index(vm)], t, lun, (d->sectors + BLOCK_SECTORS - 1) / BLOCK_SECTORS,
                     readahead, vm->spec.name);
    vm->volumes[lun] = volume_new(&(struct volume_conf){.loop = vm->loop,
                                                        .log = vm->log,
                                                        .map = vm->map,
                                                        .disk = d->number,
                                                        .top = t,
                                                        .sectors = d->sectors,
                                                        .block_bytes = d->block_bytes,
                                                        .vm_id = vm->spec.id,
                                                        .gate = conf->gate,
                                                        .vm = vm->spec.name});
    if (peer)
        volume_over_peer(vm->volumes[lun], peer);
    return 0;
}

int vm_open_volume(struct vm *vm, unsigned lun, const struct vm_disk *d, struct why *why)
{
    return open_volume(vm, lun, d, false, why);
}

/* The commit has said why in the log. */
static void on_fenced(void *arg, const struct why *why)
{
    struct vm *vm = arg;

    (void)why;
    atomic_store(&vm->fenced, true);
    if (vm->in.vms->conf.going)
        vm->in.vms->conf.going(vm, VM_GONE);
}

static void on_committed(void *arg, uint64_t cut)
{
    struct vm *vm = arg;

    if (vm->mirror)
        mirror_trim(vm->mirror, cut);
    if (vm->upkeep)
        upkeep_look(vm->upkeep);
    vm_status_look(vm);
}

void vm_move_by_policy(struct vm *vm)
{
    commit_set_move(vm->commit, vm->spec.storage == WB_WRITE_BACK ? MOVE_DEAD_WRITE_BACK : MOVE_DEAD_PERSIST);
}

static void start_commit(struct vm *vm)
{
    const struct vms_conf *conf = &vm->in.vms->conf;
    struct commit_conf c = {.loop = vm->loop,
                            .log = vm->log,
                            .map = vm->map,
                            .store = conf->stores[loop_index(vm)],
                            .slots = &conf->slots[loop_index(vm)],
                            .worker = conf->worker,
                            .master = conf->master,
                            .vm = vm->spec.name,
                            .epoch = vm->spec.epoch,
                            .floor = vm->spec.floor,
                            .age_ms = conf->commit_age_ms,
                            .bytes = conf->commit_bytes,
                            .fenced = on_fenced,
                            .committed = on_committed,
                            .arg = vm};
    struct upkeep_conf u = {.loop = vm->loop,
                            .journal = conf->journal,
                            .map = vm->map,
                            .store = c.store,
                            .worker = conf->worker,
                            .master = conf->master,
                            .epoch = vm->spec.epoch,
                            .vm = vm->spec.name,
                            .spool = conf->spool};

    memcpy(c.id, vm->spec.id, sizeof c.id);
    memcpy(c.writer, conf->writer, sizeof c.writer);
    vm->commit = commit_new(&c);
    vm_move_by_policy(vm);
    memcpy(u.id, vm->spec.id, sizeof u.id);
    memcpy(u.writer, conf->writer, sizeof u.writer);
    u.commit = vm->commit;
    vm->upkeep = upkeep_new(&u);
    explicit_bzero(&c.master, sizeof c.master);
    explicit_bzero(&u.master, sizeof u.master);
}

bool vm_at_one_place(const struct vm_spec *spec)
{
    const char *place = NULL;

    for (unsigned lun = 0; lun < spec->ndisks; lun++) {
        if (!vm_has_disk(spec, lun))
            continue;
        if (place && strcmp(spec->disks[lun].onprem, place) != 0)
            return false;
        place = spec->disks[lun].onprem;
    }
    return true;
}

static void start_writeback(struct vm *vm)
{
    const struct vms_conf *conf = &vm->in.vms->conf;
    const struct vm_spec *spec = &vm->spec;
    struct writeback_conf w = {.loop = vm->loop,
                               .link_loop = conf->main,
                               .map = vm->map,
                               .commit = vm->commit,
                               .upkeep = vm->upkeep,
                               .log = vm->log,
                               .store = conf->stores[loop_index(vm)],
                               .master = conf->master,
                               .vm = spec->name,
                               .spool = conf->spool,
                               .epoch = spec->epoch,
                               .since = spec->since,
                               .joined = spec->joined,
                               .policy = spec->storage,
                               .paused = spec->paused,
                               .admitted = &vm->admitted,
                               .fenced = &vm->fenced,
                               .place = &vm->place,
                               .placed = vm_placed,
                               .arg = vm,
                               .home = spec->home,
                               .interval_ms = conf->writeback_interval_ms,
                               .bytes = conf->writeback_bytes,
                               .slots = &conf->writeback_slots[loop_index(vm)]};

    if (!vm_at_one_place(spec))
        return;
    memcpy(w.id, spec->id, sizeof w.id);
    for (unsigned number = 0; number < spec->next_number; number++)
        for (unsigned lun = 0; lun < spec->ndisks; lun++)
            if (vm_has_disk(spec, lun) && spec->disks[lun].number == number) {
                w.peer = vm->in.peers[lun];
                w.numbers[w.ndisks] = (uint8_t)number;
                w.disks[w.ndisks++] = spec->disks[lun].disk;
            }
    vm->writeback = writeback_new(&w);
    explicit_bzero(&w.master, sizeof w.master);
}

static int open_volumes(struct vm *vm, bool handed, struct why *why)
{
    int rc = 0;

    for (unsigned lun = 0; lun < vm->spec.ndisks && rc == 0; lun++)
        if (vm_has_disk(&vm->spec, lun))
            rc = open_volume(vm, lun, &vm->spec.disks[lun], handed, why);
    if (rc == 0) {
        start_commit(vm);
        start_writeback(vm);
        vm_status_start(vm);
    }
    return rc;
}

int vm_open_volumes(struct vm *vm, struct why *why)
{
    return open_volumes(vm, false, why);
}

int vm_open_handed(struct vm *vm, struct why *why)
{
    return open_volumes(vm, true, why);
}

static void on_back(struct task *t)
{
    struct vm *vm = container_of(t, struct vm, in.task);

    vm->in.closed(vm);
}

static void on_mirror_stopped(void *arg)
{
    struct vm *vm = arg;

    if (vm->log)
        vmlog_close(&vm->log);
    map_close(&vm->map);
    vm->in.task.run = on_back;
    loop_post(vm->in.vms->conf.main, &vm->in.task);
}

static void on_commit_stopped(void *arg)
{
    struct vm *vm = arg;
    struct mirror *mirror = vm->mirror;
    bool stays = atomic_load(&vm->in.vms->stop);

    vm->commit = NULL;
    vm->mirror = NULL;
    if (mirror)
        mirror_stop(mirror, !stays, on_mirror_stopped, vm);
    else
        on_mirror_stopped(vm);
}

static void on_upkeep_stopped(void *arg)
{
    struct vm *vm = arg;

    vm->upkeep = NULL;
    commit_stop(vm->commit, on_commit_stopped, vm);
}

static void on_writeback_swapped(void *arg)
{
    struct vm *vm = arg;

    vm->writeback = NULL;
    start_writeback(vm);
    vm->in.swapped(vm->in.swapped_arg);
}

void vm_swap_writeback(struct vm *vm, void (*done)(void *arg), void *arg)
{
    vm->in.swapped = done;
    vm->in.swapped_arg = arg;
    if (vm->writeback)
        writeback_stop(vm->writeback, on_writeback_swapped, vm);
    else
        on_writeback_swapped(vm);
}

static void on_writeback_stopped(void *arg)
{
    struct vm *vm = arg;

    vm->writeback = NULL;
    if (vm->upkeep)
        upkeep_stop(vm->upkeep, on_upkeep_stopped, vm);
    else
        on_commit_stopped(vm);
}

static void volume_closed(void *arg)
{
    struct vm *vm = arg;

    if (--vm->in.volumes_left)
        return;
    if (vm->writeback)
        writeback_stop(vm->writeback, on_writeback_stopped, vm);
    else
        on_writeback_stopped(vm);
}

static void close_volumes(struct vm *vm)
{
    vm->in.volumes_left = 1;
    for (unsigned lun = 0; lun < VM_DISKS_MAX; lun++)
        if (vm->volumes[lun]) {
            vm->in.volumes_left++;
            volume_close(vm->volumes[lun], volume_closed, vm);
            vm->volumes[lun] = NULL;
        }
    volume_closed(vm);
}

static void on_close(struct task *t)
{
    struct vm *vm = container_of(t, struct vm, in.task);

    vm_status_stop(vm);
    if (atomic_load(&vm->deleting))
        vm_leave(vm, close_volumes);
    else
        close_volumes(vm);
}

void vm_close(struct vm *vm, void (*closed)(struct vm *))
{
    vm->in.closed = closed;
    vm->in.task.run = on_close;
    loop_post(vm->loop, &vm->in.task);
}

void vm_key(const struct vm_spec *spec, char key[VM_KEY_MAX])
{
    snprintf(key, VM_KEY_MAX, "vm/%s", spec->name);
}

int vm_save(struct vms *vms, const struct vm_spec *spec, bool deleting, struct why *why)
{
    char key[VM_KEY_MAX], *json = vm_spec_to_json(spec, deleting);
    int rc;

    vm_key(spec, key);
    rc = journal_meta_put(vms->conf.journal, key, json, strlen(json), why);
    secret_free(&json);
    return rc;
}

struct vm_store vm_store_of(struct vms *vms)
{
    return (struct vm_store){.store = vms->conf.stores[0],
                             .master = &vms->conf.master,
                             .writer = vms->conf.writer,
                             .random = vms->conf.main,
                             .stop = &vms->stop};
}
