/* target/command_data.c - write data: what is asked for by R2T, and Data-Out PDUs as they come. On the
 * connection's loop. A Data-Out out of sequence ends its command; one for a command that is gone is dropped.
 */
#include "command.h"
#include "command_parts.h"

#include "check.h"
#include "forward.h"
#include "log.h"
#include "scsi.h"
#include "session.h"
#include "wire.h"

static const char part[] = "target";

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
void command_grow(struct command *cmd, uint32_t n)
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
    command_charge(cmd, n - have);
}

/* Its data is there. */
static void run(struct command *cmd)
{
    if (cmd->op) /* which was looked at here goes on here */
        scsi_run(cmd);
    else if (cmd->conn->session->forward)
        forward_run(cmd);
    else
        command_start(cmd); /* while its data came the VM has become this edge's */
}

void command_collect(struct command *cmd)
{
    unsigned most = cmd->conn->params.value[KEY_MaxOutstandingR2T];

    if (collected(cmd)) {
        run(cmd);
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
        log_peer(c->ctx, "itt %08x: Data-Out of %u at %u with DataSN %u, expected at %u", itt, c->rx.data_len,
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
        if (command_wants(cmd) && !command_has_room(c, command_wants(cmd))) {
            command_wait_for_room(cmd);
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
    command_collect(cmd);
}
