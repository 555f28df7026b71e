/* initiator/iscsi_command.c - the SCSI command that does an I/O; see iscsi_command.h.
 *
 * Zeros are WRITE SAME, with UNMAP where the LUN says that unmapped blocks read as zeros: it must then write
 * what it cannot unmap. The UNMAP command would not do: it may leave blocks as they are.
 */
#include "iscsi_command.h"

#include "check.h"
#include "ds_base.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

static struct scsi_task *read_command(bool small, uint64_t lba, uint32_t len, int block)
{
    return small ? scsi_cdb_read10((uint32_t)lba, len, block, 0, 0, 0, 0, 0)
                 : scsi_cdb_read16(lba, len, block, 0, 0, 0, 0, 0);
}

static struct scsi_task *write_command(bool small, uint64_t lba, uint32_t len, int block, const uint8_t *data)
{
    struct scsi_task *task = small ? scsi_cdb_write10((uint32_t)lba, len, block, 0, 0, 0, 0, 0)
                                   : scsi_cdb_write16(lba, len, block, 0, 0, 0, 0, 0);

    CHECK(task && scsi_task_add_data_out_buffer(task, (int)len, (unsigned char *)data) == 0);
    return task;
}

static struct scsi_task *zero_command(const struct iscsi_abilities *can, struct datastore_io *io,
                                      uint32_t block)
{
    uint64_t lba = io->offset / block;
    uint32_t n = io->len / block;
    struct scsi_task *task;

    if (can->no_write_same)
        return write_command(can->short_cdbs, (io->offset + io->in.part) / block, ds_next_zeros(io),
                             (int)block, ds_zeros);
    task = can->short_cdbs ? scsi_cdb_writesame10(0, 0, can->unmaps, (uint32_t)lba, 0, (uint16_t)n, block)
                           : scsi_cdb_writesame16(0, 0, can->unmaps, lba, 0, n, block);
    CHECK(task && scsi_task_add_data_out_buffer(task, (int)block, (unsigned char *)ds_zeros) == 0);
    return task;
}

struct scsi_task *iscsi_command(const struct iscsi_abilities *can, struct datastore_io *io, uint32_t block)
{
    struct scsi_task *task = NULL;
    uint64_t lba = io->offset / block;

    switch (io->op) {
    case DATASTORE_READ:
        task = read_command(can->short_cdbs, lba, io->len, (int)block);
        CHECK(task && scsi_task_add_data_in_buffer(task, (int)io->len, io->data) == 0);
        break;
    case DATASTORE_WRITE:
        task = write_command(can->short_cdbs, lba, io->len, (int)block, io->data);
        break;
    case DATASTORE_ZERO:
        task = zero_command(can, io, block);
        break;
    case DATASTORE_FLUSH:
        task = can->short_cdbs || can->no_sync16 ? scsi_cdb_synchronizecache10(0, 0, 0, 0)
                                                 : scsi_cdb_synchronizecache16(0, 0, 0, 0);
        break;
    case DATASTORE_MARK:
        break;
    }
    CHECK(task);
    return task;
}

bool iscsi_command_other_form(struct iscsi_abilities *can, const struct datastore_io *io)
{
    if (io->op == DATASTORE_ZERO && !io->in.zeros) {
        /* others of this form may be on their way, and will be refused as this one: no_write_same at last */
        if (can->unmaps)
            can->unmaps = false;
        else
            can->no_write_same = true;
        return true;
    }
    if (io->op == DATASTORE_FLUSH) {
        if (!can->short_cdbs && !can->no_sync16)
            can->no_sync16 = true;
        else
            can->no_sync = true;
        return true;
    }
    return false;
}
