/* target/forward_turn.c - from forwarding to executing, when the VM becomes this edge's, and the other way
 * round, when it becomes the other's. On the VM's loop.
 */
#include "forward.h"

#include "check.h"
#include "log.h"
#include "login.h"
#include "session.h"

static const char part[] = "target";

enum { SOON_MS = 50 };

/* What waits is executed here. */
static void execute(struct session *s)
{
    struct forward *fw = s->forward;

    s->forward = NULL;
    forward_do_errands(s->conn, fw);
    forward_do_parked(fw);
    forward_free(&fw);
}

void forward_go_on(struct session *s, struct vm *far)
{
    if (!far) {
        execute(s);
        return;
    }
    session_move(s, far);
    s->forward->still = false;
    s->forward->moved = true;
    forward_open_there(s->forward);
}

/* The session goes on with the VM that is this edge's. */
static void move(struct session *s, struct vm *vm)
{
    session_move(s, vm);
    execute(s);
    for (int i = 0; i < VM_DISKS_MAX; i++) /* what was here before does not meet it */
        s->attention[i] |= UA_ACCESS;
}

static void drop_successor(struct device *d)
{
    vm_unref(d->successor);
    d->successor = NULL;
}

/* Once nothing of any session is with the owner any more, and the VM may be served. */
static void on_taking(struct timer *t)
{
    struct device *d = container_of(t, struct device, taking);
    struct admission a = login_admission(d->shard, d->successor);
    struct session *s, *next;

    TAILQ_FOREACH (s, &d->sessions, peer)
        if (s->forward->out)
            return; /* forward_back() comes here again */
    if (a.what == ADMIT_LATER) {
        timer_set_ms(&d->taking, SOON_MS);
        return;
    }
    for (s = TAILQ_FIRST(&d->sessions); s; s = next) {
        next = TAILQ_NEXT(s, peer);
        if (a.what == ADMIT_NO) {
            drop_tell(s->conn);
            conn_close(s->conn, "VM %s: %s", d->name, a.why);
        } else {
            move(s, d->successor);
        }
    }
    log_info(d->name, "its initiators here go on: this edge serves it now");
    drop_successor(d);
    device_leave(d->shard, d);
}

void forward_taken(struct shard *sh, struct device *d, struct vm *vm)
{
    struct session *s;
    struct conn *c;

    atomic_fetch_add(&vm->refs, 1);
    d->successor = vm;
    d->shard = sh;
    timer_init(&d->taking, sh->loop, on_taking);
    TAILQ_FOREACH (c, &sh->conns, entry) /* those that have ended, too */
        if (c->session && c->session->device == d) {
            s = c->session;
            s->forward->taken = true;
            timer_stop(&s->forward->timer);
            if (s->forward->calling)
                far_call_cancel(&s->forward->call);
            forward_take_back_errands(s->forward);
            forward_recall_all(s->forward);
        }
    timer_set_ms(&d->taking, 0);
}

void forward_device_free(struct device *d)
{
    if (d->taking.loop)
        timer_free(&d->taking);
    if (d->successor)
        drop_successor(d);
}
