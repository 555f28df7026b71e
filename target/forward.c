/* target/forward.c - see forward.h: the session at the owner, and task management. On the VM's loop.
 */
#include "forward.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "proto_forward.h"
#include "session.h"

#include <errno.h>
#include <stdio.h>

static const char part[] = "target";

enum { REST_MS = 250, SOON_MS = 50, ERRANDS_MAX = 32 };
#define MUTE_NS UINT64_C(2000000000) /* who has never answered a ping is not waited for longer */

/* A task management function that the owner serves. */
struct errand {
    TAILQ_ENTRY(errand) entry;
    struct forward *forward;
    struct far_call call;
    bool out;
    uint64_t session; /* where it is */
    enum tmf_function function;
    uint8_t lun[8];
    uint32_t itt;
    uint64_t referenced;
};

/* --- calls ----------------------------------------------------------------------------------------------*/

void forward_call(struct forward *fw, struct far_call *f, uint8_t type, enum link_class class,
                  struct buf *body, void (*done)(struct far_call *))
{
    const struct conn *c = fw->session->conn;

    f->call = (struct link_call){.type = type, .class = class, .body = body};
    f->call.brief = type != PROTO_FORWARD_OPEN && type != PROTO_FORWARD_CLOSE;
    f->home = c->shard->loop;
    f->away = c->target->conf.main;
    f->peer = c->target->conf.twin;
    f->done = done;
    fw->out++;
    far_call(f);
}

int forward_back(struct forward *fw, struct far_call *f)
{
    struct session *s = fw->session;

    buf_unref(&f->call.body);
    if (f->call.status == 0)
        buf_unref(&f->call.reply);
    fw->out--;
    if (fw->taken && !fw->ended && s->device->successor)
        timer_set_ms(&s->device->taking, 0);
    if (fw->ended)
        conn_post_turn(s->conn);
    return f->call.status;
}

struct word {
    struct task task;
    struct peer *peer;
    uint8_t type;
    struct forward_mark mark;
};

static void on_word(struct task *t)
{
    struct word *w = container_of(t, struct word, task);
    struct buf *b = forward_put_mark(&w->mark);

    link_notice(w->peer, w->type, b->data, b->len);
    buf_unref(&b);
    free(w);
}

void forward_notify(struct target *t, uint8_t type, uint64_t session, uint64_t number)
{
    struct word *w = xcalloc(1, sizeof *w);

    w->peer = t->conf.twin;
    w->type = type;
    w->mark = (struct forward_mark){.session = session, .number = number};
    w->task.run = on_word;
    loop_post(t->conf.main, &w->task);
}

/* --- the session at the owner ---------------------------------------------------------------------------*/

static void send_errands(struct forward *);

void forward_pump(struct forward *fw)
{
    if (fw->ended || fw->taken || fw->held || fw->still || !fw->number)
        return;
    send_errands(fw);
    forward_send_parked(fw);
}

static void on_closed(struct far_call *f)
{
    struct forward *fw = container_of(f, struct forward, call);

    fw->calling = false;
    forward_back(fw, f);
}

static void close_there(struct forward *fw)
{
    const struct conn *c = fw->session->conn;
    struct forward_mark mark = {.session = fw->number};

    if (!fw->number || fw->taken || c->shard->stopping)
        return;
    fw->number = 0;
    fw->calling = true;
    forward_call(fw, &fw->call, PROTO_FORWARD_CLOSE, LINK_CONTROL, forward_put_mark(&mark), on_closed);
}

static void on_opened(struct far_call *f)
{
    struct forward *fw = container_of(f, struct forward, call);
    struct conn *c = fw->session->conn;
    struct forward_mark mark = {0};
    int status = f->call.status, bad = 0;

    if (status == 0)
        bad = forward_get_mark(f->call.reply->data, f->call.reply->len, &mark);
    fw->calling = false;
    forward_back(fw, f);
    if (status == 0 && !bad) {
        fw->number = mark.session;
        fw->moved = false;
    }
    if (fw->ended)
        close_there(fw);
    if (fw->ended || fw->taken)
        return;
    if (bad) {
        conn_close(c, "the owner's answer to a login was not understood");
    } else if (status == 0) {
        fw->told = false;
        forward_pump(fw);
    } else if (status == -EACCES) {
        drop_tell(c);
        conn_close(c, "the owner does not let it in: %s", f->call.why.text);
    } else {
        if (!fw->told)
            log_peer(c->ctx, "the owner has no session for %s yet: %s", fw->session->initiator,
                     f->call.why.text);
        fw->told = true;
        timer_set_ms(&fw->timer, REST_MS);
    }
}

void forward_open_there(struct forward *fw)
{
    struct session *s = fw->session;
    struct forward_open o = {.group = s->conn->group, .moved = fw->moved};

    if (fw->calling || fw->number || fw->ended || fw->taken)
        return;
    memcpy(o.vm, s->vm->spec.id, sizeof o.vm);
    memcpy(o.isid, s->isid, sizeof o.isid);
    snprintf(o.initiator, sizeof o.initiator, "%s", s->initiator);
    snprintf(o.address, sizeof o.address, "%s", s->conn->peer);
    snprintf(o.portal, sizeof o.portal, "%s", s->conn->portal);
    fw->calling = true;
    forward_call(fw, &fw->call, PROTO_FORWARD_OPEN, LINK_CONTROL, forward_put_open(&o), on_opened);
}

static void revive(struct forward *fw)
{
    fw->held = fw->pinged = false;
    forward_pump(fw);
    forward_open_there(fw);
}

void forward_alive(struct session *s, uint32_t ping)
{
    struct forward *fw = s ? s->forward : NULL;

    if (fw && fw->held && fw->pinged && fw->ping == ping)
        revive(fw);
}

/* The link is there again. */
static void ask_initiator(struct forward *fw)
{
    struct conn *c = fw->session->conn;
    uint64_t now = loop_now_ns(c->shard->loop);

    if (!fw->pinged) {
        fw->pinged = true;
        fw->pinged_ns = now;
        fw->ping = nop_ping(c);
    } else if (!c->answers_pings && now - fw->pinged_ns > MUTE_NS) {
        revive(fw); /* boot firmware, which has no other path */
        return;
    }
    if (!fw->ended)
        timer_set_ms(&fw->timer, REST_MS);
}

static void on_timer(struct timer *t)
{
    struct forward *fw = container_of(t, struct forward, timer);

    if (!peer_up(fw->session->conn->target->conf.twin))
        timer_set_ms(&fw->timer, SOON_MS);
    else if (fw->held)
        ask_initiator(fw);
    else if (fw->number)
        forward_pump(fw);
    else
        forward_open_there(fw);
}

void forward_lost(struct forward *fw, int status, uint64_t number)
{
    if (!status || fw->ended || fw->taken)
        return;
    if (status == -ENOTCONN) {
        fw->held = true;
        fw->pinged = false;
    } else if (status != -EAGAIN && fw->number == number) {
        fw->number = 0;
    }
    timer_set_ms(&fw->timer, status == -EAGAIN || status == -ENOTCONN ? SOON_MS : REST_MS);
}

static struct forward *forward_new(struct session *s)
{
    struct forward *fw = xcalloc(1, sizeof *fw);

    s->forward = fw;
    fw->session = s;
    fw->next = 1;
    TAILQ_INIT(&fw->out_there);
    TAILQ_INIT(&fw->parked);
    TAILQ_INIT(&fw->tasks);
    timer_init(&fw->timer, s->conn->shard->loop, on_timer);
    return fw;
}

void forward_start(struct session *s)
{
    forward_open_there(forward_new(s));
}

void forward_still(struct session *s)
{
    forward_new(s)->still = true;
}

void forward_take_back_errands(struct forward *fw)
{
    struct errand *e, *next;

    for (e = TAILQ_FIRST(&fw->tasks); e; e = next) {
        next = TAILQ_NEXT(e, entry);
        if (e->out) {
            far_call_cancel(&e->call);
        } else if (fw->ended) {
            TAILQ_REMOVE(&fw->tasks, e, entry);
            free(e);
        }
    }
}

void forward_end(struct session *s)
{
    struct forward *fw = s->forward;

    fw->ended = true;
    timer_stop(&fw->timer);
    forward_take_back_errands(fw);
    if (!fw->calling) /* else what it opens is closed then */
        close_there(fw);
    else if (s->conn->shard->stopping)
        far_call_cancel(&fw->call);
}

bool forward_busy(const struct session *s)
{
    return s->forward && s->forward->out > 0;
}

void forward_free(struct forward **pfw)
{
    struct forward *fw = *pfw;

    if (!fw)
        return;
    *pfw = NULL;
    CHECK(fw->out == 0 && TAILQ_EMPTY(&fw->out_there) && TAILQ_EMPTY(&fw->parked) && TAILQ_EMPTY(&fw->tasks));
    timer_free(&fw->timer);
    free(fw);
}

void forward_stop(struct shard *sh)
{
    struct conn *c;

    TAILQ_FOREACH (c, &sh->conns, entry)
        if (c->session && c->session->forward && c->session->forward->calling)
            far_call_cancel(&c->session->forward->call);
}

/* --- task management ------------------------------------------------------------------------------------*/

static void on_errand_back(struct far_call *f)
{
    struct errand *e = container_of(f, struct errand, call);
    struct forward *fw = e->forward;
    struct conn *c = fw->session->conn;
    int status = f->call.status;
    uint8_t response = TMF_REJECTED;

    if (status == 0 && f->call.reply->len == 1)
        response = f->call.reply->data[0];
    e->out = false;
    status = forward_back(fw, f);
    if (status && !fw->ended) {
        forward_lost(fw, status, e->session); /* done again: aborting twice is aborting */
        return;
    }
    TAILQ_REMOVE(&fw->tasks, e, entry);
    fw->ntasks--;
    if (!fw->ended) {
        if (e->function == TMF_ABORT_TASK && response == TMF_NO_TASK)
            response = TMF_COMPLETE; /* here it was one */
        tmf_answer(c, e->itt, response, e->function == TMF_TARGET_COLD_RESET);
        conn_post_turn(c);
    }
    free(e);
}

static void send_errands(struct forward *fw)
{
    struct errand *e;

    TAILQ_FOREACH (e, &fw->tasks, entry) {
        struct forward_task t = {.session = fw->number,
                                 .number = fw->next,
                                 .referenced = e->referenced,
                                 .function = (uint8_t)e->function};

        if (e->out)
            continue;
        fw->next++;
        e->session = fw->number;
        e->out = true;
        memcpy(t.lun, e->lun, sizeof t.lun);
        forward_call(fw, &e->call, PROTO_FORWARD_TASK, LINK_CONTROL, forward_put_task(&t), on_errand_back);
    }
}

void forward_task(struct conn *c, enum tmf_function function, uint32_t itt, const uint8_t lun[8],
                  uint64_t referenced)
{
    struct forward *fw = c->session->forward;
    struct errand *e;

    if (fw->ntasks >= ERRANDS_MAX) {
        tmf_answer(c, itt, TMF_REJECTED, false);
        return;
    }
    e = xcalloc(1, sizeof *e);
    e->forward = fw;
    e->function = function;
    e->itt = itt;
    e->referenced = referenced;
    memcpy(e->lun, lun, sizeof e->lun);
    TAILQ_INSERT_TAIL(&fw->tasks, e, entry);
    fw->ntasks++;
    forward_pump(fw);
}

/* The VM is this edge's: what the owner was asked for is done here. */
void forward_do_errands(struct conn *c, struct forward *fw)
{
    struct errand *e;

    while ((e = TAILQ_FIRST(&fw->tasks))) {
        TAILQ_REMOVE(&fw->tasks, e, entry);
        tmf_again(c, e->function, e->itt, command_lun(e->lun));
        conn_post_turn(c);
        free(e);
    }
}

/* --- what the owner says --------------------------------------------------------------------------------*/

struct logout {
    struct task task;
    struct shard *shard;
    struct forward_mark mark;
};

static void on_logout(struct task *t)
{
    struct logout *l = container_of(t, struct logout, task);
    struct conn *c, *next;

    for (c = TAILQ_FIRST(&l->shard->conns); c; c = next) {
        const struct session *s = c->session;

        next = TAILQ_NEXT(c, entry);
        if (!conn_open(c) || !s || !s->forward || s->forward->number != l->mark.session)
            continue;
        if (l->mark.number == ASYNC_LOGOUT_REQUEST) {
            logout_ask(c);
        } else {
            drop_tell(c);
            conn_close(c, "the owner of VM %s has closed its session", s->vm->spec.name);
        }
    }
    free(l);
}

void forward_notice(struct target *t, const uint8_t *body, uint32_t len)
{
    struct forward_mark mark;

    if (forward_get_mark(body, len, &mark) || !mark.session)
        return;
    for (unsigned i = 0; i < t->conf.nloops; i++) {
        struct logout *l = xcalloc(1, sizeof *l);

        l->shard = &t->shards[i];
        l->mark = mark;
        l->task.run = on_logout;
        loop_post(l->shard->loop, &l->task);
    }
}
