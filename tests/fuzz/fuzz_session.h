/* tests/fuzz/fuzz_session.h - the VMs that fuzz_session's target serves: three of them, with volumes in
 * memory that answer late, or with an error, when the input says so.
 *
 * vm0: two disks of 512-byte blocks; vm1: 4096-byte blocks; vm2: CHAP both ways. It defines what target/
 * calls of cache/; included once.
 */
#ifndef ISTHMUS_FUZZ_SESSION_H
#define ISTHMUS_FUZZ_SESSION_H

#include "check.h"
#include "mem.h"
#include "target.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { WORLD_LOOPS = 2, WORLD_VMS = 3, WORLD_VOLUMES = 4, WORLD_SECTORS = 2048, WORLD_PARKED = 256 };
#define WORLD_IQN    "iqn.2026-11.test:vm"
#define WORLD_SECRET "secret-of-the-initiator"
#define WHO          "InitiatorName=iqn.2026-11.test:initiator"

struct volume {
    uint8_t bytes[WORLD_SECTORS * 512];
    uint32_t block_bytes;
    int held; /* reads not released */
};

static struct {
    struct vm vms[WORLD_VMS];
    struct volume volumes[WORLD_VOLUMES];
    struct io *parked[WORLD_PARKED];
    unsigned nparked;
    bool stalled, reads_wait;
    int status;
} world;

struct vm *vms_find_iqn(struct vms *vms, const char *iqn)
{
    (void)vms;
    for (int i = 0; i < WORLD_VMS; i++)
        if (!strcmp(world.vms[i].spec.iqn, iqn)) {
            atomic_fetch_add(&world.vms[i].refs, 1);
            return &world.vms[i];
        }
    return NULL;
}

void vms_each_iqn(struct vms *vms, void (*each)(void *arg, const char *iqn), void *arg)
{
    (void)vms;
    for (int i = 0; i < WORLD_VMS; i++)
        each(arg, world.vms[i].spec.iqn);
}

void vm_unref(struct vm *vm)
{
    CHECK(atomic_fetch_sub(&vm->refs, 1) > 0);
}

static void world_io(struct io *io)
{
    uint8_t *at = io->volume->bytes + io->lba * 512;
    size_t n = (size_t)io->nsectors * 512;

    io->status = io->op == IO_FLUSH ? 0 : world.status;
    if (io->status)
        return;
    if (io->op == IO_WRITE)
        memcpy(at, io->data->data + io->data_offset, n);
    else if (io->op == IO_ZERO)
        memset(at, 0, n);
    else if (io->op == IO_READ)
        io->volume->held++;
}

/* A read may be answered at once, the rest never is: as in the real volume. */
bool volume_submit(struct volume *v, struct io *io)
{
    io->volume = v;
    if (io->op != IO_FLUSH)
        CHECK(io->nsectors > 0 && io->lba <= WORLD_SECTORS && io->nsectors <= WORLD_SECTORS - io->lba);
    if (io->op == IO_WRITE)
        CHECK(io->data && io->data_offset + io->nsectors * UINT64_C(512) <= io->data->len);
    if (io->op == IO_READ && !world.reads_wait && !world.stalled) {
        world_io(io);
        return true;
    }
    CHECK(world.nparked < WORLD_PARKED);
    world.parked[world.nparked++] = io;
    return false;
}

int io_iov(const struct io *io, uint32_t from, uint32_t n, struct iovec *iov, int max)
{
    uint8_t *at = io->volume->bytes + io->lba * 512 + from;
    int i = 0;

    CHECK((uint64_t)from + n <= io->nsectors * UINT64_C(512) && max >= (int)(n / 4096 + 2));
    for (; n; i++) { /* in blocks, as the cache does */
        uint32_t piece = 4096 - (uint32_t)((io->lba * 512 + from) % 4096);

        CHECK(i < max);
        piece = piece < n ? piece : n;
        iov[i] = (struct iovec){at, piece};
        at += piece;
        from += piece;
        n -= piece;
    }
    return i;
}

void io_release(struct io *io)
{
    CHECK(io->volume->held-- > 0);
}

bool volume_mapped(struct volume *v, uint64_t lba, uint64_t nsectors, uint64_t *same)
{
    (void)v;
    CHECK(nsectors && lba + nsectors <= WORLD_SECTORS);
    *same = nsectors > 8 ? 8 : nsectors;
    return lba / 8 % 2;
}

uint64_t volume_sectors(const struct volume *v)
{
    (void)v;
    return WORLD_SECTORS;
}

uint32_t volume_block_bytes(const struct volume *v)
{
    return v->block_bytes;
}

const uint8_t *volume_naa(const struct volume *v)
{
    (void)v;
    return (const uint8_t *)"\x30\1\2\3\4\5\6\7";
}

const char *volume_serial(const struct volume *v)
{
    (void)v;
    return "0123456789abcdef";
}

static void world_init(struct loop **loops)
{
    for (unsigned i = 0; i < WORLD_VMS; i++) {
        struct vm *vm = &world.vms[i];

        snprintf(vm->spec.name, sizeof vm->spec.name, "vm%u", i);
        snprintf(vm->spec.iqn, sizeof vm->spec.iqn, WORLD_IQN "%u", i);
        vm->spec.ndisks = i ? 1 : 2;
        vm->loop = loops[i % WORLD_LOOPS];
        vm->volumes[0] = &world.volumes[i];
    }
    world.vms[0].volumes[1] = &world.volumes[3];
    for (int i = 0; i < WORLD_VOLUMES; i++)
        world.volumes[i].block_bytes = i == 1 ? 4096 : 512;
    strcpy(world.vms[2].spec.chap_user, "user");
    strcpy(world.vms[2].spec.chap_secret, WORLD_SECRET);
    strcpy(world.vms[2].spec.mutual_user, "edge");
    strcpy(world.vms[2].spec.mutual_secret, "secret-of-the-target");
}

/* What was in the volumes before this turn comes back. */
static void world_turn(void)
{
    struct io *back[WORLD_PARKED];
    unsigned n = world.nparked;

    if (world.stalled)
        return;
    memcpy(back, world.parked, n * sizeof *back);
    world.nparked = 0;
    for (unsigned i = 0; i < n; i++) {
        world_io(back[i]);
        back[i]->done(back[i]);
    }
}

static void world_bend(uint8_t how)
{
    world.stalled = how & 1;
    world.reads_wait = how & 2;
    world.status = how & 4 ? how & 8 ? -ECANCELED : -EIO : 0;
    if (how & 0x10)
        atomic_fetch_add(&world.vms[0].capacity_generation, 1);
    if (how & 0x20)
        target_vm_going(&world.vms[how >> 6 & 1]);
    atomic_store(&world.vms[0].deleting, (how & 0xc0) == 0xc0);
}

static void world_check(void)
{
    CHECK(world.nparked == 0);
    for (int i = 0; i < WORLD_VMS; i++)
        CHECK(world.vms[i].refs == 0 && world.vms[i].sessions == 0);
    for (int i = 0; i < WORLD_VOLUMES; i++)
        CHECK(world.volumes[i].held == 0);
}

#endif
