/* link/link_in.h - what the files of the link share: the link, its peers, its dialers, its call tables.
 *
 * Not for users of the link (they include link.h). Everything belongs to the link's loop.
 */
#ifndef ISTHMUS_LINK_IN_H
#define ISTHMUS_LINK_IN_H

#include "link.h"
#include "link_conn.h"
#include "metric.h"

enum {
    LINK_WINDOW = 512,        /* calls we accept unanswered on a connection */
    LINK_CONNS_PER_PEER = 32, /* accepted connections of one peer */
    LINK_HANDSHAKES = 64,     /* accepted connections that have not greeted yet */
    LINK_NOTICES = 1024,      /* frames that may wait in a lane before notices are dropped */
    LINK_HOST_MAX = 255,
    LINK_DIAL_MIN_MS = 100,
    LINK_DIAL_MAX_MS = 5000,
};

struct dialer;
TAILQ_HEAD(call_list, link_call);

struct peer {
    struct link *link;
    TAILQ_ENTRY(peer) entry;
    char name[LINK_NAME_MAX + 1];
    TAILQ_HEAD(, lconn) up;
    atomic_uint nup;
    unsigned lost; /* connections that ended and have not come back */
    struct dialer *dialers;
    unsigned ndialers;
    struct call_list waiting[LINK_CLASSES]; /* no connection has room for them */
    uint64_t rtt_ns;
    struct { /* receive rate: maximum over the last 30 to 60 s of what 100 ms brought */
        uint64_t start_ns, bytes, half_ns, max, max_before;
    } rate;
    struct {
        struct metric *up, *rtt, *bytes_sent, *bytes_received, *frames_sent, *frames_received, *in_flight,
            *reconnects, *resent, *version;
    } metrics;
};

struct link {
    struct loop *loop;
    struct link_handlers handlers;
    char *role, *peer_role, *twin, *congestion; /* twin may be NULL */
    SSL_CTX *tls;
    struct tls_identity self;
    uint64_t instance;
    TAILQ_HEAD(, peer) peers;
    TAILQ_HEAD(, lconn) conns;
    int listen_fd;
    uint16_t port;
    struct event *acceptable;
    struct timer accept_again;
    unsigned nhandshakes;
    uint64_t
        refused_ns; /* the last refusal of a stranger that was logged, so that they cannot fill the log */
    unsigned refused_quietly;
};

/* link.c: the greeting of a new connection, and a new connection itself (NULL: fd is closed). */
struct lconn *link_connect(struct link *, int fd, struct dialer *, struct peer *, unsigned index,
                           const char *address);

/* peer.c */
struct peer *peer_new(struct link *, const char *name);
void peer_free(struct peer **);
void peer_conn_up(struct peer *, struct lconn *);
void peer_conn_down(struct peer *, struct lconn *);
void peer_moved(struct peer *, uint64_t bytes_in, uint64_t bytes_out);
void peer_measured(struct peer *, uint64_t rtt_ns);

/* dial.c */
/* HOST:PORT or [IPV6]:PORT into its two parts. */
int dial_split(const char *address, char host[LINK_HOST_MAX + 1], char port[8], struct why *why);
void dial_ended(struct dialer *, const struct why *, bool was_up); /* the dialer's connection is no more */
void dial_up(struct dialer *);
void dial_free(struct peer *); /* all dialers of a peer */

/* calls.c: the calls of a connection that is up. */
void calls_open(struct lconn *);
void calls_close(struct lconn *); /* unanswered calls go back to the peer's waiting lists */
int calls_frame(struct lconn *, unsigned lane, const struct frame *, struct buf **body, struct why *);
void calls_sent(struct lconn *, struct lout *);
void calls_dispatch(struct peer *);
void calls_cancel_all(struct peer *);

#endif
