/* tests/sim/sim_inside.h - between the files of the machine.
 */
#ifndef ISTHMUS_SIM_INSIDE_H
#define ISTHMUS_SIM_INSIDE_H

#include "sim.h"

/* It waits: it goes on in so long. From anywhere. */
void fiber_resume(struct fiber *, uint64_t after_ns);

#endif
