/* target/scsi_misc.c - the small commands: readiness, capacity, LUNs, and what is supported. SPC-4 6.x,
 * SBC-3 5.x. None of them touches the volume's data.
 */
#include "scsi.h"
#include "scsi_limits.h"

#include "session.h"
#include "wire.h"

enum { DESCRIPTOR_SENSE = 0x01, PMI = 0x01, LBPME_LBPRZ = 0xc0 };

void scsi_test_unit_ready(struct command *cmd)
{
    command_good(cmd);
}

/* Nothing is ever deferred: what there is to say was said with the command it was about. */
void scsi_request_sense(struct command *cmd)
{
    struct sense none = {.code = SENSE_NONE};

    if (!scsi_volume(cmd) && cmd->lun != LUN_REPORT_LUNS)
        none.code = SENSE_LUN_NOT_SUPPORTED;
    cmd->in_len = sense_write(&none, cmd->cdb[1] & DESCRIPTOR_SENSE, command_in(cmd, SENSE_BYTES_MAX));
    scsi_reply(cmd, cmd->cdb[4]);
}

void scsi_report_luns(struct command *cmd)
{
    enum { ALL_BUT_WELL_KNOWN, WELL_KNOWN, ALL };
    struct session *s = cmd->conn->session;
    const struct vm *vm = s->vm;
    uint32_t allocation = get32(cmd->cdb + 6), n = 0;
    uint8_t *p;

    if (cmd->cdb[2] > ALL) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 2, 7);
        return;
    }
    p = command_in(cmd, 8 + 8 * (VM_DISKS_MAX + 1));
    if (cmd->cdb[2] != ALL_BUT_WELL_KNOWN)
        put16(p + 8 + 8 * n++, 0xc101); /* this is what it reports to */
    for (unsigned lun = 0; cmd->cdb[2] != WELL_KNOWN && lun < VM_DISKS_MAX; lun++)
        if (vm->volumes[lun])
            put16(p + 8 + 8 * n++, (uint16_t)lun);
    for (unsigned lun = 0; lun < VM_DISKS_MAX; lun++) /* it is told now (SPC-4 6.33) */
        s->attention[lun] &= (uint8_t)~UA_LUNS;
    put32(p, 8 * n);
    cmd->in_len = 8 + 8 * n;
    scsi_reply(cmd, allocation);
}

void scsi_read_capacity10(struct command *cmd)
{
    uint64_t last = scsi_blocks(cmd) - 1;
    uint8_t *p;

    if (!(cmd->cdb[8] & PMI) && get32(cmd->cdb + 2)) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 2, -1);
        return;
    }
    p = command_in(cmd, 8);
    put32(p, last > UINT32_MAX ? UINT32_MAX : (uint32_t)last);
    put32(p + 4, scsi_block_bytes(cmd));
    command_good(cmd);
}

void scsi_read_capacity16(struct command *cmd)
{
    uint32_t block = scsi_block_bytes(cmd);
    uint8_t *p;

    if (!(cmd->cdb[14] & PMI) && get64(cmd->cdb + 2)) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 2, -1);
        return;
    }
    p = command_in(cmd, 32);
    put64(p, scsi_blocks(cmd) - 1);
    put32(p + 8, block);
    p[13] = (uint8_t)__builtin_ctz(PHYSICAL_BLOCK_BYTES / block);
    p[14] = LBPME_LBPRZ;
    scsi_reply(cmd, get32(cmd->cdb + 10));
}

/* Descriptors of runs of whole blocks, the first at the LBA asked for; as many as there is room for. */
void scsi_get_lba_status(struct command *cmd)
{
    enum { RUNS_MAX = 64, DEALLOCATED = 1 };
    uint64_t at = get64(cmd->cdb + 2), blocks = scsi_blocks(cmd);
    uint32_t per_block = scsi_block_bytes(cmd) / SECTOR_BYTES, allocation = get32(cmd->cdb + 10), n = 0;
    uint32_t most = allocation < 24 ? 1 : (allocation - 8) / 16;
    uint8_t *p;

    if (!scsi_range(cmd, at, 1, false))
        return;
    p = command_in(cmd, 8 + 16 * RUNS_MAX);
    while (n < most && n < RUNS_MAX && at < blocks) {
        uint8_t *d = p + 8 + 16 * n;
        uint64_t same;
        bool mapped = volume_mapped(scsi_volume(cmd), at * per_block, (blocks - at) * per_block, &same);

        same /= per_block;
        if (!same) { /* half a block is mapped: all of it is */
            mapped = true;
            same = 1;
        }
        if (same > UINT32_MAX)
            same = UINT32_MAX;
        put64(d, at);
        put32(d + 8, (uint32_t)same);
        d[12] = mapped ? 0 : DEALLOCATED;
        at += same;
        n++;
    }
    put32(p, 4 + 16 * n);
    cmd->in_len = 8 + 16 * n;
    scsi_reply(cmd, allocation);
}

/* A disk in the cloud neither spins nor leaves its tray. */
void scsi_start_stop(struct command *cmd)
{
    if (cmd->cdb[4] >> 4)
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 4, 7);
    else
        command_good(cmd);
}

void scsi_prevent_allow(struct command *cmd)
{
    command_good(cmd);
}

/* --- REPORT SUPPORTED OPERATION CODES --- */

enum { RCTD = 0x80, CTDP = 0x02, SERVACTV = 0x01, TIMEOUTS_BYTES = 12, SUPPORTED = 3, UNSUPPORTED = 1 };

static void report_all(struct command *cmd, bool timeouts)
{
    uint32_t each = 8 + (timeouts ? TIMEOUTS_BYTES : 0);
    uint8_t *p = command_in(cmd, 4 + each * scsi_nops);

    put32(p, each * scsi_nops);
    p += 4;
    for (unsigned i = 0; i < scsi_nops; i++, p += each) {
        const struct scsi_op *op = &scsi_ops[i];

        p[0] = op->opcode;
        if (op->action != ANY_ACTION) {
            put16(p + 2, (uint16_t)op->action);
            p[5] |= SERVACTV;
        }
        put16(p + 6, op->cdb_bytes);
        if (timeouts) {
            p[5] |= CTDP;
            put16(p + 8, TIMEOUTS_BYTES - 2);
        }
    }
}

static void report_one(struct command *cmd, const struct scsi_op *op, bool timeouts)
{
    uint32_t n = op ? op->cdb_bytes : 0;
    uint8_t *p = command_in(cmd, 4 + n + (op && timeouts ? TIMEOUTS_BYTES : 0));

    p[1] = op ? SUPPORTED : UNSUPPORTED;
    if (!op)
        return;
    put16(p + 2, (uint16_t)n);
    memcpy(p + 4, op->usage, n);
    if (op->action != ANY_ACTION)
        p[5] = (uint8_t)op->action;
    if (timeouts) {
        p[1] |= 0x80; /* CTDP */
        put16(p + 4 + n, TIMEOUTS_BYTES - 2);
    }
}

/* Finds what is asked for; *bad: the opcode has service actions and none was given, or the reverse. */
static const struct scsi_op *asked_for(const uint8_t *cdb, unsigned options, bool *bad)
{
    const struct scsi_op *found = NULL;

    *bad = false;
    for (unsigned i = 0; i < scsi_nops; i++) {
        const struct scsi_op *op = &scsi_ops[i];

        if (op->opcode != cdb[3])
            continue;
        if ((op->action != ANY_ACTION && options == 1) || (op->action == ANY_ACTION && options == 2))
            *bad = true;
        if (options == 1 || op->action == get16(cdb + 4) || (options == 3 && op->action == ANY_ACTION))
            found = op;
    }
    return found;
}

void scsi_report_opcodes(struct command *cmd)
{
    unsigned options = cmd->cdb[2] & 7;
    bool timeouts = cmd->cdb[2] & RCTD, bad = options > 3;
    const struct scsi_op *op = NULL;

    if (options && !bad)
        op = asked_for(cmd->cdb, options, &bad);
    if (bad) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 2, 2);
        return;
    }
    if (options)
        report_one(cmd, op, timeouts);
    else
        report_all(cmd, timeouts);
    scsi_reply(cmd, get32(cmd->cdb + 6));
}

void scsi_report_tmfs(struct command *cmd)
{
    bool extended = cmd->cdb[2] & 0x80; /* REPD */
    uint8_t *p = command_in(cmd, extended ? 16 : 4);

    p[0] = 0xda; /* ABORT TASK, ABORT TASK SET, CLEAR TASK SET, LOGICAL UNIT RESET, TARGET RESET */
    if (extended)
        p[3] = 12;
    scsi_reply(cmd, get32(cmd->cdb + 6));
}
