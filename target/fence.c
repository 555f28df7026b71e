/* target/fence.c - who waits for aborted commands to leave the volume (fence.h). On the VM's loop. */
#include "fence.h"

#include "session.h"

bool fence_raise(struct fence *f, struct device *d, const struct shard *shard)
{
    struct conn *c;
    struct command *cmd;

    f->left = 0;
    f->since = d->aborts;
    TAILQ_FOREACH (c, &shard->conns, entry) {
        if (!c->session || c->session->device != d)
            continue;
        TAILQ_FOREACH (cmd, &c->commands.all, entry)
            if (cmd->aborted && cmd->io_out && f->awaits(f, cmd))
                f->left++;
    }
    if (f->left)
        TAILQ_INSERT_TAIL(&d->fences, f, entry);
    return f->left > 0;
}

void fence_drop(struct fence *f, struct device *d)
{
    TAILQ_REMOVE(&d->fences, f, entry);
}

/* Whose wait is over: opened() may change the list. */
static struct fence *open_one(struct device *d)
{
    struct fence *f;

    TAILQ_FOREACH (f, &d->fences, entry)
        if (!f->left) {
            TAILQ_REMOVE(&d->fences, f, entry);
            return f;
        }
    return NULL;
}

void fence_passed(const struct command *cmd)
{
    struct device *d = cmd->conn->session->device;
    struct fence *f;

    TAILQ_FOREACH (f, &d->fences, entry)
        if (cmd->aborted_at <= f->since && f->awaits(f, cmd))
            f->left--;
    while ((f = open_one(d)))
        f->opened(f);
}
