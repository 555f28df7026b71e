/* target/forwarded.h - the owner's side of forwarding: sessions of initiators that came to the other edge of
 * the pair (forward.h). docs/pair.md, "Paths".
 *
 * Such a session has a struct conn without a socket, in the portal group that its initiator came to. So its
 * commands, reservations and unit attentions are as those of any session of the device. What leaves the
 * connection's queue becomes the answer to a call. A command is executed once, though its call may come
 * again: an answer is kept until the other edge has it.
 */
#ifndef ISTHMUS_FORWARDED_H
#define ISTHMUS_FORWARDED_H

#include "link.h"

struct command;
struct conn;
struct shard;
struct target;
struct vm;

/* Main loop, from the other edge: PROTO_FORWARD_OPEN, CLOSE, COMMAND, DATA, FETCH, TASK; and DONE. */
void forwarded_request(struct target *, struct link_request *);
void forwarded_notice(struct target *, const uint8_t *body, uint32_t len);

/* The connection's loop, as all that follows: what is queued goes. */
void forwarded_run(struct conn *);
/* The command will have no answer. */
void forwarded_gone(struct command *);
/* The connection is closed; it is freed. */
void forwarded_closed(struct conn *);
void forwarded_free(struct conn *);
/* The other edge is gone: all of them for this VM. */
void forwarded_end(struct shard *, const struct vm *);

#endif
