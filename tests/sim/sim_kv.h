/* tests/sim/sim_kv.h - the journal's store (kv.h) on a simulated disk.
 *
 * The disk outlives the node that uses it: a crash of the process loses nothing that was written, one of the
 * machine what was not synced (sim_table_lose). Calls take simulated time, so that other fibers go on
 * meanwhile.
 */
#ifndef ISTHMUS_SIM_KV_H
#define ISTHMUS_SIM_KV_H

#include "kv.h"
#include "sim_table.h"

struct sim_disk {
    struct sim_table *table;
    uint64_t write_ns, sync_ns; /* what they take, usually */
    uint64_t room_bytes, total_bytes;
    int fails;      /* -errno of every write and sync from now on; 0: none */
    unsigned opens; /* how often */
};
void sim_disk_init(struct sim_disk *);
/* Who uses it dies: the process, or the machine with what was not synced. */
struct sim_node;
void sim_disk_crash(struct sim_disk *, const struct sim_node *, bool machine);

struct kv *sim_kv_new(struct sim_disk *);

#endif
