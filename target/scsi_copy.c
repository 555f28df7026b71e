/* target/scsi_copy.c - EXTENDED COPY(LID1), RECEIVE COPY RESULTS and the Third-party Copy page
 * (SPC-4 6.4, 6.24, 7.8.17): copies between disks of one VM, named by their NAA designator, without
 * the bytes' going to the initiator and back. A copy is part of its command: done, or given up, when that is
 * answered.
 */
#include "scsi.h"

#include "scsi_reserve.h"
#include "session.h"
#include "wire.h"

enum { TARGETS_MAX = 8, SEGMENTS_MAX = 32, HEADER = 16, TARGET = 32, SEGMENT = 28, PIECE_BYTES = 256 << 10 };
enum { DESCRIPTORS_MAX = TARGETS_MAX * TARGET + SEGMENTS_MAX * SEGMENT };
enum { BY_DESIGNATOR = 0xe4, BLOCK_TO_BLOCK = 0x02, NUL = 0x20 };
enum { NAA = 3, COPY_STATUS = 0, OPERATING_PARAMETERS = 3 };

uint32_t scsi_copy_prepare(struct command *cmd)
{
    uint32_t n = get32(cmd->cdb + 10);

    if (n <= HEADER + DESCRIPTORS_MAX) {
        cmd->besides = n ? 2 * PIECE_BYTES : 0; /* as it is read, and in one piece to be written */
        return n;
    }
    scsi_check_length(cmd, SENSE_PARAMETER_LIST_LENGTH);
    return 0;
}

/* --- the parameter list --- */

static unsigned targets(const uint8_t *p)
{
    return get16(p + 2) / TARGET;
}

static const uint8_t *segment(const uint8_t *p, unsigned i)
{
    return p + HEADER + get16(p + 2) + i * SEGMENT;
}

static unsigned segments(const uint8_t *p)
{
    return get32(p + 8) / SEGMENT;
}

static bool wrong(struct command *cmd, enum sense_code code, size_t at)
{
    command_check_field(cmd, code, false, (uint16_t)at, -1);
    return false;
}

/* (LU ID TYPE is about a field that this kind of descriptor does not have.) */
static bool check_targets(struct command *cmd, const uint8_t *p)
{
    for (unsigned i = 0; i < targets(p); i++) {
        const uint8_t *d = p + HEADER + i * TARGET;

        if (d[0] != BY_DESIGNATOR)
            return wrong(cmd, SENSE_UNSUPPORTED_TARGET_DESCRIPTOR, (size_t)(d - p));
    }
    return true;
}

static bool check_list(struct command *cmd, const uint8_t *p, uint32_t n)
{
    uint64_t described = (uint64_t)get16(p + 2) + get32(p + 8);

    if (described > DESCRIPTORS_MAX) {
        scsi_check_length(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    if (targets(p) > TARGETS_MAX)
        return wrong(cmd, SENSE_TOO_MANY_TARGET_DESCRIPTORS, 2);
    if (segments(p) > SEGMENTS_MAX)
        return wrong(cmd, SENSE_TOO_MANY_SEGMENT_DESCRIPTORS, 8);
    if (get32(p + 12))
        return wrong(cmd, SENSE_INLINE_DATA_LENGTH_EXCEEDED, 12);
    if (described > n - HEADER) {
        scsi_check_length(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return false;
    }
    if (!check_targets(cmd, p))
        return false;
    /* A segment of another type may have another length, so this comes before the lengths. */
    if (get32(p + 8) >= 4 && segment(p, 0)[0] != BLOCK_TO_BLOCK)
        return wrong(cmd, SENSE_UNSUPPORTED_SEGMENT_DESCRIPTOR, (size_t)(segment(p, 0) - p));
    if (get16(p + 2) % TARGET)
        return wrong(cmd, SENSE_INVALID_FIELD_IN_PARAMETER_LIST, 2);
    if (get32(p + 8) % SEGMENT)
        return wrong(cmd, SENSE_INVALID_FIELD_IN_PARAMETER_LIST, 8);
    for (unsigned i = 0; i < segments(p); i++)
        if (segment(p, i)[0] != BLOCK_TO_BLOCK || get16(segment(p, i) + 2) != SEGMENT - 4)
            return wrong(cmd, SENSE_UNSUPPORTED_SEGMENT_DESCRIPTOR, (size_t)(segment(p, i) - p));
    return true;
}

/* The LUN that target descriptor i names, or -1. */
static int target_lun(const struct command *cmd, unsigned i)
{
    const struct vm *vm = cmd->conn->session->vm;
    const uint8_t *p = cmd->data->data, *d = p + HEADER + i * TARGET;

    if (i >= targets(p) || d[1] & NUL || d[5] & 0x30)
        return -1;
    for (unsigned lun = 0; lun < VM_DISKS_MAX; lun++) {
        if (!vm->volumes[lun])
            continue;
        if ((d[5] & 0xf) == NAA && d[7] == 8 && !memcmp(d + 8, volume_naa(vm->volumes[lun]), 8))
            return (int)lun;
    }
    return -1;
}

/* --- the copy: cmd->left is the segment, cmd->at how many of its sectors are done --- */

static void copy_next(struct command *cmd);

static void copy_end(struct command *cmd, bool good)
{
    cmd->conn->session->copy.segments = (uint16_t)cmd->left;
    cmd->conn->session->copy.failed = !good;
    cmd->io_lun = cmd->lun;
}

static void copy_failed(struct command *cmd, enum sense_code code)
{
    copy_end(cmd, false);
    command_check(cmd, code);
}

static void on_piece_written(struct command *cmd)
{
    if (cmd->io.status) {
        copy_failed(cmd, SENSE_COPY_DEVICE_FAILURE);
        return;
    }
    cmd->at += cmd->io.nsectors;
    cmd->conn->session->copy.sectors += cmd->io.nsectors;
    copy_next(cmd);
}

static void on_piece_read(struct command *cmd)
{
    const uint8_t *s = segment(cmd->data->data, (unsigned)cmd->left);
    uint32_t n = cmd->io.nsectors, per_block;
    int to;

    if (cmd->io.status) {
        copy_failed(cmd, SENSE_COPY_DEVICE_FAILURE);
        return;
    }
    for (uint32_t at = 0; at < n * SECTOR_BYTES; at += SECTOR_BYTES) {
        uint8_t *place = cmd->scratch->data + at;
        struct iovec iov[3];
        int count = io_iov(&cmd->io, at, SECTOR_BYTES, iov, 3);

        for (int i = 0; i < count; place += iov[i++].iov_len)
            memcpy(place, iov[i].iov_base, iov[i].iov_len);
    }
    io_release(&cmd->io);
    to = target_lun(cmd, get16(s + 6));
    if (to < 0) { /* it has gone meanwhile */
        copy_failed(cmd, SENSE_COPY_DEVICE_NOT_REACHABLE);
        return;
    }
    cmd->io_lun = to;
    per_block = volume_block_bytes(cmd->conn->session->vm->volumes[cmd->io_lun]) / SECTOR_BYTES;
    cmd->io = (struct io){
        .op = IO_WRITE, .lba = get64(s + 20) * per_block + cmd->at, .nsectors = n, .data = cmd->scratch};
    command_submit(cmd, on_piece_written);
}

static bool within(struct volume *v, uint64_t lba, uint64_t sectors)
{
    uint64_t all = volume_sectors(v), per_block = volume_block_bytes(v) / SECTOR_BYTES;

    return lba <= all / per_block && sectors <= all - lba * per_block;
}

/* Reads the next piece of the segment; a disk that is not there, or too small, ends the copy. */
static void copy_piece(struct command *cmd, const uint8_t *s, uint64_t sectors)
{
    int from = target_lun(cmd, get16(s + 4));
    struct volume *v = cmd->conn->session->vm->volumes[from];
    uint64_t n = sectors - cmd->at;

    if (n > PIECE_BYTES / SECTOR_BYTES)
        n = PIECE_BYTES / SECTOR_BYTES;
    if (!cmd->scratch)
        cmd->scratch = buf_new(PIECE_BYTES);
    cmd->io_lun = from;
    cmd->io = (struct io){.op = IO_READ,
                          .lba = get64(s + 12) * (volume_block_bytes(v) / SECTOR_BYTES) + cmd->at,
                          .nsectors = (uint32_t)n};
    command_submit(cmd, on_piece_read);
}

static void copy_next(struct command *cmd)
{
    const uint8_t *p = cmd->data->data;

    for (; cmd->left < segments(p); cmd->left++, cmd->at = 0) {
        const uint8_t *s = segment(p, (unsigned)cmd->left);
        int from = target_lun(cmd, get16(s + 4)), to = target_lun(cmd, get16(s + 6));
        struct volume **v = cmd->conn->session->vm->volumes;
        uint64_t sectors;

        if (from < 0 || to < 0) {
            copy_failed(cmd, SENSE_COPY_DEVICE_NOT_REACHABLE);
            return;
        }
        if (scsi_reserve_conflicts_on(cmd, from, RESERVE_READS) ||
            scsi_reserve_conflicts_on(cmd, to, RESERVE_WRITES)) {
            copy_end(cmd, false);
            command_conflict(cmd);
            return;
        }
        if (volume_block_bytes(v[from]) != volume_block_bytes(v[to])) {
            copy_failed(cmd, SENSE_COPY_DEVICE_FAILURE);
            return;
        }
        sectors = (uint64_t)get16(s + 10) * (volume_block_bytes(v[from]) / SECTOR_BYTES);
        if (!within(v[from], get64(s + 12), sectors) || !within(v[to], get64(s + 20), sectors) ||
            session_mode(cmd->conn->session, to)->software_protect) {
            copy_failed(cmd, SENSE_COPY_ABORTED);
            return;
        }
        if (cmd->at < sectors) {
            copy_piece(cmd, s, sectors);
            return;
        }
    }
    copy_end(cmd, true);
    command_good(cmd);
}

void scsi_copy(struct command *cmd)
{
    uint32_t n = cmd->received < cmd->out_bytes ? cmd->received : cmd->out_bytes;

    if (!cmd->out_bytes) {
        command_good(cmd);
        return;
    }
    if (n < HEADER) {
        scsi_check_length(cmd, SENSE_PARAMETER_LIST_LENGTH);
        return;
    }
    if (!check_list(cmd, cmd->data->data, n))
        return;
    cmd->conn->session->copy = (struct copy_result){.known = true, .list = cmd->data->data[0]};
    copy_next(cmd);
}

/* --- what is told of it --- */

static void copy_status(struct command *cmd)
{
    struct copy_result *r = &cmd->conn->session->copy;
    uint8_t *p;

    if (!r->known || r->list != cmd->cdb[2]) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 2, 7);
        return;
    }
    p = command_in(cmd, 12);
    put32(p, 8);
    p[4] = r->failed ? 0x02 : 0x01;
    put16(p + 5, r->segments);
    p[7] = 1; /* in KiB */
    put32(p + 8, (uint32_t)(r->sectors / 2));
    scsi_reply(cmd, get32(cmd->cdb + 10));
}

static void operating_parameters(struct command *cmd)
{
    uint8_t *p = command_in(cmd, 46);

    put32(p, 42);
    p[4] = 0x01; /* SNLID */
    put16(p + 8, TARGETS_MAX);
    put16(p + 10, SEGMENTS_MAX);
    put32(p + 12, DESCRIPTORS_MAX);
    put32(p + 16, UINT16_MAX * scsi_block_bytes(cmd)); /* the longest segment */
    p[36] = 1;                                         /* one copy of a session at a time has a status */
    p[37] = 9;                                         /* granularity of segments: 512 bytes */
    p[43] = 2;
    p[44] = BLOCK_TO_BLOCK;
    p[45] = BY_DESIGNATOR;
    scsi_reply(cmd, get32(cmd->cdb + 10));
}

void scsi_copy_results(struct command *cmd)
{
    if ((cmd->cdb[1] & 0x1f) == COPY_STATUS)
        copy_status(cmd);
    else
        operating_parameters(cmd);
}

/* Page 8Fh after its header: which commands, which limits, which descriptors. */
uint32_t scsi_copy_page(struct command *cmd, uint8_t *p)
{
    static const uint8_t commands[] = {0, 1, 0, 8, 7, 0x83, 1, 0, 0x84, 2, COPY_STATUS, OPERATING_PARAMETERS};
    static const uint8_t descriptors[] = {0, 8, 0, 4, 2, BLOCK_TO_BLOCK, BY_DESIGNATOR, 0};
    uint8_t *d = p + sizeof commands;

    (void)cmd;
    memcpy(p, commands, sizeof commands);
    put16(d, 4); /* parameter data */
    put16(d + 2, 28);
    put16(d + 8, TARGETS_MAX);
    put16(d + 10, SEGMENTS_MAX);
    put32(d + 12, DESCRIPTORS_MAX);
    memcpy(d + 32, descriptors, sizeof descriptors);
    return (uint32_t)(sizeof commands + 32 + sizeof descriptors);
}
