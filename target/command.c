/* target/command.c - SCSI commands from arrival to the answer: write data by immediate data, unsolicited
 * Data-Out and R2T; memory budgets; abort. On the connection's loop.
 *
 * Budgets: a session may hold session_bytes, a loop loop_bytes. A command that finds no room waits, unless
 * its session holds nothing (so that everybody gets on). Unsolicited data must be taken: it is bounded by
 * FirstBurstLength times the window.
 */
#include "command.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "scsi.h"
#include "scsi_reserve.h"
#include "session.h"
#include "wire.h"

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
static void remember(struct command *cmd)
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

static bool has_room(struct conn *c, uint32_t bytes)
{
    const struct target_conf *conf = &c->target->conf;

    return !c->held_bytes ||
           (c->held_bytes + bytes <= conf->session_bytes && c->shard->held_bytes + bytes <= conf->loop_bytes);
}

static void charge(struct command *cmd, uint32_t bytes)
{
    cmd->charged += bytes;
    cmd->conn->held_bytes += bytes;
    cmd->conn->shard->held_bytes += bytes;
}

static void wait_for_room(struct command *cmd)
{
    struct conn *c = cmd->conn;

    cmd->state = COMMAND_WAIT;
    STAILQ_INSERT_TAIL(&c->commands.waiting, cmd, waiting);
    if (!c->is_starved) {
        c->is_starved = true;
        TAILQ_INSERT_TAIL(&c->shard->starved, c, starving);
    }
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

void command_free(struct command **pcmd)
{
    struct command *cmd = *pcmd;
    struct conn *c = cmd->conn;
    struct shard *s = c->shard;

    *pcmd = NULL;
    CHECK(!cmd->io_out);
    recv_command_gone(c, cmd);
    range_leave(cmd);
    if (cmd->in_io)
        io_release(&cmd->io);
    if (cmd->in_window)
        c->session->in_window--;
    if (cmd->immediate)
        c->commands.nimmediate--;
    c->held_bytes -= cmd->charged;
    s->held_bytes -= cmd->charged;
    buf_unref(&cmd->data);
    buf_unref(&cmd->scratch);
    free(cmd->in);
    LIST_REMOVE(cmd, bucket);
    TAILQ_REMOVE(&c->commands.all, cmd, entry);
    c->commands.n--;
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

    remember(cmd);
    range_leave(cmd);
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

void command_check(struct command *cmd, enum sense_code code)
{
    cmd->sense = (struct sense){.code = code};
    check(cmd);
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

/* I/O. */

static void io_back(struct command *cmd)
{
    cmd->io_out = false;
    if (cmd->aborted) {
        if (cmd->io.op == IO_READ && cmd->io.status == 0)
            io_release(&cmd->io);
        if (cmd->fence)
            scsi_reserve_fenced(cmd->fence);
        command_free(&cmd);
        return;
    }
    if (cmd->range.kind != RANGE_ALONE)
        range_leave(cmd);
    cmd->io_done(cmd);
}

static void on_io(struct io *io)
{
    struct command *cmd = container_of(io, struct command, io);
    struct conn *c = cmd->conn;

    io_back(cmd);
    conn_post_turn(c);
}

void command_go_on(struct command *cmd)
{
    cmd->io_out = true;
    if (volume_submit(cmd->conn->session->vm->volumes[cmd->io_lun], &cmd->io))
        io_back(cmd);
    else if (cmd->io.op == IO_READ)
        range_linger(cmd);
}

static void submit(struct command *cmd, void (*done)(struct command *), enum range_kind kind)
{
    cmd->io_done = done;
    cmd->io.done = on_io;
    cmd->state = COMMAND_VOLUME;
    if (session_mode(cmd->conn->session, cmd->io_lun)->write_through)
        cmd->io.fua = true;
    if (cmd->io.op == IO_FLUSH || range_enter(cmd, kind))
        command_go_on(cmd);
}

void command_submit(struct command *cmd, void (*done)(struct command *))
{
    submit(cmd, done, cmd->io.op == IO_READ ? RANGE_READ : RANGE_WRITE);
}

void command_submit_alone(struct command *cmd, void (*done)(struct command *))
{
    submit(cmd, done, RANGE_ALONE);
}

void command_submit_atomic(struct command *cmd, void (*done)(struct command *))
{
    submit(cmd, done, RANGE_ATOMIC);
}

void command_leave(struct command *cmd, void (*done)(struct command *))
{
    cmd->io_done = done;
    cmd->io.op = IO_FLUSH; /* no blocks to give back */
    cmd->io_out = true;
    cmd->state = COMMAND_VOLUME;
}

void command_back(struct command *cmd)
{
    on_io(&cmd->io);
}

/* Write data. */

static bool collected(const struct command *cmd)
{
    return cmd->received >= cmd->need && !cmd->unsolicited;
}

static void r2t_send(struct command *cmd)
{
    struct conn *c = cmd->conn;
    struct r2t *r = &cmd->r2ts[cmd->nr2ts];
    uint32_t n = cmd->need - cmd->asked, burst = c->params.value[KEY_MaxBurstLength];
    struct out *o = out_new(ISCSI_R2T, ISCSI_FINAL, cmd->itt, 0);

    if (n > burst)
        n = burst;
    *r = (struct r2t){.ttt = session_ttt(c->session), .offset = cmd->asked, .len = n, .open = true};
    cmd->nr2ts++;
    memcpy(o->bhs + AT_LUN, cmd->lun_field, 8);
    put32(o->bhs + AT_TTT, r->ttt);
    put32(o->bhs + AT_DATA_SN, cmd->r2t_sn++);
    put32(o->bhs + AT_BUFFER_OFFSET, r->offset);
    put32(o->bhs + AT_DESIRED_LENGTH, n);
    o->sn = SN_SHOW;
    cmd->asked += n;
    send_out(c, &o);
}

/* Room for n bytes in data (a place to receive into even if n is 0), keeping what is there. */
static void grow(struct command *cmd, uint32_t n)
{
    struct buf *b;
    uint32_t have = cmd->data ? cmd->data->len : 0;

    if (cmd->data && have >= n)
        return;
    b = buf_new(n);
    if (cmd->received)
        memcpy(b->data, cmd->data->data, cmd->received);
    buf_unref(&cmd->data);
    cmd->data = b;
    charge(cmd, n - have);
}

static void collect(struct command *cmd)
{
    unsigned most = cmd->conn->params.value[KEY_MaxOutstandingR2T];

    if (collected(cmd)) {
        scsi_run(cmd);
        return;
    }
    cmd->state = COMMAND_COLLECT;
    if (cmd->unsolicited)
        return;
    if (most > COMMAND_R2TS)
        most = COMMAND_R2TS;
    if (cmd->asked < cmd->received)
        cmd->asked = cmd->received;
    while (cmd->asked < cmd->need && cmd->nr2ts < most)
        r2t_send(cmd);
}

/* Enough memory for all of it: ask for what has not come by itself. */
static void command_admit(struct command *cmd)
{
    if (cmd->unsolicited)
        grow(cmd, cmd->unsolicited_max);
    if (cmd->need)
        grow(cmd, cmd->need);
    else if (cmd->op->kind == OP_READ)
        charge(cmd, cmd->edtl < COMMAND_BYTES_MAX ? cmd->edtl : COMMAND_BYTES_MAX);
    collect(cmd);
}

void command_start(struct command *cmd)
{
    struct conn *c = cmd->conn;
    uint32_t have = cmd->data ? cmd->data->len : 0, bytes;

    if (!scsi_prepare(cmd))
        return;
    cmd->need = cmd->writes ? (cmd->out_bytes < cmd->edtl ? cmd->out_bytes : cmd->edtl) : 0;
    bytes = cmd->need ? (cmd->need > have ? cmd->need - have : 0) : cmd->op->kind == OP_READ ? cmd->edtl : 0;
    if (!bytes || (STAILQ_EMPTY(&c->commands.waiting) && has_room(c, bytes))) {
        command_admit(cmd);
        return;
    }
    if (cmd->unsolicited) { /* it comes anyway: take that, wait with the rest */
        grow(cmd, cmd->unsolicited_max);
        cmd->state = COMMAND_COLLECT;
        return;
    }
    wait_for_room(cmd);
}

void command_feed(struct conn *c)
{
    struct command *cmd;

    while (conn_open(c) && (cmd = STAILQ_FIRST(&c->commands.waiting))) {
        uint32_t have = cmd->data ? cmd->data->len : 0;

        if (!has_room(c, cmd->need > have ? cmd->need - have : cmd->edtl))
            return;
        STAILQ_REMOVE_HEAD(&c->commands.waiting, waiting);
        command_admit(cmd);
    }
    if (c->is_starved && STAILQ_EMPTY(&c->commands.waiting)) {
        c->is_starved = false;
        TAILQ_REMOVE(&c->shard->starved, c, starving);
    }
}

void command_feed_shard(struct shard *s)
{
    struct conn *c = TAILQ_FIRST(&s->starved), *next;

    for (; c; c = next) {
        unsigned before = c->nouts;

        next = TAILQ_NEXT(c, starving);
        command_feed(c);
        if (conn_open(c) && c->nouts > before) /* not what the socket does not take: that would never end */
            conn_post_turn(c);
    }
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

static int lun_decode(const uint8_t *f)
{
    unsigned method = f[0] >> 6;

    if (method > 1 || get16(f + 2) || get32(f + 4))
        return -1;
    return (f[0] & 0x3f) << 8 | f[1];
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
    cmd->lun = cmd->io_lun = lun_decode(cmd->lun_field);
    memcpy(cmd->cdb, bhs + AT_CDB, 16);
    cmd->since_ns = c->last_rx_ns;
    first = c->params.value[KEY_FirstBurstLength];
    cmd->unsolicited_max = first < edtl ? first : edtl;
    LIST_INSERT_HEAD(bucket(c, itt), cmd, bucket);
    TAILQ_INSERT_TAIL(&c->commands.all, cmd, entry);
    c->commands.n++;
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
        charge(cmd, cmd->data->len);
    }
    atomic_fetch_add_explicit(&c->session->commands, 1, memory_order_relaxed);
    if (in_order) {
        command_start(cmd);
    } else {
        cmd->state = COMMAND_HELD;
        if (cmd->unsolicited) /* its Data-Out may come before its turn */
            grow(cmd, cmd->unsolicited_max);
    }
}

/* Data-Out. */

/* 0 if the Data-Out in rx is what the command waits for. */
static int data_check(struct command *cmd, struct r2t **pr)
{
    struct conn *c = cmd->conn;
    const uint8_t *bhs = c->rx.bhs;
    uint32_t ttt = get32(bhs + AT_TTT), n = c->rx.data_len;
    uint32_t offset = get32(bhs + AT_BUFFER_OFFSET), sn = get32(bhs + AT_DATA_SN);

    *pr = NULL;
    if (ttt == ISCSI_TAG_NONE) {
        if (!cmd->unsolicited)
            return REJECT_PROTOCOL_ERROR;
        return offset != cmd->received || sn != cmd->unsolicited_sn ||
                       n > cmd->unsolicited_max - cmd->received
                   ? REJECT_PROTOCOL_ERROR
                   : 0;
    }
    for (unsigned i = 0; i < cmd->nr2ts; i++)
        if (cmd->r2ts[i].ttt == ttt)
            *pr = &cmd->r2ts[i];
    if (!*pr)
        return REJECT_INVALID_FIELD;
    return offset != (*pr)->offset + (*pr)->got || sn != (*pr)->data_sn || n > (*pr)->len - (*pr)->got ||
                   (*pr)->offset != cmd->received - (*pr)->got
               ? REJECT_PROTOCOL_ERROR
               : 0;
}

uint8_t *command_data_place(struct conn *c, struct command **pcmd, int *why)
{
    const uint8_t *bhs = c->rx.bhs;
    uint32_t itt = get32(bhs + AT_ITT), offset = get32(bhs + AT_BUFFER_OFFSET);
    struct command *cmd = command_find(c, itt);
    struct r2t *r;

    *pcmd = NULL;
    if (!cmd || (cmd->state != COMMAND_COLLECT && cmd->state != COMMAND_HELD)) {
        *why = command_recent(c, itt) ? 0 : REJECT_INVALID_FIELD;
        return NULL;
    }
    *why = data_check(cmd, &r);
    if (*why) {
        log_info(c->ctx, "itt %08x: Data-Out of %u at %u with DataSN %u, expected at %u", itt, c->rx.data_len,
                 offset, get32(bhs + AT_DATA_SN), cmd->received);
        if (*why == REJECT_PROTOCOL_ERROR && cmd->state == COMMAND_COLLECT) {
            *why = 0; /* one answer: some initiators take a Reject for the end of the session */
            command_check(cmd, SENSE_DATA_PHASE_ERROR);
        }
        return NULL;
    }
    CHECK(cmd->data && (uint64_t)offset + c->rx.data_len <= cmd->data->len);
    *pcmd = cmd;
    return cmd->data->data + offset;
}

void command_data_arrived(struct command *cmd)
{
    struct conn *c = cmd->conn;
    bool final = c->rx.bhs[1] & ISCSI_FINAL;
    uint32_t ttt = get32(c->rx.bhs + AT_TTT);
    struct r2t *r = NULL;

    cmd->received += c->rx.data_len;
    if (ttt == ISCSI_TAG_NONE) {
        cmd->unsolicited_sn++;
        cmd->unsolicited = !final;
        if (!final || cmd->state == COMMAND_HELD)
            return;
        if (cmd->need > cmd->data->len && !has_room(c, cmd->need - cmd->data->len)) {
            wait_for_room(cmd);
            return;
        }
        command_admit(cmd);
        return;
    }
    for (unsigned i = 0; i < cmd->nr2ts; i++)
        if (cmd->r2ts[i].ttt == ttt)
            r = &cmd->r2ts[i];
    CHECK(r);
    r->got += c->rx.data_len;
    r->data_sn++;
    if (r->got < r->len) {
        if (final)
            command_check(cmd, SENSE_DATA_PHASE_ERROR);
        return;
    }
    *r = cmd->r2ts[cmd->nr2ts - 1]; /* asked in order and answered in order: found by tag */
    cmd->nr2ts--;
    collect(cmd);
}

void command_abort(struct command *cmd)
{
    struct conn *c = cmd->conn;

    if (cmd->aborted)
        return;
    remember(cmd);
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
        if (cmd->in_window) {
            cmd->in_window = false;
            c->session->in_window--;
        }
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
