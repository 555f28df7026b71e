/* target/fence.h - waits until aborted commands have left the volume: what a reset or PREEMPT AND ABORT
 * promises when it is answered is that no write of theirs will appear any more (RFC 7143 4.2.3.3,
 * SPC-4 5.13.11.2.6).
 *
 * Belongs to the device, on the VM's loop. It aborts nothing itself.
 */
#ifndef ISTHMUS_FENCE_H
#define ISTHMUS_FENCE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct command;
struct device;
struct shard;

/* Embedded in its owner, who sets awaits and opened. */
struct fence {
    TAILQ_ENTRY(fence) entry; /* device->fences */
    /* Whether this aborted command, whose I/O is in the volume, is one of those. */
    bool (*awaits)(const struct fence *, const struct command *);
    /* The last of them is back. The fence is the owner's again. */
    void (*opened)(struct fence *);
    unsigned left;  /* commands it waits for */
    uint64_t since; /* later aborts are none of its business */
};
TAILQ_HEAD(fence_list, fence);

/* Counts who is to be waited for. false: nobody, and opened() will not come. */
bool fence_raise(struct fence *, struct device *, const struct shard *);
/* The owner is not interested any more. */
void fence_drop(struct fence *, struct device *);
/* command_io.c: the I/O of an aborted command is back. */
void fence_passed(const struct command *);

#endif
