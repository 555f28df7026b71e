/* target/command.c - SCSI commands from arrival to the answer, and their end by abort. On the connection's
 * loop. Write data is command_data.c's, memory budgets are command_budget.c's, the volume is command_io.c's.
 */
#include "command.h"
#include "command_parts.h"

#include "check.h"
#include "forward.h"
#include "forwarded.h"
#include "log.h"
#include "lun_gone.h"
#include "mem.h"
#include "scsi.h"
#include "session.h"
#include "wire.h"

#include <errno.h>

static const char part[] = "target";
enum { IMMEDIATE_MAX = 32 };

void command_table_init(struct command_table *t)
{
    memset(t, 0, sizeof *t);
    TAILQ_INIT(&t->all);
    STAILQ_INIT(&t->waiting);
}

static struct command_bucket *bucket(struct conn *c, uint32_t itt)
{
    return &c->commands.by_itt[(itt ^ itt >> 8 ^ itt >> 16) % COMMAND_BUCKETS];
}

struct command *command_find(struct conn *c, uint32_t itt)
{
    struct command *cmd;

    LIST_FOREACH(cmd, bucket(c, itt), bucket)
    if (cmd->itt == itt && !cmd->aborted)
        return cmd;
    return NULL;
}

bool command_recent(struct conn *c, uint32_t itt)
{
    for (unsigned i = 0; i < c->commands.nrecent; i++)
        if (c->commands.recent[i] == itt)
            return true;
    return false;
}

/* Data-Out for it may be on its way: to be dropped without a word. */
void command_remember(struct command *cmd)
{
    struct command_table *t = &cmd->conn->commands;

    if (!cmd->unsolicited && !cmd->nr2ts)
        return;
    cmd->unsolicited = false;
    cmd->nr2ts = 0;
    t->recent[t->next_recent] = cmd->itt;
    t->next_recent = (t->next_recent + 1) % COMMAND_RECENT;
    if (t->nrecent < COMMAND_RECENT)
        t->nrecent++;
}

static struct command *command_new(struct conn *c)
{
    struct shard *s = c->shard;
    struct command *cmd = STAILQ_FIRST(&s->spare);

    if (cmd) {
        STAILQ_REMOVE_HEAD(&s->spare, waiting);
        s->nspare--;
        memset(cmd, 0, sizeof *cmd);
    } else {
        cmd = xcalloc(1, sizeof *cmd);
    }
    cmd->conn = c;
    return cmd;
}

/* Into its connection's table, with its tag. */
static void enter(struct command *cmd)
{
    struct conn *c = cmd->conn;

    LIST_INSERT_HEAD(bucket(c, cmd->itt), cmd, bucket);
    TAILQ_INSERT_TAIL(&c->commands.all, cmd, entry);
    c->commands.n++;
    atomic_fetch_add_explicit(&c->session->commands, 1, memory_order_relaxed);
}

void command_free(struct command **pcmd)
{
    struct command *cmd = *pcmd;
    struct conn *c = cmd->conn;
    struct shard *s = c->shard;

    *pcmd = NULL;
    CHECK(!cmd->io_out && !cmd->flight);
    forwarded_gone(cmd);
    recv_command_gone(c, cmd);
    range_leave(cmd);
    if (cmd->in_io)
        io_release(&cmd->io);
    if (cmd->in_window)
        c->session->in_window--;
    if (cmd->immediate)
        c->commands.nimmediate--;
    c->admitted_bytes -= cmd->admitted ? cmd->charged : 0;
    c->held_bytes -= cmd->charged;
    s->held_bytes -= cmd->charged;
    buf_unref(&cmd->data);
    buf_unref(&cmd->scratch);
    free(cmd->in);
    LIST_REMOVE(cmd, bucket);
    TAILQ_REMOVE(&c->commands.all, cmd, entry);
    c->commands.n--;
    lun_gone_look(c->session->device);
    if (s->nspare < SHARD_SPARE_COMMANDS) {
        STAILQ_INSERT_HEAD(&s->spare, cmd, waiting);
        s->nspare++;
    } else {
        free(cmd);
    }
    if (c->state == CONN_CLOSING || !TAILQ_EMPTY(&s->starved))
        conn_post_turn(c);
}

/* Answers. */

static void finish(struct command *cmd)
{
    struct device *d = cmd->conn->session->device;
    uint64_t took = loop_now_ns(cmd->conn->shard->loop) - cmd->since_ns;

    command_remember(cmd);
    range_leave(cmd);
    cmd->volume = NULL;
    lun_gone_look(d);
    if (cmd->op && cmd->op->kind < OP_ZERO)
        metric_observe_ns(d->m_seconds[cmd->op->kind], took);
    send_command(cmd->conn, cmd);
}

void command_good(struct command *cmd)
{
    cmd->status = SCSI_GOOD;
    finish(cmd);
}

void command_condition_met(struct command *cmd)
{
    cmd->status = SCSI_CONDITION_MET;
    finish(cmd);
}

static void check(struct command *cmd)
{
    const struct mode *mode = session_mode(cmd->conn->session, cmd->lun);
    unsigned n;

    cmd->status = SCSI_CHECK_CONDITION;
    if (cmd->sense.code != SENSE_INVALID_INFORMATION_UNIT)
        cmd->in_len = cmd->out_bytes = 0;
    if (cmd->in_io) {
        io_release(&cmd->io);
        cmd->in_io = false;
    }
    n = sense_write(&cmd->sense, mode && mode->descriptor_sense, cmd->response + 2);
    put16(cmd->response, (uint16_t)n);
    cmd->response_len = (uint8_t)(2 + n);
    metric_add(cmd->conn->session->device->m_errors, 1);
    log_debug(cmd->conn->ctx, "itt %08x opcode %02x lun %d: %s", cmd->itt, cmd->cdb[0], cmd->lun,
              sense_name(cmd->sense.code));
    finish(cmd);
}

void command_conflict(struct command *cmd)
{
    cmd->status = SCSI_RESERVATION_CONFLICT;
    cmd->in_len = cmd->out_bytes = 0;
    finish(cmd);
}

void command_forwarded(struct command *cmd)
{
    struct device *d = cmd->conn->session->device;

    metric_add(cmd->writes ? d->m_written_bytes : d->m_read_bytes, cmd->writes ? cmd->received : cmd->in_len);
    if (cmd->status == SCSI_CHECK_CONDITION)
        metric_add(d->m_errors, 1);
    finish(cmd);
}

void command_check(struct command *cmd, enum sense_code code)
{
    cmd->sense = (struct sense){.code = code};
    check(cmd);
}

void command_io_failed(struct command *cmd, enum sense_code medium)
{
    bool gone = cmd->volume != cmd->conn->session->vm->volumes[cmd->lun];

    command_check(cmd, cmd->io.status == -EIO ? medium
                       : gone                 ? SENSE_LUN_NOT_SUPPORTED
                                              : SENSE_INTERNAL_TARGET_FAILURE);
}

void command_lun_gone(struct command *cmd)
{
    if (cmd->aborted || (cmd->state != COMMAND_COLLECT && cmd->state != COMMAND_WAIT))
        return;
    if (cmd->state == COMMAND_WAIT)
        STAILQ_REMOVE(&cmd->conn->commands.waiting, cmd, command, waiting);
    recv_command_gone(cmd->conn, cmd);
    command_check(cmd, SENSE_LUN_NOT_SUPPORTED);
}

void command_check_information(struct command *cmd, enum sense_code code, uint64_t information)
{
    cmd->sense = (struct sense){.code = code, .information_valid = true, .information = information};
    check(cmd);
}

void command_check_field(struct command *cmd, enum sense_code code, bool in_cdb, uint16_t byte, int bit)
{
    cmd->sense = (struct sense){.code = code,
                                .field_valid = true,
                                .in_cdb = in_cdb,
                                .field = byte,
                                .bit_valid = bit >= 0,
                                .bit = (uint8_t)(bit < 0 ? 0 : bit)};
    check(cmd);
}

uint8_t *command_in(struct command *cmd, uint32_t n)
{
    free(cmd->in);
    cmd->in = xcalloc(1, n ? n : 1);
    cmd->in_len = n;
    return cmd->in;
}

/* Enough memory for all of it: ask for what has not come by itself. */
void command_admit(struct command *cmd)
{
    if (!cmd->admitted) {
        cmd->admitted = true;
        cmd->conn->admitted_bytes += cmd->charged;
    }
    if (cmd->unsolicited)
        command_grow(cmd, cmd->unsolicited_max);
    if (cmd->need)
        command_grow(cmd, cmd->need);
    command_charge(cmd, cmd->besides);
    cmd->besides = 0;
    command_collect(cmd);
}

void command_start(struct command *cmd)
{
    struct conn *c = cmd->conn;
    uint32_t bytes;

    if (c->session->forward)
        forward_prepare(cmd);
    else if (!scsi_prepare(cmd))
        return;
    cmd->need = cmd->writes ? (cmd->out_bytes < cmd->edtl ? cmd->out_bytes : cmd->edtl) : 0;
    bytes = command_wants(cmd);
    if (!bytes || (STAILQ_EMPTY(&c->commands.waiting) && command_has_room(c, bytes))) {
        command_admit(cmd);
        return;
    }
    if (cmd->unsolicited) { /* it comes anyway: take that, wait with the rest */
        command_grow(cmd, cmd->unsolicited_max);
        cmd->state = COMMAND_COLLECT;
        return;
    }
    command_wait_for_room(cmd);
}

struct command *command_take(struct conn *c, const struct command_taken *t)
{
    struct command *cmd = command_new(c);

    cmd->itt = t->itt;
    cmd->edtl = t->edtl;
    cmd->reads = t->reads;
    cmd->writes = t->writes;
    memcpy(cmd->lun_field, t->lun, sizeof cmd->lun_field);
    cmd->lun = cmd->io_lun = command_lun(cmd->lun_field);
    memcpy(cmd->cdb, t->cdb, sizeof cmd->cdb);
    cmd->since_ns = loop_now_ns(c->shard->loop);
    cmd->forwarded = t->forwarded;
    enter(cmd);
    if (t->data) {
        cmd->data = t->data;
        cmd->received = t->data->len;
        command_charge(cmd, t->data->len);
    }
    return cmd;
}

/* Arrival. */

static bool acceptable(struct conn *c, uint32_t itt, bool immediate, bool write, bool final, uint32_t edtl)
{
    const uint32_t *v = c->params.value;
    uint32_t n = c->rx.data_len;

    if (itt == ISCSI_TAG_NONE)
        send_reject(c, REJECT_INVALID_FIELD);
    else if (!c->session->device)
        send_reject(c, REJECT_PROTOCOL_ERROR);
    else if (command_find(c, itt))
        send_reject(c, REJECT_TASK_IN_PROGRESS);
    else if (immediate && c->commands.nimmediate >= IMMEDIATE_MAX)
        send_reject(c, REJECT_IMMEDIATE);
    else if (n && (!write || !v[KEY_ImmediateData] || n > edtl || n > v[KEY_FirstBurstLength]))
        send_reject(c, REJECT_PROTOCOL_ERROR);
    else if (!final && (!write || v[KEY_InitialR2T]))
        send_reject(c, REJECT_PROTOCOL_ERROR);
    else
        return true;
    return false;
}

/* Peripheral and flat space addressing, and one well-known logical unit (SAM-5 4.7). */
int command_lun(const uint8_t f[8])
{
    unsigned method = f[0] >> 6;

    if (get16(f + 2) || get32(f + 4))
        return LUN_NONE;
    if (f[0] == 0xc1 && f[1] == 0x01)
        return LUN_REPORT_LUNS;
    return method > 1 ? LUN_NONE : (f[0] & 0x3f) << 8 | f[1];
}

void command_arrived(struct conn *c, bool in_order)
{
    const uint8_t *bhs = c->rx.bhs;
    bool immediate = bhs[0] & ISCSI_IMMEDIATE, write = bhs[1] & ISCSI_CMD_WRITE;
    uint32_t itt = get32(bhs + AT_ITT), edtl = get32(bhs + AT_EDTL), first;
    struct command *cmd;

    if (!acceptable(c, itt, immediate, write, bhs[1] & ISCSI_FINAL, edtl))
        return;
    cmd = command_new(c);
    cmd->itt = itt;
    cmd->edtl = edtl;
    cmd->cmd_sn = get32(bhs + AT_CMD_SN);
    cmd->immediate = immediate;
    cmd->reads = bhs[1] & ISCSI_CMD_READ;
    cmd->writes = write;
    cmd->unsolicited = !(bhs[1] & ISCSI_FINAL);
    memcpy(cmd->lun_field, bhs + AT_LUN, 8);
    cmd->lun = cmd->io_lun = command_lun(cmd->lun_field);
    memcpy(cmd->cdb, bhs + AT_CDB, 16);
    cmd->since_ns = c->last_rx_ns;
    first = c->params.value[KEY_FirstBurstLength];
    cmd->unsolicited_max = first < edtl ? first : edtl;
    enter(cmd);
    if (immediate) {
        c->commands.nimmediate++;
    } else {
        cmd->in_window = true;
        c->session->in_window++;
    }
    if (c->rx.data_len) {
        cmd->data = c->rx.data;
        cmd->data->len--; /* the byte for the text parser's NUL */
        cmd->received = c->rx.data_len;
        c->rx.data = NULL;
        command_charge(cmd, cmd->data->len);
    }
    if (in_order) {
        command_start(cmd);
    } else {
        cmd->state = COMMAND_HELD;
        if (cmd->unsolicited) /* its Data-Out may come before its turn */
            command_grow(cmd, cmd->unsolicited_max);
    }
}

void command_abort(struct command *cmd)
{
    struct conn *c = cmd->conn;

    if (cmd->aborted)
        return;
    command_remember(cmd);
    if (cmd->state == COMMAND_WAIT) {
        STAILQ_REMOVE(&c->commands.waiting, cmd, command, waiting);
    } else if (cmd->state == COMMAND_HELD) {
        struct held *h;

        TAILQ_FOREACH (h, &c->session->held, entry)
            if (h->command == cmd)
                h->command = NULL; /* its CmdSN still counts */
    } else if (cmd->state == COMMAND_SENDING) {
        return; /* it has its answer */
    }
    recv_command_gone(c, cmd);
    if (cmd->io_out) {
        cmd->aborted = true;
        cmd->aborted_at = ++c->session->device->aborts;
        if (cmd->in_window) {
            cmd->in_window = false;
            c->session->in_window--;
        }
        forwarded_gone(cmd);
        if (cmd->flight)
            forward_recall(cmd);
        else if (cmd->io.op == IO_READ)
            volume_cancel(&cmd->io);
        return;
    }
    command_free(&cmd);
}

void command_abort_lun(struct conn *c, int lun)
{
    struct command *cmd = TAILQ_FIRST(&c->commands.all), *next;

    for (; cmd; cmd = next) {
        next = TAILQ_NEXT(cmd, entry);
        if (lun < 0 || cmd->lun == lun)
            command_abort(cmd);
    }
}

void command_abort_all(struct conn *c)
{
    command_abort_lun(c, -1);
}
