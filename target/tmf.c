/* target/tmf.c - task management: abort, clear and reset. On the VM's loop.
 *
 * An aborted command is never answered; if its I/O is in the volume it is dropped when it comes back, and
 * the function is answered at once. Responses that were queued before stay before it in the queue. ACA and
 * task reassignment are not supported and say so.
 */
#include "log.h"
#include "session.h"
#include "wire.h"

static const char part[] = "target";

static void respond(struct conn *c, enum tmf_response response)
{
    struct out *o = out_new(ISCSI_TASK_MANAGEMENT_RESPONSE, ISCSI_FINAL, get32(c->rx.bhs + AT_ITT), 0);

    o->bhs[AT_RESPONSE] = (uint8_t)response;
    send_out(c, &o);
}

static enum tmf_response abort_task(struct conn *c)
{
    struct session *s = c->session;
    uint32_t itt = get32(c->rx.bhs + AT_REFERENCED_TASK_TAG), ref = get32(c->rx.bhs + AT_REF_CMD_SN);
    struct command *cmd = command_find(c, itt);

    if (cmd && cmd->state != COMMAND_SENDING) {
        command_abort(cmd);
        return TMF_COMPLETE;
    }
    /* A number still to come counts as aborted (RFC 7143 11.5.1); anything else is not there any more. */
    if (!cmd && (int32_t)(ref - s->exp_cmd_sn) >= 0 && (int32_t)(ref - s->max_cmd_sn) <= 0)
        return TMF_COMPLETE;
    return TMF_NO_TASK;
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
        if (s->conn != c)
            conn_close(s->conn, "target cold reset by %s", c->session->initiator);
    }
}

void tmf_request(struct conn *c)
{
    unsigned function = c->rx.bhs[AT_FLAGS] & 0x7f;
    const uint8_t *f = c->rx.bhs + AT_LUN;
    struct device *d = c->session->device;
    int lun = f[0] >> 6 > 1 || get16(f + 2) || get32(f + 4) ? -1 : (f[0] & 0x3f) << 8 | f[1];
    bool has_lun;

    if (!d) {
        send_reject(c, REJECT_PROTOCOL_ERROR);
        return;
    }
    has_lun = lun >= 0 && (unsigned)lun < d->vm->spec.ndisks;
    log_info(c->ctx, "task management function %u, lun %d, task %08x", function, lun,
             get32(c->rx.bhs + AT_REFERENCED_TASK_TAG));
    switch (function) {
    case TMF_ABORT_TASK:
        respond(c, has_lun ? abort_task(c) : TMF_NO_LUN);
        return;
    case TMF_ABORT_TASK_SET:
        if (has_lun)
            command_abort_lun(c, lun);
        respond(c, has_lun ? TMF_COMPLETE : TMF_NO_LUN);
        return;
    case TMF_CLEAR_TASK_SET:
        if (has_lun)
            clear(c, lun, UA_CLEARED);
        respond(c, has_lun ? TMF_COMPLETE : TMF_NO_LUN);
        return;
    case TMF_LOGICAL_UNIT_RESET:
        if (has_lun)
            clear(c, lun, UA_RESET);
        respond(c, has_lun ? TMF_COMPLETE : TMF_NO_LUN);
        return;
    case TMF_TARGET_WARM_RESET:
        clear(c, -1, UA_RESET);
        respond(c, TMF_COMPLETE);
        return;
    case TMF_TARGET_COLD_RESET: {
        struct out *o = out_new(ISCSI_TASK_MANAGEMENT_RESPONSE, ISCSI_FINAL, get32(c->rx.bhs + AT_ITT), 0);

        clear(c, -1, UA_RESET);
        cold_reset(c);
        o->close_after = true;
        send_out(c, &o);
        return;
    }
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
