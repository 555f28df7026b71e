/* target/nop.c - NOP both ways, logout and the request for it. On the connection's loop.
 *
 * After ping_seconds of silence a NOP-In asks for an answer. Only an initiator that has shown that it speaks
 * NOP (it answered one, or sent one) is closed for silence: boot firmware such as iPXE ignores pings and
 * idles while the guest thinks. A host that is gone is TCP's to find, in about a minute (portal.c); what is
 * left for the ping is a peer whose TCP lives on, and most of those are paused or starved, not dead. So its
 * timeout is long: a guest that is closed early in its boot has nobody yet who would log in again.
 */
#include "forward.h"
#include "log.h"
#include "mem.h"
#include "session.h"
#include "wire.h"

static const char part[] = "target";

void nop_out(struct conn *c)
{
    uint32_t itt = get32(c->rx.bhs + AT_ITT), ttt = get32(c->rx.bhs + AT_TTT), n = c->rx.data_len;
    struct out *o;

    c->answers_pings = true;
    if (ttt != ISCSI_TAG_NONE) { /* an answer to ours, late or not */
        if (c->ping_out && ttt == c->ping_ttt) {
            c->ping_out = false;
            forward_alive(c->session, ttt);
        }
        return;
    }
    if (itt == ISCSI_TAG_NONE)
        return;
    if (n > c->params.value[KEY_MaxRecvDataSegmentLength])
        n = c->params.value[KEY_MaxRecvDataSegmentLength];
    o = out_new(ISCSI_NOP_IN, ISCSI_FINAL, itt, n);
    memcpy(o->bhs + AT_LUN, c->rx.bhs + AT_LUN, 8);
    put32(o->bhs + AT_TTT, ISCSI_TAG_NONE);
    if (n)
        memcpy(o->data, c->rx.data->data, n);
    send_out(c, &o);
}

void nop_tick(struct conn *c)
{
    const struct target_conf *conf = &c->target->conf;
    uint64_t silent = (loop_now_ns(c->shard->loop) - c->last_rx_ns) / 1000000000;

    if (silent < conf->ping_seconds) {
        c->ping_out = false;
        return;
    }
    if (c->ping_out) {
        if (c->answers_pings && silent >= conf->ping_seconds + conf->ping_timeout_seconds)
            conn_close(c, "nothing heard for %u s, a ping included", (unsigned)silent);
        return;
    }
    nop_ping(c);
}

uint32_t nop_ping(struct conn *c)
{
    struct out *o = out_new(ISCSI_NOP_IN, ISCSI_FINAL, ISCSI_TAG_NONE, 0);

    c->ping_out = true;
    c->ping_ttt = session_ttt(c->session);
    put32(o->bhs + AT_TTT, c->ping_ttt);
    o->sn = SN_SHOW;
    send_out(c, &o);
    send_run(c);
    return c->ping_ttt;
}

void logout_request(struct conn *c)
{
    unsigned reason = c->rx.bhs[AT_FLAGS] & 0x7f, response = LOGOUT_DONE;
    struct out *o = out_new(ISCSI_LOGOUT_RESPONSE, ISCSI_FINAL, get32(c->rx.bhs + AT_ITT), 0);

    if (reason == LOGOUT_RECOVERY)
        response = LOGOUT_NO_RECOVERY;
    else if (reason == LOGOUT_CLOSE_CONNECTION && get16(c->rx.bhs + AT_CID) != c->session->cid)
        response = LOGOUT_NO_CID;
    if (reason > LOGOUT_RECOVERY) {
        free(o);
        send_reject(c, REJECT_PROTOCOL_ERROR);
        return;
    }
    o->bhs[AT_RESPONSE] = (uint8_t)response;
    if (response == LOGOUT_DONE) {
        log_peer(c->ctx, "logout of %s", c->session->initiator);
        command_abort_all(c); /* those with an answer still send it */
        o->close_after = true;
        conn_enter(c, CONN_LOGOUT);
    }
    send_out(c, &o);
}

static void async_message(struct conn *c, uint8_t event, uint16_t parameter3)
{
    struct out *o;

    if (c->state != CONN_FULL_FEATURE)
        return;
    o = out_new(ISCSI_ASYNC_MESSAGE, ISCSI_FINAL, ISCSI_TAG_NONE, 0);
    o->bhs[AT_ASYNC_EVENT] = event;
    put16(o->bhs + AT_ASYNC_PARAMETER3, parameter3);
    send_out(c, &o);
    send_run(c);
}

void logout_ask(struct conn *c)
{
    async_message(c, ASYNC_LOGOUT_REQUEST, 2 /* seconds it may take */);
}

void drop_tell(struct conn *c)
{
    async_message(c, ASYNC_DROP_SESSION, 0 /* it may come again at once, and finds nothing of what it had */);
}
