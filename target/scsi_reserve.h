/* target/scsi_reserve.h - reservations of a VM's LUNs, as the rest of target/ sees them. On the VM's loop.
 *
 * They belong to struct device, which stays when the last session is gone: registrations outlive logouts.
 */
#ifndef ISTHMUS_SCSI_RESERVE_H
#define ISTHMUS_SCSI_RESERVE_H

#include "reserve.h"

#include <stdbool.h>

struct command;
struct device;
struct reserved;
struct shard;

/* A new device: what was kept over a restart. */
void scsi_reserve_load(struct device *, const struct shard *);
/* Whether it must end with RESERVATION CONFLICT before it does anything. */
bool scsi_reserve_conflicts(const struct command *);
/* The same for another LUN that it reaches. */
bool scsi_reserve_conflicts_on(const struct command *, int lun, enum reserve_class);
/* A write that PREEMPT AND ABORT waits for has come back from its volume. */
void scsi_reserve_fenced(struct reserved *);
/* Gives back what the device has. */
void scsi_reserve_free(struct device *);

#endif
