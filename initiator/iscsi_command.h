/* initiator/iscsi_command.h - the SCSI command that does an I/O, as the LUN can. Pure but for the memory.
 */
#ifndef ISTHMUS_ISCSI_COMMAND_H
#define ISTHMUS_ISCSI_COMMAND_H

#include "datastore.h"

struct scsi_task;

/* What a LUN can, as found out by the probe, or by its refusals. */
struct iscsi_abilities {
    bool short_cdbs;    /* an old target: the forms of 10 bytes only */
    bool unmaps;        /* WRITE SAME with UNMAP gives space back, and reads as zeros afterwards */
    bool no_write_same; /* zeros must be written */
    bool no_sync16;
    bool no_sync; /* it has no cache to be flushed */
};

/* The command for io (not MARK), and not FLUSH with no_sync; the caller's to free. io->in.zeros is set where
 * zeros are written. */
struct scsi_task *iscsi_command(const struct iscsi_abilities *, struct datastore_io *io,
                                uint32_t block_bytes);
/* The LUN refused io's command as such (ILLEGAL REQUEST): can another form be tried? Notes it. */
bool iscsi_command_other_form(struct iscsi_abilities *, const struct datastore_io *io);

#endif
