/* tests/sim/sim_link.c - what link.h promises its users, over sim_net.c.
 */
#include "sim_net.h"

#include "broken.h"

#include "check.h"
#include "mem.h"
#include "proto.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum call_state { CALL_WAITING = 1, CALL_SENT, CALL_DONE };

/* A request being answered; freed by link_reply. */
struct served {
    struct link_request pub;
    TAILQ_ENTRY(served) entry;
    struct net_conn *conn; /* NULL: gone */
    unsigned side;
    uint64_t id;
    bool cancelled;
    struct buf *body;
};

/* --- links and peers --- */

struct link *sim_link_new(struct loop *loop, const char *name, const struct link_handlers *handlers)
{
    struct link *l = xcalloc(1, sizeof *l);

    CHECK(proto_name_ok(name));
    l->loop = loop;
    l->node = sim_loop_node(loop);
    l->name = xstrdup(name);
    l->handlers = *handlers;
    TAILQ_INIT(&l->peers);
    sim_net_add(l);
    return l;
}

struct peer *link_peer(struct link *l, const char *name)
{
    struct peer *p;

    if (!proto_name_ok(name))
        return NULL;
    TAILQ_FOREACH (p, &l->peers, entry)
        if (strcmp(p->name, name) == 0)
            return p;
    p = xcalloc(1, sizeof *p);
    p->link = l;
    p->name = xstrdup(name);
    TAILQ_INIT(&p->conns);
    for (unsigned i = 0; i < LINK_CLASSES; i++)
        TAILQ_INIT(&p->waiting[i]);
    TAILQ_INSERT_TAIL(&l->peers, p, entry);
    return p;
}

const char *peer_name(const struct peer *p)
{
    return p->name;
}

bool peer_up(const struct peer *p)
{
    return p->nup > 0;
}

uint64_t peer_rtt_ns(const struct peer *p)
{
    return p->nup ? 2 * sim_net_latency_ns() : 0;
}

uint64_t peer_bytes_per_s(const struct peer *p)
{
    (void)p;
    return 20 << 20;
}

struct link *peer_link(const struct peer *p)
{
    return p->link;
}

/* --- our calls --- */

static void send_word(struct net_conn *c, unsigned side, enum net_kind kind, enum link_class class,
                      uint64_t id)
{
    struct net_message *m = net_message(kind, class, id);

    sim_net_send(c, side, m);
}

static struct net_end *least_loaded(struct peer *p)
{
    struct net_end *e, *best = NULL;

    TAILQ_FOREACH (e, &p->conns, entry)
        if (!best || e->nsent < best->nsent)
            best = e;
    return best;
}

static void send_call(struct net_end *e, struct link_call *call)
{
    struct net_message *m = net_message(NET_CALL, call->class, ++e->conn->ids);

    m->type = call->type;
    m->body = call->body ? buf_new(call->body->len) : buf_new(0);
    if (call->body && call->body->len)
        memcpy(m->body->data, call->body->data, call->body->len);
    call->in.id = m->id;
    call->in.conn = e;
    call->in.state = CALL_SENT;
    TAILQ_INSERT_TAIL(&e->sent, call, in.entry);
    e->nsent++;
    sim_net_send(e->conn, e->side, m);
}

static void dispatch(struct peer *p)
{
    struct link_call *call;
    struct net_end *e;

    for (unsigned class = 0; class < LINK_CLASSES; class ++)
        while ((call = TAILQ_FIRST(&p->waiting[class])) && (e = least_loaded(p))) {
            TAILQ_REMOVE(&p->waiting[class], call, in.entry);
            send_call(e, call);
        }
}

void link_call(struct peer *p, struct link_call *call)
{
    CHECK(call->type && call->class < LINK_CLASSES && call->done && loop_is_current(p->link->loop));
    CHECK(!call->body || call->body->len <= LINK_FRAME_MAX);
    call->status = 0;
    call->reply = NULL;
    call->why.text[0] = 0;
    call->resent = false;
    memset(&call->in, 0, sizeof call->in);
    call->in.peer = p;
    call->in.state = CALL_WAITING;
    TAILQ_INSERT_TAIL(&p->waiting[call->class], call, in.entry);
    dispatch(p);
}

static void run_done(struct task *t)
{
    struct link_call *call = container_of(t, struct link_call, in.task);

    call->done(call);
}

static void take_out(struct link_call *call)
{
    struct net_end *e = call->in.conn;

    if (call->in.state == CALL_WAITING) {
        TAILQ_REMOVE(&call->in.peer->waiting[call->class], call, in.entry);
    } else {
        TAILQ_REMOVE(&e->sent, call, in.entry);
        e->nsent--;
    }
}

void link_call_cancel(struct link_call *call)
{
    struct net_end *e = call->in.conn;

    if (call->in.state == CALL_DONE)
        return;
    take_out(call);
    if (call->in.state == CALL_SENT)
        send_word(e->conn, e->side, NET_CANCEL, call->class, call->in.id);
    call->in.state = CALL_DONE;
    call->status = why_set(&call->why, -ECANCELED, "cancelled");
    call->in.task.run = run_done;
    loop_post(call->in.peer->link->loop, &call->in.task);
}

void link_call_promote(struct link_call *call, enum link_class class)
{
    struct net_end *e = call->in.conn;

    if (call->in.state == CALL_DONE || class >= call->class)
        return;
    if (call->in.state == CALL_WAITING) {
        TAILQ_REMOVE(&call->in.peer->waiting[call->class], call, in.entry);
        TAILQ_INSERT_TAIL(&call->in.peer->waiting[class], call, in.entry);
        call->class = class;
        return;
    }
    send_word(e->conn, e->side, NET_PROMOTE, call->class, call->in.id);
    call->class = class;
}

static void on_reply(struct net_end *e, struct net_message *m)
{
    struct link_call *call;
    size_t n = m->body ? m->body->len : 0;

    TAILQ_FOREACH (call, &e->sent, in.entry)
        if (call->in.id == m->id)
            break;
    if (!call)
        return;
    take_out(call);
    call->in.state = CALL_DONE;
    call->status = -m->code;
    if (m->code == 0) {
        call->reply = m->body;
        m->body = NULL;
    } else {
        n = n < sizeof call->why.text ? n : sizeof call->why.text - 1;
        if (n)
            memcpy(call->why.text, m->body->data, n);
        call->why.text[n] = 0;
    }
    broken_answer(call);
    call->done(call);
}

/* --- their calls --- */

static void on_call(struct net_end *e, struct net_message *m)
{
    struct link *l = e->peer->link;
    struct served *s = xcalloc(1, sizeof *s);
    struct link_request *pub = &s->pub;

    s->conn = e->conn;
    s->side = e->side;
    s->id = m->id;
    s->body = m->body;
    m->body = NULL;
    *pub = (struct link_request){e->peer, m->type, m->class, s->body->data, (uint32_t)s->body->len};
    TAILQ_INSERT_TAIL(&e->served, s, entry);
    if (l->handlers.request)
        l->handlers.request(l->handlers.arg, pub);
    else
        link_reply(&pub, -ENOSYS, "this daemon answers no requests", NULL, 0);
}

static struct served *find_served(struct net_end *e, uint64_t id)
{
    struct served *s;

    TAILQ_FOREACH (s, &e->served, entry)
        if (s->id == id)
            break;
    return s;
}

static struct buf *gather(const struct iovec *iov, int niov)
{
    struct buf *b;
    size_t n = 0;

    for (int i = 0; i < niov; i++)
        n += iov[i].iov_len;
    CHECK(n <= LINK_FRAME_MAX);
    b = buf_new(n);
    n = 0;
    for (int i = 0; i < niov; n += iov[i++].iov_len)
        if (iov[i].iov_len)
            memcpy(b->data + n, iov[i].iov_base, iov[i].iov_len);
    return b;
}

void link_reply(struct link_request **rp, int status, const char *why, const struct iovec *iov, int niov)
{
    struct served *s = container_of(*rp, struct served, pub);
    struct iovec sentence = {(void *)(uintptr_t)why, why ? strnlen(why, 399) : 0};

    *rp = NULL;
    if (s->conn) {
        struct net_message *m = net_message(NET_REPLY, s->pub.class, s->id);

        m->code = s->cancelled ? ECANCELED : -status;
        m->body = m->code ? gather(&sentence, 1) : gather(iov, niov);
        TAILQ_REMOVE(&s->conn->ends[s->side].served, s, entry);
        sim_net_send(s->conn, s->side, m);
    }
    buf_unref(&s->body);
    free(s);
}

void link_notice(struct peer *p, uint8_t type, const void *body, uint32_t len)
{
    struct net_end *e = TAILQ_FIRST(&p->conns);
    struct net_message *m;

    if (!e)
        return;
    m = net_message(NET_NOTICE, LINK_CONTROL, 0);
    m->type = type;
    m->body = gather(&(struct iovec){(void *)(uintptr_t)body, len}, 1);
    sim_net_send(e->conn, e->side, m);
}

/* --- from sim_net.c, on the link's loop --- */

void link_end_up(struct net_end *e)
{
    struct peer *p = e->peer;
    struct link *l = p->link;

    TAILQ_INSERT_TAIL(&p->conns, e, entry);
    if (p->nup++ == 0 && l->handlers.peer_state)
        l->handlers.peer_state(l->handlers.arg, p, true);
    dispatch(p);
}

void link_end_down(struct net_end *e)
{
    struct peer *p = e->peer;
    struct link *l = p->link;
    struct link_call *call;
    struct served *s;

    TAILQ_REMOVE(&p->conns, e, entry);
    while ((call = TAILQ_LAST(&e->sent, net_calls))) { /* the oldest ends up first */
        TAILQ_REMOVE(&e->sent, call, in.entry);
        call->in.state = CALL_WAITING;
        call->in.conn = NULL;
        call->resent = true;
        TAILQ_INSERT_HEAD(&p->waiting[call->class], call, in.entry);
    }
    e->nsent = 0;
    while ((s = TAILQ_FIRST(&e->served))) {
        TAILQ_REMOVE(&e->served, s, entry);
        s->conn = NULL;
    }
    if (--p->nup == 0 && l->handlers.peer_state)
        l->handlers.peer_state(l->handlers.arg, p, false);
    dispatch(p);
}

void link_end_message(struct net_end *e, struct net_message *m)
{
    struct link *l = e->peer->link;
    struct served *s;

    switch (m->kind) {
    case NET_CALL:
        on_call(e, m);
        break;
    case NET_REPLY:
        on_reply(e, m);
        break;
    case NET_NOTICE:
        if (l->handlers.notice)
            l->handlers.notice(l->handlers.arg, e->peer, m->type, m->body->data, (uint32_t)m->body->len);
        break;
    case NET_CANCEL:
        if ((s = find_served(e, m->id)))
            s->cancelled = true;
        break;
    case NET_PROMOTE:
        if ((s = find_served(e, m->id)))
            s->pub.class = LINK_DEMAND;
        break;
    }
}
