/* link/far_call.c - see far_call.h.
 */
#include "far_call.h"
#include "check.h"

#include <string.h>

/* Home: the owner gets it back when neither the answer nor a cancellation is on its way any more. */
static void finish(struct far_call *f)
{
    if (f->in.answered && f->in.steered)
        f->done(f);
}

static void on_back(struct task *t)
{
    struct far_call *f = container_of(t, struct far_call, in.back);

    f->in.answered = true;
    finish(f);
}

static void on_answer(struct link_call *call)
{
    struct far_call *f = container_of(call, struct far_call, call);

    f->in.out = false;
    f->in.back.run = on_back;
    loop_post(f->home, &f->in.back);
}

static void on_go(struct task *t)
{
    struct far_call *f = container_of(t, struct far_call, in.go);

    f->in.out = true;
    link_call(f->peer, &f->call);
}

void far_call(struct far_call *f)
{
    memset(&f->in, 0, sizeof f->in);
    f->in.steered = true;
    f->call.done = on_answer;
    f->in.go.run = on_go;
    loop_post(f->away, &f->in.go);
}

static void on_cancelled(struct task *t)
{
    struct far_call *f = container_of(t, struct far_call, in.cancel);

    f->in.steered = true;
    finish(f);
}

static void on_cancel(struct task *t)
{
    struct far_call *f = container_of(t, struct far_call, in.cancel);

    if (f->in.out)
        link_call_cancel(&f->call);
    f->in.cancel.run = on_cancelled;
    loop_post(f->home, &f->in.cancel);
}

void far_call_cancel(struct far_call *f)
{
    if (f->in.cancelled || f->in.answered)
        return;
    f->in.cancelled = true;
    f->in.steered = false;
    f->in.cancel.run = on_cancel;
    loop_post(f->away, &f->in.cancel);
}
