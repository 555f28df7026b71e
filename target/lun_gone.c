/* target/lun_gone.c - see lun_gone.h.
 */
#include "lun_gone.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "scsi_reserve.h"
#include "session.h"

static const char part[] = "target";
enum { PATIENCE_MS = 2000 };

struct lun_gone {
    LIST_ENTRY(lun_gone) entry; /* device->gone, while there is a device */
    struct shard *shard;
    struct device *device;
    struct loop *loop;
    unsigned lun;
    struct timer patience;
    struct task task;
    void (*done)(void *arg);
    void *arg;
};

/* Each command of the LUN that has its volume, sessions that are closed included: true if there are any. */
static bool each_user(const struct lun_gone *g, void (*each)(struct command *))
{
    struct command *cmd, *next;
    bool any = false;
    struct conn *c;

    TAILQ_FOREACH (c, &g->shard->conns, entry) {
        if (!c->session || c->session->device != g->device)
            continue;
        for (cmd = TAILQ_FIRST(&c->commands.all); cmd; cmd = next) {
            next = TAILQ_NEXT(cmd, entry);
            if (cmd->lun != (int)g->lun || !cmd->volume)
                continue;
            any = true;
            if (each)
                each(cmd);
        }
        if (each)
            conn_post_turn(c);
    }
    return any;
}

static void on_unused(struct task *t)
{
    struct lun_gone *g = container_of(t, struct lun_gone, task);

    timer_free(&g->patience);
    g->done(g->arg);
    free(g);
}

/* What the sessions and the device know of the LUN goes, too: another disk may come under its number. */
static void forget(struct device *d, unsigned lun)
{
    struct session *s;

    scsi_reserve_forget(d, lun);
    d->mode[lun] = (struct mode){0};
    TAILQ_FOREACH (s, &d->sessions, peer)
        s->attention[lun] = 0;
}

void lun_gone_look(struct device *d)
{
    struct lun_gone *g, *next;

    for (g = LIST_FIRST(&d->gone); g; g = next) {
        next = LIST_NEXT(g, entry);
        if (each_user(g, NULL))
            continue;
        forget(d, g->lun);
        LIST_REMOVE(g, entry);
        loop_post(g->loop, &g->task);
    }
}

static void cancel(struct command *cmd)
{
    if (cmd->io_out && cmd->io.op == IO_READ && !cmd->aborted)
        volume_cancel(&cmd->io);
}

static void on_patience(struct timer *t)
{
    struct lun_gone *g = container_of(t, struct lun_gone, patience);

    log_info(g->device->name, "LUN %u is being removed: reads of it that wait are given up", g->lun);
    each_user(g, cancel);
}

void lun_gone(struct shard *shard, struct vm *vm, unsigned lun, void (*done)(void *arg), void *arg)
{
    struct lun_gone *g = xcalloc(1, sizeof *g);

    g->shard = shard;
    g->device = shard ? device_find(shard, vm) : NULL;
    g->loop = vm->loop;
    g->lun = lun;
    g->done = done;
    g->arg = arg;
    g->task.run = on_unused;
    timer_init(&g->patience, vm->loop, on_patience);
    if (!g->device) {
        loop_post(vm->loop, &g->task);
        return;
    }
    session_attention(g->device, -1, UA_LUNS, NULL);
    timer_set_ms(&g->patience, PATIENCE_MS);
    LIST_INSERT_HEAD(&g->device->gone, g, entry);
    each_user(g, command_lun_gone);
    lun_gone_look(g->device);
}
