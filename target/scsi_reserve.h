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
struct shard;
struct vm;

/* What came of a change, besides enum reserve_result. */
enum { RESERVE_NOT_SAVED = RESERVE_FULL + 1 };

/* The LUN's persistent reservations; NULL: there never were any. */
const struct reserve *scsi_reserve_now(const struct command *);
/* A change, in order with those before it: answer() follows with what came of it in command->at, unless the
 * command was aborted. The request is copied. */
void scsi_reserve_change(struct command *, const struct reserve_request *, void (*answer)(struct command *));
/* A new device: what was kept over a restart, or by this edge when another had the VM. */
void scsi_reserve_load(struct device *, const struct shard *);
/* vm->mirror is new: it gets all that there is. */
void scsi_reserve_mirror(struct shard *, struct vm *);
/* The LUN is gone: no command of it is left. */
void scsi_reserve_forget(struct device *, unsigned lun);
/* Whether it must end with RESERVATION CONFLICT before it does anything. */
bool scsi_reserve_conflicts(const struct command *);
/* The same for another LUN that it reaches. */
bool scsi_reserve_conflicts_on(const struct command *, int lun, enum reserve_class);
/* Gives back what the device has. */
void scsi_reserve_free(struct device *);

#endif
