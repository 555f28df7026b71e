/* link/link_conn.c - a connection's states and its life: see link_conn.h. Sockets through libevent, TLS by
 * OpenSSL without its BIO pairs.
 *
 * Every event ends in run(), which does whatever the state allows: OpenSSL's "reading wants to write" and
 * the reverse need no special case then.
 */
#include "link_conn_in.h"

#include "check.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static const char part[] = "link";

enum { TICK_MS = 1000 };

void lconn_kick(struct lconn *c)
{
    if (!c->task_queued) {
        c->task_queued = true;
        loop_post(c->loop, &c->task);
    }
}

void lconn_enter(struct lconn *c, enum lconn_state next)
{
    static const char *const names[] = {"connecting", "handshake", "greeting", "up", "linger", "closed"};

    CHECK(next > c->state);
    log_debug(c->ctx, "%s -> %s", names[c->state], names[next]);
    c->state = next;
}

int lconn_tls_result(struct lconn *c, int n, struct why *why)
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
        if (lconn_tls_result(c, n, &why))
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
    int rc = lconn_receive(c, &why);

    if (rc == 0 && c->state < LCONN_LINGER && lconn_transmit(c, &why)) {
        /* It may have told us the reason before it hung up: that is the better sentence. */
        rc = lconn_receive(c, &last);
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
        if (c->tls_up && lconn_transmit(c, &why) == 0 && c->stage_at < c->stage_len)
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
        lconn_ping(c);
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
    lconn_drop_lanes(c, tell ? 1 : 0);
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
    lconn_drop_lanes(c, 0);
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
