/* tests/sim/sim_edge.h - an edge, put together as target/edge.c does, on simulated parts.
 */
#ifndef ISTHMUS_SIM_EDGE_H
#define ISTHMUS_SIM_EDGE_H

#include "sim_kv.h"
#include "sim_link.h"
#include "sim_store.h"
#include "vm.h"
#include "vms_pair.h"

struct sim_edge {
    struct sim_node node;
    struct sim_disk disk;
    struct sim_bucket *bucket;
    struct sim_edge_conf {
        unsigned commit_age_ms, writeback_interval_ms, checkpoint_objects;
        uint32_t object_bytes;
        uint64_t commit_bytes, writeback_bytes, ram_bytes, journal_bytes;
        const char *spool;
        const char *twin; /* the other edge of the pair; NULL: it is in none */
        uint64_t lease_ns;
        unsigned peer_wait_ms;
        uint32_t ram_blocks; /* no more of ram_bytes than these; 0: all */
    } conf;
    /* of the running process */
    struct loop *main, *loop;
    struct journal *journal;
    struct ram *ram;
    struct store *store;
    struct commit_slots slots;
    unsigned writeback_slots;
    struct worker *worker;
    struct link *link;
    struct vms *vms;
    struct aead_key master;
    uint8_t writer[LOGOBJ_WRITER_BYTES];
    struct lease_gate gate;
    struct peer *twin; /* NULL: in no pair */
    struct vms_pair *pair;
    bool ready; /* its VMs are open */
    /* Its VMs are open, and nobody uses them yet. May be NULL. */
    void (*opened)(struct sim_edge *);
    /* In a pair: the other goes on without it, so its process ends. On its fiber; does not return. */
    void (*lost)(struct sim_edge *);
    /* Initiators are to go. */
    void (*going)(struct sim_edge *, struct vm *, enum vm_going);
    /* vms_conf.still and go_on; NULL: it hands nothing over. */
    void (*still)(struct sim_edge *, struct vm *, void (*quiet)(void *arg), void *arg);
    void (*go_on)(struct sim_edge *, struct vm *, struct vm *far);
};
void sim_edge_init(struct sim_edge *, const char *name, struct sim_bucket *);
void sim_edge_start(struct sim_edge *);
/* With the machine what was not synced goes, too. */
void sim_edge_kill(struct sim_edge *, bool machine);

#endif
