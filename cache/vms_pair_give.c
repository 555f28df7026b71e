/* cache/vms_pair_give.c - VMs that were this edge's and are the other's: what is here of them goes before
 * their logs are kept; and those that are handed over (vm_verb_hand.c). Main loop.
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "vms_pair_impl.h"

#include <errno.h>
#include <string.h>

static const char part[] = "pair";

enum { STUCK_S = 5 }; /* what could not be deleted is tried again after so long */

/* --- keeping --------------------------------------------------------------------------------------------*/

/* Who waits until nothing of a VM is here that is not the other edge's. */
struct room {
    TAILQ_ENTRY(room) entry; /* rooms */
    struct vms_pair *pair;
    uint8_t id[VMLOG_ID_BYTES];
    struct task task;
    void (*done)(void *arg, int status, const struct why *);
    void *arg;
    int status;
    struct why why;
};

/* A VM that was handed over, until it is deleted here. */
struct leaving {
    TAILQ_ENTRY(leaving) entry;
    struct vms_pair *pair;
    uint8_t id[VMLOG_ID_BYTES];
};

static void on_room(struct task *t)
{
    struct room *r = container_of(t, struct room, task);

    r->done(r->arg, r->status, &r->why);
    free(r);
}

/* What could not be erased is going still, and is tried again. */
static void on_stale_deleted(void *arg, int status, const struct why *why)
{
    struct room *r = arg;

    if (status && vms_is_going(r->pair->vms, r->id)) {
        TAILQ_INSERT_TAIL(&r->pair->rooms, r, entry);
        return;
    }
    r->done(r->arg, status, why);
    free(r);
}

static struct vm *find_id(const struct vms_pair *p, const uint8_t id[VMLOG_ID_BYTES])
{
    struct vm *vm;

    TAILQ_FOREACH (vm, &p->vms->list, in.entry)
        if (memcmp(vm->spec.id, id, VMLOG_ID_BYTES) == 0)
            break;
    return vm;
}

static bool is_leaving(const struct vms_pair *p, const uint8_t id[VMLOG_ID_BYTES])
{
    const struct leaving *l;

    TAILQ_FOREACH (l, &p->leaving, entry)
        if (memcmp(l->id, id, VMLOG_ID_BYTES) == 0)
            return true;
    return false;
}

static void look_for_room(struct room *r)
{
    struct vms_pair *p = r->pair;
    struct vm *vm = find_id(p, r->id);

    if (p->stopping) {
        r->status = why_set(&r->why, -ESHUTDOWN, "this edge is stopping");
    } else if ((vm && atomic_load(&vm->handing)) || is_leaving(p, r->id) || vms_is_going(p->vms, r->id)) {
        TAILQ_INSERT_TAIL(&p->rooms, r, entry);
        return;
    } else if (vm && atomic_load(&vm->fenced)) {
        log_info(vm->spec.name, "what this edge has of it goes: the other edge serves it");
        vms_forget(vm, on_stale_deleted, r);
        return;
    } else if (vm) {
        r->status = why_set(&r->why, -EBUSY, "this edge serves VM %s itself", vm->spec.name);
    }
    loop_post(p->vms->conf.main, &r->task);
}

void vms_pair_make_room(void *arg, const uint8_t id[VMLOG_ID_BYTES],
                        void (*done)(void *arg, int status, const struct why *), void *done_arg)
{
    struct room *r = xcalloc(1, sizeof *r);

    r->pair = arg;
    memcpy(r->id, id, sizeof r->id);
    r->done = done;
    r->arg = done_arg;
    r->task.run = on_room;
    look_for_room(r);
}

void vms_pair_look_for_rooms(struct vms_pair *p)
{
    struct room *r, *last = TAILQ_LAST(&p->rooms, rooms);
    bool more = last != NULL;

    while (more) {
        r = TAILQ_FIRST(&p->rooms);
        more = r != last;
        TAILQ_REMOVE(&p->rooms, r, entry);
        look_for_room(r);
    }
}

void vms_pair_gone(struct vms_pair *p, const uint8_t *id)
{
    if (id)
        vms_far_gone(p->far, id);
    vms_pair_look_for_rooms(p);
}

void vms_pair_up(struct vms_pair *p, const struct peer *peer)
{
    if (peer == p->peer)
        vms_far_up(p->far);
}

/* An edge that has lost forwards until it knows that, so sessions may have come after this one went alone.
 * They are its run's, and the next run knows of none. While both are members, or about to be, another run
 * makes this edge go alone, or prepare no more, which ends them.
 */
void vms_pair_down(struct vms_pair *p)
{
    if (!p->stopping && !p->mirroring)
        vms_pair_send_all(p, CUT_AGE, 0);
}

/* --- handing over ---------------------------------------------------------------------------------------*/

static const char *lacks(const struct pair_status *s)
{
    if (!s->other_answers)
        return ", and the other does not answer";
    if (s->preparing)
        return ", and the pair is changing";
    return s->role == PAIR_BOTH ? ", and may not serve at this moment" : "";
}

bool vms_pair_whole(const struct vms *vms, struct why *why)
{
    const struct vms_pair *p = vms->pair;
    struct pair_status s;

    if (!p || p->stopping) {
        why_set(why, 0, p ? "this edge is stopping" : "this edge is in no pair");
        return false;
    }
    pair_status(p->pair, &s);
    if (s.role == PAIR_BOTH && !s.blocked && !s.preparing && s.other_answers)
        return true;
    why_set(why, 0, "the pair is not whole: this edge is '%s'%s", pair_role_name(s.role), lacks(&s));
    return false;
}

bool vms_pair_calm(const struct vms *vms, struct why *why)
{
    if (!vms_pair_whole(vms, why))
        return false;
    if (vms->recovering)
        why_set(why, 0, "a VM is being taken over here");
    else if (journal_failed(vms->conf.journal))
        why_set(why, 0, "the journal's disk refuses writes");
    else
        return true;
    return false;
}

struct peer *vms_pair_peer(const struct vms *vms)
{
    return vms->pair->peer;
}

void vms_pair_mirror(struct vms *vms, struct vm *vm)
{
    if (vms->pair->mirroring)
        vms_pair_send(vms->pair, vm, MIRROR_IT, 0);
}

void vms_pair_stays(struct vms *vms, struct vm *vm)
{
    atomic_store(&vm->handing, false);
    vms_pair_look_for_rooms(vms->pair);
}

static void on_gave(void *arg, int status, const struct why *why)
{
    struct leaving *l = arg;
    struct vms_pair *p = l->pair;

    (void)why; /* said in the log; the next start goes on */
    if (status)
        p->stuck_ns = loop_now_ns(p->vms->conf.main);
    TAILQ_REMOVE(&p->leaving, l, entry);
    free(l);
    vms_pair_look_for_rooms(p);
    vms_pair_idle(p);
}

static void let_go(struct vms_pair *p, struct vm *vm)
{
    struct leaving *l = xcalloc(1, sizeof *l);

    l->pair = p;
    memcpy(l->id, vm->spec.id, sizeof l->id);
    TAILQ_INSERT_TAIL(&p->leaving, l, entry);
    p->busy++;
    vms_forget(vm, on_gave, l);
}

void vms_pair_gave(struct vms *vms, struct vm *vm)
{
    struct vms_pair *p = vms->pair;

    if (p->stopping) /* the next start finds it as the other edge's */
        return;
    atomic_store(&vm->handing, false);
    let_go(p, vm);
}

/* Whose a VM is that this edge was about to hand over is not known yet, or what it has of it is not gone. */
bool vms_pair_gives(const struct vms_pair *p)
{
    const struct vm *vm;

    TAILQ_FOREACH (vm, &p->vms->list, in.entry)
        if (atomic_load(&vm->handing))
            return true;
    return !TAILQ_EMPTY(&p->leaving);
}

bool vms_pair_clears(struct vms_pair *p)
{
    struct vm *vm;

    if (p->stuck_ns && loop_now_ns(p->vms->conf.main) - p->stuck_ns < STUCK_S * UINT64_C(1000000000))
        return true;
    TAILQ_FOREACH (vm, &p->vms->list, in.entry) {
        if (atomic_load(&vm->fenced)) {
            log_info(vm->spec.name, "what this edge has of it goes: by its entry it is not its own");
            let_go(p, vm);
            return true;
        }
        if (!atomic_load(&vm->admitted))
            return true;
    }
    return false;
}

/* One with which something is being done, or that could not go, is looked at again. */
void vms_pair_forget_theirs(struct vms_pair *p)
{
    struct vm *vm, *next;
    bool some = false;

    for (vm = TAILQ_FIRST(&p->vms->list); vm; vm = next) {
        next = TAILQ_NEXT(vm, in.entry);
        if (!atomic_load(&vm->fenced))
            continue;
        some = true;
        if (vm->in.verb || vm->in.changing || atomic_load(&vm->handing))
            continue;
        log_info(vm->spec.name, "what this edge has of it goes: it is not its own");
        let_go(p, vm);
    }
    if (some)
        timer_set_ms(&p->clears, STUCK_S * 1000);
}
