/* tests/sim/world_inside.h - between world*.c.
 */
#ifndef ISTHMUS_SIM_WORLD_INSIDE_H
#define ISTHMUS_SIM_WORLD_INSIDE_H

#include "guest.h"
#include "sim_onprem.h"
#include "sim_world.h"
#include "world.h"

enum { WORLD_VMS = 4, WORLD_EDGES = 2, WORLD_KEY_HEX = 2 * VMLOG_ID_BYTES /* of a VM, in keys */ };

/* What an edge would have to show of a VM, were it the one that goes on with it. */
struct holding {
    enum guest_must must;
    uint64_t before_us; /* GUEST_LOST_DISKS */
};

struct world_vm {
    char name[16];
    struct guest *guest;
    unsigned disk, ndisks; /* at on-prem: the first, how many */
    uint32_t nsectors;
    bool cloud_persist;
    struct sim_edge *home; /* where it is made; no pair: where it is */
    bool created;
    bool recover; /* no pair: the edge has lost its disks: it is to be recovered from the store */
    bool asked;   /* a creation or a recovery is under way, */
    struct task ask;
    struct sim_edge *asked_edge; /* there */
    uint64_t committed, applied; /* as its edge knew */
    struct holding holds[WORLD_EDGES];
};

struct world {
    struct world_conf conf;
    struct sim_bucket *bucket;
    bool pair;   /* the edges are one; else there is only the first, until another takes over */
    bool passes; /* the last VM is made and deleted again and again */
    struct sim_edge edges[WORLD_EDGES];
    struct sim_onprem onprem;
    struct sim_volume volumes[WORLD_VMS * GUEST_DISKS];
    unsigned ndisks;
    struct world_vm vms[WORLD_VMS];
    unsigned nvms;
    bool storming, stormed; /* faults are allowed; were */
    unsigned restarts;
};
extern struct world world;

void world_edge_init(unsigned);
static inline unsigned world_index(const struct sim_edge *e)
{
    return (unsigned)(e - world.edges);
}

/* world_faults.c */
void world_storm_begin(void);
void world_storm_end(void);
void world_edge_dies(struct sim_edge *, enum guest_must);
void world_onprem_dies(bool machine);
void world_mend_cables(void *);
/* Requests to the store are cut off (1), its answers (2), or both (3), for so long. */
void world_cut_from_store(struct sim_edge *, uint64_t which, uint64_t from_ms, uint64_t to_ms);
void world_at_step(void *arg, struct sim_node *, const char *name); /* who gets there dies */
/* At one of these, when it is reached next. */
void world_arm_step(const char *prefix, void (*at)(void *arg, struct sim_node *, const char *name));

/* world_pair.c */
void world_pair_begin(void);
bool world_pair_whole(void);                        /* both edges are members, and say so */
bool world_pair_is_member(const struct sim_edge *); /* by the record */
void world_pair_acknowledged(void *vm, const struct sim_edge *, uint64_t begun_ns);
bool world_is_live(const struct vm *);
/* Where the VM of that name can be used, or is home; NULL: nowhere. */
struct sim_edge *world_find_live(const char *name, struct vm **);
bool world_pair_may_lose(const struct sim_edge *); /* its disks: the other has everything, and may go on */

bool world_pair_is_named(const struct sim_edge *); /* so is it, or one that was set up in its place */

/* world_force.c: the only member is lost for good. */
void world_force_look(void);
void world_force_died(const struct sim_edge *);
bool world_force_keeps_off(const struct sim_edge *);
bool world_force_done(void);

/* world_operator.c */
void world_operator(void); /* asks for something */
void world_operator_mends(void);
void world_operator_lost(const struct sim_edge *);
bool world_operator_busy(void);

/* world_hand.c */
void world_hand_over(void);  /* asks for it */
bool world_hand_often(void); /* this seed's are, again and again: then other things happen rarely */
void world_hand_hurt(struct sim_edge *); /* that edge's commands wait: something may happen now */
void world_hand_lost(const struct sim_edge *);
void world_hand_want(void); /* the last one, in calm, perhaps */
void world_hand_mends(void);
bool world_hand_done(void);

/* world_entry.c: that was put into the bucket. */
void world_entry_put(const char *key, const void *bytes, size_t n);

/* world_passing.c: a VM that is made and deleted. */
void world_passing_begin(struct world_vm *);
void world_passing_look(void);
/* An entry was put; something else of the VM with that id was. */
void world_passing_entry(const uint8_t id[VMLOG_ID_BYTES], const char *hex, const struct vm_spec *,
                         bool deleting);
void world_passing_late(const char *hex);
void world_passing_lost(const struct sim_edge *, enum guest_must);
void world_passing_is_left(void); /* an entry of neither edge says so: somebody is to recover */
bool world_passing_is(const struct world_vm *);
bool world_passing_stays(const struct world_vm *); /* it is there, and is not to go; as any other VM */
bool world_passing_waits(const struct world_vm *); /* it is not to be made now */
bool world_passing_done(void);                     /* it is there, and of those before nothing is left */
void world_passing_say_why_not(const char *phase);
/* world.c: another life of it has that number. */
void world_passing_guest(struct world_vm *, unsigned life);

/* world_home.c: the first VM goes home and comes back. */
void world_home_look(void);
void world_home_lost(const struct sim_edge *, enum guest_must);
void world_home_opened(struct sim_edge *);
void world_home_entry(const struct vm_spec *); /* an entry was put */
bool world_home_is(const struct world_vm *);
bool world_home_here(const struct world_vm *); /* it is not home, nor on its way */
bool world_home_done(void);

/* world_judge.c: from copies of what is there now a whole other world is started, in which a VM must come to
 * a cut.
 */
void world_judge_begin(const char *what, struct world_vm *);
bool world_judge_done(void); /* no such world is at work */

#endif
