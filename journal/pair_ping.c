/* journal/pair_ping.c - what the edges of a pair tell each other: pings, their answers, and what is heard.
 */
#include "pair_impl.h"

#include "check.h"
#include "log.h"

#include <errno.h>
#include <string.h>

static const char part[] = "pair";

static struct pair_word my_word(const struct pair *p)
{
    struct pair_word w = {
        .instance = p->instance, .epoch = p->record.epoch, .role = p->role, .generation = p->conf.generation};

    memcpy(w.writer, p->conf.writer, sizeof w.writer);
    if (p->unsettled)
        w.role = PAIR_SOLE;
    if (p->claiming && p->role == PAIR_BOTH)
        w.role = PAIR_UNKNOWN;
    return w;
}

/* Set up anew in the place of the edge that the record knows: it tells nothing of what that one did. */
static bool is_new_there(const struct pair *p, const struct pair_word *w)
{
    struct arbiter_edge me = pair_me(p);
    const struct arbiter_place *place = arbiter_other(&p->record, &me);

    return place && memcmp(place->writer, w->writer, sizeof w->writer) != 0;
}

/* What the other says of itself. */
static void hear(struct pair *p, const struct pair_word *w, bool called)
{
    struct why why;

    p->theirs = *w;
    p->heard_ns = pair_now(p);
    if (called && p->ready != w->instance && !is_new_there(p, w)) /* an answer may be of a run that is over */
        p->ready = 0;
    if (called && w->granted && w->role == PAIR_SOLE && p->role == PAIR_OUT)
        p->ready = w->instance;
    if (p->role == PAIR_BOTH && !p->claiming && w->instance != p->partner) {
        why_set(&why, 0, "the other edge was restarted");
        pair_break(p, &why);
    } else if (p->role == PAIR_BOTH && !p->claiming && w->epoch > p->record.epoch && !p->unsettled) {
        why_set(&why, 0, "the other edge goes by a later record");
        pair_break(p, &why);
    } else if (p->role == PAIR_BOTH && !p->claiming && !p->unsettled && w->role == PAIR_OUT &&
               w->epoch == p->record.epoch) {
        why_set(&why, 0, "the other edge counts itself no member: it was stopped, or must be taken in again");
        pair_break(p, &why);
    } else {
        pair_step(p);
    }
}

void pair_request(struct pair *p, struct link_request *r)
{
    struct pair_word theirs, mine = my_word(p);
    struct buf *b;
    struct iovec iov;

    if (pair_get_word(r->body, r->len, &theirs) < 0) {
        link_reply(&r, -EBADMSG, "it cannot be read", NULL, 0);
        return;
    }
    mine.granted =
        pair_keeps(p) && p->conf.fit(p->conf.arg) && (p->role == PAIR_OUT || theirs.instance == p->partner);
    if (mine.granted)
        lease_give(&p->lease, pair_now(p));
    b = pair_put_word(&mine);
    iov = (struct iovec){b->data, b->len};
    link_reply(&r, 0, NULL, &iov, 1);
    buf_unref(&b);
    hear(p, &theirs, true);
}

static void on_answer(struct link_call *call)
{
    struct pair *p = container_of(call, struct pair, ping);
    struct pair_word w;
    int err = call->status;

    p->pinging = false;
    buf_unref(&call->body);
    if (err == 0) {
        err = pair_get_word(call->reply->data, call->reply->len, &w);
        buf_unref(&call->reply);
    }
    if (p->stopping) {
        pair_look_stopped(p);
        return;
    }
    if (err) {
        log_debug(NULL, "pair %s: the other edge's answer: %s", p->name, strerror(-err));
        return;
    }
    if (w.granted && w.instance == p->partner && !p->broken) {
        lease_answered(&p->lease, p->ping_sent_ns);
        pair_set_gate(p);
        p->told = p->told || (p->pinged_prepared && p->prepared);
    }
    hear(p, &w, false);
}

static void ping(struct pair *p)
{
    struct pair_word w = my_word(p);

    w.granted = p->pinged_prepared = p->role == PAIR_SOLE && p->prepared;
    p->ping = (struct link_call){
        .type = PROTO_PAIR_PING, .class = LINK_CONTROL, .body = pair_put_word(&w), .done = on_answer};
    p->ping_sent_ns = pair_now(p);
    p->pinging = true;
    link_call(p->conf.peer, &p->ping);
}

static void on_farewell(struct link_call *call)
{
    struct pair *p = container_of(call, struct pair, farewell);

    p->bidding = false;
    buf_unref(&call->body);
    if (call->status == 0)
        buf_unref(&call->reply);
    pair_look_stopped(p);
}

void pair_bid_farewell(struct pair *p)
{
    struct pair_word w = my_word(p);

    if (p->role != PAIR_BOTH || p->claiming || p->unsettled || p->lost || !pair_hears(p))
        return;
    atomic_store_explicit(&p->conf.gate->until_ns, 0, memory_order_release);
    w.role = PAIR_OUT;
    p->farewell = (struct link_call){
        .type = PROTO_PAIR_PING, .class = LINK_CONTROL, .body = pair_put_word(&w), .done = on_farewell};
    p->bidding = true;
    timer_set_ms(&p->timer, PAIR_FAREWELL_MS);
    link_call(p->conf.peer, &p->farewell);
}

void pair_on_timer(struct timer *t)
{
    struct pair *p = container_of(t, struct pair, timer);

    if (p->stopping) {
        if (p->bidding)
            link_call_cancel(&p->farewell);
        return;
    }
    timer_set_ms(t, p->conf.lease_ns / PAIR_TICKS / 1000000);
    if (!p->pinging)
        ping(p);
    pair_step(p);
    pair_set_gate(p);
}
