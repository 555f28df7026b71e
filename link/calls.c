/* link/calls.c - requests in flight, on both sides of a connection.
 *
 * Each connection has a window of slots; a call holds one from its first byte until its answer, even if it
 * was cancelled meanwhile: so the other side never has more than its window to answer, and an id (its low 16
 * bits are the slot) is found without a search. What has no slot waits with the peer, by class.
 * A user's callback is always the last thing a function here does.
 */
#include "calls_in.h"

#include "check.h"
#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum call_state { CALL_WAITING = 1, CALL_SENT, CALL_DONE };

static enum link_class class_of(const struct link_call *call)
{
    return call->class;
}

static bool is_background(enum link_class class)
{
    return class >= LINK_PREFETCH;
}

/* ---- slots ---- */

void calls_open(struct lconn *c)
{
    struct calls *t = xcalloc(1, sizeof(*t));

    t->window = c->theirs.window < LINK_WINDOW ? c->theirs.window : LINK_WINDOW;
    TAILQ_INIT(&t->sent);
    for (unsigned i = 0; i < t->window; i++)
        t->slots[i].next_free = (uint16_t)(i + 1);
    c->calls = t;
}

static void slot_free(struct calls *t, struct call_slot *s)
{
    CHECK(s->busy && !s->out);
    t->nbusy--;
    if (s->background)
        t->nbackground--;
    s->busy = false;
    s->call = NULL;
    s->next_free = t->first_free;
    t->first_free = (uint16_t)(s - t->slots);
}

/* Background may use half of the window, so that a demand read always finds a slot. */
static bool has_room(const struct calls *t, enum link_class class)
{
    return t->nbusy < t->window && (!is_background(class) || t->nbackground < t->window / 2);
}

static struct lconn *least_loaded(struct peer *p, enum link_class class)
{
    struct lconn *c, *best = NULL;

    TAILQ_FOREACH (c, &p->up, peer_entry)
        if (c->state == LCONN_UP && has_room(c->calls, class) &&
            (!best || c->calls->nbusy < best->calls->nbusy))
            best = c;
    return best;
}

static void send_call(struct lconn *c, struct link_call *call)
{
    struct calls *t = c->calls;
    struct call_slot *s = &t->slots[t->first_free];
    struct frame f = {.kind = FRAME_CALL, .type = call->type, .len = call->body ? call->body->len : 0};

    CHECK(!s->busy);
    t->first_free = s->next_free;
    *s = (struct call_slot){.busy = true, .background = is_background(call->class), .call = call};
    s->id = f.id = (++t->generation << 16) | (uint64_t)(s - t->slots);
    t->nbusy++;
    if (s->background)
        t->nbackground++;
    call->in.state = CALL_SENT;
    call->in.conn = c;
    call->in.id = f.id;
    call->in.sent_ns = loop_now_ns(c->loop);
    TAILQ_INSERT_TAIL(&t->sent, call, in.entry);
    s->out = lconn_send(c, frame_lane_of(class_of(call)), &f, f.len ? call->body : NULL, s);
}

void calls_dispatch(struct peer *p)
{
    struct link_call *call;
    struct lconn *c;

    for (unsigned class = 0; class < LINK_CLASSES; class ++)
        while ((call = TAILQ_FIRST(&p->waiting[class])) && (c = least_loaded(p, class))) {
            TAILQ_REMOVE(&p->waiting[class], call, in.entry);
            send_call(c, call);
        }
}

/* ---- our calls ---- */

/* The call belongs to nobody but its owner now. */
static void detach(struct link_call *call)
{
    metric_sub(call->in.peer->metrics.in_flight, 1);
    call->in.state = CALL_DONE;
    call->in.conn = NULL;
    call->in.peer = NULL;
}

static void run_done(struct task *t)
{
    struct link_call *call = container_of(t, struct link_call, in.task);

    call->done(call);
}

static void finish_here(struct link_call *call, int status, const char *why)
{
    struct loop *loop = call->in.peer->link->loop;

    detach(call);
    call->status = why_set(&call->why, status, "%s", why);
    call->in.task.run = run_done;
    loop_post(loop, &call->in.task);
}

static void finish_cancelled(struct link_call *call)
{
    finish_here(call, -ECANCELED, "cancelled");
}

static void finish_unconnected(struct link_call *call)
{
    finish_here(call, -ENOTCONN, "there is no connection");
}

void link_call(struct peer *p, struct link_call *call)
{
    CHECK(call->type && call->class < LINK_CLASSES && call->done);
    CHECK(!call->body || call->body->len <= LINK_FRAME_MAX);
    call->status = 0;
    call->reply = NULL;
    call->why.text[0] = 0;
    call->resent = false;
    memset(&call->in, 0, sizeof(call->in));
    call->in.peer = p;
    call->in.state = CALL_WAITING;
    TAILQ_INSERT_TAIL(&p->waiting[call->class], call, in.entry);
    metric_add(p->metrics.in_flight, 1);
    calls_dispatch(p);
    if (call->brief && call->in.state == CALL_WAITING && TAILQ_EMPTY(&p->up)) {
        TAILQ_REMOVE(&p->waiting[call->class], call, in.entry);
        finish_unconnected(call);
    }
}

static void send_steering(struct lconn *c, struct call_slot *s, enum frame_kind kind, uint8_t class)
{
    lconn_send(c, 0, &(struct frame){.kind = (uint8_t)kind, .class = class, .id = s->id}, NULL, NULL);
}

static struct call_slot *slot_of(const struct link_call *call)
{
    struct lconn *c = call->in.conn;
    struct call_slot *s = &c->calls->slots[call->in.id & 0xffff];

    CHECK(s->busy && s->call == call);
    return s;
}

void link_call_cancel(struct link_call *call)
{
    struct lconn *c = call->in.conn;
    struct peer *p = call->in.peer;
    struct call_slot *s;

    if (call->in.state == CALL_DONE)
        return;
    if (call->in.state == CALL_WAITING) {
        TAILQ_REMOVE(&p->waiting[call->class], call, in.entry);
        finish_cancelled(call);
        return;
    }
    s = slot_of(call);
    TAILQ_REMOVE(&c->calls->sent, call, in.entry);
    s->call = NULL;
    finish_cancelled(call);
    if (s->out && !lout_begun(s->out)) {
        lout_drop(c, s->out);
        s->out = NULL;
        slot_free(c->calls, s);
        calls_dispatch(p);
    } else if (s->out) {
        s->cancel_due = true; /* it must not overtake its own call */
    } else {
        send_steering(c, s, FRAME_CANCEL, 0);
    }
}

void link_call_promote(struct link_call *call, enum link_class class)
{
    struct lconn *c = call->in.conn;
    struct call_slot *s;

    CHECK(class < LINK_CLASSES);
    if (call->in.state == CALL_DONE || class >= call->class)
        return;
    if (call->in.state == CALL_WAITING) {
        TAILQ_REMOVE(&call->in.peer->waiting[call->class], call, in.entry);
        call->class = class;
        TAILQ_INSERT_TAIL(&call->in.peer->waiting[class], call, in.entry);
        calls_dispatch(call->in.peer);
        return;
    }
    call->class = class;
    s = slot_of(call);
    if (s->background && !is_background(class)) {
        s->background = false;
        c->calls->nbackground--;
    }
    if (s->out && !lout_begun(s->out))
        lout_move(c, s->out, frame_lane_of(class));
    else if (s->out)
        s->promote_due = (uint8_t)(class + 1);
    else
        send_steering(c, s, FRAME_PROMOTE, (uint8_t) class);
}

/* A call's last byte is out: what was asked for meanwhile follows it. */
static void call_sent(struct lconn *c, struct call_slot *s)
{
    s->out = NULL;
    if (s->cancel_due)
        send_steering(c, s, FRAME_CANCEL, 0);
    else if (s->promote_due)
        send_steering(c, s, FRAME_PROMOTE, (uint8_t)(s->promote_due - 1));
    s->cancel_due = false;
    s->promote_due = 0;
}

/* The other side's sentence: shown to people, so no bytes that a terminal or a log would take ill. */
static void read_sentence(struct why *why, const struct buf *body)
{
    size_t n = body ? body->len : 0;

    if (n == 0) {
        why_set(why, 0, "the other side gave no reason");
        return;
    }
    if (n >= sizeof(why->text))
        n = sizeof(why->text) - 1;
    for (size_t i = 0; i < n; i++)
        why->text[i] = body->data[i] < 0x20 || body->data[i] == 0x7f ? '?' : (char)body->data[i];
    why->text[n] = 0;
}

static int on_reply(struct lconn *c, const struct frame *f, struct buf **body, struct why *why)
{
    uint64_t i = f->id & 0xffff;
    struct call_slot *s = i < c->calls->window ? &c->calls->slots[i] : NULL;
    struct link_call *call;

    if (!s || !s->busy || s->id != f->id || s->out)
        return why_set(why, -EPROTO, "it answered a call that we did not make");
    call = s->call;
    slot_free(c->calls, s);
    if (call) {
        TAILQ_REMOVE(&c->calls->sent, call, in.entry);
        detach(call);
        call->status = -(int)f->code;
        if (f->code == 0)
            call->reply = *body ? *body : buf_new(0);
        else
            read_sentence(&call->why, *body);
        if (f->code == 0)
            *body = NULL;
    }
    calls_dispatch(c->peer);
    if (call)
        call->done(call);
    return 0;
}

/* ---- both ---- */

int calls_frame(struct lconn *c, unsigned lane, const struct frame *f, struct buf **body, struct why *why)
{
    struct link *link = c->owner;

    switch (f->kind) {
    case FRAME_CALL:
        return calls_serve(c, lane, f, body, why);
    case FRAME_REPLY:
        return on_reply(c, f, body, why);
    case FRAME_CANCEL:
        calls_serve_cancel(c, f);
        return 0;
    case FRAME_PROMOTE:
        calls_serve_promote(c, f);
        return 0;
    default:
        CHECK(f->kind == FRAME_NOTICE);
        if (link->handlers.notice)
            link->handlers.notice(link->handlers.arg, c->peer, f->type, *body ? (*body)->data : NULL, f->len);
        return 0;
    }
}

void calls_sent(struct lconn *c, struct lout *o)
{
    struct serve_slot *s = o->slot;

    if (o->frame.kind == FRAME_CALL)
        call_sent(c, o->slot);
    else if (o->frame.kind == FRAME_REPLY)
        *s = (struct serve_slot){0};
}

/* Those that wait for a slot. */
static void end_brief(struct peer *p)
{
    struct link_call *call, *next;

    for (unsigned class = 0; class < LINK_CLASSES; class ++)
        for (call = TAILQ_FIRST(&p->waiting[class]); call; call = next) {
            next = TAILQ_NEXT(call, in.entry);
            if (!call->brief)
                continue;
            TAILQ_REMOVE(&p->waiting[class], call, in.entry);
            finish_unconnected(call);
        }
}

void calls_close(struct lconn *c)
{
    struct calls *t = c->calls;
    struct link_call *call;

    while ((call = TAILQ_LAST(&t->sent, call_list))) { /* backwards: the oldest ends up first in line */
        TAILQ_REMOVE(&t->sent, call, in.entry);
        if (call->brief) {
            finish_unconnected(call);
            continue;
        }
        call->in.state = CALL_WAITING;
        call->in.conn = NULL;
        call->resent = true;
        TAILQ_INSERT_HEAD(&c->peer->waiting[call->class], call, in.entry);
        metric_add(c->peer->metrics.resent, 1);
    }
    for (unsigned i = 0; i < LINK_WINDOW; i++)
        if (t->served[i].request)
            t->served[i].request->conn = NULL;
    free(t);
    c->calls = NULL;
    end_brief(c->peer);
}

void calls_cancel_all(struct peer *p)
{
    struct link_call *call;

    for (unsigned class = 0; class < LINK_CLASSES; class ++)
        while ((call = TAILQ_FIRST(&p->waiting[class]))) {
            TAILQ_REMOVE(&p->waiting[class], call, in.entry);
            finish_cancelled(call);
        }
}

void link_notice(struct peer *p, uint8_t type, const void *body, uint32_t len)
{
    struct lconn *c = TAILQ_FIRST(&p->up);
    struct frame f = {.kind = FRAME_NOTICE, .type = type, .len = len};
    unsigned lane = frame_lane_of(LINK_CONTROL), queued = 0;
    struct lout *o;
    struct buf *b;

    CHECK(type && len <= LINK_FRAME_MAX);
    if (!c)
        return;
    TAILQ_FOREACH (o, &c->lanes[lane], entry)
        if (++queued >= LINK_NOTICES)
            return;
    b = buf_new(len);
    if (len)
        memcpy(b->data, body, len);
    lconn_send(c, lane, &f, len ? b : NULL, NULL);
    buf_unref(&b);
}
