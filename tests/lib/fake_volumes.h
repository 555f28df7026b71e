/* tests/lib/fake_volumes.h - what target/ asks of cache/, in memory: VMs that are found by name, and volumes
 * that answer at once, later, or with an error, as a test likes.
 *
 * A program that links this before target has these instead of the real ones. Each volume belongs to its
 * VM's loop; what is atomic may be set and read from the test's thread.
 */
#ifndef ISTHMUS_FAKE_VOLUMES_H
#define ISTHMUS_FAKE_VOLUMES_H

#include "vm.h"

enum { FAKE_PARKED = 256 };
#define FAKE_IQN "iqn.2026-11.test:"

struct volume {
    uint8_t *bytes;   /* of `backed` sectors; above them they repeat */
    uint64_t backed;  /* whole blocks of 4 KiB */
    uint64_t sectors; /* what it says it has: backed, or set to more (before the test, or on its loop) */
    uint32_t block_bytes;
    uint8_t naa[8];
    atomic_bool stalled;     /* everything waits in it for fake_volume_turn() */
    atomic_bool reads_wait;  /* reads do: none is answered at once */
    atomic_bool writes_wait; /* and so do the others, as in the real volume */
    atomic_int status;       /* what all but flushes end with */
    atomic_uint nparked, reads, writes, forced, flushes, held; /* held: reads not released yet */
    struct io *parked[FAKE_PARKED];
};

/* "vmN", FAKE_IQN "vmN". From then on the VMs are found; they belong to the test. */
void fake_vms(struct vm *vms, unsigned n);
void fake_volume_init(struct volume *, uint64_t sectors, uint32_t block_bytes);
void fake_volume_free(struct volume *); /* what it holds */
/* On its loop: what was in it before this call comes back. */
void fake_volume_turn(struct volume *);

#endif
