/* link/link_conn.h - one TLS connection: handshake, greeting, lanes out and in, keep-alive, orderly end.
 *
 * It moves frames and knows nothing of calls: those are calls.h, through struct lconn_events. Nothing is
 * written from a call into here: frames are queued and go out from the loop, so that no event fires before
 * the call that caused it has returned. Loop thread only.
 *
 *   CONNECTING -> HANDSHAKE -> GREETING -> UP      any but CLOSED -> LINGER -> CLOSED, or CLOSED at once
 */
#ifndef ISTHMUS_LINK_CONN_H
#define ISTHMUS_LINK_CONN_H

#include "frame.h"
#include "loop.h"
#include "tls.h"

#include <sys/queue.h>

enum {
    LCONN_SETUP_MS = 10000,     /* from connect() to the peer's greeting */
    LCONN_PING_MS = 2000,       /* a ping this often */
    LCONN_DEAD_MS = 8000,       /* nothing received for so long: dead */
    LCONN_LINGER_MS = 2000,     /* for the other side to read why we hang up */
    LCONN_BACKLOG = 128 * 1024, /* TCP_NOTSENT_LOWAT: what a demand frame may have to wait for */
    LCONN_STAGE = 16384,        /* one TLS record */
};

enum lconn_state { LCONN_CONNECTING, LCONN_HANDSHAKE, LCONN_GREETING, LCONN_UP, LCONN_LINGER, LCONN_CLOSED };

struct lconn;

/* A frame on its way out. Owned by the connection from lconn_send() on. */
struct lout {
    TAILQ_ENTRY(lout) entry;
    struct frame frame;
    uint8_t head[FRAME_HEAD_BYTES];
    struct buf *body; /* a reference of its own, or NULL */
    uint32_t at;      /* bytes of head and body already handed to TLS */
    unsigned lane;
    void *slot; /* calls.c's, told when the frame is out */
};
TAILQ_HEAD(lout_list, lout);

struct lconn_events {
    /* The certificate is read (c->id). Not 0 with why: the peer is told and the connection closed. */
    int (*identified)(struct lconn *, struct why *);
    void (*up)(struct lconn *);
    /* CALL, REPLY, NOTICE, CANCEL or PROMOTE, well formed. -EPROTO with why: a violation. */
    int (*frame)(struct lconn *, unsigned lane, const struct frame *, struct buf **body, struct why *);
    void (*sent)(struct lconn *, struct lout *); /* the last byte was handed to TLS; *lout goes next */
    void (*measured)(struct lconn *, uint64_t rtt_ns);
    void (*moved)(struct lconn *, uint64_t bytes_in, uint64_t bytes_out);
    void (*down)(struct lconn *, const struct why *); /* once: no frame comes or goes any more */
    void (*gone)(struct lconn *);                     /* once, last: the socket is closed */
};

struct lconn {
    enum lconn_state state;
    struct loop *loop;
    const struct lconn_events *events;
    void *owner;       /* the link; NULL after lconn_close by it */
    struct peer *peer; /* set by the owner: when dialling, or when identified */
    void *dialer;      /* the owner's; NULL for an accepted connection */
    const char *self;  /* our own name; set by the owner */
    struct calls *calls;
    TAILQ_ENTRY(lconn) entry;      /* all connections of the link */
    TAILQ_ENTRY(lconn) peer_entry; /* those that are up, of the peer */
    char ctx[16];                  /* "l3": the id in the log */
    char address[80];              /* of the other side, for the log */
    struct tls_identity id;        /* of the other side */
    struct frame_hello ours, theirs;
    unsigned version;
    uint64_t frames_in, frames_out, up_ns;

    /* private */
    int fd;
    SSL *ssl;
    struct event *readable, *writable;
    struct task task;
    bool task_queued, want_write, tls_up, hung_up;
    struct timer tick;
    uint64_t born_ns, linger_ns, heard_ns, ticked_ns, ping_ns;
    uint64_t ping_id;
    bool ping_out, pong_queued;
    uint64_t records;
    struct lout_list lanes[FRAME_LANES];
    struct frame_in in;
    uint8_t stage[LCONN_STAGE];
    size_t stage_len, stage_at;
};

/* Takes the socket: connecting (dialled) or connected (accepted). hello is what we shall greet with. */
struct lconn *lconn_new(struct loop *, SSL_CTX *, int fd, bool dialled, const char *congestion,
                        const struct frame_hello *hello, const struct lconn_events *, void *owner);
/* A frame of this lane, queued; body (may be NULL) is referenced. Returns what stands in the queue. */
struct lout *lconn_send(struct lconn *, unsigned lane, const struct frame *, struct buf *body, void *slot);
/* Nothing of it has gone out yet: move it to another lane, or drop it. */
static inline bool lout_begun(const struct lout *o)
{
    return o->at > 0;
}
void lout_move(struct lconn *, struct lout *, unsigned lane);
void lout_drop(struct lconn *, struct lout *);
/* Says why to the log and, if tell, to the other side; then down() now and gone() within LCONN_LINGER_MS. */
void lconn_end(struct lconn *, const struct why *, bool tell);
/* Closes at once without down(): for link_free(). */
void lconn_close(struct lconn *);

#endif
