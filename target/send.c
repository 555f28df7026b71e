/* target/send.c - the output queue: many PDUs in one sendmsg, data by reference.
 *
 * A Data-In PDU is made when there is room for it in the ring of chunks, not when its command ends: a big
 * read at a tiny segment length costs no memory. Headers are in the chunk; read data stays in the cache's
 * blocks, which the command gives back when its last byte has left. On the connection's loop.
 */
#include "check.h"
#include "conn.h"
#include "crc32c.h"
#include "forwarded.h"
#include "log.h"
#include "mem.h"
#include "session.h"
#include "wire.h"

#include <endian.h>
#include <errno.h>
#include <event2/event.h>
#include <sys/socket.h>

static const char part[] = "target";
/* A segment of ours is at most so long, whatever the initiator would take: its iovecs fit in one call. */
enum {
    SEGMENT_MAX = 256 * 1024,
    IOVS = 512,
    TURN_BYTES = 1 << 20,
    FAIR_BYTES = 4 << 20,
    OUT_UNIT_BYTES = 4096
};
enum { BLOCK_IOVS = SEGMENT_MAX / BLOCK_BYTES + 4 };

struct out *out_new(uint8_t opcode, uint8_t flags, uint32_t itt, uint32_t len)
{
    struct out *o = xcalloc(1, sizeof *o + len);

    o->bhs[AT_OPCODE] = opcode;
    o->bhs[AT_FLAGS] = flags;
    put32(o->bhs + AT_ITT, itt);
    o->sn = SN_ADVANCE;
    o->len = len;
    o->data = (uint8_t *)(o + 1);
    return o;
}

/* What it counts against CONN_OUTS_MAX: a large answer as much as many small ones. */
static unsigned weight(const struct out *o)
{
    return 1 + o->len / OUT_UNIT_BYTES;
}

void send_out(struct conn *c, struct out **o)
{
    STAILQ_INSERT_TAIL(&c->outs, *o, entry);
    c->nouts += weight(*o);
    *o = NULL;
}

void send_command(struct conn *c, struct command *cmd)
{
    cmd->state = COMMAND_SENDING;
    cmd->out.command = cmd;
    cmd->out.sn = SN_ADVANCE;
    STAILQ_INSERT_TAIL(&c->outs, &cmd->out, entry);
    c->nouts += weight(&cmd->out);
}

struct out *send_take(struct conn *c)
{
    struct out *o = STAILQ_FIRST(&c->outs);

    if (o) {
        STAILQ_REMOVE_HEAD(&c->outs, entry);
        c->nouts -= weight(o);
    }
    return o;
}

static void reject(struct conn *c, enum reject_reason reason, bool close_after)
{
    struct out *o = out_new(ISCSI_REJECT, ISCSI_FINAL, ISCSI_TAG_NONE, BHS_BYTES);

    o->bhs[AT_RESPONSE] = (uint8_t)reason;
    memcpy(o->data, c->rx.bhs, BHS_BYTES);
    o->close_after = close_after;
    metric_add(c->target->m_rejects, 1);
    log_peer(c->ctx, "request %02x rejected, reason %02x", c->rx.bhs[0], reason);
    send_out(c, &o);
}

void send_reject(struct conn *c, enum reject_reason reason)
{
    reject(c, reason, false);
}

void send_last_reject(struct conn *c, enum reject_reason reason)
{
    reject(c, reason, true);
}

static struct chunk *chunk_at(struct conn *c, unsigned i)
{
    return &c->chunks[(c->first_chunk + i) % CONN_CHUNKS];
}

/* iovecs of the bytes [skip, chunk->len) of its data. */
static int data_iov(const struct chunk *k, uint32_t skip, struct iovec *iov, int max)
{
    struct command *cmd = k->out->command;
    uint32_t n = k->len - skip;

    if (!n)
        return 0;
    if (cmd && cmd->in_io && (k->header[0] & ISCSI_OPCODE_MASK) == ISCSI_DATA_IN)
        return io_iov(&cmd->io, k->from + skip, n, iov, max);
    if (cmd && (k->header[0] & ISCSI_OPCODE_MASK) == ISCSI_DATA_IN)
        iov[0].iov_base = cmd->in + k->from + skip;
    else
        iov[0].iov_base = (cmd ? cmd->response : k->out->data) + k->from + skip;
    iov[0].iov_len = n;
    return 1;
}

static void put_le32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, 4);
}

/* The rest of a chunk whose header, from and len are set: length, numbers, digests. */
static void chunk_finish(struct conn *c, struct chunk *k, bool shows_sn, bool advances)
{
    static _Thread_local struct iovec iov[BLOCK_IOVS];
    uint32_t crc = 0;
    int n;

    put24(k->header + AT_DATA_SEGMENT_LENGTH, k->len);
    if (shows_sn)
        put32(k->header + AT_STAT_SN, c->stat_sn);
    if (advances)
        c->stat_sn++;
    if (c->session)
        session_stamp(c->session, k->header);
    k->header_len = BHS_BYTES;
    if (c->header_digest) {
        put_le32(k->header + BHS_BYTES, crc32c(0, k->header, BHS_BYTES));
        k->header_len += 4;
    }
    memset(k->trailer, 0, sizeof k->trailer);
    k->trailer_len = (uint8_t)(-k->len & 3);
    if (!c->data_digest || !k->len)
        return;
    n = data_iov(k, 0, iov, BLOCK_IOVS);
    for (int i = 0; i < n; i++)
        crc = crc32c(crc, iov[i].iov_base, iov[i].iov_len);
    crc = crc32c(crc, k->trailer, k->trailer_len);
    put_le32(k->trailer + k->trailer_len, crc);
    k->trailer_len = (uint8_t)(k->trailer_len + 4);
}

/* Residual: what the command had for the initiator, or wanted from it, against what it expected. */
static void put_residual(const struct command *cmd, uint8_t *bhs)
{
    uint32_t real = cmd->out_bytes ? cmd->out_bytes : cmd->in_len;
    bool right_way = cmd->out_bytes ? cmd->writes : cmd->in_len ? cmd->reads : true;
    uint32_t expected = right_way ? cmd->edtl : 0;

    if (real > expected) {
        bhs[AT_FLAGS] |= ISCSI_RESIDUAL_OVERFLOW;
        put32(bhs + AT_RESIDUAL, real - expected);
    } else if (real < expected) {
        bhs[AT_FLAGS] |= ISCSI_RESIDUAL_UNDERFLOW;
        put32(bhs + AT_RESIDUAL, expected - real);
    }
}

static void leave_window(struct conn *c, struct command *cmd)
{
    if (cmd->in_window) {
        cmd->in_window = false;
        c->session->in_window--;
    }
}

static void command_data_chunk(struct conn *c, struct command *cmd, struct chunk *k, uint32_t total)
{
    uint32_t n = total - cmd->sent, segment = c->params.value[KEY_MaxRecvDataSegmentLength];
    bool end, status;

    if (!cmd->burst_left)
        cmd->burst_left = c->params.value[KEY_MaxBurstLength];
    if (n > segment)
        n = segment;
    if (n > SEGMENT_MAX)
        n = SEGMENT_MAX;
    if (n > cmd->burst_left)
        n = cmd->burst_left;
    end = cmd->sent + n == total;
    status = end && cmd->status == SCSI_GOOD;
    cmd->burst_left -= n;
    k->header[AT_OPCODE] = ISCSI_DATA_IN;
    k->header[AT_FLAGS] = end || !cmd->burst_left ? ISCSI_FINAL : 0;
    put32(k->header + AT_TTT, ISCSI_TAG_NONE);
    put32(k->header + AT_DATA_SN, cmd->data_sn++);
    put32(k->header + AT_BUFFER_OFFSET, cmd->sent);
    k->from = cmd->sent;
    k->len = n;
    cmd->sent += n;
    if (status) {
        k->header[AT_FLAGS] |= ISCSI_DATA_STATUS;
        k->header[AT_STATUS] = cmd->status;
        put_residual(cmd, k->header);
        leave_window(c, cmd);
    }
    k->last = status;
    chunk_finish(c, k, status, status);
}

static void command_response_chunk(struct conn *c, struct command *cmd, struct chunk *k)
{
    k->header[AT_OPCODE] = ISCSI_SCSI_RESPONSE;
    k->header[AT_FLAGS] = ISCSI_FINAL;
    k->header[AT_STATUS] = cmd->status;
    put32(k->header + AT_DATA_SN, cmd->data_sn + cmd->r2t_sn);
    put_residual(cmd, k->header);
    leave_window(c, cmd);
    k->from = 0;
    k->len = cmd->response_len;
    k->last = true;
    chunk_finish(c, k, true, true);
}

/* The next PDU of the first entry of the queue. */
static void chunk_make(struct conn *c)
{
    struct out *o = STAILQ_FIRST(&c->outs);
    struct chunk *k = chunk_at(c, c->nchunks);
    struct command *cmd = o->command;

    memset(k->header, 0, BHS_BYTES);
    k->out = o;
    if (!cmd) {
        memcpy(k->header, o->bhs, BHS_BYTES);
        k->from = 0;
        k->len = o->len;
        k->last = true;
        chunk_finish(c, k, true, o->sn == SN_ADVANCE);
    } else {
        uint32_t total = cmd->reads ? (cmd->in_len < cmd->edtl ? cmd->in_len : cmd->edtl) : 0;

        put32(k->header + AT_ITT, cmd->itt);
        if (cmd->sent < total)
            command_data_chunk(c, cmd, k, total);
        else
            command_response_chunk(c, cmd, k);
    }
    c->nchunks++;
    if (k->last) {
        STAILQ_REMOVE_HEAD(&c->outs, entry);
        c->nouts -= weight(o);
    }
}

static uint32_t chunk_bytes(const struct chunk *k)
{
    return k->header_len + k->len + k->trailer_len;
}

static int add_iov(struct iovec *iov, const void *p, uint32_t n, uint32_t *skip)
{
    uint32_t s = *skip < n ? *skip : n;

    *skip -= s;
    if (s == n)
        return 0;
    iov->iov_base = (uint8_t *)(uintptr_t)p + s;
    iov->iov_len = n - s;
    return 1;
}

static int chunk_iov(const struct chunk *k, uint32_t skip, struct iovec *iov, int max)
{
    int n = add_iov(iov, k->header, k->header_len, &skip);

    if (skip < k->len) {
        n += data_iov(k, skip, iov + n, max - n - 1);
        skip = 0;
    } else {
        skip -= k->len;
    }
    return n + add_iov(iov + n, k->trailer, k->trailer_len, &skip);
}

static void out_sent(struct conn *c, struct out *o)
{
    bool close_after = o->close_after;

    if (o->command) {
        struct command *cmd = o->command;

        command_free(&cmd);
    } else {
        free(o);
    }
    if (close_after)
        conn_close(c, "that was all");
}

static void chunks_sent(struct conn *c, size_t n)
{
    n += c->sent_of_first;
    while (c->nchunks && conn_open(c)) {
        struct chunk *k = chunk_at(c, 0);
        uint32_t bytes = chunk_bytes(k);

        if (n < bytes)
            break;
        n -= bytes;
        c->first_chunk = (c->first_chunk + 1) % CONN_CHUNKS;
        c->nchunks--;
        if (k->last)
            out_sent(c, k->out);
    }
    c->sent_of_first = (uint32_t)n;
}

/* As many iovecs as fit, of chunks made as they are needed. */
static int gather(struct conn *c, struct iovec *iov, size_t *bytes)
{
    int n = 0;

    *bytes = 0;
    for (unsigned i = 0; i < CONN_CHUNKS && *bytes < TURN_BYTES; i++) {
        struct chunk *k;
        uint32_t skip = i ? 0 : c->sent_of_first;

        if (i == c->nchunks) {
            if (STAILQ_EMPTY(&c->outs))
                break;
            chunk_make(c);
        }
        k = chunk_at(c, i);
        if (IOVS - n < (int)(k->len / BLOCK_BYTES) + 5)
            break;
        n += chunk_iov(k, skip, iov + n, IOVS - n);
        *bytes += chunk_bytes(k) - skip;
    }
    return n;
}

/* At most FAIR_BYTES of it at once: other connections of the loop have their turn in between. */
void send_run(struct conn *c)
{
    static _Thread_local struct iovec iov[IOVS];
    size_t written = 0;

    if (c->forwarded) {
        forwarded_run(c);
        return;
    }
    if (!c->chunks && !STAILQ_EMPTY(&c->outs))
        c->chunks = xcalloc(CONN_CHUNKS, sizeof *c->chunks);
    while (conn_open(c) && !c->write_blocked && (c->nchunks || !STAILQ_EMPTY(&c->outs))) {
        size_t bytes;
        struct msghdr m = {.msg_iov = iov};
        ssize_t n;

        m.msg_iovlen = (size_t)gather(c, iov, &bytes);
        n = sendmsg(c->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            conn_close(c, "%s while sending", strerror(errno));
            return;
        }
        if (n > 0) {
            chunks_sent(c, (size_t)n);
            written += (size_t)n;
        }
        if (conn_open(c) && (n < 0 || (size_t)n < bytes || written >= FAIR_BYTES)) {
            c->write_blocked = true;
            event_add(c->writable, NULL);
        }
    }
    if (conn_open(c) && c->reading_paused && c->nouts < CONN_OUTS_MAX / 2)
        event_active(c->writable, EV_WRITE, 0); /* on_writable resumes the reading */
}

void send_drop(struct conn *c)
{
    struct out *o;

    while (c->nchunks) {
        struct chunk *k = chunk_at(c, 0);

        c->first_chunk = (c->first_chunk + 1) % CONN_CHUNKS;
        c->nchunks--;
        if (k->last)
            out_sent(c, k->out);
    }
    while ((o = send_take(c)))
        out_sent(c, o);
}
