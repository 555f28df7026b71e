/* link/link_conn_in.h - what link_conn.c, link_conn_send.c and link_conn_recv.c have between them. Nobody
 * else includes it. Loop thread only.
 */
#ifndef ISTHMUS_LINK_CONN_IN_H
#define ISTHMUS_LINK_CONN_IN_H

#include "link_conn.h"

enum {
    LCONN_TURN_BYTES = 1024 * 1024
}; /* moved each way before other connections of the loop get their turn */

/* link_conn.c. kick: it runs once more, from the loop. enter: the only writer of the state. */
void lconn_kick(struct lconn *);
void lconn_enter(struct lconn *, enum lconn_state next);
/* What SSL_get_error said. 0: wait for the socket; -EPIPE with why: it is over. */
int lconn_tls_result(struct lconn *, int n, struct why *);

/* link_conn_send.c: as much as the socket takes, or a turn's share. 0, or -EPIPE with why. */
int lconn_transmit(struct lconn *, struct why *);
void lconn_drop_lanes(struct lconn *, unsigned from);

/* link_conn_recv.c: as much as has come, or a turn's share. 0; -EPIPE, -ECONNRESET: it is over, -EPROTO: the
 * other side broke the rules, with why; -ECANCELED: the owner ended it meanwhile. */
int lconn_receive(struct lconn *, struct why *);
void lconn_ping(struct lconn *);

#endif
