/* link/calls_in.h - what calls.c and calls_serve.c have between them. Nobody else includes it. Loop thread
 * only. */
#ifndef ISTHMUS_CALLS_IN_H
#define ISTHMUS_CALLS_IN_H

#include "link_in.h"

struct call_slot { /* a call of ours */
    bool busy, cancel_due, background;
    uint8_t promote_due; /* a class + 1 */
    uint16_t next_free;
    uint64_t id;
    struct link_call *call; /* NULL: cancelled */
    struct lout *out;       /* until its last byte is out */
};

struct served { /* a request being answered; freed by link_reply */
    struct link_request pub;
    struct lconn *conn; /* NULL: gone */
    struct serve_slot *slot;
    struct buf *body;
};

struct serve_slot { /* a call of theirs */
    bool busy, cancelled;
    uint64_t id;
    struct served *request; /* until link_reply */
    struct lout *reply;     /* from link_reply until its last byte is out */
};

struct calls {
    uint16_t window, nbusy, nbackground, first_free;
    uint64_t generation;
    struct call_list sent; /* oldest first */
    struct call_slot slots[LINK_WINDOW];
    struct serve_slot served[LINK_WINDOW];
};

/* calls_serve.c: the frames by which the other side calls. 0, or -EPROTO with why. */
int calls_serve(struct lconn *, unsigned lane, const struct frame *, struct buf **body, struct why *);
void calls_serve_cancel(struct lconn *, const struct frame *);
void calls_serve_promote(struct lconn *, const struct frame *);

#endif
