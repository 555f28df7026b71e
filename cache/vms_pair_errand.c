/* cache/vms_pair_errand.c - what has to be done on the VMs' loops when the pair moves, and what they tell.
 */
#include "check.h"
#include "mem.h"
#include "mirror.h"
#include "vms_pair_impl.h"

#include <errno.h>
#include <string.h>

/* Something to be done on a VM's loop. */
struct errand {
    struct task task;
    TAILQ_ENTRY(errand) entry; /* of vm->in.waiting */
    struct vms_pair *pair;
    struct vm *vm; /* a reference; or one that is being deleted, and is not freed before this is back */
    enum errand_kind what;
    bool other; /* initiators can come by it, too */
    unsigned round, age_ms;
    struct commit_wait wait;
    uint64_t through; /* that, up to this record */
    bool committed;
    struct mirror_join join;
};

/* What a VM's loop has to tell the main loop. */
struct word {
    struct task task;
    struct vms_pair *pair;
    unsigned round;
    int status;
    struct why why;
};

/* --- words, on the main loop ----------------------------------------------------------------------------*/

static void on_word(struct task *t)
{
    struct word *w = container_of(t, struct word, task);
    struct vms_pair *p = w->pair;

    if (p->stopping)
        ;
    else if (w->status)
        pair_break(p->pair, &w->why);
    else if (w->round == p->round && p->left && --p->left == 0)
        pair_prepared(p->pair, true);
    free(w);
}

void vms_pair_tell(struct vms_pair *p, unsigned round, int status, const struct why *why)
{
    struct word *w = xcalloc(1, sizeof *w);

    w->pair = p;
    w->round = round;
    w->status = status;
    if (status)
        w->why = *why;
    w->task.run = on_word;
    loop_post(p->vms->conf.main, &w->task);
}

/* --- errands, on a VM's loop ----------------------------------------------------------------------------*/

/* Once in a round, of whichever stream. */
static void tell_kept(struct vm *vm)
{
    vms_pair_tell(vm->in.vms->pair, vm->in.mirror_round, 0, NULL);
    vm->in.mirror_round = 0;
}

static void on_mirror_state(void *arg, bool kept, const struct why *why)
{
    struct vm *vm = arg;

    if (kept)
        tell_kept(vm);
    else
        vms_pair_tell(vm->in.vms->pair, vm->in.mirror_round, -ESTALE, why);
}

static void on_mirror_left(void *arg)
{
    (void)arg;
}

static void errand_free(struct errand *e)
{
    vm_unref(e->vm);
    free(e);
}

static void on_joined(struct mirror_join *join)
{
    struct errand *e = container_of(join, struct errand, join);

    TAILQ_REMOVE(&e->vm->in.waiting, e, entry);
    vms_pair_tell(e->pair, e->round, 0, NULL);
    errand_free(e);
}

/* A VM that is being closed, or another edge's by now, needs no commit. */
static void on_committed(struct commit_wait *wait)
{
    struct errand *e = container_of(wait, struct errand, wait);

    e->committed = true;
    e->join.done = on_joined;
    if (wait->status == 0 && e->vm->mirror)
        mirror_join(e->vm->mirror, &e->join, e->through);
    else
        on_joined(&e->join);
}

/* true: the errand goes on. A stream that is begun anew, as of a VM that was about to be handed over, has to
 * say what the one before it has not said yet. */
static bool mirror_it(struct errand *e)
{
    struct vm *vm = e->vm;
    struct why why;
    uint64_t first;
    struct mirror_conf conf = {.loop = vm->loop,
                               .link_loop = vm->in.vms->conf.main,
                               .peer = e->pair->peer,
                               .log = vm->log,
                               .writer = vm->in.vms->conf.writer,
                               .vm = vm->spec.name,
                               .state = on_mirror_state,
                               .arg = vm};

    if (e->round)
        vm->in.mirror_round = e->round;
    if (!vm->log || !vm->commit || vm->mirror || atomic_load(&vm->fenced)) {
        if (e->round || !vm->mirror)
            tell_kept(vm);
        vms_pair_tell(e->pair, e->round, 0, NULL);
        return false;
    }
    memcpy(conf.id, vm->spec.id, sizeof conf.id);
    vm->mirror = mirror_new(&conf, &first);
    if (vm->in.vms->conf.mirrored && !vm->in.vms->conf.mirrored(vm)) {
        why_set(&why, -ESHUTDOWN, "this edge is stopping, and cannot tell the VM's reservations");
        vms_pair_tell(e->pair, e->round, -ESHUTDOWN, &why);
    }
    e->wait.done = on_committed;
    e->through = first - 1;
    TAILQ_INSERT_TAIL(&vm->in.waiting, e, entry);
    commit_through(vm->commit, &e->wait, e->through);
    return true;
}

/* Nobody is to be told any more: who waits would keep the VM open. */
static void forget_it(struct vm *vm)
{
    struct errand *e;

    TAILQ_FOREACH (e, &vm->in.waiting, entry)
        if (e->committed)
            mirror_join_cancel(&e->join);
        else
            commit_cancel(vm->commit, &e->wait);
}

static void leave_it(struct vm *vm)
{
    forget_it(vm);
    if (!vm->mirror)
        return;
    mirror_stop(vm->mirror, false, on_mirror_left, NULL);
    vm->mirror = NULL;
}

static void on_errand(struct task *t)
{
    struct errand *e = container_of(t, struct errand, task);
    struct vm *vm = e->vm;
    bool goes_on = false;

    if (vm->commit)
        commit_set_age(vm->commit, e->age_ms);
    if (e->pair->vms->conf.paths)
        e->pair->vms->conf.paths(vm, e->other);
    if (e->what == MIRROR_IT)
        goes_on = mirror_it(e);
    if (e->what == LEAVE_IT)
        leave_it(vm);
    if (e->what == FORGET_IT)
        forget_it(vm);
    if (!goes_on)
        errand_free(e);
}

void vms_pair_send(struct vms_pair *p, struct vm *vm, enum errand_kind what, unsigned round)
{
    struct errand *e = xcalloc(1, sizeof *e);

    atomic_fetch_add(&vm->refs, 1);
    e->pair = p;
    e->vm = vm;
    e->what = what;
    e->other = p->mirroring;
    e->round = round;
    e->age_ms = p->age_ms;
    e->task.run = on_errand;
    loop_post(vm->loop, &e->task);
}

/* --- to those that are being deleted: what they have under way waits for the other edge, too -------------*/

static void on_going_back(struct task *t)
{
    struct errand *e = container_of(t, struct errand, task);

    vm_errand_back(e->vm);
    free(e);
}

static void on_going_errand(struct task *t)
{
    struct errand *e = container_of(t, struct errand, task);

    if (e->what == LEAVE_IT)
        leave_it(e->vm);
    else
        forget_it(e->vm);
    e->task.run = on_going_back;
    loop_post(e->pair->vms->conf.main, &e->task);
}

static void send_to_going(struct vms_pair *p, struct vm *vm, enum errand_kind what)
{
    struct errand *e = xcalloc(1, sizeof *e);

    vm->in.errands++;
    e->pair = p;
    e->vm = vm;
    e->what = what;
    e->task.run = on_going_errand;
    loop_post(vm->loop, &e->task);
}

static void leave_going(void *arg, struct vm *vm)
{
    send_to_going(arg, vm, LEAVE_IT);
}

static void forget_going(void *arg, struct vm *vm)
{
    send_to_going(arg, vm, FORGET_IT);
}

void vms_pair_send_all(struct vms_pair *p, enum errand_kind what, unsigned round)
{
    struct vm *vm;

    TAILQ_FOREACH (vm, &p->vms->list, in.entry)
        vms_pair_send(p, vm, what, round);
    if (what == LEAVE_IT || what == FORGET_IT)
        vms_each_going(p->vms, what == LEAVE_IT ? leave_going : forget_going, p);
}
