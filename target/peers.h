/* target/peers.h - how many connections each initiator address has open, so that one of them cannot have all.
 *
 * Any thread, under a lock of its own: once when a connection is accepted, once when it is closed.
 */
#ifndef ISTHMUS_PEERS_H
#define ISTHMUS_PEERS_H

#include <stdbool.h>
#include <sys/socket.h>

struct peers;
struct peer_address;

struct peers *peers_new(void);
void peers_free(struct peers **); /* when no connection is open */
/* One more of this address (whatever its port), or NULL when it has `most` already. */
struct peer_address *peers_enter(struct peers *, const struct sockaddr_storage *, unsigned most);
/* One less. Takes it. */
void peers_leave(struct peers *, struct peer_address **);

#endif
