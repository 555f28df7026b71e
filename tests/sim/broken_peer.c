/* tests/sim/broken_peer.c - broken variants (broken.h) of the peer cache.
 */
#include "broken.h"

#include "remains.h"
#include "sim.h"
#include "tier_peer.h"

#include "proto_pair.h"

#include <string.h>

/* --- who asks -------------------------------------------------------------------------------------------*/

void __real_tier_peer_written(struct tier *, uint64_t lba, uint64_t nsectors);
void __wrap_tier_peer_written(struct tier *, uint64_t lba, uint64_t nsectors);
void __wrap_tier_peer_written(struct tier *t, uint64_t lba, uint64_t nsectors)
{
    if (broken != BROKEN_UNMARKED)
        __real_tier_peer_written(t, lba, nsectors);
}

/* --- who gives ------------------------------------------------------------------------------------------*/

/* What VMs have left at an edge the first time. */
static struct first {
    const struct remains *where;
    struct remains_vm what;
} firsts[32];

static struct first *first_of(const struct remains *where, const uint8_t id[VMLOG_ID_BYTES])
{
    for (struct first *f = firsts; f < firsts + sizeof firsts / sizeof *firsts; f++)
        if (!f->where || (f->where == where && memcmp(f->what.id, id, VMLOG_ID_BYTES) == 0))
            return f;
    return NULL; /* many restarts: as it should be */
}

void __real_remains_add(struct remains *, const struct remains_vm *);
void __wrap_remains_add(struct remains *, const struct remains_vm *);
void __wrap_remains_add(struct remains *r, const struct remains_vm *vm)
{
    struct first *f = broken == BROKEN_LEFT_BEFORE ? first_of(r, vm->id) : NULL;
    struct remains_vm given = *vm;

    if (f && !f->where)
        *f = (struct first){r, *vm};
    if (f)
        memcpy(given.disks, f->what.disks, sizeof given.disks);
    __real_remains_add(r, &given);
}
