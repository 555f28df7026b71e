/* target/forwarded.c - see forwarded.h. Requests come to the main loop and are passed to the loop of their
 * session, whose number says which that is; the answers go the same way back.
 */
#include "forwarded_parts.h"

#include "check.h"
#include "forward.h"
#include "log.h"
#include "login.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <stdio.h>

static const char part[] = "target";

enum { LOOP_SHIFT = 48 /* a session's number: its loop, and 48 random bits */ };

/* --- answers --------------------------------------------------------------------------------------------*/

static void on_reply(struct task *t)
{
    struct asked *a = container_of(t, struct asked, task);
    struct iovec iov = {a->body ? a->body->data + a->from : NULL, a->len};

    link_reply(&a->r, a->status, a->why, &iov, a->len ? 1 : 0);
    buf_unref(&a->body);
    free(a);
}

void forwarded_reply(struct asked **pa, struct buf *body, uint32_t from, uint32_t len)
{
    struct asked *a = *pa;

    *pa = NULL;
    a->body = body;
    a->from = from;
    a->len = len;
    a->task.run = on_reply;
    loop_post(a->shard->target->conf.main, &a->task);
}

void forwarded_refuse(struct asked **a, int status, const char *why)
{
    (*a)->status = status;
    snprintf((*a)->why, sizeof(*a)->why, "%s", why);
    forwarded_reply(a, NULL, 0, 0);
}

void forwarded_refuse_body(struct asked **a)
{
    forwarded_refuse(a, -EBADMSG, "this is no such message");
}

/* --- task management ------------------------------------------------------------------------------------*/

static void on_task(struct forwarded *f, struct asked *a)
{
    struct conn *c = f->conn;
    uint8_t *bhs = c->rx.bhs;
    struct forward_task q;

    if (forward_get_task(a->r->body, a->r->len, &q)) {
        forwarded_refuse_body(&a);
        return;
    }
    if (q.number > f->fence)
        f->fence = q.number;
    a->itt = (uint32_t)q.number;
    TAILQ_INSERT_TAIL(&f->tasks, a, entry);
    memset(bhs, 0, BHS_BYTES);
    bhs[AT_OPCODE] = ISCSI_TASK_MANAGEMENT;
    bhs[AT_FLAGS] = q.function;
    memcpy(bhs + AT_LUN, q.lun, sizeof q.lun);
    put32(bhs + AT_ITT, a->itt);
    put32(bhs + AT_REFERENCED_TASK_TAG, (uint32_t)q.referenced);
    put32(bhs + AT_REF_CMD_SN, c->session->exp_cmd_sn - 1); /* it had its turn */
    tmf_request(c);
    conn_post_turn(c);
}

static void task_answered(struct forwarded *f, uint32_t itt, uint8_t response)
{
    struct asked *a;
    struct buf *b;

    TAILQ_FOREACH (a, &f->tasks, entry)
        if (a->itt == itt)
            break;
    if (!a)
        return;
    TAILQ_REMOVE(&f->tasks, a, entry);
    b = buf_new(1);
    b->data[0] = response;
    forwarded_reply(&a, b, 0, 1);
}

/* --- what is queued -------------------------------------------------------------------------------------*/

static void send_plain(struct forwarded *f, const struct out *o)
{
    switch (o->bhs[AT_OPCODE] & ISCSI_OPCODE_MASK) {
    case ISCSI_TASK_MANAGEMENT_RESPONSE:
        task_answered(f, get32(o->bhs + AT_ITT), o->bhs[AT_RESPONSE]);
        break;
    case ISCSI_ASYNC_MESSAGE:
        forward_notify(f->conn->target, PROTO_FORWARD_LOGOUT, f->number, o->bhs[AT_ASYNC_EVENT]);
        break;
    }
}

void forwarded_run(struct conn *c)
{
    struct out *o;

    while (conn_open(c) && (o = send_take(c))) {
        bool close_after = o->close_after;

        if (o->command) {
            forwarded_answer(o->command);
        } else {
            send_plain(c->forwarded, o);
            free(o);
        }
        if (close_after)
            conn_close(c, "that was all");
    }
}

/* --- sessions -------------------------------------------------------------------------------------------*/

static void on_open(struct shard *sh, struct asked *a)
{
    struct admission admission = login_admission(sh, a->vm);
    struct forward_mark mark = {0};
    struct forward_open o;
    struct forwarded *f;
    uint8_t random[8];
    struct buf *b;

    CHECK(forward_get_open(a->r->body, a->r->len, &o) == 0); /* it was looked at before */
    if (sh->stopping || admission.what != ADMIT_YES) {
        vm_unref(a->vm);
        if (sh->stopping)
            forwarded_refuse(&a, -EAGAIN, "this edge is stopping");
        else
            forwarded_refuse(&a, admission.what == ADMIT_LATER ? -EAGAIN : -EACCES, admission.why);
        return;
    }
    f = xcalloc(1, sizeof *f);
    TAILQ_INIT(&f->commands);
    TAILQ_INIT(&f->tasks);
    loop_random(sh->loop, random, sizeof random);
    f->number = mark.session = (uint64_t)sh->index << LOOP_SHIFT | (get64(random) >> 16 | 1);
    f->conn = conn_forwarded(sh, f, o.address, o.portal, o.group);
    LIST_INSERT_HEAD(&sh->forwarded, f, entry);
    session_start(f->conn, a->vm, o.initiator, o.isid, 0, 0, 0);
    for (int i = 0; o.moved && i < VM_DISKS_MAX; i++)
        f->conn->session->attention[i] |= UA_ACCESS;
    log_peer(f->conn->ctx, "login of %s to %s from %s by the other edge", o.initiator, a->vm->spec.name,
             o.address);
    b = forward_put_mark(&mark);
    forwarded_reply(&a, b, 0, b->len);
}

void forwarded_closed(struct conn *c)
{
    struct forwarded *f = c->forwarded;
    struct asked *a;

    forwarded_forget_all(f);
    while ((a = TAILQ_FIRST(&f->tasks))) {
        TAILQ_REMOVE(&f->tasks, a, entry);
        forwarded_refuse(&a, -ESTALE, "the session is closed");
    }
    LIST_REMOVE(f, entry);
}

void forwarded_free(struct conn *c)
{
    free(c->forwarded);
    c->forwarded = NULL;
}

void forwarded_end(struct shard *sh, const struct vm *vm)
{
    struct forwarded *f, *next;

    for (f = LIST_FIRST(&sh->forwarded); f; f = next) {
        next = LIST_NEXT(f, entry);
        if (f->conn->session->vm == vm)
            conn_close(f->conn, "the other edge is gone");
    }
}

static struct forwarded *session_of(const struct shard *sh, uint64_t number)
{
    struct forwarded *f;

    LIST_FOREACH(f, &sh->forwarded, entry)
    if (f->number == number)
        return f;
    return NULL;
}

/* --- from the main loop ---------------------------------------------------------------------------------*/

static void on_asked(struct task *t)
{
    struct asked *a = container_of(t, struct asked, task);
    struct forwarded *f;

    if (a->r->type == PROTO_FORWARD_OPEN) {
        on_open(a->shard, a);
        return;
    }
    f = session_of(a->shard, get64(a->r->body));
    if (a->r->type == PROTO_FORWARD_CLOSE) {
        if (f)
            conn_close(f->conn, "the initiator has left the other edge");
        forwarded_reply(&a, NULL, 0, 0);
    } else if (!f) {
        forwarded_refuse(&a, -ESTALE, "there is no such session");
    } else if (a->r->type == PROTO_FORWARD_COMMAND) {
        forwarded_execute(f, a);
    } else if (a->r->type == PROTO_FORWARD_DATA) {
        forwarded_data(f, a);
    } else if (a->r->type == PROTO_FORWARD_FETCH) {
        forwarded_fetch(f, a);
    } else {
        on_task(f, a);
    }
}

static struct shard *shard_of(struct target *t, const struct loop *loop)
{
    for (unsigned i = 0; i < t->conf.nloops; i++)
        if (t->shards[i].loop == loop)
            return &t->shards[i];
    return NULL;
}

static struct shard *shard_of_session(struct target *t, const uint8_t *body, uint32_t len)
{
    uint64_t index = len >= 8 ? get64(body) >> LOOP_SHIFT : UINT64_MAX;

    return index < t->conf.nloops ? &t->shards[index] : NULL;
}

void forwarded_request(struct target *t, struct link_request *r)
{
    struct shard *sh = NULL;
    struct vm *vm = NULL;
    struct forward_open o;
    struct asked *a;

    if (r->type != PROTO_FORWARD_OPEN) {
        sh = shard_of_session(t, r->body, r->len);
    } else if (forward_get_open(r->body, r->len, &o) || groups_have(&t->groups, o.group)) {
        link_reply(&r, -EBADMSG, "this is no login at another portal group than ours", NULL, 0);
        return;
    } else if ((vm = vms_find_id(t->conf.vms, o.vm))) {
        sh = shard_of(t, vm->loop);
    }
    if (!sh) {
        link_reply(&r, r->type == PROTO_FORWARD_OPEN ? -EACCES : -ESTALE,
                   "the owner has no such VM or session", NULL, 0);
        return;
    }
    a = xcalloc(1, sizeof *a);
    a->shard = sh;
    a->r = r;
    a->vm = vm;
    a->task.run = on_asked;
    loop_post(sh->loop, &a->task);
}

struct done {
    struct task task;
    struct shard *shard;
    struct forward_mark mark;
};

static void on_done(struct task *t)
{
    struct done *d = container_of(t, struct done, task);
    struct forwarded *f = session_of(d->shard, d->mark.session);

    if (f)
        forwarded_acknowledged(f, d->mark.number);
    free(d);
}

void forwarded_notice(struct target *t, const uint8_t *body, uint32_t len)
{
    struct shard *sh = shard_of_session(t, body, len);
    struct forward_mark mark;
    struct done *d;

    if (!sh || forward_get_mark(body, len, &mark))
        return;
    d = xcalloc(1, sizeof *d);
    d->shard = sh;
    d->mark = mark;
    d->task.run = on_done;
    loop_post(sh->loop, &d->task);
}
