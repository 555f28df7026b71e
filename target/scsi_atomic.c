/* target/scsi_atomic.c - COMPARE AND WRITE (SBC-3 5.2), ORWRITE (5.8), what is checked of WRITE ATOMIC(16)
 * (SBC-4 5.48).
 *
 * The first two read with their blocks held alone (range.h), so the write that follows finds what was read.
 * WRITE ATOMIC is one record of the log, whole after a crash or not there, and held against reads.
 */
#include "scsi.h"
#include "scsi_limits.h"

#include "check.h"
#include "session.h"
#include "wire.h"

#include <errno.h>

enum { FUA = 0x08, PROTECT = 0xe0 };

static uint32_t blocks_in(const struct command *cmd)
{
    return cmd->cdb[13];
}

static uint64_t lba_in(const struct command *cmd)
{
    return get64(cmd->cdb + 2);
}

uint32_t scsi_compare_and_write_prepare(struct command *cmd)
{
    if (cmd->cdb[1] & PROTECT) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 1, 7);
        return 0;
    }
    if (!scsi_range(cmd, lba_in(cmd), blocks_in(cmd), false))
        return 0;
    if (blocks_in(cmd) > COMPARE_BLOCKS_MAX) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 13, 7);
        return 0;
    }
    if (!blocks_in(cmd) && cmd->edtl) { /* a count that has run over: GOOD would be a lie */
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 13, 7);
        return 0;
    }
    cmd->besides = blocks_in(cmd) * scsi_block_bytes(cmd);
    return 2 * cmd->besides;
}

static void on_written(struct command *cmd)
{
    if (cmd->io.status) {
        command_io_failed(cmd, SENSE_WRITE_ERROR);
        return;
    }
    metric_add(cmd->conn->session->device->m_written_bytes, (uint64_t)cmd->io.nsectors * SECTOR_BYTES);
    command_good(cmd);
}

/* Where it has read, still alone there. */
static void write_back(struct command *cmd, uint32_t data_offset)
{
    cmd->io = (struct io){.op = IO_WRITE,
                          .lba = cmd->io.lba,
                          .nsectors = cmd->io.nsectors,
                          .data = cmd->data,
                          .data_offset = data_offset,
                          .fua = cmd->cdb[1] & FUA};
    command_submit(cmd, on_written);
}

/* The offset of the first byte that differs, or n. */
static uint32_t first_difference(const struct command *cmd, uint32_t n)
{
    const uint8_t *want = cmd->data->data;

    for (uint32_t at = 0; at < n; at += SECTOR_BYTES) {
        struct iovec iov[3];
        int count = io_iov(&cmd->io, at, SECTOR_BYTES, iov, 3);

        for (int i = 0; i < count; want += iov[i++].iov_len) {
            const uint8_t *have = iov[i].iov_base;

            for (size_t k = 0; memcmp(have, want, iov[i].iov_len) != 0 && k < iov[i].iov_len; k++)
                if (have[k] != want[k])
                    return (uint32_t)(want - cmd->data->data + (ptrdiff_t)k);
        }
    }
    return n;
}

static void on_compare_read(struct command *cmd)
{
    uint32_t n = cmd->io.nsectors * SECTOR_BYTES, at;

    if (cmd->io.status) {
        command_io_failed(cmd, SENSE_UNRECOVERED_READ_ERROR);
        return;
    }
    at = first_difference(cmd, n);
    io_release(&cmd->io);
    if (at < n) {
        command_check_information(cmd, SENSE_MISCOMPARE, at);
        return;
    }
    write_back(cmd, n);
}

void scsi_compare_and_write(struct command *cmd)
{
    uint32_t per_block = scsi_block_bytes(cmd) / SECTOR_BYTES;

    if (!cmd->out_bytes) {
        command_good(cmd);
        return;
    }
    if (cmd->received < cmd->out_bytes || cmd->edtl != cmd->out_bytes) {
        scsi_check_length(cmd, SENSE_INVALID_INFORMATION_UNIT);
        return;
    }
    cmd->io =
        (struct io){.op = IO_READ, .lba = lba_in(cmd) * per_block, .nsectors = blocks_in(cmd) * per_block};
    command_submit_alone(cmd, on_compare_read);
}

/* ORWRITE */

uint32_t scsi_orwrite_prepare(struct command *cmd)
{
    return cmd->besides = scsi_write_prepare(cmd);
}

static void on_or_read(struct command *cmd)
{
    uint32_t n = cmd->io.nsectors * SECTOR_BYTES;
    uint8_t *p = cmd->data->data;

    if (cmd->io.status) {
        command_io_failed(cmd, SENSE_UNRECOVERED_READ_ERROR);
        return;
    }
    for (uint32_t at = 0; at < n; at += SECTOR_BYTES) {
        struct iovec iov[3];
        int count = io_iov(&cmd->io, at, SECTOR_BYTES, iov, 3);

        for (int i = 0; i < count; i++)
            for (size_t k = 0; k < iov[i].iov_len; k++)
                *p++ |= ((const uint8_t *)iov[i].iov_base)[k];
    }
    io_release(&cmd->io);
    write_back(cmd, 0);
}

/* As WRITE does: whole blocks that came, and the residual tells. */
void scsi_orwrite(struct command *cmd)
{
    uint32_t per_block = scsi_block_bytes(cmd) / SECTOR_BYTES, count = get32(cmd->cdb + 10);
    uint32_t came = (cmd->received < cmd->need ? cmd->received : cmd->need) / scsi_block_bytes(cmd);

    if (count > came)
        count = came;
    if (!count) {
        command_good(cmd);
        return;
    }
    cmd->io = (struct io){.op = IO_READ, .lba = lba_in(cmd) * per_block, .nsectors = count * per_block};
    command_submit_alone(cmd, on_or_read);
}

/* WRITE ATOMIC */

uint32_t scsi_write_atomic_prepare(struct command *cmd)
{
    uint32_t most = ATOMIC_BYTES_MAX / scsi_block_bytes(cmd), count = get16(cmd->cdb + 12);

    if (!scsi_range(cmd, lba_in(cmd), count, false))
        return 0;
    if (get16(cmd->cdb + 10)) { /* ATOMIC BOUNDARY: there are none within what can be atomic */
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 10, 7);
        return 0;
    }
    if (count > most) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 12, 7);
        return 0;
    }
    return scsi_write_prepare(cmd);
}
