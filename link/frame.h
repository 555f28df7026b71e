/* link/frame.h - the bytes of a connection inside TLS: chunks of lanes, and frames in lanes.
 *
 * A connection carries one stream of frames per lane: lane 0 for what steers the connection, one more for
 * each class. Chunks of at most 16 KiB interleave the lanes, so that a demand frame overtakes in the middle
 * of a large background frame. docs/link.md specifies every byte; this file knows no socket and no TLS.
 */
#ifndef ISTHMUS_FRAME_H
#define ISTHMUS_FRAME_H

#include "buf.h"
#include "link.h"
#include "why.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    FRAME_MAGIC = 0x49535448, /* "ISTH" */
    FRAME_HEAD_BYTES = 16,
    FRAME_CHUNK_HEAD_BYTES = 4,
    FRAME_CHUNK_MAX = 16384 - FRAME_CHUNK_HEAD_BYTES, /* a chunk and its head fit one TLS record */
    FRAME_HELLO_MIN = 24,                             /* bytes of a hello of any version */
    FRAME_HELLO_MAX = 512,
    FRAME_BYE_MAX = 399,
    FRAME_LANES = 1 + LINK_CLASSES,
};

enum frame_kind {
    FRAME_HELLO = 1,   /* first frame of either side */
    FRAME_CALL = 2,    /* a request */
    FRAME_REPLY = 3,   /* its answer; code = 0 or an errno, the body then a sentence */
    FRAME_NOTICE = 4,  /* one-way */
    FRAME_PING = 5,    /* at most one unanswered */
    FRAME_PONG = 6,    /* same id */
    FRAME_CANCEL = 7,  /* the answer to this call is no longer wanted */
    FRAME_PROMOTE = 8, /* this call is of a higher class now */
    FRAME_BYE = 9,     /* last frame: a sentence that says why */
};

struct frame {
    uint32_t len; /* bytes of body */
    uint8_t kind;
    uint8_t type;  /* CALL, NOTICE: the message's, never 0 */
    uint8_t class; /* PROMOTE: the new class */
    uint16_t code; /* REPLY: errno, 0 = good */
    uint64_t id;   /* CALL, REPLY, CANCEL, PROMOTE, PING, PONG */
};

struct frame_hello {
    uint16_t version_min, version_max;
    uint16_t window;   /* calls its sender accepts unanswered on this connection */
    uint16_t index;    /* which of the dialer's connections to this peer; 0 from the listener */
    uint64_t instance; /* random at each start of a daemon */
};

static inline unsigned frame_lane_of(enum link_class class)
{
    return 1 + (unsigned)class;
}

void frame_put(uint8_t out[FRAME_HEAD_BYTES], const struct frame *);
/* 0, or -EPROTO with why if a frame with this head may not come on this lane. */
int frame_get(const uint8_t in[FRAME_HEAD_BYTES], unsigned lane, struct frame *, struct why *);
struct buf *frame_put_hello(const struct frame_hello *);
int frame_get_hello(const uint8_t *p, uint32_t n, struct frame_hello *, struct why *);

/* What is being received. Holds at most one unfinished frame per lane. */
struct frame_in {
    uint8_t chunk_head[FRAME_CHUNK_HEAD_BYTES];
    unsigned chunk_have; /* bytes of chunk_head */
    unsigned chunk_left; /* bytes of the chunk still to come */
    unsigned lane;
    bool greeted; /* set by the owner after the hello: before it only HELLO and BYE may come */
    struct frame_lane {
        uint8_t head[FRAME_HEAD_BYTES];
        unsigned have; /* bytes of head, then of body */
        bool in_body;
        struct frame frame;
        struct buf *body;
    } lanes[FRAME_LANES];
};

/* A whole frame came on a lane; *body is NULL if len is 0, and may be taken by setting it to NULL. Not 0
 * stops the feeding and is returned by frame_in_feed. */
typedef int frame_on(void *arg, unsigned lane, const struct frame *, struct buf **body, struct why *);

/* Takes bytes as they come. 0, -EPROTO with why, or what `on` returned. After an error: feed no more. */
int frame_in_feed(struct frame_in *, const uint8_t *p, size_t n, frame_on *on, void *arg, struct why *);
void frame_in_clear(struct frame_in *);

#endif
