/* target/targets.c - all targets of the process, for those who have a VM and not the target that serves it,
 * and for status.
 */
#include "forward.h"
#include "forwarded.h"
#include "portal.h"
#include "scsi_reserve.h"
#include "session.h"

#include <errno.h>
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

void target_vm_taken(struct vm *far, struct vm *by)
{
    struct device *d;
    struct shard *s;

    pthread_mutex_lock(&targets_lock);
    s = shard_of(far);
    d = s ? device_find(s, far) : NULL;
    if (d && d->nsessions) {
        d->going = true; /* nobody new comes to it */
        forward_taken(s, d, by);
    } else if (d) {
        device_leave(s, d);
    }
    pthread_mutex_unlock(&targets_lock);
}

void target_vm_paths(struct vm *vm, bool other)
{
    struct device *d;
    struct shard *s;

    pthread_mutex_lock(&targets_lock);
    s = shard_of(vm);
    d = s ? device_find(s, vm) : NULL;
    if (d && !other)
        forwarded_end(s, vm);
    if (d)
        session_attention(d, -1, UA_ACCESS, NULL);
    pthread_mutex_unlock(&targets_lock);
}

bool target_vm_mirrored(struct vm *vm)
{
    struct shard *s;

    pthread_mutex_lock(&targets_lock);
    s = shard_of(vm);
    if (s)
        scsi_reserve_mirror(s, vm);
    pthread_mutex_unlock(&targets_lock);
    return s;
}

void target_vm_still(struct vm *vm, void (*done)(void *arg), void *arg)
{
    struct shard *s;

    pthread_mutex_lock(&targets_lock);
    s = shard_of(vm);
    if (s) /* else it stops, as does who waits for this */
        still_begin(s, device_get(s, vm), done, arg);
    pthread_mutex_unlock(&targets_lock);
}

void target_vm_go_on(struct vm *vm, struct vm *far)
{
    struct device *d;
    struct shard *s;

    pthread_mutex_lock(&targets_lock);
    s = shard_of(vm);
    d = s ? device_find(s, vm) : NULL;
    if (d)
        still_end(s, d, far);
    pthread_mutex_unlock(&targets_lock);
}

/* --- from the other edge --------------------------------------------------------------------------------*/

void target_link_request(struct target *t, struct link_request *r)
{
    switch (r->type) {
    case PROTO_FORWARD_PORTALS:
        paths_request(t, r);
        break;
    case PROTO_FORWARD_OPEN:
    case PROTO_FORWARD_CLOSE:
    case PROTO_FORWARD_COMMAND:
    case PROTO_FORWARD_DATA:
    case PROTO_FORWARD_FETCH:
    case PROTO_FORWARD_TASK:
        forwarded_request(t, r);
        break;
    default:
        link_reply(&r, -ENOSYS, "the target answers no such request", NULL, 0);
    }
}

void target_link_notice(struct target *t, uint8_t type, const uint8_t *body, uint32_t len)
{
    if (type == PROTO_FORWARD_DONE)
        forwarded_notice(t, body, len);
    else if (type == PROTO_FORWARD_LOGOUT)
        forward_notice(t, body, len);
}

void target_link_up(struct target *t)
{
    paths_tell(t);
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
