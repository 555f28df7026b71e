/* link/link_conn_send.c - frames on their way out: lanes, TLS records made of them, highest lane first.
 *
 * The socket itself pushes back, so that what waits, waits in our lanes where a higher class can overtake it.
 */
#include "link_conn_in.h"

#include "check.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <openssl/err.h>

enum { REKEY_RECORDS = 1 << 22 }; /* far below AES-GCM's limit of 2^24.5 records a key (RFC 8446, 5.5) */

struct lout *lconn_send(struct lconn *c, unsigned lane, const struct frame *f, struct buf *body, void *slot)
{
    struct lout *o = xcalloc(1, sizeof(*o));

    CHECK(lane < FRAME_LANES && f->len <= LINK_FRAME_MAX && f->len == (body ? body->len : 0));
    o->frame = *f;
    o->body = body ? buf_ref(body) : NULL;
    o->lane = lane;
    o->slot = slot;
    frame_put(o->head, f);
    TAILQ_INSERT_TAIL(&c->lanes[lane], o, entry);
    lconn_kick(c);
    return o;
}

static void lout_free(struct lout *o)
{
    buf_unref(&o->body);
    free(o);
}

void lout_move(struct lconn *c, struct lout *o, unsigned lane)
{
    CHECK(!lout_begun(o) && lane < FRAME_LANES);
    TAILQ_REMOVE(&c->lanes[o->lane], o, entry);
    o->lane = lane;
    TAILQ_INSERT_TAIL(&c->lanes[lane], o, entry);
}

void lout_drop(struct lconn *c, struct lout *o)
{
    CHECK(!lout_begun(o));
    TAILQ_REMOVE(&c->lanes[o->lane], o, entry);
    lout_free(o);
}

void lconn_drop_lanes(struct lconn *c, unsigned from)
{
    struct lout *o;

    for (unsigned i = from; i < FRAME_LANES; i++)
        while ((o = TAILQ_FIRST(&c->lanes[i]))) {
            TAILQ_REMOVE(&c->lanes[i], o, entry);
            lout_free(o);
        }
}

/* Copies as much of a frame as fits; true when that was its end. */
static bool stage_frame(struct lconn *c, struct lout *o)
{
    size_t room = LCONN_STAGE - c->stage_len;
    size_t total = FRAME_HEAD_BYTES + o->frame.len;

    while (room > 0 && o->at < total) {
        const uint8_t *from =
            o->at < FRAME_HEAD_BYTES ? o->head + o->at : o->body->data + o->at - FRAME_HEAD_BYTES;
        size_t left = (o->at < FRAME_HEAD_BYTES ? FRAME_HEAD_BYTES : total) - o->at;
        size_t n = left < room ? left : room;

        memcpy(c->stage + c->stage_len, from, n);
        c->stage_len += n;
        o->at += (uint32_t)n;
        room -= n;
    }
    return o->at == total;
}

/* One chunk of the lane: its frames, as far as the stage has room. */
static void stage_lane(struct lconn *c, unsigned lane)
{
    uint8_t *head = c->stage + c->stage_len;
    struct lout *o;

    c->stage_len += FRAME_CHUNK_HEAD_BYTES;
    while (c->stage_len < LCONN_STAGE && (o = TAILQ_FIRST(&c->lanes[lane])) && stage_frame(c, o)) {
        TAILQ_REMOVE(&c->lanes[lane], o, entry);
        c->frames_out++;
        if (o->frame.kind == FRAME_PONG)
            c->pong_queued = false;
        if (c->state == LCONN_UP)
            c->events->sent(c, o);
        lout_free(o);
    }
    head[0] = (uint8_t)lane;
    head[1] = 0;
    put16(head + 2, (uint16_t)(c->stage + c->stage_len - head - FRAME_CHUNK_HEAD_BYTES));
}

/* Fills one TLS record, highest lane first. */
static bool stage_fill(struct lconn *c)
{
    c->stage_at = c->stage_len = 0;
    for (unsigned i = 0; i < FRAME_LANES; i++)
        while (!TAILQ_EMPTY(&c->lanes[i]) && c->stage_len + FRAME_CHUNK_HEAD_BYTES < LCONN_STAGE)
            stage_lane(c, i);
    return c->stage_len > 0;
}

/* OpenSSL refuses a key change while a write is half done, so this comes between records. */
static void rekey_if_due(struct lconn *c)
{
    if (++c->records % REKEY_RECORDS == 0)
        SSL_key_update(c->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
}

int lconn_transmit(struct lconn *c, struct why *why)
{
    size_t moved = 0;
    int n, rc = 0;

    while (c->stage_at < c->stage_len || stage_fill(c)) {
        ERR_clear_error();
        errno = 0;
        n = SSL_write(c->ssl, c->stage + c->stage_at, (int)(c->stage_len - c->stage_at));
        if (n <= 0) {
            rc = lconn_tls_result(c, n, why);
            break;
        }
        c->stage_at += (size_t)n;
        moved += (size_t)n;
        rekey_if_due(c);
        if (moved >= LCONN_TURN_BYTES) {
            lconn_kick(c);
            break;
        }
    }
    if (moved && c->state == LCONN_UP)
        c->events->moved(c, 0, moved);
    return rc;
}
