/* tests/sim/sim_volume.h - simulated source disks, and the datastore (datastore.h) that serves them as
 * file:/NAME.
 *
 * A volume outlives the daemon. What was written and not flushed may be lost, block by block, when its
 * machine restarts; the datastore then says so (generation).
 */
#ifndef ISTHMUS_SIM_VOLUME_H
#define ISTHMUS_SIM_VOLUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sim_volume {
    char name[32];
    uint8_t *bytes;
    size_t n;
    uint64_t latency_ns, flush_ns, restarts;
    uint64_t writes; /* ever; also the mark */
    bool down;       /* answers nobody */
    int fails;       /* -errno of every write from now on */
    struct {         /* what was there before what is not flushed: 512 bytes each */
        uint64_t lba;
        uint8_t *before;
    } * unflushed;
    size_t nunflushed, room;
};

/* Is found by that name from now on, in place of another. */
void sim_volume_init(struct sim_volume *, const char *name, size_t bytes, uint64_t latency_ns);
/* All that the other holds, as if it were flushed. */
void sim_volume_copy(struct sim_volume *, const struct sim_volume *from);
/* Somebody has put that in it, flushed, while no VM reads or writes it. */
void sim_volume_fill(struct sim_volume *, const uint8_t *bytes);
/* Its machine restarts: some of what was not flushed is lost. */
void sim_volume_restart(struct sim_volume *);

#endif
