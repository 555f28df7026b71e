/* tests/sim/sim_world.h - what the simulated parts ask of the world they are in.
 */
#ifndef ISTHMUS_SIM_WORLD_H
#define ISTHMUS_SIM_WORLD_H

#include "sim_kv.h"

struct sim_node;
/* The disk of that node's data directory. */
struct sim_disk *sim_world_disk(const struct sim_node *);

#endif
