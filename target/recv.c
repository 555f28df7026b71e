/* target/recv.c - bytes from the socket into PDUs: HEADER, AHS, HEADER_DIGEST, DATA, DATA_DIGEST.
 *
 * One readv a turn, into the segment that is being received (a Data-Out straight into its command's buffer)
 * and then into the loop's buffer, which usually holds many PDUs. Bytes that may not be looked at yet (the
 * connection moves, or its send queue is full) are kept aside. On the connection's loop.
 */
#include "check.h"
#include "conn.h"
#include "crc32c.h"
#include "mem.h"
#include "session.h"
#include "wire.h"

#include <errno.h>
#include <event2/event.h>

static void rx_want(struct conn *c, enum rx_state state, void *dst, uint32_t n)
{
    c->rx.state = state;
    c->rx.dst = dst;
    c->rx.want = n;
    c->rx.have = 0;
}

void recv_reset(struct conn *c)
{
    buf_unref(&c->rx.data);
    c->rx.into = NULL;
    c->rx.ahs_len = c->rx.data_len = 0;
    rx_want(c, RX_HEADER, c->rx.bhs, BHS_BYTES);
}

void recv_command_gone(struct conn *c, struct command *cmd)
{
    if (c->rx.into != cmd)
        return;
    c->rx.into = NULL;
    c->rx.segment = NULL;
    if (c->rx.state == RX_DATA)
        c->rx.dst = NULL;
}

static uint32_t segment_max(const struct conn *c)
{
    return c->state == CONN_SECURITY || c->state == CONN_OPERATIONAL
               ? ISCSI_LOGIN_SEGMENT
               : c->params.offer[KEY_MaxRecvDataSegmentLength];
}

/* Immediate data goes where the rest of the command's data can follow, if there is room for it. */
static uint32_t segment_room(const struct conn *c)
{
    const uint8_t *bhs = c->rx.bhs;
    uint32_t edtl = get32(bhs + AT_EDTL);

    if (c->state == CONN_FULL_FEATURE && (bhs[0] & ISCSI_OPCODE_MASK) == ISCSI_SCSI_COMMAND &&
        edtl > c->rx.data_len && edtl <= COMMAND_BYTES_MAX &&
        c->held_bytes + edtl <= c->target->conf.session_bytes &&
        c->shard->held_bytes + edtl <= c->target->conf.loop_bytes)
        return edtl;
    return c->rx.data_len;
}

/* The header is in and right: where does the segment go? */
static void rx_segment(struct conn *c)
{
    uint8_t opcode = c->rx.bhs[0] & ISCSI_OPCODE_MASK;
    uint8_t *dst = NULL;
    int refuse = 0;

    if (opcode == ISCSI_DATA_OUT && c->state == CONN_FULL_FEATURE && c->session->device) {
        dst = command_data_place(c, &c->rx.into, &refuse);
        if (refuse) {
            send_reject(c, (enum reject_reason)refuse);
            if (!conn_open(c))
                return;
        }
    } else if (opcode != ISCSI_DATA_OUT && c->rx.data_len) {
        c->rx.data = buf_new(segment_room(c) + 1); /* one more, for the text parser's NUL */
        dst = c->rx.data->data;
    }
    c->rx.segment = dst;
    rx_want(c, RX_DATA, dst, c->rx.data_len);
}

static bool header_digest_ok(struct conn *c)
{
    uint32_t crc = crc32c(0, c->rx.bhs, BHS_BYTES), got;

    crc = crc32c(crc, c->rx.ahs, c->rx.ahs_len);
    memcpy(&got, c->rx.digest, 4); /* sent least significant byte first */
    return le32toh(got) == crc;
}

static bool data_digest_ok(struct conn *c)
{
    uint32_t pad = -c->rx.data_len & 3, crc, got;

    if (!c->rx.segment) /* dropped */
        return true;
    crc = crc32c(crc32c(0, c->rx.segment, c->rx.data_len), c->rx.digest, pad);
    memcpy(&got, c->rx.digest + pad, 4);
    return le32toh(got) == crc;
}

static void rx_trailer(struct conn *c)
{
    uint32_t n = -c->rx.data_len & 3;

    if (c->data_digest && c->rx.data_len)
        n += 4;
    rx_want(c, RX_DATA_DIGEST, c->rx.digest, n);
}

/* Recovery is a new session (ERL 0), but the initiator hears why: RFC 7143 7.8. */
static void data_digest_wrong(struct conn *c)
{
    if (c->state != CONN_FULL_FEATURE)
        return;
    command_abort_all(c);
    send_last_reject(c, REJECT_DATA_DIGEST);
    conn_enter(c, CONN_LOGOUT);
}

/* A whole PDU. */
static void rx_complete(struct conn *c)
{
    struct command *into = c->rx.into;

    c->last_rx_ns = loop_now_ns(c->shard->loop);
    if (c->data_digest && c->rx.data_len && !data_digest_ok(c)) {
        data_digest_wrong(c);
        recv_reset(c);
        return;
    }
    c->rx.into = NULL;
    if ((c->rx.bhs[0] & ISCSI_OPCODE_MASK) == ISCSI_DATA_OUT && c->state == CONN_FULL_FEATURE &&
        c->session->device) {
        if (into)
            command_data_arrived(into);
    } else {
        conn_dispatch(c);
    }
    if (conn_open(c))
        recv_reset(c);
}

/* What the state wanted is there: the next state. A step may close the connection. */
static void rx_next(struct conn *c)
{
    switch (c->rx.state) {
    case RX_HEADER:
        c->rx.ahs_len = c->rx.bhs[AT_TOTAL_AHS_LENGTH] * 4u;
        c->rx.data_len = get24(c->rx.bhs + AT_DATA_SEGMENT_LENGTH);
        if (c->rx.data_len > segment_max(c)) {
            conn_close(c, "a segment of %u bytes in request %02x, at most %u are allowed", c->rx.data_len,
                       c->rx.bhs[0], segment_max(c));
            return;
        }
        rx_want(c, RX_AHS, c->rx.ahs, c->rx.ahs_len);
        return;
    case RX_AHS:
        rx_want(c, RX_HEADER_DIGEST, c->rx.digest, c->header_digest ? 4 : 0);
        return;
    case RX_HEADER_DIGEST:
        if (c->header_digest && !header_digest_ok(c)) {
            conn_close(c, "header digest wrong in request %02x", c->rx.bhs[0]);
            return;
        }
        rx_segment(c);
        return;
    case RX_DATA:
        rx_trailer(c);
        return;
    case RX_DATA_DIGEST:
        rx_complete(c);
        return;
    }
}

static void hold(struct conn *c, const uint8_t *p, size_t n)
{
    if (!n)
        return;
    c->held = xrealloc(c->held, c->held_len + n);
    memcpy(c->held + c->held_len, p, n);
    c->held_len += n;
}

static bool paused(struct conn *c)
{
    if (c->nouts >= CONN_OUTS_MAX && !c->reading_paused) {
        c->reading_paused = true;
        event_del(c->readable);
    }
    return c->moving || c->reading_paused;
}

static void feed(struct conn *c, const uint8_t *p, size_t n)
{
    for (;;) {
        uint32_t take;

        while (conn_open(c) && !paused(c) && c->rx.have == c->rx.want)
            rx_next(c);
        if (!conn_open(c))
            return;
        if (paused(c)) {
            hold(c, p, n);
            return;
        }
        if (!n)
            return;
        take = c->rx.want - c->rx.have;
        if (take > n)
            take = (uint32_t)n;
        if (c->rx.dst)
            memcpy(c->rx.dst + c->rx.have, p, take);
        c->rx.have += take;
        p += take;
        n -= take;
    }
}

void recv_resume(struct conn *c)
{
    uint8_t *p = c->held;
    size_t n = c->held_len;

    if (c->reading_paused) {
        if (c->nouts >= CONN_OUTS_MAX / 2)
            return;
        c->reading_paused = false;
        event_add(c->readable, NULL);
    }
    c->held = NULL;
    c->held_len = 0;
    feed(c, p, n); /* also what is complete without more bytes */
    free(p);
    if (conn_open(c) && !c->moving)
        send_run(c);
}

void recv_on_readable(struct conn *c)
{
    uint8_t *buffer = c->shard->read_buffer;
    size_t direct = c->rx.state == RX_DATA && c->rx.dst ? c->rx.want - c->rx.have : 0;
    struct iovec iov[2] = {{direct ? c->rx.dst + c->rx.have : buffer, direct}, {buffer, SHARD_READ_BYTES}};
    ssize_t n = direct ? readv(c->fd, iov, 2) : readv(c->fd, iov + 1, 1);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        conn_close(c, "%s", n ? strerror(errno) : "the initiator closed the connection");
        return;
    }
    c->last_rx_ns = loop_now_ns(c->shard->loop);
    if ((size_t)n < direct)
        direct = (size_t)n;
    c->rx.have += (uint32_t)direct;
    feed(c, buffer, (size_t)n - direct);
    if (conn_open(c) && !c->moving)
        send_run(c);
}
