/* target/forward_command.c - commands of an initiator on their way to the owner and back. On the VM's loop.
 *
 *   PARKED ──► DATA ... ──► COMMAND ──► FETCH ... ──► answered
 *      ▲          └────────────┘ the owner does not know the session, or was lost
 *
 * Data of more than one message goes ahead in DATA, one at a time; what does not fit in the answer is
 * fetched.
 */
#include "forward.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "proto_forward.h"
#include "session.h"

#include <errno.h>

static const char part[] = "target";

enum flight_state { FLIGHT_PARKED, FLIGHT_DATA, FLIGHT_COMMAND, FLIGHT_FETCH };

struct flight {
    TAILQ_ENTRY(flight) entry;
    struct forward *forward;
    struct command *cmd;
    enum flight_state state;
    struct far_call call;
    uint64_t number, session;  /* its own, and where it is */
    uint32_t sent, got, bytes; /* of the data out; of the data in, and all of that */
    bool recalled;
    bool perhaps_done; /* it was sent to an owner that did not answer */
};

_Static_assert((int)COMMAND_BYTES_MAX == (int)FORWARD_BYTES_MAX,
               "the data of every command can be forwarded");

static void send(struct flight *);

uint64_t forward_below(const struct forward *fw)
{
    const struct flight *f = TAILQ_FIRST(&fw->out_there);

    return f ? f->number : fw->next;
}

static struct flights *list_of(struct flight *f)
{
    return f->state == FLIGHT_PARKED ? &f->forward->parked : &f->forward->out_there;
}

static struct command *land(struct flight *f)
{
    struct command *cmd = f->cmd;

    TAILQ_REMOVE(list_of(f), f, entry);
    cmd->flight = NULL;
    free(f);
    return cmd;
}

/* By their numbers, which is their order; those without one are behind. */
static void insert(struct flights *list, struct flight *f)
{
    struct flight *at;

    TAILQ_FOREACH (at, list, entry)
        if (f->number && (!at->number || at->number > f->number))
            break;
    if (at)
        TAILQ_INSERT_BEFORE(at, f, entry);
    else
        TAILQ_INSERT_TAIL(list, f, entry);
}

static void park(struct flight *f)
{
    struct forward *fw = f->forward;

    TAILQ_REMOVE(&fw->out_there, f, entry);
    f->state = FLIGHT_PARKED;
    f->sent = f->got = 0;
    f->recalled = false;
    f->cmd->in_len = f->cmd->response_len = 0;
    insert(&fw->parked, f);
}

/* --- answers --------------------------------------------------------------------------------------------*/

static void on_answered(struct command *cmd)
{
    command_forwarded(cmd);
}

/* The owner keeps what it answered until it hears that it arrived: with the next command, or, when that may
 * take a while and it is much, now. */
static void acknowledge(struct forward *fw)
{
    struct conn *c = fw->session->conn;

    if (fw->unread < FORWARD_PIECE || !TAILQ_EMPTY(&fw->out_there))
        return;
    fw->unread = 0;
    forward_notify(c->target, PROTO_FORWARD_DONE, fw->number, fw->next);
}

static void finish(struct flight *f)
{
    struct forward *fw = f->forward;
    struct command *cmd;

    fw->unread += f->bytes;
    cmd = land(f);
    acknowledge(fw);
    command_back(cmd);
}

/* false: no answer of such a command. */
static bool take_answer(struct flight *f, const struct buf *b)
{
    struct command *cmd = f->cmd;
    struct forward_answer a;
    uint32_t most;

    if (forward_get_answer(b->data, b->len, &a))
        return false;
    most = a.in_len < cmd->edtl ? a.in_len : cmd->edtl;
    if (a.bytes != (cmd->reads ? most : 0) || a.response_len > sizeof cmd->response ||
        (a.len < a.bytes && a.len != FORWARD_PIECE))
        return false;
    cmd->status = a.status;
    cmd->response_len = a.response_len;
    memcpy(cmd->response, a.response, a.response_len);
    cmd->out_bytes = a.out_bytes;
    free(cmd->in);
    cmd->in = xmalloc(a.bytes ? a.bytes : 1);
    cmd->in_len = a.in_len;
    if (a.len)
        memcpy(cmd->in, a.data, a.len);
    f->bytes = a.bytes;
    f->got = a.len;
    return true;
}

static bool take_more(struct flight *f, const struct buf *b)
{
    if (b->len == 0 || b->len > f->bytes - f->got)
        return false;
    memcpy(f->cmd->in + f->got, b->data, b->len);
    f->got += b->len;
    return true;
}

/* The owner has aborted it: so it is gone, and nobody answers it. */
static void vanish(struct flight *f)
{
    struct command *cmd = land(f);

    command_abort(cmd);
    command_back(cmd);
}

static void on_reply(struct far_call *call)
{
    struct flight *f = container_of(call, struct flight, call);
    struct forward *fw = f->forward;
    struct buf *reply = NULL;
    bool understood = true, recalled;
    int status;

    if (call->call.status == 0)
        reply = buf_ref(call->call.reply);
    status = forward_back(fw, call);
    if (f->cmd->aborted) {
        struct command *cmd = land(f);

        command_back(cmd);
    } else if (status == -ECANCELED && !f->recalled) {
        vanish(f);
    } else if (status) {
        if (status == -EAGAIN)
            f->number = 0; /* nobody has heard of it */
        else if (f->state != FLIGHT_DATA)
            f->perhaps_done = true;
        recalled = f->recalled;
        park(f);
        forward_lost(fw, recalled ? 0 : status, f->session);
    } else if (f->state == FLIGHT_DATA) {
        f->sent += FORWARD_PIECE;
        send(f);
    } else {
        understood = f->state == FLIGHT_COMMAND ? take_answer(f, reply) : take_more(f, reply);
        if (understood && f->got == f->bytes)
            finish(f);
        else if (understood)
            send(f);
    }
    buf_unref(&reply);
    if (!understood) {
        park(f);
        conn_close(fw->session->conn, "the owner's answer to a command was not understood");
    }
}

/* --- on the way out -------------------------------------------------------------------------------------*/

static struct buf *command_body(struct flight *f)
{
    struct command *cmd = f->cmd;
    struct forward_command c = {.below = forward_below(f->forward),
                                .reads = cmd->reads,
                                .writes = cmd->writes,
                                .edtl = cmd->edtl,
                                .data = {.session = f->session,
                                         .number = f->number,
                                         .bytes = cmd->received,
                                         .from = f->sent,
                                         .len = cmd->received - f->sent}};

    c.data.data = c.data.len ? cmd->data->data + f->sent : NULL;
    memcpy(c.lun, cmd->lun_field, sizeof c.lun);
    memcpy(c.cdb, cmd->cdb, sizeof c.cdb);
    return forward_put_command(&c);
}

static struct buf *data_body(struct flight *f)
{
    struct forward_data d = {.session = f->session,
                             .number = f->number,
                             .bytes = f->cmd->received,
                             .from = f->sent,
                             .len = FORWARD_PIECE,
                             .data = f->cmd->data->data + f->sent};

    return forward_put_data(&d);
}

static struct buf *fetch_body(struct flight *f)
{
    uint32_t left = f->bytes - f->got;
    struct forward_fetch q = {.session = f->session,
                              .number = f->number,
                              .from = f->got,
                              .len = left < FORWARD_PIECE ? left : FORWARD_PIECE};

    return forward_put_fetch(&q);
}

/* Its next message. Its class: what waits here delays no mirrored record, and there is always room for those
 * in the connection's window. */
static void send(struct flight *f)
{
    struct forward *fw = f->forward;

    if (f->bytes) {
        f->state = FLIGHT_FETCH;
        forward_call(fw, &f->call, PROTO_FORWARD_FETCH, LINK_PREFETCH, fetch_body(f), on_reply);
    } else if (f->cmd->received - f->sent > FORWARD_PIECE) {
        f->state = FLIGHT_DATA;
        forward_call(fw, &f->call, PROTO_FORWARD_DATA, LINK_PREFETCH, data_body(f), on_reply);
    } else {
        f->state = FLIGHT_COMMAND;
        forward_call(fw, &f->call, PROTO_FORWARD_COMMAND, LINK_PREFETCH, command_body(f), on_reply);
    }
}

/* Once more would be something else than once: what is there now was perhaps made by it. */
static bool is_once_only(const struct command *cmd)
{
    switch (cmd->cdb[0]) {
    case 0x5f: /* PERSISTENT RESERVE OUT */
    case 0x83: /* EXTENDED COPY */
    case 0x89: /* COMPARE AND WRITE */
    case 0x8b: /* ORWRITE */
        return true;
    }
    return false;
}

/* true: it has its answer, for it was perhaps done and must not be done twice. */
static bool is_given_up(struct flight *f)
{
    struct command *cmd = f->cmd;

    if (!f->perhaps_done || !is_once_only(cmd))
        return false;
    log_info(cmd->conn->ctx, "command %02x was perhaps executed by an owner that is gone: aborted",
             cmd->cdb[0]);
    land(f);
    cmd->io_out = false;
    command_check(cmd, SENSE_CLEARED_BY_SERVER);
    conn_post_turn(cmd->conn);
    return true;
}

void forward_send_parked(struct forward *fw)
{
    struct flight *f;

    while ((f = TAILQ_FIRST(&fw->parked)) && fw->number) {
        bool known = f->number && f->session == fw->number; /* sent again it is the same command there */

        if (!known && is_given_up(f))
            continue;
        TAILQ_REMOVE(&fw->parked, f, entry);
        if (!known)
            f->number = fw->next++;
        f->session = fw->number;
        f->bytes = f->got = f->sent = 0;
        insert(&fw->out_there, f);
        send(f);
    }
}

void forward_run(struct command *cmd)
{
    struct forward *fw = cmd->conn->session->forward;
    struct flight *f = xcalloc(1, sizeof *f);

    f->forward = fw;
    f->cmd = cmd;
    cmd->flight = f;
    command_leave(cmd, on_answered);
    insert(&fw->parked, f);
    forward_pump(fw);
}

void forward_prepare(struct command *cmd)
{
    uint32_t most = cmd->edtl < COMMAND_BYTES_MAX ? cmd->edtl : COMMAND_BYTES_MAX;

    cmd->op = NULL;
    cmd->volume = NULL;
    cmd->out_bytes = cmd->writes ? most : 0;
    cmd->besides = cmd->reads ? most : 0;
}

/* --- back without an answer -----------------------------------------------------------------------------*/

void forward_recall(struct command *cmd)
{
    struct flight *f = cmd->flight;

    if (f->state != FLIGHT_PARKED) {
        far_call_cancel(&f->call);
        return;
    }
    land(f);
    command_back(cmd);
}

void forward_recall_all(struct forward *fw)
{
    struct flight *f;

    TAILQ_FOREACH (f, &fw->out_there, entry) {
        f->recalled = true;
        far_call_cancel(&f->call);
    }
}

void forward_do_parked(struct forward *fw)
{
    struct flight *f;

    while ((f = TAILQ_FIRST(&fw->parked))) {
        struct command *cmd = f->cmd;

        if (is_given_up(f))
            continue;
        land(f);
        cmd->io_out = false;
        cmd->io = (struct io){0};
        command_start(cmd);
        conn_post_turn(cmd->conn);
    }
}

uint64_t forward_number_of(const struct command *cmd)
{
    return cmd->flight && cmd->flight->state != FLIGHT_PARKED ? cmd->flight->number : 0;
}
