/* target/conn.c - a connection's life: accepted, moved to its VM's loop, closed, freed. On its loop. */
#include "conn.h"

#include "check.h"
#include "forward.h"
#include "forwarded.h"
#include "log.h"
#include "login.h"
#include "mem.h"
#include "peers.h"
#include "session.h"

#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

static const char part[] = "target";

#define TO(s) (1u << CONN_##s)
static const struct {
    const char *name;
    void (*pdu)(struct conn *);
    unsigned next;
} states[] = {
#define CONN_ROW(name, pdu, next) {#name, pdu, next},
    CONN_STATES(CONN_ROW)
#undef CONN_ROW
};

const char *conn_state_name(enum conn_state s)
{
    return states[s].name;
}

void conn_enter(struct conn *c, enum conn_state next)
{
    CHECK((states[c->state].next | TO(CLOSING)) & (1u << next));
    log_debug(c->ctx, "%s -> %s", states[c->state].name, states[next].name);
    c->state = next;
}

void conn_dispatch(struct conn *c)
{
    states[c->state].pdu(c);
}

void conn_ignore_pdu(struct conn *c)
{
    log_debug(c->ctx, "request %02x ignored in %s", c->rx.bhs[0], states[c->state].name);
}

static void conn_free(struct conn *c)
{
    CHECK(c->state == CONN_CLOSING && c->commands.n == 0 && !c->turn_posted && !c->moving);
    TAILQ_REMOVE(&c->shard->conns, c, entry);
    timer_free(&c->timer);
    session_free(&c->session);
    metric_set(c->shard->m_held, c->shard->held_bytes);
    if (c->forwarded)
        forwarded_free(c);
    else
        metric_sub(c->target->m_connections, 1);
    atomic_fetch_sub(&c->target->nconns, 1);
    free(c->chunks);
    free(c->held);
    if (c->shard->stopping)
        portal_shard_stopped(c->shard);
    free(c);
}

static void on_turn(struct task *t)
{
    struct conn *c = container_of(t, struct conn, turn_task);

    c->turn_posted = false;
    if (!TAILQ_EMPTY(&c->shard->starved))
        command_feed_shard(c->shard);
    if (c->state != CONN_CLOSING) {
        range_feed(c);
        send_run(c);
    }
    if (c->state == CONN_CLOSING && c->commands.n == 0 && !c->turn_posted &&
        !(c->session && forward_busy(c->session)))
        conn_free(c);
}

void conn_post_turn(struct conn *c)
{
    if (c->turn_posted)
        return;
    c->turn_posted = true;
    loop_post(c->shard->loop, &c->turn_task);
}

static void on_readable(int fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    recv_on_readable(arg);
}

static void on_writable(int fd, short what, void *arg)
{
    struct conn *c = arg;

    (void)fd;
    (void)what;
    c->write_blocked = false;
    send_run(c);
    if (conn_open(c))
        recv_resume(c); /* what waited for the queue to shrink */
}

static void on_timer(struct timer *t)
{
    struct conn *c = container_of(t, struct conn, timer);
    uint64_t age = loop_now_ns(c->shard->loop) - c->since_ns;

    if (c->state == CONN_SECURITY || c->state == CONN_OPERATIONAL) {
        if (login_waits(c)) {
            c->since_ns = loop_now_ns(c->shard->loop);
        } else if (age > c->target->conf.login_seconds * UINT64_C(1000000000)) {
            conn_close(c, "no login within %u s", c->target->conf.login_seconds);
            return;
        }
    } else if (c->state == CONN_LOGOUT) {
        conn_close(c, "logged out, but the socket stayed open");
        return;
    } else {
        nop_tick(c);
    }
    metric_set(c->shard->m_held, c->shard->held_bytes);
    if (conn_open(c))
        timer_set_ms(&c->timer, 1000);
}

/* The connection is on its loop: watch the socket there. */
static void conn_attach(struct conn *c)
{
    struct event_base *base = loop_base(c->shard->loop);

    TAILQ_INSERT_TAIL(&c->shard->conns, c, entry);
    timer_init(&c->timer, c->shard->loop, on_timer);
    timer_set_ms(&c->timer, 1000);
    c->readable = event_new(base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
    c->writable = event_new(base, c->fd, EV_WRITE, on_writable, c);
    CHECK(c->readable && c->writable);
    event_add(c->readable, NULL);
}

/* Who connects and says nothing may not keep others out: of too many that have not logged in yet the one
 * that is here for longest has to go. */
static void logins_limit(struct shard *s)
{
    unsigned most = s->target->conf.max_connections / 2 / s->target->conf.nloops, n = 0;
    struct conn *c, *oldest = NULL;

    TAILQ_FOREACH (c, &s->conns, entry) {
        if (c->state != CONN_SECURITY && c->state != CONN_OPERATIONAL)
            continue;
        n++;
        if (!oldest)
            oldest = c;
    }
    if (n > most)
        conn_close(oldest, "%u connections have not logged in yet, the most allowed", most);
}

static void conn_detach(struct conn *c)
{
    event_free(c->readable);
    event_free(c->writable);
    c->readable = c->writable = NULL;
    timer_free(&c->timer);
}

static void on_moved(struct task *t)
{
    struct conn *c = container_of(t, struct conn, move_task);
    bool first = c->login == NULL;

    c->moving = false;
    c->write_blocked = false; /* what it could not send yet has come along */
    c->last_rx_ns = loop_now_ns(c->shard->loop);
    conn_attach(c);
    if (c->shard->stopping) {
        conn_close(c, "the target is stopping");
        return;
    }
    if (first)
        login_start(c);
    else
        login_moved(c);
    logins_limit(c->shard);
    if (!conn_open(c))
        return;
    send_run(c);
    if (conn_open(c))
        recv_resume(c);
}

/* The loop it leaves is done with it. */
static void on_leave(struct task *t)
{
    struct conn *c = container_of(t, struct conn, move_task);

    c->shard = c->move_to;
    c->move_task.run = on_moved;
    loop_post(c->shard->loop, &c->move_task);
}

void conn_move(struct conn *c, struct shard *to)
{
    CHECK(c->commands.n == 0 && !c->session && !c->moving && !c->turn_posted);
    c->moving = true;
    c->move_to = to;
    if (!c->readable) { /* accepted just now */
        on_leave(&c->move_task);
        return;
    }
    conn_detach(c);
    TAILQ_REMOVE(&c->shard->conns, c, entry);
    c->move_task.run = on_leave; /* whoever is on the stack still looks at it */
    loop_post(c->shard->loop, &c->move_task);
}

static struct conn *conn_new(struct shard *shard, const char *peer, const char *portal, uint16_t group)
{
    struct conn *c = xcalloc(1, sizeof *c);

    c->target = shard->target;
    c->shard = shard;
    snprintf(c->ctx, sizeof c->ctx, "c%u", atomic_fetch_add(&c->target->last_conn, 1) + 1);
    snprintf(c->peer, sizeof c->peer, "%s", peer);
    snprintf(c->portal, sizeof c->portal, "%s", portal);
    c->group = group;
    c->state = CONN_SECURITY;
    c->turn_task.run = on_turn;
    STAILQ_INIT(&c->outs);
    command_table_init(&c->commands);
    recv_reset(c);
    c->since_ns = c->last_rx_ns = loop_now_ns(shard->loop);
    return c;
}

void conn_accept(struct shard *shard, int fd, struct peer_address *address, const char *peer,
                 const char *portal, uint16_t group)
{
    struct conn *c = conn_new(shard, peer, portal, group);

    c->fd = fd;
    c->address = address;
    metric_add(c->target->m_connections, 1);
    log_debug(c->ctx, "connected from %s to %s, portal group %u", peer, portal, group);
    conn_move(c, shard);
}

struct conn *conn_forwarded(struct shard *shard, struct forwarded *forwarded, const char *peer,
                            const char *portal, uint16_t group)
{
    struct conn *c = conn_new(shard, peer, portal, group);

    c->fd = -1;
    c->forwarded = forwarded;
    timer_init(&c->timer, shard->loop, on_timer);
    TAILQ_INSERT_TAIL(&shard->conns, c, entry);
    atomic_fetch_add(&c->target->nconns, 1);
    conn_enter(c, CONN_FULL_FEATURE);
    return c;
}

static void close_socket(struct conn *c)
{
    conn_detach(c);
    close(c->fd);
    c->fd = -1;
    atomic_fetch_sub(&c->target->nopen, 1);
    peers_leave(c->target->peers, &c->address);
}

void conn_close(struct conn *c, const char *format, ...)
{
    char why[200];
    va_list ap;

    if (c->state == CONN_CLOSING)
        return;
    va_start(ap, format);
    vsnprintf(why, sizeof why, format, ap);
    va_end(ap);
    if (c->session)
        log_peer(c->ctx, "closed: %s (%s)", why, c->session->initiator);
    else
        log_debug(c->ctx, "closed: %s", why);
    conn_enter(c, CONN_CLOSING);
    if (c->forwarded)
        forwarded_closed(c);
    else
        close_socket(c);
    if (c->rx.into)
        recv_command_gone(c, c->rx.into);
    buf_unref(&c->rx.data);
    send_drop(c);
    tmf_drop(c);
    command_abort_all(c);
    session_end(c);
    login_free(&c->login);
    text_free(&c->text);
    if (c->is_starved) {
        c->is_starved = false;
        TAILQ_REMOVE(&c->shard->starved, c, starving);
    }
    conn_post_turn(c);
}
