/* tests/fuzz/world.h - the VMs of fuzz_session and fuzz_cdb: three of them, with volumes in
 * memory that answer late, or with an error, when the input says so.
 *
 * vm0: two disks of 512-byte blocks; vm1: 4096-byte blocks; vm2: CHAP both ways. Included once.
 */
#ifndef ISTHMUS_FUZZ_WORLD_H
#define ISTHMUS_FUZZ_WORLD_H

#include "check.h"
#include "fake_volumes.h"
#include "target.h"

#include <errno.h>
#include <string.h>

enum { WORLD_LOOPS = 2, WORLD_VMS = 3, WORLD_VOLUMES = 4, WORLD_SECTORS = 2048 };
#define WORLD_IQN    FAKE_IQN "vm"
#define WORLD_SECRET "secret-of-the-initiator"
#define WHO          "InitiatorName=iqn.2026-11.test:initiator"

static struct {
    struct vm vms[WORLD_VMS];
    struct volume volumes[WORLD_VOLUMES];
} world;

static void world_init(struct loop **loops)
{
    fake_vms(world.vms, WORLD_VMS);
    for (unsigned i = 0; i < WORLD_VMS; i++) {
        world.vms[i].spec.ndisks = i ? 1 : 2;
        world.vms[i].loop = loops[i % WORLD_LOOPS];
        world.vms[i].volumes[0] = &world.volumes[i];
    }
    world.vms[0].volumes[1] = &world.volumes[3];
    for (int i = 0; i < WORLD_VOLUMES; i++) {
        fake_volume_init(&world.volumes[i], WORLD_SECTORS, i == 1 ? 4096 : 512);
        world.volumes[i].writes_wait = true;
        world.volumes[i].naa[7] = (uint8_t)i;
    }
    strcpy(world.vms[2].spec.chap_user, "user");
    strcpy(world.vms[2].spec.chap_secret, WORLD_SECRET);
    strcpy(world.vms[2].spec.mutual_user, "edge");
    strcpy(world.vms[2].spec.mutual_secret, "secret-of-the-target");
}

/* What was in the volumes before this turn comes back. */
static void world_turn(void)
{
    for (int i = 0; i < WORLD_VOLUMES; i++)
        if (!world.volumes[i].stalled)
            fake_volume_turn(&world.volumes[i]);
}

static void world_bend(uint8_t how)
{
    for (int i = 0; i < WORLD_VOLUMES; i++) {
        world.volumes[i].stalled = how & 1;
        world.volumes[i].reads_wait = how & 2;
        world.volumes[i].status = how & 4 ? how & 8 ? -ECANCELED : -EIO : 0;
    }
    if (how & 0x10)
        atomic_fetch_add(&world.vms[0].capacity_generation, 1);
    if (how & 0x20)
        target_vm_going(&world.vms[how >> 6 & 1], how & 1 ? VM_ASKED : how & 2 ? VM_DROPPED : VM_GONE);
    atomic_store(&world.vms[0].deleting, (how & 0xc0) == 0xc0);
}

/* A PRE-FETCH with IMMED lives on without its connection. */
static bool world_busy(void)
{
    unsigned n = 0;

    for (int i = 0; i < WORLD_VOLUMES; i++)
        n += atomic_load(&world.volumes[i].nparked);
    return n > 0;
}

static void world_check(void)
{
    for (int i = 0; i < WORLD_VMS; i++)
        CHECK(world.vms[i].refs == 0 && world.vms[i].sessions == 0);
    for (int i = 0; i < WORLD_VOLUMES; i++)
        CHECK(world.volumes[i].nparked == 0 && world.volumes[i].held == 0);
}

#endif
