/* target/scsi.c - the table of operation codes, and what every command is checked for first: the LUN, NACA,
 * unit attentions, reservations. Pure dispatch; on the connection's loop.
 */
#include "scsi.h"

#include "check.h"
#include "scsi_reserve.h"
#include "session.h"
#include "wire.h"

enum { NACA = 0x04 };

/* opcode, service action, name, kind, reservation class, flags, CDB length, usage of bytes 1.. (byte 0 is the
 * opcode) */
#define OP(code, act, label, what, res, flag, len, prep, go, ...)                                            \
    {                                                                                                        \
        .opcode = code, .action = act, .name = label, .kind = what, .class = RESERVE_##res, .flags = flag,   \
        .cdb_bytes = len, .usage = {code, __VA_ARGS__}, .prepare = prep, .run = go                           \
    }
#define LBA32      0xff, 0xff, 0xff, 0xff
#define LBA64      LBA32, LBA32
#define LENGTH32   0xff, 0xff, 0xff, 0xff
#define CONTROL    0x04
#define ANY_LUN_UA (SCSI_ANY_LUN | SCSI_NO_ATTENTION | SCSI_WELL_KNOWN)

const struct scsi_op scsi_ops[] = {
    OP(0x00, ANY_ACTION, "TEST UNIT READY", OP_OTHER, STATUS, SCSI_WELL_KNOWN, 6, NULL, scsi_test_unit_ready,
       0, 0, 0, 0, CONTROL),
    OP(0x03, ANY_ACTION, "REQUEST SENSE", OP_OTHER, FREE, ANY_LUN_UA, 6, NULL, scsi_request_sense, 0x01, 0, 0,
       0xff, CONTROL),
    OP(0x08, ANY_ACTION, "READ(6)", OP_READ, READS, 0, 6, scsi_read_prepare, scsi_read, 0x1f, 0xff, 0xff,
       0xff, CONTROL),
    OP(0x0a, ANY_ACTION, "WRITE(6)", OP_WRITE, WRITES, 0, 6, scsi_write_prepare, scsi_write, 0x1f, 0xff, 0xff,
       0xff, CONTROL),
    OP(0x12, ANY_ACTION, "INQUIRY", OP_OTHER, FREE, ANY_LUN_UA, 6, NULL, scsi_inquiry, 0x01, 0xff, 0xff, 0xff,
       CONTROL),
    OP(0x15, ANY_ACTION, "MODE SELECT(6)", OP_OTHER, WRITES, 0, 6, scsi_mode_select_prepare, scsi_mode_select,
       0x11, 0, 0, 0xff, CONTROL),
    OP(0x16, ANY_ACTION, "RESERVE(6)", OP_OTHER, FREE, 0, 6, NULL, scsi_reserve, 0x11, 0, 0, 0, CONTROL),
    OP(0x17, ANY_ACTION, "RELEASE(6)", OP_OTHER, FREE, 0, 6, NULL, scsi_release, 0x11, 0, 0, 0, CONTROL),
    OP(0x1a, ANY_ACTION, "MODE SENSE(6)", OP_OTHER, READS, 0, 6, NULL, scsi_mode_sense, 0x08, 0xff, 0xff,
       0xff, CONTROL),
    OP(0x1b, ANY_ACTION, "START STOP UNIT", OP_OTHER, STARTS, 0, 6, NULL, scsi_start_stop, 0x01, 0, 0x0f,
       0xf7, CONTROL),
    OP(0x1e, ANY_ACTION, "PREVENT ALLOW MEDIUM REMOVAL", OP_OTHER, PREVENTS, 0, 6, NULL, scsi_prevent_allow,
       0, 0, 0, 0x03, CONTROL),
    OP(0x25, ANY_ACTION, "READ CAPACITY(10)", OP_OTHER, STATUS, 0, 10, NULL, scsi_read_capacity10, 0, LBA32,
       0, 0, 0x01, CONTROL),
    OP(0x28, ANY_ACTION, "READ(10)", OP_READ, READS, 0, 10, scsi_read_prepare, scsi_read, 0xf8, LBA32, 0x1f,
       0xff, 0xff, CONTROL),
    OP(0x2a, ANY_ACTION, "WRITE(10)", OP_WRITE, WRITES, 0, 10, scsi_write_prepare, scsi_write, 0xf8, LBA32,
       0x1f, 0xff, 0xff, CONTROL),
    OP(0x2e, ANY_ACTION, "WRITE AND VERIFY(10)", OP_WRITE, WRITES, 0, 10, scsi_write_prepare, scsi_write,
       0xf6, LBA32, 0x1f, 0xff, 0xff, CONTROL),
    OP(0x2f, ANY_ACTION, "VERIFY(10)", OP_OTHER, READS, 0, 10, scsi_verify_prepare, scsi_verify, 0xf6, LBA32,
       0x1f, 0xff, 0xff, CONTROL),
    OP(0x34, ANY_ACTION, "PRE-FETCH(10)", OP_OTHER, READS, 0, 10, scsi_prefetch_prepare, scsi_prefetch, 0x02,
       LBA32, 0x1f, 0xff, 0xff, CONTROL),
    OP(0x35, ANY_ACTION, "SYNCHRONIZE CACHE(10)", OP_FLUSH, WRITES, 0, 10, NULL, scsi_synchronize_cache, 0x06,
       LBA32, 0x1f, 0xff, 0xff, CONTROL),
    OP(0x37, ANY_ACTION, "READ DEFECT DATA(10)", OP_OTHER, READS, 0, 10, NULL, scsi_read_defect_data, 0, 0x1f,
       0, 0, 0, 0, 0xff, 0xff, CONTROL),
    OP(0x41, ANY_ACTION, "WRITE SAME(10)", OP_ZERO, WRITES, 0, 10, scsi_write_same_prepare, scsi_write_same,
       0xf8, LBA32, 0x1f, 0xff, 0xff, CONTROL),
    OP(0x42, ANY_ACTION, "UNMAP", OP_ZERO, WRITES, 0, 10, scsi_unmap_prepare, scsi_unmap, 0x01, 0, 0, 0, 0,
       0x1f, 0xff, 0xff, CONTROL),
    OP(0x4d, ANY_ACTION, "LOG SENSE", OP_OTHER, FREE, 0, 10, NULL, scsi_log_sense, 0x01, 0xff, 0xff, 0, 0xff,
       0xff, 0xff, 0xff, CONTROL),
    OP(0x55, ANY_ACTION, "MODE SELECT(10)", OP_OTHER, WRITES, 0, 10, scsi_mode_select_prepare,
       scsi_mode_select, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff, CONTROL),
    OP(0x56, ANY_ACTION, "RESERVE(10)", OP_OTHER, FREE, 0, 10, NULL, scsi_reserve, 0x13, 0, 0, 0, 0, 0, 0xff,
       0xff, CONTROL),
    OP(0x57, ANY_ACTION, "RELEASE(10)", OP_OTHER, FREE, 0, 10, NULL, scsi_release, 0x13, 0, 0, 0, 0, 0, 0xff,
       0xff, CONTROL),
    OP(0x5a, ANY_ACTION, "MODE SENSE(10)", OP_OTHER, READS, 0, 10, NULL, scsi_mode_sense, 0x18, 0xff, 0xff, 0,
       0, 0, 0xff, 0xff, CONTROL),
    OP(0x5e, 0x0, "PERSISTENT RESERVE IN: READ KEYS", OP_OTHER, PERSISTENT, 0, 10, NULL, scsi_persist_in,
       0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, CONTROL),
    OP(0x5e, 0x1, "PERSISTENT RESERVE IN: READ RESERVATION", OP_OTHER, PERSISTENT, 0, 10, NULL,
       scsi_persist_in, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, CONTROL),
    OP(0x5e, 0x2, "PERSISTENT RESERVE IN: REPORT CAPABILITIES", OP_OTHER, PERSISTENT, 0, 10, NULL,
       scsi_persist_in, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, CONTROL),
    OP(0x5e, 0x3, "PERSISTENT RESERVE IN: READ FULL STATUS", OP_OTHER, PERSISTENT, 0, 10, NULL,
       scsi_persist_in, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff, CONTROL),
    OP(0x5f, RESERVE_REGISTER, "PERSISTENT RESERVE OUT: REGISTER", OP_OTHER, PERSISTENT, 0, 10,
       scsi_persist_out_prepare, scsi_persist_out, 0x1f, 0, 0, 0, LENGTH32, CONTROL),
    OP(0x5f, RESERVE_RESERVE, "PERSISTENT RESERVE OUT: RESERVE", OP_OTHER, PERSISTENT, 0, 10,
       scsi_persist_out_prepare, scsi_persist_out, 0x1f, 0xff, 0, 0, LENGTH32, CONTROL),
    OP(0x5f, RESERVE_RELEASE, "PERSISTENT RESERVE OUT: RELEASE", OP_OTHER, PERSISTENT, 0, 10,
       scsi_persist_out_prepare, scsi_persist_out, 0x1f, 0xff, 0, 0, LENGTH32, CONTROL),
    OP(0x5f, RESERVE_CLEAR, "PERSISTENT RESERVE OUT: CLEAR", OP_OTHER, PERSISTENT, 0, 10,
       scsi_persist_out_prepare, scsi_persist_out, 0x1f, 0, 0, 0, LENGTH32, CONTROL),
    OP(0x5f, RESERVE_PREEMPT, "PERSISTENT RESERVE OUT: PREEMPT", OP_OTHER, PERSISTENT, 0, 10,
       scsi_persist_out_prepare, scsi_persist_out, 0x1f, 0xff, 0, 0, LENGTH32, CONTROL),
    OP(0x5f, RESERVE_PREEMPT_ABORT, "PERSISTENT RESERVE OUT: PREEMPT AND ABORT", OP_OTHER, PERSISTENT, 0, 10,
       scsi_persist_out_prepare, scsi_persist_out, 0x1f, 0xff, 0, 0, LENGTH32, CONTROL),
    OP(0x5f, RESERVE_REGISTER_IGNORE, "PERSISTENT RESERVE OUT: REGISTER AND IGNORE EXISTING KEY", OP_OTHER,
       PERSISTENT, 0, 10, scsi_persist_out_prepare, scsi_persist_out, 0x1f, 0, 0, 0, LENGTH32, CONTROL),
    OP(0x5f, RESERVE_MOVE, "PERSISTENT RESERVE OUT: REGISTER AND MOVE", OP_OTHER, PERSISTENT, 0, 10,
       scsi_persist_out_prepare, scsi_persist_out, 0x1f, 0, 0, 0, LENGTH32, CONTROL),
    OP(0x83, 0x00, "EXTENDED COPY(LID1)", OP_OTHER, WRITES, 0, 16, scsi_copy_prepare, scsi_copy, 0x1f, 0, 0,
       0, 0, 0, 0, 0, 0, LENGTH32, 0, CONTROL),
    OP(0x84, 0x00, "RECEIVE COPY STATUS(LID1)", OP_OTHER, READS, 0, 16, NULL, scsi_copy_results, 0x1f, 0xff,
       0, 0, 0, 0, 0, 0, 0, LENGTH32, 0, CONTROL),
    OP(0x84, 0x03, "RECEIVE COPY OPERATING PARAMETERS", OP_OTHER, READS, 0, 16, NULL, scsi_copy_results, 0x1f,
       0, 0, 0, 0, 0, 0, 0, 0, LENGTH32, 0, CONTROL),
    OP(0x88, ANY_ACTION, "READ(16)", OP_READ, READS, 0, 16, scsi_read_prepare, scsi_read, 0xf8, LBA64,
       LENGTH32, 0x1f, CONTROL),
    OP(0x89, ANY_ACTION, "COMPARE AND WRITE", OP_WRITE, WRITES, 0, 16, scsi_compare_and_write_prepare,
       scsi_compare_and_write, 0xf8, LBA64, 0, 0, 0, 0xff, 0x1f, CONTROL),
    OP(0x8a, ANY_ACTION, "WRITE(16)", OP_WRITE, WRITES, 0, 16, scsi_write_prepare, scsi_write, 0xf8, LBA64,
       LENGTH32, 0x1f, CONTROL),
    OP(0x8b, ANY_ACTION, "ORWRITE(16)", OP_WRITE, WRITES, 0, 16, scsi_orwrite_prepare, scsi_orwrite, 0xf8,
       LBA64, LENGTH32, 0x1f, CONTROL),
    OP(0x8e, ANY_ACTION, "WRITE AND VERIFY(16)", OP_WRITE, WRITES, 0, 16, scsi_write_prepare, scsi_write,
       0xf6, LBA64, LENGTH32, 0x1f, CONTROL),
    OP(0x8f, ANY_ACTION, "VERIFY(16)", OP_OTHER, READS, 0, 16, scsi_verify_prepare, scsi_verify, 0xf6, LBA64,
       LENGTH32, 0x1f, CONTROL),
    OP(0x90, ANY_ACTION, "PRE-FETCH(16)", OP_OTHER, READS, 0, 16, scsi_prefetch_prepare, scsi_prefetch, 0x02,
       LBA64, LENGTH32, 0x1f, CONTROL),
    OP(0x91, ANY_ACTION, "SYNCHRONIZE CACHE(16)", OP_FLUSH, WRITES, 0, 16, NULL, scsi_synchronize_cache, 0x06,
       LBA64, LENGTH32, 0x1f, CONTROL),
    OP(0x93, ANY_ACTION, "WRITE SAME(16)", OP_ZERO, WRITES, 0, 16, scsi_write_same_prepare, scsi_write_same,
       0xf9, LBA64, LENGTH32, 0x1f, CONTROL),
    OP(0x9c, ANY_ACTION, "WRITE ATOMIC(16)", OP_WRITE, WRITES, 0, 16, scsi_write_atomic_prepare, scsi_write,
       0xf8, LBA64, 0xff, 0xff, 0xff, 0xff, 0x1f, CONTROL),
    OP(0x9e, 0x10, "READ CAPACITY(16)", OP_OTHER, STATUS, 0, 16, NULL, scsi_read_capacity16, 0x1f, LBA64,
       LENGTH32, 0x01, CONTROL),
    OP(0x9e, 0x12, "GET LBA STATUS", OP_OTHER, READS, 0, 16, NULL, scsi_get_lba_status, 0x1f, LBA64, LENGTH32,
       0, CONTROL),
    OP(0xa0, ANY_ACTION, "REPORT LUNS", OP_OTHER, FREE, ANY_LUN_UA, 12, NULL, scsi_report_luns, 0, 0xff, 0, 0,
       0, LENGTH32, 0, CONTROL),
    OP(0xa3, 0x0a, "REPORT TARGET PORT GROUPS", OP_OTHER, FREE, 0, 12, NULL, scsi_report_target_port_groups,
       0xff, 0, 0, 0, 0, LENGTH32, 0, CONTROL),
    OP(0xa3, 0x0c, "REPORT SUPPORTED OPERATION CODES", OP_OTHER, STATUS, 0, 12, NULL, scsi_report_opcodes,
       0x1f, 0x87, 0xff, 0xff, 0xff, LENGTH32, 0, CONTROL),
    OP(0xa3, 0x0d, "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", OP_OTHER, STATUS, 0, 12, NULL,
       scsi_report_tmfs, 0x1f, 0x80, 0, 0, 0, LENGTH32, 0, CONTROL),
    OP(0xa8, ANY_ACTION, "READ(12)", OP_READ, READS, 0, 12, scsi_read_prepare, scsi_read, 0xf8, LBA32,
       LENGTH32, 0x1f, CONTROL),
    OP(0xaa, ANY_ACTION, "WRITE(12)", OP_WRITE, WRITES, 0, 12, scsi_write_prepare, scsi_write, 0xf8, LBA32,
       LENGTH32, 0x1f, CONTROL),
    OP(0xae, ANY_ACTION, "WRITE AND VERIFY(12)", OP_WRITE, WRITES, 0, 12, scsi_write_prepare, scsi_write,
       0xf6, LBA32, LENGTH32, 0x1f, CONTROL),
    OP(0xaf, ANY_ACTION, "VERIFY(12)", OP_OTHER, READS, 0, 12, scsi_verify_prepare, scsi_verify, 0xf6, LBA32,
       LENGTH32, 0x1f, CONTROL),
    OP(0xb7, ANY_ACTION, "READ DEFECT DATA(12)", OP_OTHER, READS, 0, 12, NULL, scsi_read_defect_data, 0x1f, 0,
       0, 0, 0, LENGTH32, 0, CONTROL),
};
const unsigned scsi_nops = sizeof scsi_ops / sizeof *scsi_ops;

/* The entry for this CDB; *opcode_known: only its service action is not. */
static const struct scsi_op *find(const uint8_t *cdb, bool *opcode_known)
{
    *opcode_known = false;
    for (unsigned i = 0; i < scsi_nops; i++) {
        const struct scsi_op *op = &scsi_ops[i];

        if (op->opcode != cdb[0])
            continue;
        *opcode_known = true;
        if (op->action == ANY_ACTION || op->action == (cdb[1] & 0x1f))
            return op;
    }
    return NULL;
}

struct volume *scsi_volume(const struct command *cmd)
{
    return cmd->volume;
}

uint32_t scsi_block_bytes(const struct command *cmd)
{
    return volume_block_bytes(scsi_volume(cmd));
}

uint64_t scsi_blocks(const struct command *cmd)
{
    return volume_sectors(scsi_volume(cmd)) / (scsi_block_bytes(cmd) / SECTOR_BYTES);
}

void scsi_reply(struct command *cmd, uint32_t allocation_length)
{
    if (cmd->in_len > allocation_length)
        cmd->in_len = allocation_length;
    command_good(cmd);
}

/* Where the CDB has its count of blocks, or the length of its parameter list. */
static uint16_t length_at(const uint8_t *cdb)
{
    switch (cdb[0]) {
    case 0x5f: /* PERSISTENT RESERVE OUT */
        return 5;
    case 0x89: /* COMPARE AND WRITE */
        return 13;
    case 0x9c: /* WRITE ATOMIC */
        return 12;
    }
    switch (cdb[0] >> 5) {
    case 0:
        return 4;
    case 1:
    case 2:
        return 7;
    case 4:
        return 10;
    default:
        return 6;
    }
}

void scsi_check_length(struct command *cmd, enum sense_code code)
{
    command_check_field(cmd, code, true, length_at(cmd->cdb), -1);
}

bool scsi_range(struct command *cmd, uint64_t lba, uint64_t count, bool transfers)
{
    uint64_t blocks = scsi_blocks(cmd);

    if (lba >= blocks) {
        command_check_field(cmd, SENSE_LBA_OUT_OF_RANGE, true, cmd->cdb[0] >> 5 ? 2 : 1, -1);
        return false;
    }
    if (count > blocks - lba) {
        scsi_check_length(cmd, SENSE_LBA_OUT_OF_RANGE);
        return false;
    }
    if (transfers && count > COMMAND_BYTES_MAX / scsi_block_bytes(cmd)) {
        scsi_check_length(cmd, SENSE_INVALID_FIELD_IN_CDB);
        return false;
    }
    return true;
}

/* A disk that grew since this session last looked. */
static void notice_capacity(struct session *s)
{
    unsigned now = atomic_load_explicit(&s->vm->capacity_generation, memory_order_relaxed);

    if (s->capacity_generation == now)
        return;
    s->capacity_generation = now;
    for (unsigned lun = 0; lun < VM_DISKS_MAX; lun++)
        if (s->vm->volumes[lun])
            s->attention[lun] |= UA_CAPACITY;
}

/* Reports one unit attention of those, the gravest first. */
static bool report_attention(struct command *cmd, unsigned which)
{
    static const struct {
        uint16_t bit;
        enum sense_code code;
    } attentions[] = {{UA_RESET, SENSE_RESET_OCCURRED},
                      {UA_CLEARED, SENSE_COMMANDS_CLEARED},
                      {UA_UNREGISTERED, SENSE_REGISTRATIONS_PREEMPTED},
                      {UA_PREEMPTED, SENSE_RESERVATIONS_PREEMPTED},
                      {UA_RELEASED, SENSE_RESERVATIONS_RELEASED},
                      {UA_MODE, SENSE_MODE_PARAMETERS_CHANGED},
                      {UA_ACCESS, SENSE_ACCESS_STATE_CHANGED},
                      {UA_LUNS, SENSE_REPORTED_LUNS_CHANGED},
                      {UA_CAPACITY, SENSE_CAPACITY_CHANGED}};
    uint16_t *pending;

    if (cmd->op->flags & SCSI_NO_ATTENTION) /* among them those that work without a LUN */
        return false;
    pending = &cmd->conn->session->attention[cmd->lun];
    for (unsigned i = 0; i < sizeof attentions / sizeof *attentions; i++)
        if (*pending & which & attentions[i].bit) {
            *pending = (uint16_t)(*pending & ~attentions[i].bit);
            command_check(cmd, attentions[i].code);
            return true;
        }
    return false;
}

/* A reset is told before a reservation conflict, other unit attentions after it (SAM-5 5.3.3). */
static bool hindered(struct command *cmd)
{
    if (report_attention(cmd, UA_RESET))
        return true;
    if (scsi_reserve_conflicts(cmd)) {
        command_conflict(cmd);
        return true;
    }
    return report_attention(cmd, ~0u);
}

/* Some commands work on an address where nothing is. */
static bool is_there(const struct command *cmd)
{
    return scsi_volume(cmd) || cmd->lun == LUN_REPORT_LUNS || (cmd->op && cmd->op->flags & SCSI_ANY_LUN);
}

bool scsi_prepare(struct command *cmd)
{
    struct session *s = cmd->conn->session;
    bool known;

    cmd->op = find(cmd->cdb, &known);
    cmd->volume = cmd->lun >= 0 && cmd->lun < VM_DISKS_MAX ? s->vm->volumes[cmd->lun] : NULL;
    metric_add(s->device->m_commands[cmd->op ? cmd->op->kind : OP_OTHER], 1);
    if (!is_there(cmd)) {
        command_check(cmd, SENSE_LUN_NOT_SUPPORTED);
        return false;
    }
    if (!cmd->op || (cmd->lun == LUN_REPORT_LUNS && !(cmd->op->flags & SCSI_WELL_KNOWN))) {
        if (known && cmd->lun >= 0)
            command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 1, 4);
        else
            command_check_field(cmd, SENSE_INVALID_OPCODE, true, 0, -1);
        return false;
    }
    if (cmd->cdb[cmd->op->cdb_bytes - 1] & NACA) { /* ACA is not supported (NormACA is 0) */
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, (uint16_t)(cmd->op->cdb_bytes - 1), 2);
        return false;
    }
    notice_capacity(s);
    if (cmd->lun >= 0 && hindered(cmd))
        return false;
    if ((cmd->op->kind == OP_WRITE || cmd->op->kind == OP_ZERO) &&
        session_mode(s, cmd->lun)->software_protect) {
        command_check(cmd, SENSE_SOFTWARE_WRITE_PROTECTED);
        return false;
    }
    cmd->out_bytes = cmd->op->prepare ? cmd->op->prepare(cmd) : 0;
    return cmd->state != COMMAND_SENDING;
}

void scsi_run(struct command *cmd)
{
    CHECK(cmd->op);
    cmd->op->run(cmd);
}
