/* link/link_conn.c - see link_conn.h. Sockets through libevent, TLS by OpenSSL without its BIO pairs: the
 * socket itself pushes back, so that what waits, waits in our lanes where a higher class can overtake it.
 *
 * Every event ends in run(), which does whatever the state allows: OpenSSL's "reading wants to write" and
 * the reverse need no special case then.
 */
#include "link_conn.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static const char part[] = "link";

enum {
    TURN_BYTES = 1024 * 1024, /* moved each way before other connections of the loop get their turn */
    REKEY_RECORDS = 1 << 22,  /* far below AES-GCM's limit of 2^24.5 records a key (RFC 8446, 5.5) */
    TICK_MS = 1000,
};

static void lconn_kick(struct lconn *c)
{
    if (!c->task_queued) {
        c->task_queued = true;
        loop_post(c->loop, &c->task);
    }
}

static void lconn_enter(struct lconn *c, enum lconn_state next)
{
    static const char *const names[] = {"connecting", "handshake", "greeting", "up", "linger", "closed"};

    CHECK(next > c->state);
    log_debug(c->ctx, "%s -> %s", names[c->state], names[next]);
    c->state = next;
}

/* ---- out ---- */

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

static void drop_lanes(struct lconn *c, unsigned from)
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

/* What SSL_get_error said. 0: wait for the socket; -EPIPE with why: it is over. */
static int tls_result(struct lconn *c, int n, struct why *why)
{
    int saved = errno, e = SSL_get_error(c->ssl, n);

    if (e == SSL_ERROR_WANT_READ)
        return 0;
    if (e == SSL_ERROR_WANT_WRITE) {
        c->want_write = true;
        return 0;
    }
    tls_explain(c->ssl, e, saved, why);
    return -EPIPE;
}

static int transmit(struct lconn *c, struct why *why)
{
    size_t moved = 0;
    int n, rc = 0;

    while (c->stage_at < c->stage_len || stage_fill(c)) {
        ERR_clear_error();
        errno = 0;
        n = SSL_write(c->ssl, c->stage + c->stage_at, (int)(c->stage_len - c->stage_at));
        if (n <= 0) {
            rc = tls_result(c, n, why);
            break;
        }
        c->stage_at += (size_t)n;
        moved += (size_t)n;
        rekey_if_due(c);
        if (moved >= TURN_BYTES) {
            lconn_kick(c);
            break;
        }
    }
    if (moved && c->state == LCONN_UP)
        c->events->moved(c, 0, moved);
    return rc;
}

/* ---- in ---- */

static void send_steering(struct lconn *c, enum frame_kind kind, uint64_t id)
{
    lconn_send(c, 0, &(struct frame){.kind = (uint8_t)kind, .id = id}, NULL, NULL);
}

static void send_ping(struct lconn *c)
{
    c->ping_out = true;
    c->ping_ns = loop_now_ns(c->loop);
    send_steering(c, FRAME_PING, ++c->ping_id);
}

static int on_hello(struct lconn *c, const struct buf *body, struct why *why)
{
    unsigned low, high;
    int rc = frame_get_hello(body ? body->data : NULL, body ? body->len : 0, &c->theirs, why);

    if (rc)
        return rc;
    low = c->theirs.version_min > c->ours.version_min ? c->theirs.version_min : c->ours.version_min;
    high = c->theirs.version_max < c->ours.version_max ? c->theirs.version_max : c->ours.version_max;
    if (high < low)
        return why_set(
            why, -EPROTO,
            "%s speaks versions %u to %u of the link protocol and %s %u to %u: update the older one",
            c->id.name, c->theirs.version_min, c->theirs.version_max, "this end", c->ours.version_min,
            c->ours.version_max);
    c->version = high;
    c->in.greeted = true;
    c->up_ns = loop_now_ns(c->loop);
    lconn_enter(c, LCONN_UP);
    send_ping(c);
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

static int receive(struct lconn *c, struct why *why)
{
    uint8_t bytes[16384];
    size_t moved = 0;
    int n, rc = 0;

    while (rc == 0) {
        ERR_clear_error();
        errno = 0;
        n = SSL_read(c->ssl, bytes, sizeof(bytes));
        if (n <= 0) {
            rc = tls_result(c, n, why);
            break;
        }
        moved += (size_t)n;
        rc = frame_in_feed(&c->in, bytes, (size_t)n, on_frame, c, why);
        if (moved >= TURN_BYTES) {
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

/* ---- states ---- */

/* Waits for the socket to be writable only while there is something to write. */
static void update_events(struct lconn *c)
{
    if (c->want_write || c->state == LCONN_CONNECTING)
        event_add(c->writable, NULL);
    else
        event_del(c->writable);
}

static void run_connecting(struct lconn *c)
{
    struct why why;
    int err = 0;
    socklen_t len = sizeof(err);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) || err) {
        why_set(&why, 0, "%s does not answer: %s", c->address, strerror(err));
        lconn_end(c, &why, false);
        return;
    }
    lconn_enter(c, LCONN_HANDSHAKE);
}

static void run_handshake(struct lconn *c)
{
    struct why why;
    struct buf *hello;
    int n, rc;

    ERR_clear_error();
    errno = 0;
    n = SSL_do_handshake(c->ssl);
    if (n != 1) {
        if (tls_result(c, n, &why))
            lconn_end(c, &why, false);
        return;
    }
    c->tls_up = true;
    rc = tls_peer(c->ssl, &c->id, &why);
    if (rc == 0)
        rc = c->events->identified(c, &why);
    if (rc) {
        lconn_end(c, &why, true);
        return;
    }
    lconn_enter(c, LCONN_GREETING);
    hello = frame_put_hello(&c->ours);
    lconn_send(c, 0, &(struct frame){.kind = FRAME_HELLO, .len = hello->len}, hello, NULL);
    buf_unref(&hello);
}

static void run_up(struct lconn *c)
{
    struct why why = {""}, last = {""};
    int rc = receive(c, &why);

    if (rc == 0 && c->state < LCONN_LINGER && transmit(c, &why)) {
        /* It may have told us the reason before it hung up: that is the better sentence. */
        rc = receive(c, &last);
        if (rc == -ECONNRESET || rc == -EPIPE)
            why = last;
        rc = -EPIPE;
    }
    if (rc && c->state < LCONN_LINGER)
        lconn_end(c, &why, rc == -EPROTO);
}

/* Sends what is left of lane 0, hangs up our half, and waits for the other's. */
static void run_linger(struct lconn *c)
{
    char waste[4096];
    struct why why;
    ssize_t n;

    if (!c->hung_up) {
        event_del(c->readable); /* what still comes is not wanted, and must not wake us while we write */
        if (c->tls_up && transmit(c, &why) == 0 && c->stage_at < c->stage_len)
            return;
        c->hung_up = true;
        event_add(c->readable, NULL);
        c->want_write = false;
        shutdown(c->fd, SHUT_WR);
    }
    for (int i = 0; i < 64; i++) {
        n = recv(c->fd, waste, sizeof(waste), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            lconn_close(c);
            return;
        }
    }
}

static void lconn_run(struct lconn *c)
{
    c->want_write = false;
    if (c->state == LCONN_HANDSHAKE)
        run_handshake(c);
    if (c->state == LCONN_GREETING || c->state == LCONN_UP)
        run_up(c);
    if (c->state == LCONN_LINGER)
        run_linger(c);
    if (c->state != LCONN_CLOSED)
        update_events(c);
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
    struct lconn *c = arg;

    (void)fd;
    if (c->state == LCONN_CONNECTING && (what & EV_WRITE))
        run_connecting(c);
    lconn_run(c);
}

static void on_task(struct task *t)
{
    struct lconn *c = container_of(t, struct lconn, task);

    c->task_queued = false;
    if (c->state == LCONN_CLOSED)
        free(c);
    else
        lconn_run(c);
}

static void keep_alive(struct lconn *c, uint64_t now)
{
    struct why why;
    uint64_t silent_ms = (now - c->heard_ns) / 1000000;

    if (silent_ms >= LCONN_DEAD_MS) {
        why_set(&why, 0, "nothing came from %s for %llu s: the link is dead", c->id.name,
                (unsigned long long)silent_ms / 1000);
        lconn_end(c, &why, false);
    } else if (!c->ping_out && now - c->ping_ns >= LCONN_PING_MS * 1000000ull) {
        send_ping(c);
    }
}

static void on_tick(struct timer *t)
{
    struct lconn *c = container_of(t, struct lconn, tick);
    uint64_t now = loop_now_ns(c->loop), late_ns = now - c->ticked_ns - TICK_MS * 1000000ull;
    struct why why;

    c->ticked_ns = now;
    timer_set_ms(t, TICK_MS);
    if ((int64_t)late_ns > 2000000000) { /* we slept, not the peer: what it sent may be waiting for us */
        c->heard_ns = now - c->heard_ns > late_ns ? c->heard_ns + late_ns : now;
        return;
    }
    if (c->state < LCONN_UP && now - c->born_ns >= LCONN_SETUP_MS * 1000000ull) {
        why_set(&why, 0, "%s did not complete the %s within %d s", c->address,
                c->state == LCONN_CONNECTING  ? "TCP connection"
                : c->state == LCONN_HANDSHAKE ? "TLS handshake"
                                              : "greeting",
                LCONN_SETUP_MS / 1000);
        lconn_end(c, &why, false);
    } else if (c->state == LCONN_UP) {
        keep_alive(c, now);
    } else if (c->state == LCONN_LINGER && now - c->linger_ns >= LCONN_LINGER_MS * 1000000ull) {
        lconn_close(c);
    }
}

/* ---- life ---- */

static void set_socket_options(struct lconn *c, const char *congestion)
{
    int one = 1, backlog = LCONN_BACKLOG;

    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &backlog, sizeof(backlog));
    if (congestion && *congestion &&
        setsockopt(c->fd, IPPROTO_TCP, TCP_CONGESTION, congestion, (socklen_t)strlen(congestion)))
        log_debug(c->ctx, "congestion control %s: %s; the system's is used", congestion, strerror(errno));
}

struct lconn *lconn_new(struct loop *loop, SSL_CTX *ctx, int fd, bool dialled, const char *congestion,
                        const struct frame_hello *hello, const struct lconn_events *events, void *owner)
{
    static atomic_uint ids;
    struct lconn *c = xcalloc(1, sizeof(*c));

    snprintf(c->ctx, sizeof(c->ctx), "l%u", atomic_fetch_add(&ids, 1) + 1);
    c->state = dialled ? LCONN_CONNECTING : LCONN_HANDSHAKE;
    c->loop = loop;
    c->events = events;
    c->owner = owner;
    c->fd = fd;
    c->ours = *hello;
    c->task.run = on_task;
    c->born_ns = c->heard_ns = c->ticked_ns = loop_now_ns(loop);
    for (unsigned i = 0; i < FRAME_LANES; i++)
        TAILQ_INIT(&c->lanes[i]);
    set_socket_options(c, congestion);
    c->ssl = SSL_new(ctx);
    CHECK(c->ssl && SSL_set_fd(c->ssl, fd) == 1);
    if (dialled)
        SSL_set_connect_state(c->ssl);
    else
        SSL_set_accept_state(c->ssl);
    c->readable = event_new(loop_base(loop), fd, EV_READ | EV_PERSIST, on_socket, c);
    c->writable = event_new(loop_base(loop), fd, EV_WRITE, on_socket, c);
    CHECK(c->readable && c->writable && event_add(c->readable, NULL) == 0);
    timer_init(&c->tick, loop, on_tick);
    timer_set_ms(&c->tick, TICK_MS);
    update_events(c);
    return c;
}

void lconn_end(struct lconn *c, const struct why *why, bool tell)
{
    struct buf *body;
    size_t n = strnlen(why->text, FRAME_BYE_MAX);

    if (c->state >= LCONN_LINGER)
        return;
    if (c->owner)
        c->events->down(c, why);
    if (c->state == LCONN_CLOSED) /* down() led to lconn_close() */
        return;
    lconn_enter(c, LCONN_LINGER);
    c->linger_ns = loop_now_ns(c->loop);
    drop_lanes(c, tell ? 1 : 0);
    if (!tell)
        c->stage_at = c->stage_len;
    if (tell && c->tls_up) {
        body = buf_new(n);
        memcpy(body->data, why->text, n);
        lconn_send(c, 0, &(struct frame){.kind = FRAME_BYE, .len = (uint32_t)n}, n ? body : NULL, NULL);
        buf_unref(&body);
    }
    lconn_kick(c);
}

void lconn_close(struct lconn *c)
{
    if (c->state == LCONN_CLOSED)
        return;
    lconn_enter(c, LCONN_CLOSED);
    drop_lanes(c, 0);
    frame_in_clear(&c->in);
    event_free(c->readable);
    event_free(c->writable);
    timer_free(&c->tick);
    ERR_clear_error();
    SSL_free(c->ssl);
    close(c->fd);
    c->ssl = NULL;
    c->fd = -1;
    if (c->owner)
        c->events->gone(c);
    c->owner = NULL;
    lconn_kick(c); /* freed from the loop, with nobody on the stack */
}
