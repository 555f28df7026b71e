/* cache/vm_verb.c - see vm_verb.h: what can begin, and the walk through a plan's steps.
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "vm_hold.h"
#include "vm_verb_impl.h"
#include "vms_pair.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "verb";

enum { RETRY_MS = 5000, LATER_MS = 1000 };

static const char *const names[VERB_KINDS] = {
    [VERB_RUN_IN_CLOUD] = "run-in-cloud",
    [VERB_RUN_ON_PREM] = "run-on-prem",
    [VERB_DISCARD] = "discard",
    [VERB_FLUSH] = "flush",
    [VERB_COMMIT] = "commit",
    [VERB_STORAGE] = "storage",
    [VERB_PAUSE] = "pause-writeback",
    [VERB_RESUME] = "resume-writeback",
    [VERB_CLEAR_ALARM] = "clear-alarm",
    [VERB_HAND_OVER] = "hand-over",
    [VERB_PREFER] = "prefer",
};

const char *vm_verb_name(enum vm_verb_kind kind)
{
    return names[kind];
}

bool vm_verb_of(const char *name, enum vm_verb_kind *kind)
{
    for (int i = 0; i < VERB_KINDS; i++)
        if (strcmp(name, names[i]) == 0) {
            *kind = (enum vm_verb_kind)i;
            return true;
        }
    return false;
}

/* --- what can begin -------------------------------------------------------------------------------------*/

static int check_home(const struct vm *vm, const struct vm_verb_ask *ask, struct why *why)
{
    if (ask->kind == VERB_RUN_IN_CLOUD || ask->kind == VERB_RUN_ON_PREM)
        return 0;
    return why_set(why, -EINVAL, "VM %s runs on-prem: nothing of it is here (isthmusctl run-in-cloud %s)",
                   vm->spec.name, vm->spec.name);
}

static int check_place(const struct vm *vm, struct why *why)
{
    if (vm_at_one_place(&vm->spec))
        return 0;
    return why_set(why, -EINVAL,
                   "the disks of VM %s are at more than one on-prem daemon: it can only be cloud-persist",
                   vm->spec.name);
}

static int check_run_on_prem(const struct vm *vm, const struct vm_verb_ask *ask, struct why *why)
{
    const char *name = vm->spec.name;

    if (vm->spec.storage == WB_WRITE_BACK && ask->discard)
        return why_set(why, -EINVAL,
                       "VM %s is write-back: what it wrote goes home with it (discard it first)", name);
    if (ask->commit && ask->discard)
        return why_set(why, -EINVAL, "what VM %s wrote is either committed or discarded", name);
    if (vm->spec.storage == WB_CLOUD_PERSIST && !ask->discard && !ask->commit)
        return why_set(why, -EINVAL,
                       "VM %s is cloud-persist: say --commit to take what it wrote in the cloud home, or "
                       "--discard to throw it away",
                       name);
    return ask->discard ? 0 : check_place(vm, why);
}

/* What another VM reads must not change under it. */
static int check_alone(const struct vms *vms, const struct vm *vm, const struct vm_verb_ask *ask,
                       struct why *why)
{
    bool changes = ask->storage == WB_WRITE_BACK || ask->kind == VERB_COMMIT || ask->kind == VERB_RUN_ON_PREM;
    const struct vm *other = changes ? vm_hold_sharer(vms, vm) : NULL;

    if (!other)
        return 0;
    return why_set(why, -EINVAL,
                   "VM %s has a source disk of VM %s, too: nothing may be written to it, nor may it be "
                   "used on-prem, before that one is deleted",
                   other->spec.name, vm->spec.name);
}

static int check_hand_over(const struct vms *vms, const struct vm *vm, struct why *why)
{
    if (!vms_pair_whole(vms, why))
        return -EINVAL;
    if (atomic_load(&vm->place) != WRITEBACK_FITS)
        return why_set(why, -EBUSY, "on-prem has still to say at which cut the source disks of VM %s are",
                       vm->spec.name);
    return 0;
}

int vm_verb_check(struct vms *vms, const struct vm_verb_ask *ask, struct why *why)
{
    struct vm *vm = vms_find(vms, ask->vm);
    unsigned sessions = vm ? atomic_load(&vm->sessions) : 0;

    if (!vm)
        return why_set(why, -ENOENT, "there is no VM %s", ask->vm);
    if (vm->in.verb)
        return why_set(why, -EBUSY, "%s works on VM %s: cancel it or wait for its end",
                       vm_verb_name(vm->in.verb->ask.kind), ask->vm);
    if (vm->in.changing)
        return why_set(why, -EBUSY, "VM %s is being changed: try again in a moment", ask->vm);
    if (atomic_load(&vm->fenced))
        return why_set(why, -EINVAL, "another edge has taken VM %s over", ask->vm);
    if (ask->kind == VERB_PREFER)
        return vms_pair_is_edge(vms, ask->prefers, why) ? 0 : -EINVAL;
    if (vm->spec.home && (ask->kind != VERB_RUN_IN_CLOUD || ask->storage != WB_WRITE_BACK))
        return check_home(vm, ask, why);
    if (ask->kind == VERB_HAND_OVER)
        return check_hand_over(vms, vm, why);
    if (check_alone(vms, vm, ask, why))
        return -EINVAL;
    if (ask->storage == WB_WRITE_BACK || ask->kind == VERB_COMMIT || ask->kind == VERB_CLEAR_ALARM)
        return check_place(vm, why);
    if (ask->kind == VERB_RUN_ON_PREM)
        return check_run_on_prem(vm, ask, why);
    if (ask->kind == VERB_DISCARD && sessions && !ask->force)
        return why_set(why, -EBUSY, "VM %s has %u session(s): log its initiator out, or force", ask->vm,
                       sessions);
    return 0;
}

/* --- the walk -------------------------------------------------------------------------------------------*/

static const struct verb_step *step(const struct vm_verb *v)
{
    return &v->plan->steps[v->at];
}

bool vm_verb_stopping(const struct vm_verb *v)
{
    return atomic_load(&v->vms->stop);
}

bool vm_verb_called_off(const struct vm_verb *v)
{
    return vm_verb_stopping(v) || (v->cancelled && !v->undoing && v->at < v->plan->final);
}

void vm_verb_wait(struct vm_verb *v, const char *format, ...)
{
    va_list args;

    v->report.waiting = true;
    va_start(args, format);
    vsnprintf(v->report.text.text, sizeof v->report.text.text, format, args);
    va_end(args);
}

static void finish(struct vm_verb *v, int status)
{
    struct vms *vms = v->vms;

    if (!vm_verb_stopping(v) && v->vm)
        v->vm->in.verb = NULL;
    timer_free(&v->timer);
    verb_hand_end(v);
    v->done(v->arg, status, &v->why);
    explicit_bzero(&v->spec, sizeof v->spec); /* secrets */
    free(v);
    vms_end(vms);
}

/* Nothing is done with a VM that may be another edge's by now. */
static bool is_ours(struct vm_verb *v)
{
    if (atomic_load(&v->vm->admitted))
        return true;
    vm_verb_wait(v, "waits for the object store to say whose the VM is");
    v->retry_ns = 1;
    return false;
}

static void run(struct vm_verb *v)
{
    const struct verb_step *s = step(v);

    if (atomic_load(&v->vm->fenced) && !v->undoing) {
        finish(v, why_set(&v->why, -ESTALE, "another edge has taken VM %s over", v->ask.vm));
        return;
    }
    if (v->at == 0 && !v->undoing && !is_ours(v))
        return;
    v->interrupted = false;
    v->retry_ns = 0;
    v->report.waiting = false;
    v->report.bytes = v->report.bytes_done = 0;
    snprintf(v->report.text.text, sizeof v->report.text.text, "%s", s->what);
    log_debug(v->ask.vm, "%s: %s", vm_verb_name(v->ask.kind), s->what);
    s->run(v);
}

static void undo(struct vm_verb *v, int status)
{
    v->status = status;
    if (!v->plan->undo) {
        finish(v, status);
        return;
    }
    v->undoing = true;
    v->plan = v->plan->undo;
    v->at = 0;
    run(v);
}

void vm_verb_anew(struct vm_verb *v)
{
    v->undoing = false;
    v->status = 0;
    v->plan = vm_verb_plan(v->vm, &v->ask);
    v->at = 0;
    run(v);
}

void vm_verb_back_out(struct vm_verb *v, int status)
{
    undo(v, status);
}

/* It is made so, or being undone: there is no way but on. */
static void try_again(struct vm_verb *v)
{
    struct why reason = v->why;

    log_warn(v->ask.vm, "%s: %s: trying again", vm_verb_name(v->ask.kind), reason.text);
    vm_verb_wait(v, "%s: %.300s; it is tried again", step(v)->what, reason.text);
    v->retry_ns = loop_now_ns(v->vms->conf.main) + RETRY_MS * UINT64_C(1000000);
}

void vm_verb_later(struct vm_verb *v)
{
    v->retry_ns = loop_now_ns(v->vms->conf.main) + LATER_MS * UINT64_C(1000000);
}

void vm_verb_next(struct vm_verb *v, int status)
{
    v->ended = v->going_out || v->interruption_out;
    v->ended_status = status;
    if (v->ended)
        return;
    if (vm_verb_stopping(v)) {
        finish(v, -ESHUTDOWN);
    } else if (status == -ESTALE && !v->undoing && v->at >= v->plan->final) {
        atomic_store(&v->vm->fenced, true);
        finish(v, status);
    } else if (status && (v->undoing || v->at >= v->plan->final)) {
        try_again(v);
    } else if (status) {
        undo(v, v->cancelled ? -ECANCELED : status);
    } else if (!v->plan->steps[++v->at].run) {
        finish(v, v->undoing ? v->status : 0);
    } else if (v->cancelled && !v->undoing && v->at <= v->plan->final) {
        undo(v, -ECANCELED);
    } else {
        run(v);
    }
}

static void on_tick(struct timer *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, timer);
    const struct verb_step *s = step(v);

    timer_set_ms(t, VERB_TICK_MS);
    if (v->ended)
        return;
    if (v->retry_ns) {
        if (vm_verb_stopping(v))
            finish(v, -ESHUTDOWN);
        else if (vm_verb_called_off(v))
            undo(v, -ECANCELED);
        else if (loop_now_ns(v->vms->conf.main) >= v->retry_ns)
            run(v);
        return;
    }
    if (vm_verb_called_off(v) && !v->interrupted && s->interrupt) {
        v->interrupted = true;
        s->interrupt(v);
    }
    if (s->poll)
        s->poll(v); /* may be its end */
}

static void on_start(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    if (v->status || !v->plan)
        finish(v, v->status);
    else if (vm_verb_stopping(v))
        finish(v, -ESHUTDOWN);
    else
        run(v);
}

struct vm_verb *vm_verb_start(struct vms *vms, const struct vm_verb_ask *ask,
                              void (*done)(void *arg, int status, const struct why *), void *arg)
{
    struct vm_verb *v = xcalloc(1, sizeof *v);

    vms_begin(vms);
    v->vms = vms;
    v->ask = *ask;
    v->done = done;
    v->arg = arg;
    timer_init(&v->timer, vms->conf.main, on_tick);
    v->status = vm_verb_check(vms, ask, &v->why);
    if (!v->status) {
        v->vm = vms_find(vms, ask->vm);
        v->plan = vm_verb_plan(v->vm, ask);
    }
    if (v->plan) {
        v->vm->in.verb = v;
        v->emptied = v->vm->spec.home;
        if (v->plan->steps[0].run == verb_shut_run)
            vm_set_shut(v->vm, VM_BUSY); /* from now on, also if the target is about to start */
        timer_set_ms(&v->timer, VERB_TICK_MS);
    } else {
        v->vm = NULL;
    }
    v->task.run = on_start;
    loop_post(vms->conf.main, &v->task);
    return v;
}

int vm_verb_cancel(struct vm_verb *v, struct why *why)
{
    if (v->undoing || (v->plan && v->at < v->plan->final)) {
        v->cancelled = true;
        return 0;
    }
    return why_set(why, -EBUSY, "%s of VM %s is in its last step and cannot be cancelled any more",
                   vm_verb_name(v->ask.kind), v->ask.vm);
}

void vm_verb_force(struct vm_verb *v)
{
    v->ask.force = true;
    v->asked_ns = 0;
}

void vm_verb_report(const struct vm_verb *v, struct vm_verb_report *r)
{
    *r = v->report;
}
