/* tests/sim/sim_net.h - between sim_link.c and sim_net.c: connections of the simulated network and what they
 * carry.
 */
#ifndef ISTHMUS_SIM_NET_H
#define ISTHMUS_SIM_NET_H

#include "sim_link.h"

enum net_kind { NET_CALL, NET_REPLY, NET_NOTICE, NET_CANCEL, NET_PROMOTE };
struct net_conn;
TAILQ_HEAD(net_calls, link_call);

struct peer {
    TAILQ_ENTRY(peer) entry;
    struct link *link;
    char *name;
    TAILQ_HEAD(, net_end) conns; /* that are up */
    unsigned nup;
    struct net_calls waiting[LINK_CLASSES];
};

struct link {
    TAILQ_ENTRY(link) entry; /* of all that can be dialled */
    struct loop *loop;
    struct sim_node *node;
    unsigned life;
    char *name;
    struct link_handlers handlers;
    TAILQ_HEAD(, peer) peers;
};

struct net_message {
    TAILQ_ENTRY(net_message) entry;
    struct task task;
    struct net_conn *conn;
    unsigned to; /* side */
    enum net_kind kind;
    enum link_class class;
    uint8_t type;
    int code;
    uint64_t id;
    struct buf *body;
};
TAILQ_HEAD(net_messages, net_message);

/* One side's view of a connection. */
struct net_end {
    TAILQ_ENTRY(net_end) entry; /* of its peer's */
    struct net_conn *conn;
    unsigned side; /* 0: the dialler */
    struct peer *peer;
    enum { END_COMING, END_UP, END_DOWN } state;
    struct task up, down;
    bool down_posted;
    struct net_calls sent; /* oldest first */
    unsigned nsent;
    TAILQ_HEAD(, served) served;
    uint64_t last_at[LINK_CLASSES]; /* nothing of a class overtakes what was sent before */
    struct net_messages held;       /* sent from here; stuck at the cut */
};

struct net_dialer;
struct net_conn {
    TAILQ_ENTRY(net_conn) entry;
    struct net_end ends[2];
    struct net_dialer *dialer;
    unsigned index;
    uint64_t ids;
};

void sim_net_add(struct link *);
uint64_t sim_net_latency_ns(void);
struct net_message *net_message(enum net_kind, enum link_class, uint64_t id);
void sim_net_send(struct net_conn *, unsigned from, struct net_message *); /* takes it */

/* sim_link.c */
void link_end_up(struct net_end *);
void link_end_down(struct net_end *);
void link_end_message(struct net_end *, struct net_message *);

#endif
