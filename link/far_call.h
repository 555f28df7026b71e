/* link/far_call.h - a call to a peer (link.h) from another loop than the link's.
 *
 * Everything here is called on the caller's loop ("home"), where done() fires: exactly once, and never before
 * far_call() has returned. Embedded in its owner, who touches nothing of it until then.
 */
#ifndef ISTHMUS_FAR_CALL_H
#define ISTHMUS_FAR_CALL_H

#include "link.h"

struct far_call {
    struct link_call call; /* type, class, body: the owner's; status, why, reply: the answer (link.h) */
    struct loop *home, *away;
    struct peer *peer;
    void (*done)(struct far_call *);
    struct { /* private */
        struct task go, back, cancel;
        bool cancelled;         /* home: cancel is with the other loop, or was */
        bool answered, steered; /* home: the answer is here; nothing of `cancel` is under way */
        bool out;               /* away: with the link */
    } in;
};
void far_call(struct far_call *);
/* done() comes later with -ECANCELED, or with the answer if that was already in. Once done() fired it does
 * nothing. */
void far_call_cancel(struct far_call *);

#endif
