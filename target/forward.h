/* target/forward.h - sessions whose VM the other edge of the pair serves: nothing is executed here,
 * everything goes to the owner, which decides (forwarded.h). docs/pair.md, "Paths".
 *
 * A command is sent at most once to each run of the owner. What was sent and not answered when the owner is
 * lost is done again by the next one, which may be this edge, but for what must not be done twice: that ends
 * with ABORTED COMMAND. While the owner is out of reach commands wait.
 *
 * Belongs to the session, on the VM's loop. A connection stays until all calls of its session are back.
 */
#ifndef ISTHMUS_FORWARD_H
#define ISTHMUS_FORWARD_H

#include "iscsi.h"
#include "link.h"

struct command;
struct conn;
struct device;
struct flight;
struct forward; /* session->forward; NULL: the VM is this edge's */
struct session;
struct shard;
struct target;
struct vm;

/* A session has begun: the owner is told. */
void forward_start(struct session *);
/* It has ended: its commands are taken back, the owner is told. */
void forward_end(struct session *);
/* Calls of it are still out: its connection stays. */
bool forward_busy(const struct session *);
void forward_free(struct forward **); /* NULL is allowed */
/* Takes back whatever the sessions of this loop have out, ended ones too: the target stops. */
void forward_stop(struct shard *);

/* Instead of scsi_prepare(): how much data the command may bring or get. */
void forward_prepare(struct command *);
/* Its data is there. */
void forward_run(struct command *);
/* The initiator has answered the ping with this tag. NULL: no session. */
void forward_alive(struct session *, uint32_t ping);
/* It was aborted: its call is taken back, and command_back() follows, perhaps at once. */
void forward_recall(struct command *);
/* A task management function, answered by tmf_answer(). referenced: forward_number_of() the command, for
 * ABORT TASK (before it is aborted). */
void forward_task(struct conn *, enum tmf_function, uint32_t itt, const uint8_t lun[8], uint64_t referenced);

/* From the owner, on the main loop: PROTO_FORWARD_LOGOUT. */
void forward_notice(struct target *, const uint8_t *body, uint32_t len);
/* The device's VM is this edge's now: its sessions go on with `vm` when that may be served. */
void forward_taken(struct shard *, struct device *, struct vm *vm);
/* From executing to forwarding: what comes from now on waits, what is under way is executed here. */
void forward_still(struct session *);
/* It goes on: with the VM that is here, as before (NULL), or with `far` at its owner. */
void forward_go_on(struct session *, struct vm *far);
/* device_free(). */
void forward_device_free(struct device *);

/* --- between forward.c and forward_command.c --- */

#include "far_call.h"

#include <sys/queue.h>

struct forward {
    struct session *session;
    uint64_t number;   /* the session's at the owner; 0: there is none */
    uint64_t next;     /* the next command's or function's */
    uint64_t unread;   /* bytes of answers that the owner keeps until it hears that they are here */
    bool ended, taken; /* taken: nothing is sent to the owner any more */
    bool still;        /* there is no owner to send anything to, for now */
    bool moved;        /* this edge was the owner when it logged in; until the new one knows it */
    /* The link was lost with commands under way: they go on when the initiator has shown that it still waits
     * for them, and has not gone to the owner with them meanwhile. */
    bool held, pinged;
    uint32_t ping;
    uint64_t pinged_ns;
    bool told;            /* why the owner has no session was said in the log */
    unsigned out;         /* calls */
    struct far_call call; /* OPEN or CLOSE */
    bool calling;
    struct timer timer;                            /* the next try */
    TAILQ_HEAD(flights, flight) out_there, parked; /* in the order of their numbers; of their arrival */
    TAILQ_HEAD(, errand) tasks;
    unsigned ntasks;
};

/* A call of the session's. done() is to count it back by forward_back(). */
void forward_call(struct forward *, struct far_call *, uint8_t type, enum link_class, struct buf *body,
                  void (*done)(struct far_call *));
/* An answer, and what was lent goes: its status. */
int forward_back(struct forward *, struct far_call *);
/* The owner does not know that session (any more), or cannot serve now: everything that is parked goes on by
 * and by. */
void forward_lost(struct forward *, int status, uint64_t number);
/* Has a session opened there, if there is none. */
void forward_open_there(struct forward *);
/* What the owner was asked for is done here; is taken back. */
void forward_do_errands(struct conn *, struct forward *);
void forward_take_back_errands(struct forward *);
/* Sends what is parked, if there is a session at the owner. */
void forward_pump(struct forward *);
/* forward_command.c: what is parked. */
void forward_send_parked(struct forward *);
/* Takes back every command that is out; it is parked when it is back. */
void forward_recall_all(struct forward *);
/* What is parked is executed here: the session's VM is this edge's. */
void forward_do_parked(struct forward *);
/* Its number at the owner; 0: it has none. */
uint64_t forward_number_of(const struct command *);
/* A word to the owner that needs no answer. Any loop. */
void forward_notify(struct target *, uint8_t type, uint64_t session, uint64_t number);
/* The lowest number whose answer is still waited for. */
uint64_t forward_below(const struct forward *);

#endif
