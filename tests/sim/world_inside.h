/* tests/sim/world_inside.h - between world*.c.
 */
#ifndef ISTHMUS_SIM_WORLD_INSIDE_H
#define ISTHMUS_SIM_WORLD_INSIDE_H

#include "guest.h"
#include "sim_onprem.h"
#include "sim_world.h"
#include "world.h"

struct world {
    struct world_conf conf;
    struct sim_bucket *bucket;
    struct sim_edge edge;
    struct sim_onprem onprem;
    struct sim_volume volumes[GUEST_DISKS];
    struct guest *guest;
    unsigned ndisks;
    uint32_t nsectors;
    bool cloud_persist;
    bool created;  /* the VM */
    bool storming; /* faults are allowed */
    bool recover;  /* the edge has lost its disks: the VM is to be recovered from the store */
    bool asked;    /* a creation or a recovery is under way */
    struct task ask;
    uint64_t committed, applied; /* as its edge knew */
    unsigned restarts;
};
extern struct world world;

/* world_faults.c */
void world_storm_begin(void);
void world_storm_end(void);
void world_edge_dies(enum guest_must);
void world_onprem_dies(bool machine);

/* world_operator.c */
void world_operator(void); /* asks for something */
void world_operator_mends(void);
void world_operator_lost(void);

/* world_judge.c: from copies of what is there now a whole other world is started, which must come to a cut.
 */
void world_judge_begin(const char *what);
bool world_judge_done(void); /* no such world is at work */

#endif
