/* target/conn.h - one TCP connection of an initiator: its states, its receive and send machines.
 *
 * Belongs to one loop at a time; moves once, from where it was accepted to its VM's loop (conn_move).
 *
 *  SECURITY ──► OPERATIONAL ──► FULL_FEATURE ──► LOGOUT ──► CLOSING
 *      └────────────────────────────▲       (and every state ──► CLOSING)
 *
 * CLOSING has no socket: the connection stays until the last of its commands is back from the volume, and
 * is freed from the loop with nobody on the stack. So after any call that may close it a caller may still
 * look at conn->state.
 */
#ifndef ISTHMUS_CONN_H
#define ISTHMUS_CONN_H

#include "command.h"
#include "iscsi.h"
#include "keys.h"
#include "portal.h"

#include <sys/uio.h>

struct event;
struct peer_address;
struct login;
struct text_exchange;

/* name, what a complete PDU is given to, where it may lead */
#define CONN_STATES(X)                                                                                       \
    X(SECURITY, login_pdu, TO(OPERATIONAL) | TO(FULL_FEATURE))                                               \
    X(OPERATIONAL, login_pdu, TO(FULL_FEATURE))                                                              \
    X(FULL_FEATURE, session_pdu, TO(LOGOUT))                                                                 \
    X(LOGOUT, conn_ignore_pdu, 0)                                                                            \
    X(CLOSING, conn_ignore_pdu, 0)

#define CONN_ID(name, ...) CONN_##name,
enum conn_state { CONN_STATES(CONN_ID) CONN_STATE_COUNT };
#undef CONN_ID

enum rx_state { RX_HEADER, RX_AHS, RX_HEADER_DIGEST, RX_DATA, RX_DATA_DIGEST };

/* The receive machine: `want` bytes go to dst (NULL: nowhere), `have` of them are there. */
struct rx {
    enum rx_state state;
    uint32_t have, want;
    uint8_t *dst;
    uint8_t bhs[BHS_BYTES];
    uint8_t ahs[ISCSI_AHS_MAX];
    uint8_t digest[8]; /* header digest, or padding and data digest */
    uint32_t ahs_len, data_len;
    struct buf *data;       /* the segment of a PDU other than Data-Out, or NULL */
    const uint8_t *segment; /* where the segment is, NULL: dropped */
    struct command *into;   /* the Data-Out's task, while its segment comes in */
};

enum { CONN_CHUNKS = 64, CONN_OUTS_MAX = 1024 };

/* A PDU being written: its header and digest are here, its data in memory that `out` keeps. */
struct chunk {
    uint8_t header[BHS_BYTES + 4], trailer[8];
    uint8_t header_len, trailer_len;
    bool last; /* of its out */
    struct out *out;
    uint32_t from, len;
};

struct conn {
    TAILQ_ENTRY(conn) entry;    /* shard->conns */
    TAILQ_ENTRY(conn) starving; /* shard->starved, while is_starved */
    bool is_starved;
    struct shard *shard;
    struct target *target;
    int fd;
    char ctx[16];
    struct peer_address *address; /* counted there while the socket is open */
    char peer[64], portal[64];
    uint16_t group; /* the portal's: the SCSI target port that it has come to */
    enum conn_state state;
    struct event *readable, *writable;
    struct timer timer;
    struct task move_task;
    struct shard *move_to;
    struct task turn_task; /* sends what was queued this turn; frees the connection in CLOSING */
    bool turn_posted, moving, reading_paused;

    struct rx rx;
    uint8_t *held; /* bytes received but not looked at: moving, or paused */
    size_t held_len;

    STAILQ_HEAD(, out) outs;
    unsigned nouts;       /* large ones count as several */
    struct chunk *chunks; /* ring of CONN_CHUNKS */
    unsigned first_chunk, nchunks;
    uint32_t sent_of_first; /* bytes of the first chunk that have left */
    bool write_blocked;

    struct login *login; /* until full feature phase */
    struct params params;
    bool header_digest, data_digest;
    uint32_t stat_sn;
    struct session *session;     /* from the moment the login succeeds */
    struct forwarded *forwarded; /* no socket: its initiator is at the other edge (forwarded.h) */
    struct text_exchange *text;

    struct command_table commands;
    LIST_HEAD(, tmf) tmfs; /* task management functions that wait for aborted writes */
    unsigned ntmfs;
    uint64_t held_bytes;     /* of its commands */
    uint64_t admitted_bytes; /* of those that do not wait for memory */

    uint64_t last_rx_ns, since_ns;
    bool answers_pings, ping_out;
    uint32_t ping_ttt;
};

/* Main loop. Takes the socket. */
void conn_accept(struct shard *, int fd, struct peer_address *, const char *peer, const char *portal,
                 uint16_t group);
/* On its loop: one without a socket, in full feature phase. */
struct conn *conn_forwarded(struct shard *, struct forwarded *, const char *peer, const char *portal,
                            uint16_t group);
/* Continue on another loop. The caller returns to the receive loop at once. */
void conn_move(struct conn *, struct shard *);
/* The only place that changes the state. */
void conn_enter(struct conn *, enum conn_state);
const char *conn_state_name(enum conn_state);
/* Close now, saying why in the log. Safe in any state; the object outlives the call. */
void conn_close(struct conn *, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Something happened outside a receive callback: send, or free in CLOSING, this turn or the next. */
void conn_post_turn(struct conn *);
void conn_ignore_pdu(struct conn *);
/* The complete PDU in rx, to whom the state says. */
void conn_dispatch(struct conn *);
static inline bool conn_open(const struct conn *c)
{
    return c->state != CONN_CLOSING;
}

/* recv.c */
void recv_reset(struct conn *);
void recv_on_readable(struct conn *);
/* What was held while moving or paused. */
void recv_resume(struct conn *);
void recv_command_gone(struct conn *, struct command *); /* it must not be received into any more */

/* send.c: nothing here closes the connection but send_run. */
struct out *out_new(uint8_t opcode, uint8_t flags, uint32_t itt, uint32_t len);
void send_out(struct conn *, struct out **); /* Takes the out */
void send_command(struct conn *, struct command *);
void send_reject(struct conn *, enum reject_reason);
void send_last_reject(struct conn *, enum reject_reason); /* and then the connection is closed */
/* The first that is queued, taken out: of a connection without a socket. NULL: there is none. */
struct out *send_take(struct conn *);
/* Writes until all is sent or the socket is full. */
void send_run(struct conn *);
/* The socket is gone: frees what was queued, commands included. */
void send_drop(struct conn *);

#endif
