/* link/link_conn_recv.c - frames that come in, and what steers a connection: HELLO, BYE, PING, PONG. */
#include "generation.h"
#include "link_conn_in.h"

#include <errno.h>
#include <openssl/err.h>

static void send_steering(struct lconn *c, enum frame_kind kind, uint64_t id)
{
    lconn_send(c, 0, &(struct frame){.kind = (uint8_t)kind, .id = id}, NULL, NULL);
}

void lconn_ping(struct lconn *c)
{
    c->ping_out = true;
    c->ping_ns = loop_now_ns(c->loop);
    send_steering(c, FRAME_PING, ++c->ping_id);
}

static int on_hello(struct lconn *c, const struct buf *body, struct why *why)
{
    int rc = frame_get_hello(body ? body->data : NULL, body ? body->len : 0, &c->theirs, why);

    if (rc)
        return rc;
    rc =
        generation_agree(&(struct generation_range){c->id.name, c->theirs.version_min, c->theirs.version_max},
                         &(struct generation_range){c->self, c->ours.version_min, c->ours.version_max}, why);
    if (rc < 0)
        return rc;
    c->version = (unsigned)rc;
    c->in.greeted = true;
    c->up_ns = loop_now_ns(c->loop);
    lconn_enter(c, LCONN_UP);
    lconn_ping(c);
    c->events->up(c);
    return 0;
}

/* The other side's last word. What it says is shown, never trusted. */
static int on_bye(const struct buf *body, struct why *why)
{
    char text[FRAME_BYE_MAX + 1] = "no reason given";

    for (uint32_t i = 0; body && i < body->len; i++) {
        uint8_t ch = body->data[i];

        text[i] = ch < 0x20 || ch >= 0x7f || ch == '"' ? '?' : (char)ch;
        text[i + 1] = 0;
    }
    why_set(why, 0, "the other side hung up: %.330s", text);
    return -ECONNRESET;
}

static int on_ping(struct lconn *c, uint64_t id, struct why *why)
{
    if (c->pong_queued)
        return why_set(why, -EPROTO, "it sent a PING before its last one was answered");
    c->pong_queued = true;
    send_steering(c, FRAME_PONG, id);
    return 0;
}

static int on_pong(struct lconn *c, uint64_t id, struct why *why)
{
    if (!c->ping_out || id != c->ping_id)
        return why_set(why, -EPROTO, "it answered a PING that was not sent");
    c->ping_out = false;
    c->events->measured(c, loop_now_ns(c->loop) - c->ping_ns);
    return 0;
}

static int on_frame(void *arg, unsigned lane, const struct frame *f, struct buf **body, struct why *why)
{
    struct lconn *c = arg;
    int rc;

    c->frames_in++;
    switch (f->kind) {
    case FRAME_HELLO:
        rc = on_hello(c, *body, why);
        break;
    case FRAME_BYE:
        rc = on_bye(*body, why);
        break;
    case FRAME_PING:
        rc = on_ping(c, f->id, why);
        break;
    case FRAME_PONG:
        rc = on_pong(c, f->id, why);
        break;
    default:
        rc = c->events->frame(c, lane, f, body, why);
    }
    if (rc == 0 && c->state >= LCONN_LINGER) /* the owner ended it meanwhile */
        return -ECANCELED;
    return rc;
}

int lconn_receive(struct lconn *c, struct why *why)
{
    uint8_t bytes[16384];
    size_t moved = 0;
    int n, rc = 0;

    while (rc == 0) {
        ERR_clear_error();
        errno = 0;
        n = SSL_read(c->ssl, bytes, sizeof(bytes));
        if (n <= 0) {
            rc = lconn_tls_result(c, n, why);
            break;
        }
        moved += (size_t)n;
        rc = frame_in_feed(&c->in, bytes, (size_t)n, on_frame, c, why);
        if (moved >= LCONN_TURN_BYTES) {
            lconn_kick(c);
            break;
        }
    }
    if (moved) {
        c->heard_ns = loop_now_ns(c->loop);
        if (c->state == LCONN_UP)
            c->events->moved(c, moved, 0);
    }
    return rc;
}
