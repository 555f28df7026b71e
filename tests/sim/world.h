/* tests/sim/world.h - one seed: an edge, an on-prem daemon, a store, a guest, and what goes wrong with them.
 */
#ifndef ISTHMUS_SIM_WORLD_SEED_H
#define ISTHMUS_SIM_WORLD_SEED_H

#include <stdbool.h>
#include <stdint.h>

struct world_conf {
    const char *dir; /* for this process alone */
    bool faults;     /* without: a calm world */
    bool deleting;   /* one more VM, which is made and deleted again and again */
    bool forcing;    /* a pair's only member is lost for good, and the other takes its place by force */
    bool homing;     /* the first VM goes home and comes back again and again; it is write-back */
};

/* Runs the seed; what it finds are violations (sim.h). Once a process. */
void world_run(uint64_t seed, const struct world_conf *);

#endif
