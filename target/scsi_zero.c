/* target/scsi_zero.c - UNMAP and WRITE SAME (SBC-3 5.28, 5.42ff). A block that is unmapped reads as zeros
 * (LBPRZ), so both become zero records of the log; WRITE SAME of other data becomes writes of a pattern.
 */
#include "scsi.h"
#include "scsi_limits.h"

#include "check.h"
#include "wire.h"

#include <errno.h>

enum { PROTECT = 0xe0, ANCHOR = 0x10, UNMAP_BIT = 0x08, NDOB = 0x01, PATTERN_BYTES = 256 << 10 };
enum { UNMAP_HEADER = 8, UNMAP_DESCRIPTOR = 16 };

static uint32_t sectors_per_block(const struct command *cmd)
{
    return scsi_block_bytes(cmd) / SECTOR_BYTES;
}

/* UNMAP */

uint32_t scsi_unmap_prepare(struct command *cmd)
{
    uint32_t n = get16(cmd->cdb + 7);

    if (cmd->cdb[1] & NDOB) { /* the ANCHOR bit is here in this CDB */
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 1, 0);
        return 0;
    }
    if (n && n < UNMAP_HEADER) {
        scsi_check_length(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return 0;
    }
    return n;
}

/* Every descriptor must be good before anything is done. */
static bool unmap_check(struct command *cmd, uint32_t count)
{
    uint64_t total = 0, blocks = scsi_blocks(cmd);

    if (count > UNMAP_DESCRIPTORS_MAX) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_PARAMETER_LIST, false, 2, -1);
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *d = cmd->data->data + UNMAP_HEADER + i * UNMAP_DESCRIPTOR;
        uint64_t lba = get64(d);
        uint32_t n = get32(d + 8);

        if (lba > blocks || n > blocks - lba) {
            size_t at = UNMAP_HEADER + i * UNMAP_DESCRIPTOR + (lba > blocks ? 0u : 8u);

            command_check_field(cmd, SENSE_LBA_OUT_OF_RANGE, false, (uint16_t)at, -1);
            return false;
        }
        total += n;
    }
    if (total > UNMAP_BLOCKS_MAX) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_PARAMETER_LIST, false, UNMAP_HEADER, -1);
        return false;
    }
    return true;
}

/* at: descriptors done; left: descriptors to do. */
static void unmap_next(struct command *cmd)
{
    if (cmd->io.status) {
        command_io_failed(cmd, SENSE_WRITE_ERROR);
        return;
    }
    for (; cmd->left; cmd->at++, cmd->left--) {
        const uint8_t *d = cmd->data->data + UNMAP_HEADER + cmd->at * UNMAP_DESCRIPTOR;
        uint32_t n = get32(d + 8);

        if (!n)
            continue;
        cmd->io = (struct io){
            .op = IO_ZERO, .lba = get64(d) * sectors_per_block(cmd), .nsectors = n * sectors_per_block(cmd)};
        cmd->at++;
        cmd->left--;
        command_submit(cmd, unmap_next);
        return;
    }
    command_good(cmd);
}

void scsi_unmap(struct command *cmd)
{
    uint32_t n = cmd->received < cmd->out_bytes ? cmd->received : cmd->out_bytes, described;

    if (!cmd->out_bytes) {
        command_good(cmd);
        return;
    }
    if (n < UNMAP_HEADER) {
        scsi_check_length(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return;
    }
    described = get16(cmd->data->data + 2);
    if (described > n - UNMAP_HEADER) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_PARAMETER_LIST, false, 2, -1);
        return;
    }
    cmd->left = described / UNMAP_DESCRIPTOR;
    if (unmap_check(cmd, (uint32_t)cmd->left))
        unmap_next(cmd);
}

/* WRITE SAME */

static bool is16(const struct command *cmd)
{
    return cmd->cdb[0] == 0x93;
}

static uint64_t same_lba(const struct command *cmd)
{
    return is16(cmd) ? get64(cmd->cdb + 2) : get32(cmd->cdb + 2);
}

static uint32_t same_count(const struct command *cmd)
{
    return is16(cmd) ? get32(cmd->cdb + 10) : get16(cmd->cdb + 7);
}

static bool no_data_out(const struct command *cmd)
{
    return is16(cmd) && cmd->cdb[1] & NDOB;
}

static uint32_t pattern_bytes(uint32_t nsectors)
{
    return nsectors < PATTERN_BYTES / SECTOR_BYTES ? nsectors * SECTOR_BYTES : PATTERN_BYTES;
}

uint32_t scsi_write_same_prepare(struct command *cmd)
{
    uint32_t count = same_count(cmd);

    if (cmd->cdb[1] & (PROTECT | ANCHOR)) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 1, cmd->cdb[1] & PROTECT ? 7 : 4);
        return 0;
    }
    if (!scsi_range(cmd, same_lba(cmd), count, false))
        return 0;
    if (!count || count > WRITE_SAME_BLOCKS_MAX) { /* WSNZ: 0 does not mean "to the end" */
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, is16(cmd) ? 10 : 7, -1);
        return 0;
    }
    if (no_data_out(cmd))
        return 0;
    cmd->besides = pattern_bytes(count * sectors_per_block(cmd));
    return scsi_block_bytes(cmd);
}

static void on_same_done(struct command *cmd)
{
    if (cmd->io.status)
        command_io_failed(cmd, SENSE_WRITE_ERROR);
    else
        command_good(cmd);
}

/* at: sectors done; left: sectors to do. scratch holds the pattern. */
static void same_next(struct command *cmd)
{
    uint32_t n;

    if (cmd->io.status) {
        on_same_done(cmd);
        return;
    }
    n = cmd->left < PATTERN_BYTES / SECTOR_BYTES ? (uint32_t)cmd->left : PATTERN_BYTES / SECTOR_BYTES;

    cmd->io = (struct io){.op = IO_WRITE, .lba = cmd->at, .nsectors = n, .data = cmd->scratch};
    cmd->at += n;
    cmd->left -= n;
    command_submit(cmd, cmd->left ? same_next : on_same_done);
}

static void write_pattern(struct command *cmd, uint64_t lba, uint32_t nsectors)
{
    uint32_t block = scsi_block_bytes(cmd);
    uint32_t bytes = pattern_bytes(nsectors);

    cmd->scratch = buf_new(bytes);
    for (uint32_t at = 0; at < bytes; at += block)
        memcpy(cmd->scratch->data + at, cmd->data->data, block);
    cmd->at = lba;
    cmd->left = nsectors;
    same_next(cmd);
}

static bool all_zero(const uint8_t *p, uint32_t n)
{
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

void scsi_write_same(struct command *cmd)
{
    uint64_t lba = same_lba(cmd) * sectors_per_block(cmd);
    uint32_t nsectors = same_count(cmd) * sectors_per_block(cmd), block = scsi_block_bytes(cmd);

    if (!no_data_out(cmd) &&
        (cmd->received < block || cmd->edtl != block)) { /* one block, no more, no less */
        scsi_check_length(cmd, SENSE_INVALID_INFORMATION_UNIT);
        return;
    }
    if (no_data_out(cmd) || all_zero(cmd->data->data, block)) {
        cmd->io = (struct io){.op = IO_ZERO, .lba = lba, .nsectors = nsectors};
        command_submit(cmd, on_same_done);
    } else {
        write_pattern(cmd, lba, nsectors);
    }
}
