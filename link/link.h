/* link/link.h - what two daemons say to each other, over TLS 1.3, hiding the WAN.
 *
 * A link end (one per daemon) listens or dials; the other daemon is a peer, known by the name in its
 * certificate. A peer is reached over one or more TCP connections; calls are spread over them, many in
 * flight. When a connection dies, its unanswered calls are sent again on another or after reconnecting:
 * a call therefore must be idempotent, and it waits for as long as the outage lasts - it fails only when
 * the other side answers with an error. One that is `brief` does not wait for that. docs/link.md specifies
 * every byte.
 *
 * Thread: everything here belongs to the loop given to link_new(); callbacks run there.
 */
#ifndef ISTHMUS_LINK_H
#define ISTHMUS_LINK_H

#include "buf.h"
#include "loop.h"
#include "why.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/uio.h>

/* Higher classes first (DESIGN.md, link). What waits in a lower class never delays a higher one by more
 * than the frame being sent and the small socket backlog. */
enum link_class { LINK_DEMAND, LINK_CONTROL, LINK_PREFETCH, LINK_WRITEBACK, LINK_MIGRATION, LINK_CLASSES };

enum { LINK_NAME_MAX = 63, LINK_FRAME_MAX = 300 * 1024 };

struct link; /* this daemon's end */
struct peer; /* the other daemon; exists for the link's life once named */

struct link_conf {
    const char *role;                   /* "edge" or "onprem": must be what our certificate says (its OU) */
    const char *peer_role;              /* the only role accepted from the other side */
    const char *certificate, *key, *ca; /* PEM files; key of mode 0600 */
    const char *listen;                 /* "ADDR:PORT" ("[::]:PORT" for IPv6), or NULL: dial only */
    const char *congestion;             /* TCP_CONGESTION for our sockets, or NULL: the system's */
    const char *twin;                   /* the one peer whose role must be ours instead; NULL: none */
};

/* A request from a peer, until answered. */
struct link_request {
    struct peer *peer;
    uint8_t type;
    enum link_class class;
    const uint8_t *body; /* borrowed until link_reply */
    uint32_t len;
};

struct link_handlers {
    /* Answer now or later with link_reply, exactly once; a type unknown to you with -ENOSYS. NULL: the link
     * answers that itself. */
    void (*request)(void *arg, struct link_request *);
    /* One-way word from a peer; body borrowed for the call. */
    void (*notice)(void *arg, struct peer *, uint8_t type, const uint8_t *body, uint32_t len);
    /* First connection up (true), last one down (false). */
    void (*peer_state)(void *arg, struct peer *, bool up);
    void *arg;
};

/* 0 or -errno with why (file missing, key readable by others, wrong role, port in use, ...). Copies conf. */
int link_new(struct link **, struct loop *, const struct link_conf *, const struct link_handlers *,
             struct why *);
void link_free(struct link **);          /* closes every connection; outstanding calls end with -ECANCELED */
uint16_t link_port(const struct link *); /* the port listened on (after "ADDR:0") */

/* The peer of that name, made (down) if it was unknown. NULL if the name is not one (empty, too long). */
struct peer *link_peer(struct link *, const char *name);
/* Keep nconns connections up to this peer at "HOST:PORT", with jittered bounded back-off, for ever. */
int link_dial(struct link *, struct peer *, const char *address, unsigned nconns, struct why *);

const char *link_name(const struct link *); /* ours, as our certificate says */

const char *peer_name(const struct peer *);
bool peer_up(const struct peer *);         /* any thread */
uint64_t peer_rtt_ns(const struct peer *); /* smoothed, from the keep-alive; 0 = not measured */
uint64_t
peer_bytes_per_s(const struct peer *); /* receive rate seen when busy (recent maximum); 0 = unknown */
struct link *peer_link(const struct peer *);

/* A call: embedded in its owner, who fills the first part and must not touch it until done(). */
struct link_call {
    uint8_t type;
    enum link_class class;
    bool brief;       /* not sent again: -ENOTCONN when its connection dies, or when there is none */
    struct buf *body; /* borrowed until done() */
    void (*done)(struct link_call *);

    int status;        /* 0, or the -errno the other side answered, or -ECANCELED, -ENOTCONN */
    struct why why;    /* its sentence when status != 0 */
    bool resent;       /* a connection was lost that it was sent over: it may come there after its answer */
    struct buf *reply; /* status == 0: the owner's to unref */

    struct { /* private */
        uint64_t id;
        struct peer *peer;
        void *conn;
        TAILQ_ENTRY(link_call) entry;
        struct task task;
        uint64_t sent_ns;
        int state;
    } in;
};
void link_call(struct peer *, struct link_call *);
/* done() comes later with -ECANCELED (or with the answer, if that was already in). */
void link_call_cancel(struct link_call *);
/* Somebody waits now for what was asked for as background: moves it up on both sides. */
void link_call_promote(struct link_call *, enum link_class);

/* Answers and frees *r. status 0 with a body, or -errno with a sentence. iov is copied or sent before
 * returning; a reply to a connection that is gone is dropped (the call will come again). */
void link_reply(struct link_request **r, int status, const char *why, const struct iovec *iov, int niov);
/* One-way, control class; dropped when the peer is down. */
void link_notice(struct peer *, uint8_t type, const void *body, uint32_t len);

#endif
