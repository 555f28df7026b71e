/* target/targets.c - all targets of the process, for those who have a VM and not the target that serves it,
 * and for status.
 */
#include "portal.h"
#include "session.h"

#include <string.h>

/* From their start until no connection of theirs is left, commands in the volume included. */
static pthread_mutex_t targets_lock = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, target) targets = LIST_HEAD_INITIALIZER(targets);

void targets_add(struct target *t)
{
    pthread_mutex_lock(&targets_lock);
    LIST_INSERT_HEAD(&targets, t, entry);
    pthread_mutex_unlock(&targets_lock);
}

void targets_remove(struct target *t)
{
    pthread_mutex_lock(&targets_lock);
    LIST_REMOVE(t, entry);
    pthread_mutex_unlock(&targets_lock);
}

/* The part of a target that has this VM's sessions, with the lock held; NULL: there is none. */
static struct shard *shard_of(const struct vm *vm)
{
    struct target *t;

    LIST_FOREACH(t, &targets, entry)
    for (unsigned i = 0; t->conf.vms == vm->in.vms && i < t->conf.nloops; i++)
        if (t->shards[i].loop == vm->loop)
            return &t->shards[i];
    return NULL;
}

void target_vm_going(struct vm *vm, enum vm_going how)
{
    struct shard *s;

    pthread_mutex_lock(&targets_lock);
    s = shard_of(vm);
    if (s)
        session_vm_going(s, vm, how);
    pthread_mutex_unlock(&targets_lock);
}

void target_lun_going(struct vm *vm, unsigned lun, void (*done)(void *arg), void *arg)
{
    pthread_mutex_lock(&targets_lock);
    lun_gone(shard_of(vm), vm, lun, done, arg);
    pthread_mutex_unlock(&targets_lock);
}

void target_lun_came(struct vm *vm, unsigned lun)
{
    struct shard *s;

    pthread_mutex_lock(&targets_lock);
    s = shard_of(vm);
    if (s)
        session_lun_came(s, vm, lun);
    pthread_mutex_unlock(&targets_lock);
}

void target_each_session(struct target *t, void (*each)(void *arg, const struct target_session *), void *arg)
{
    struct session *s;

    pthread_mutex_lock(&t->lock);
    TAILQ_FOREACH (s, &t->sessions, all) {
        struct target_session ts = {.initiator = s->initiator,
                                    .address = s->conn->peer,
                                    .portal = s->conn->portal,
                                    .portal_group = s->conn->group,
                                    .vm = s->vm ? s->vm->spec.name : NULL,
                                    .tsih = s->tsih,
                                    .commands = atomic_load_explicit(&s->commands, memory_order_relaxed),
                                    .age_ns = loop_now_ns(t->conf.main) - s->since_ns};

        memcpy(ts.connection, s->conn->ctx, sizeof ts.connection);
        each(arg, &ts);
    }
    pthread_mutex_unlock(&t->lock);
}
