/* target/tmf.c - task management: abort, clear and reset. On the VM's loop.
 *
 * An aborted command is never answered; if its I/O is in the volume it is dropped when it comes back. The
 * function is answered when no write that it aborted is in the volume any more (RFC 7143 4.2.3.3, SAM-5 7.1):
 * what is read then stays. It does not wait for reads: they may be waiting for an outage of the WAN to end.
 * Responses that were queued before stay before it in the queue. ACA and task reassignment are not supported
 * and say so.
 */
#include "check.h"
#include "forward.h"
#include "log.h"
#include "mem.h"
#include "session.h"
#include "wire.h"

static const char part[] = "target";
enum { TMFS_MAX = 32 }; /* of a connection that wait */

/* A function whose answer waits until what it aborted has left the volume. */
struct tmf {
    LIST_ENTRY(tmf) entry; /* conn->tmfs */
    struct fence fence;
    struct conn *conn;
    uint32_t itt;
    int lun;       /* whose commands; -1: all */
    bool one, own; /* a single task of this session; all of this session */
    uint32_t task; /* that one */
    bool close_after;
};

void tmf_answer(struct conn *c, uint32_t itt, enum tmf_response response, bool close_after)
{
    struct out *o = out_new(ISCSI_TASK_MANAGEMENT_RESPONSE, ISCSI_FINAL, itt, 0);

    o->bhs[AT_RESPONSE] = (uint8_t)response;
    o->close_after = close_after;
    send_out(c, &o);
}

static void respond(struct conn *c, enum tmf_response response)
{
    tmf_answer(c, get32(c->rx.bhs + AT_ITT), response, false);
}

/* A read that comes back is dropped and nobody sees it; all else may still change something. */
static bool awaits(const struct fence *f, const struct command *cmd)
{
    const struct tmf *t = container_of(f, const struct tmf, fence);

    if (cmd->io.op == IO_READ || (t->own && cmd->conn != t->conn))
        return false;
    return t->one ? cmd->itt == t->task : t->lun < 0 || cmd->lun == t->lun;
}

static void tmf_free(struct tmf **pt)
{
    struct tmf *t = *pt;

    *pt = NULL;
    LIST_REMOVE(t, entry);
    t->conn->ntmfs--;
    free(t);
}

static void opened(struct fence *f)
{
    struct tmf *t = container_of(f, struct tmf, fence);

    tmf_answer(t->conn, t->itt, TMF_COMPLETE, t->close_after);
    conn_post_turn(t->conn);
    tmf_free(&t);
}

/* FUNCTION COMPLETE, now or when nothing that `like` tells of is in the volume any more. */
static void complete(struct conn *c, struct tmf like)
{
    struct tmf *t = xmalloc(sizeof *t);

    *t = like;
    t->conn = c;
    t->fence.awaits = awaits;
    t->fence.opened = opened;
    LIST_INSERT_HEAD(&c->tmfs, t, entry);
    c->ntmfs++;
    if (fence_raise(&t->fence, c->session->device, c->shard))
        return;
    tmf_answer(c, t->itt, TMF_COMPLETE, t->close_after);
    tmf_free(&t);
}

void tmf_drop(struct conn *c)
{
    struct tmf *t;

    while ((t = LIST_FIRST(&c->tmfs))) {
        fence_drop(&t->fence, c->session->device);
        tmf_free(&t);
    }
}

/* Whether an earlier function has aborted it, but it may still change something. */
static bool is_leaving(struct conn *c, uint32_t itt)
{
    struct command *cmd;

    TAILQ_FOREACH (cmd, &c->commands.all, entry)
        if (cmd->itt == itt && cmd->aborted && cmd->io.op != IO_READ)
            return true;
    return false;
}

static void abort_task(struct conn *c, int lun)
{
    struct session *s = c->session;
    uint32_t itt = get32(c->rx.bhs + AT_REFERENCED_TASK_TAG), ref = get32(c->rx.bhs + AT_REF_CMD_SN);
    struct command *cmd = command_find(c, itt);
    uint64_t referenced;

    if (cmd ? cmd->state == COMMAND_SENDING : !is_leaving(c, itt)) {
        /* A number still to come counts as received and aborted (RFC 7143 11.5.1); all else is answered. */
        if (!cmd && (int32_t)(ref - s->exp_cmd_sn) >= 0 && (int32_t)(ref - s->max_cmd_sn) <= 0 &&
            (int32_t)(ref - get32(c->rx.bhs + AT_CMD_SN)) < 0) {
            session_skip(c, ref);
            respond(c, TMF_COMPLETE);
        } else {
            respond(c, TMF_NO_TASK);
        }
        return;
    }
    referenced = cmd ? forward_number_of(cmd) : 0;
    if (cmd)
        command_abort(cmd);
    if (referenced)
        forward_task(c, TMF_ABORT_TASK, get32(c->rx.bhs + AT_ITT), c->rx.bhs + AT_LUN, referenced);
    else
        complete(c, (struct tmf){
                        .itt = get32(c->rx.bhs + AT_ITT), .lun = lun, .own = true, .one = true, .task = itt});
}

/* Every session's commands for the LUN (-1: all). A unit attention tells of it: everybody after a reset
 * (SAM-5 6.3.3), the others after CLEAR TASK SET. */
static void clear(struct conn *c, int lun, uint8_t attention)
{
    struct session *s;

    TAILQ_FOREACH (s, &c->session->device->sessions, peer) {
        command_abort_lun(s->conn, lun);
        if (s->conn != c)
            conn_post_turn(s->conn);
    }
    if (attention == UA_RESET)
        session_unreserve(c->session->device, lun, NULL);
    for (int i = 0; attention == UA_RESET && i < VM_DISKS_MAX; i++)
        if (lun < 0 || lun == i)
            *session_mode(c->session, i) = (struct mode){0}; /* none is saved: the defaults */
    session_attention(c->session->device, lun, attention, attention == UA_RESET ? NULL : c->session);
}

static void cold_reset(struct conn *c)
{
    struct session *s, *next;

    for (s = TAILQ_FIRST(&c->session->device->sessions); s; s = next) {
        next = TAILQ_NEXT(s, peer);
        if (s->conn == c)
            continue;
        drop_tell(s->conn);
        if (conn_open(s->conn))
            conn_close(s->conn, "target cold reset by %s", c->session->initiator);
    }
}

/* A function that concerns more than one task. */
static void serve_set(struct conn *c, enum tmf_function function, uint32_t itt, int lun)
{
    struct tmf t = {.itt = itt, .lun = lun};

    if (function == TMF_ABORT_TASK_SET) {
        command_abort_lun(c, lun);
        t.own = true;
    } else if (function == TMF_CLEAR_TASK_SET) {
        clear(c, lun, UA_CLEARED);
    } else {
        if (function != TMF_LOGICAL_UNIT_RESET)
            t.lun = -1;
        clear(c, t.lun, UA_RESET);
    }
    if (function == TMF_TARGET_COLD_RESET) {
        cold_reset(c);
        t.close_after = true;
    }
    complete(c, t);
}

/* The VM is far: what has not left yet is aborted here, the owner does the rest. */
static void forward_set(struct conn *c, enum tmf_function function, int lun)
{
    bool all = function >= TMF_TARGET_WARM_RESET;
    struct session *s;

    TAILQ_FOREACH (s, &c->session->device->sessions, peer)
        if (s->conn == c || function != TMF_ABORT_TASK_SET) {
            command_abort_lun(s->conn, all ? -1 : lun);
            if (s->conn != c)
                conn_post_turn(s->conn);
        }
    forward_task(c, function, get32(c->rx.bhs + AT_ITT), c->rx.bhs + AT_LUN, 0);
}

void tmf_again(struct conn *c, enum tmf_function function, uint32_t itt, int lun)
{
    bool has_lun = lun >= 0 && lun < VM_DISKS_MAX && c->session->vm->volumes[lun];

    if (function == TMF_ABORT_TASK)
        tmf_answer(c, itt, TMF_COMPLETE, false); /* it is nowhere any more */
    else if (!has_lun && function < TMF_TARGET_WARM_RESET)
        tmf_answer(c, itt, TMF_NO_LUN, false);
    else
        serve_set(c, function, itt, lun);
}

void tmf_request(struct conn *c)
{
    unsigned function = c->rx.bhs[AT_FLAGS] & 0x7f;
    const uint8_t *f = c->rx.bhs + AT_LUN;
    struct device *d = c->session->device;
    int lun = command_lun(f);
    bool has_lun;

    if (!d) {
        send_reject(c, REJECT_PROTOCOL_ERROR);
        return;
    }
    has_lun = d->far || (lun >= 0 && lun < VM_DISKS_MAX && d->vm->volumes[lun]);
    log_peer(c->ctx, "task management function %u, lun %d, task %08x", function, lun,
             get32(c->rx.bhs + AT_REFERENCED_TASK_TAG));
    if (c->ntmfs >= TMFS_MAX) {
        respond(c, TMF_REJECTED);
        return;
    }
    if (!has_lun && function >= TMF_ABORT_TASK && function <= TMF_LOGICAL_UNIT_RESET &&
        function != TMF_CLEAR_ACA) {
        respond(c, TMF_NO_LUN);
        return;
    }
    switch (function) {
    case TMF_ABORT_TASK:
        abort_task(c, lun);
        return;
    case TMF_ABORT_TASK_SET:
    case TMF_CLEAR_TASK_SET:
    case TMF_LOGICAL_UNIT_RESET:
    case TMF_TARGET_WARM_RESET:
    case TMF_TARGET_COLD_RESET:
        if (c->session->forward)
            forward_set(c, (enum tmf_function)function, lun);
        else
            serve_set(c, (enum tmf_function)function, get32(c->rx.bhs + AT_ITT), lun);
        return;
    case TMF_CLEAR_ACA:
        respond(c, TMF_NOT_SUPPORTED);
        return;
    case TMF_TASK_REASSIGN:
        respond(c, TMF_NO_REASSIGN);
        return;
    default:
        respond(c, TMF_REJECTED);
    }
}
