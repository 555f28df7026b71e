/* tests/sim/sim_net.c - the simulated network: cables between nodes, connections over them, messages on their
 * way.
 */
#include "sim_net.h"

#include "check.h"
#include "mem.h"

#include <string.h>

enum { DIAL_MIN_MS = 100, DIAL_MAX_MS = 5000 };
#define SILENCE_MIN (8 * SIM_S)
#define SILENCE_MAX (10 * SIM_S)

struct cable {
    TAILQ_ENTRY(cable) entry;
    const struct sim_node *from, *to;
    bool cut;
    unsigned cuts;
};

struct net_dialer {
    struct link *link;
    struct peer *peer;
    unsigned index;
    uint64_t wait_ms;
};

static struct {
    TAILQ_HEAD(, link) links;
    TAILQ_HEAD(, net_conn) conns;
    TAILQ_HEAD(, cable) cables;
    uint64_t latency_ns;
} net;

void sim_net_begin(uint64_t latency_ns)
{
    TAILQ_INIT(&net.links);
    TAILQ_INIT(&net.conns);
    TAILQ_INIT(&net.cables);
    net.latency_ns = latency_ns;
}

void sim_net_latency(uint64_t latency_ns)
{
    net.latency_ns = latency_ns;
}

uint64_t sim_net_latency_ns(void)
{
    return net.latency_ns;
}

void sim_net_add(struct link *l)
{
    l->life = l->node->life;
    TAILQ_INSERT_TAIL(&net.links, l, entry);
}

static struct cable *cable_of(const struct sim_node *from, const struct sim_node *to)
{
    struct cable *c;

    TAILQ_FOREACH (c, &net.cables, entry)
        if (c->from == from && c->to == to)
            return c;
    c = xcalloc(1, sizeof *c);
    c->from = from;
    c->to = to;
    TAILQ_INSERT_TAIL(&net.cables, c, entry);
    return c;
}

static const struct sim_node *node_of(const struct net_conn *c, unsigned side)
{
    return c->ends[side].peer->link->node;
}

static bool is_cut(const struct net_conn *c, unsigned from)
{
    return cable_of(node_of(c, from), node_of(c, !from))->cut;
}

static bool is_alive(const struct link *l)
{
    return l->node->alive && l->node->life == l->life;
}

/* --- the ends --- */

static void dial_later(struct net_dialer *d, uint64_t ms);

static void run_down(struct task *t)
{
    struct net_end *e = container_of(t, struct net_end, down);
    bool was_up = e->state == END_UP;

    e->state = END_DOWN;
    if (was_up)
        link_end_down(e);
    if (e->side == 0)
        dial_later(e->conn->dialer, DIAL_MIN_MS);
}

/* This side finds that the connection is no more. */
static void end_down(struct net_end *e)
{
    if (e->down_posted)
        return;
    e->down_posted = true;
    e->down.run = run_down;
    if (is_alive(e->peer->link))
        loop_post(e->peer->link->loop, &e->down);
}

static void hears_of_it(void *arg)
{
    end_down(arg);
}

static void hang_up(struct net_end *e)
{
    struct net_conn *c = e->conn;

    end_down(e);
    if (!is_cut(c, e->side))
        sim_after(NULL, sim_latency(net.latency_ns), hears_of_it, &c->ends[!e->side]);
}

static void run_up(struct task *t)
{
    struct net_end *e = container_of(t, struct net_end, up);
    struct net_conn *c = e->conn, *old;

    if (e->down_posted)
        return;
    if (e->side == 1) /* it came back before its old connection was missed */
        TAILQ_FOREACH (old, &net.conns, entry)
            if (old != c && old->ends[1].peer == e->peer &&
                (old->index == c->index || old->ends[0].peer->link != c->ends[0].peer->link))
                hang_up(&old->ends[1]);
    e->state = END_UP;
    link_end_up(e);
}

/* --- dialling --- */

static void establish(void *arg);

static struct link *find_listener(const char *name)
{
    struct link *l;

    TAILQ_FOREACH (l, &net.links, entry)
        if (is_alive(l) && strcmp(l->name, name) == 0)
            return l;
    return NULL;
}

static bool reachable(const struct net_dialer *d, const struct link *l)
{
    return l && !cable_of(d->link->node, l->node)->cut && !cable_of(l->node, d->link->node)->cut;
}

static void try_dial(void *arg)
{
    struct net_dialer *d = arg;

    if (reachable(d, find_listener(d->peer->name))) {
        sim_after(d->link->node, 3 * net.latency_ns, establish, d);
        return;
    }
    d->wait_ms = d->wait_ms * 2 < DIAL_MAX_MS ? d->wait_ms * 2 : DIAL_MAX_MS;
    dial_later(d, d->wait_ms);
}

static void dial_later(struct net_dialer *d, uint64_t ms)
{
    if (ms == DIAL_MIN_MS)
        d->wait_ms = DIAL_MIN_MS;
    sim_after(d->link->node, (ms / 2 + sim_below(ms / 2 + 1)) * SIM_MS, try_dial, d);
}

static void end_init(struct net_conn *c, unsigned side, struct peer *p)
{
    struct net_end *e = &c->ends[side];

    e->conn = c;
    e->side = side;
    e->peer = p;
    e->state = END_COMING;
    e->up.run = run_up;
    TAILQ_INIT(&e->sent);
    TAILQ_INIT(&e->served);
    TAILQ_INIT(&e->held);
}

static void establish(void *arg)
{
    struct net_dialer *d = arg;
    struct link *l = find_listener(d->peer->name);
    struct net_conn *c;

    if (!reachable(d, l)) {
        dial_later(d, d->wait_ms);
        return;
    }
    c = xcalloc(1, sizeof *c);
    c->dialer = d;
    c->index = d->index;
    end_init(c, 0, d->peer);
    end_init(c, 1, link_peer(l, d->link->name));
    TAILQ_INSERT_TAIL(&net.conns, c, entry);
    for (unsigned side = 0; side < 2; side++)
        loop_post(c->ends[side].peer->link->loop, &c->ends[side].up);
}

void sim_link_dial(struct link *l, struct peer *p, unsigned nconns)
{
    for (unsigned i = 0; i < nconns; i++) {
        struct net_dialer *d = xcalloc(1, sizeof *d);

        *d = (struct net_dialer){.link = l, .peer = p, .index = i};
        dial_later(d, DIAL_MIN_MS);
    }
}

/* --- messages --- */

struct net_message *net_message(enum net_kind kind, enum link_class class, uint64_t id)
{
    struct net_message *m = xcalloc(1, sizeof *m);

    m->kind = kind;
    m->class = class;
    m->id = id;
    return m;
}

static void message_free(struct net_message *m)
{
    buf_unref(&m->body);
    free(m);
}

static void run_message(struct task *t)
{
    struct net_message *m = container_of(t, struct net_message, task);
    struct net_end *e = &m->conn->ends[m->to];

    if (e->state == END_UP)
        link_end_message(e, m);
    message_free(m);
}

static void hand_over(struct net_message *m)
{
    struct net_end *e = &m->conn->ends[m->to];

    if (!is_alive(e->peer->link) || e->down_posted) {
        if (!is_cut(m->conn, e->side)) /* there is no such connection, it is told */
            sim_after(NULL, sim_latency(net.latency_ns), hears_of_it, &m->conn->ends[!m->to]);
        message_free(m);
        return;
    }
    m->task.run = run_message;
    loop_post(e->peer->link->loop, &m->task);
}

static void message_arrives(void *arg)
{
    struct net_message *m = arg;
    struct net_end *from = &m->conn->ends[!m->to];

    if (is_cut(m->conn, from->side) || !TAILQ_EMPTY(&from->held))
        TAILQ_INSERT_TAIL(&from->held, m, entry);
    else
        hand_over(m);
}

void sim_net_send(struct net_conn *c, unsigned side, struct net_message *m)
{
    struct net_end *e = &c->ends[side];
    uint64_t at = sim_now + sim_latency(net.latency_ns) + (m->body ? m->body->len * 50 : 0);

    m->conn = c;
    m->to = !side;
    if (e->state != END_UP || e->down_posted) {
        message_free(m);
        return;
    }
    if (at <= e->last_at[m->class])
        at = e->last_at[m->class] + 1;
    e->last_at[m->class] = at;
    sim_after(NULL, at - sim_now, message_arrives, m);
}

/* --- cuts --- */

struct silence {
    struct net_end *end;
    struct cable *cable;
    unsigned cuts;
};

static void silence_is_noticed(void *arg)
{
    struct silence *s = arg;

    if (s->cable->cut && s->cable->cuts == s->cuts)
        hang_up(s->end);
    free(s);
}

static void flows_again(void *arg)
{
    struct net_end *e = arg;
    struct net_message *m;

    while (!is_cut(e->conn, e->side) && (m = TAILQ_FIRST(&e->held))) {
        TAILQ_REMOVE(&e->held, m, entry);
        hand_over(m);
    }
    if (e->conn->ends[!e->side].down_posted && !is_cut(e->conn, !e->side)) /* a ping would be told so */
        end_down(e);
}

static bool between(const struct net_conn *c, const struct sim_node *a, const struct sim_node *b)
{
    return (node_of(c, 0) == a && node_of(c, 1) == b) || (node_of(c, 0) == b && node_of(c, 1) == a);
}

void sim_net_cut(const struct sim_node *from, const struct sim_node *to, bool cut)
{
    struct cable *cable = cable_of(from, to);
    struct net_conn *c;

    if (cable->cut == cut)
        return;
    cable->cut = cut;
    cable->cuts += cut;
    TAILQ_FOREACH (c, &net.conns, entry) {
        if (!between(c, from, to))
            continue;
        for (unsigned side = 0; side < 2; side++) {
            struct silence *s;

            if (!cut) {
                sim_after(NULL, sim_between(10, 3000) * SIM_MS, flows_again, &c->ends[side]);
                continue;
            }
            s = xmalloc(sizeof *s);
            *s = (struct silence){&c->ends[side], cable, cable->cuts};
            sim_after(NULL, sim_between(SILENCE_MIN, SILENCE_MAX), silence_is_noticed, s);
        }
    }
}

void sim_net_reset(const struct sim_node *a, const struct sim_node *b)
{
    struct net_conn *c;

    TAILQ_FOREACH (c, &net.conns, entry)
        if (between(c, a, b))
            hang_up(&c->ends[sim_below(2)]);
}

void sim_net_died(const struct sim_node *node, bool machine)
{
    struct net_conn *c, *next;

    for (c = TAILQ_FIRST(&net.conns); c; c = next) {
        unsigned side = node_of(c, 0) == node ? 0 : 1;
        struct net_end *other = &c->ends[!side];

        next = TAILQ_NEXT(c, entry);
        if (node_of(c, side) != node)
            continue;
        sim_after(NULL,
                  machine || is_cut(c, side) ? sim_between(SILENCE_MIN, SILENCE_MAX)
                                             : sim_latency(net.latency_ns),
                  hears_of_it, other);
        TAILQ_REMOVE(&net.conns, c, entry);
    }
}
