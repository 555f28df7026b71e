/* tests/sim/sim_onprem.h - the on-prem daemon, put together as initiator/main.c does, on simulated parts.
 */
#ifndef ISTHMUS_SIM_ONPREM_H
#define ISTHMUS_SIM_ONPREM_H

#include "aead.h"
#include "sim_kv.h"
#include "sim_link.h"
#include "sim_volume.h"

struct serve;
struct sim_onprem {
    struct sim_node node;
    struct sim_disk disk; /* of the stage */
    unsigned nvolumes;
    struct sim_volume *volumes; /* served as disk0, disk1, ... */
    const char *const *edges;   /* names to dial, NULL at the end */
    struct aead_key key;
    struct loop *loop;
    struct serve *serve;
    void *writeback;
    struct link *link;
};
void sim_onprem_init(struct sim_onprem *, const char *name, struct sim_volume *, unsigned nvolumes,
                     const char *const *edges);
void sim_onprem_start(struct sim_onprem *);
void sim_onprem_kill(struct sim_onprem *, bool machine);
/* It runs, and a VM of that id is attached to it. */
bool sim_onprem_has(const struct sim_onprem *, const uint8_t id[16]);

#endif
