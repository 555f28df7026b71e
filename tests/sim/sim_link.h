/* tests/sim/sim_link.h - the link (link.h) over a simulated network of whole messages.
 *
 * Instead of link/'s connections: calls, answers and notices of two daemons travel over connections that keep
 * the order within a class, are late, stop while their cable is cut, and die. As the real ones: an unanswered
 * call of a dead connection is sent again on the next; an answer to a dead one is dropped; a cut is noticed
 * after 8 to 10 s.
 */
#ifndef ISTHMUS_SIM_LINK_H
#define ISTHMUS_SIM_LINK_H

#include "link.h"
#include "sim.h"

/* The network of a world, before the first link. */
void sim_net_begin(uint64_t latency_ns);
void sim_net_latency(uint64_t latency_ns);
/* From now on nothing goes from one node to the other, until it is mended. */
void sim_net_cut(const struct sim_node *from, const struct sim_node *to, bool cut);
/* Every connection between the two ends now. */
void sim_net_reset(const struct sim_node *, const struct sim_node *);
/* A node is about to die: of its process the others hear at once, of the machine they do not. */
void sim_net_died(const struct sim_node *, bool machine);

/* On the node's loop. name: as in a certificate. Whoever listens can be dialled by that name. */
struct link *sim_link_new(struct loop *, const char *name, const struct link_handlers *);
/* Keeps nconns connections up to the peer of that name, for ever. */
void sim_link_dial(struct link *, struct peer *, unsigned nconns);

#endif
