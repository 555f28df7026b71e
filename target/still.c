/* target/still.c - see still.h. */
#include "still.h"

#include "check.h"
#include "forward.h"
#include "forwarded.h"
#include "mem.h"
#include "session.h"

enum { LOOK_MS = 1 };

struct still {
    struct device *device;
    struct shard *shard;
    struct timer timer; /* looks whether something is under way still */
    void (*done)(void *arg);
    void *arg;
};

/* It was looked at here, and has no answer yet; or it was aborted, and may still change something. */
static bool is_under_way(const struct command *cmd)
{
    return cmd->op && (cmd->state != COMMAND_SENDING || cmd->aborted);
}

static bool is_quiet(const struct still *s)
{
    struct command *cmd;
    struct conn *c;

    TAILQ_FOREACH (c, &s->shard->conns, entry) /* those that have ended, too */
        if (c->session && c->session->device == s->device)
            TAILQ_FOREACH (cmd, &c->commands.all, entry)
                if (is_under_way(cmd))
                    return false;
    return true;
}

static void on_look(struct timer *t)
{
    struct still *s = container_of(t, struct still, timer);

    if (is_quiet(s))
        s->done(s->arg);
    else
        timer_set_ms(t, LOOK_MS);
}

void still_free(struct still **ps)
{
    struct still *s = *ps;

    if (!s)
        return;
    *ps = NULL;
    timer_free(&s->timer);
    free(s);
}

void still_begin(struct shard *sh, struct device *d, void (*done)(void *arg), void *arg)
{
    struct session *s;

    d->still = xcalloc(1, sizeof *d->still);
    *d->still = (struct still){.device = d, .shard = sh, .done = done, .arg = arg};
    timer_init(&d->still->timer, sh->loop, on_look);
    timer_set_ms(&d->still->timer, LOOK_MS);
    TAILQ_FOREACH (s, &d->sessions, peer)
        if (!s->conn->forwarded)
            forward_still(s);
}

void still_end(struct shard *sh, struct device *d, struct vm *far)
{
    struct session *s, *next;

    if (!d->still)
        return;
    still_free(&d->still);
    if (far && d->vm)
        forwarded_end(sh, d->vm);
    for (s = TAILQ_FIRST(&d->sessions); s; s = next) {
        next = TAILQ_NEXT(s, peer);
        if (s->forward)
            forward_go_on(s, far);
    }
}
