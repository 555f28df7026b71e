/* cache/vm_verb_home.c - the steps of the verbs that have to do with on-prem: what was written goes there,
 * and who holds the source disks. A VM whose disks are at several daemons has no write-back: nothing is done.
 */
#include "check.h"
#include "step.h"
#include "vm_verb_impl.h"

#include <errno.h>

/* --- a wait of write-back's -----------------------------------------------------------------------------*/

static void on_home(struct writeback_wait *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, home);

    STEP("verb.home", "on-prem has done what a verb asked it for: written, let go, gone on");
    v->waits = VERB_NO_WAIT;
    v->result = w->status;
    if (w->status)
        v->why = w->why;
    else if (v->vm->commit)
        vm_status_look(v->vm); /* who has waited for the verb sees what it did */
    verb_back(v);
}

static void begin_wait(struct vm_verb *v, void (*done)(struct writeback_wait *),
                       void (*begin)(struct writeback *, struct writeback_wait *))
{
    if (!v->vm->writeback) {
        verb_back(v);
        return;
    }
    v->waits = VERB_HOME_WAIT;
    v->home.done = done;
    begin(v->vm->writeback, &v->home);
}

/* --- everything on the source disks ---------------------------------------------------------------------*/

static void on_commit(struct task *t)
{
    begin_wait(container_of(t, struct vm_verb, task), on_home, writeback_now);
}

void verb_commit_run(struct vm_verb *v)
{
    verb_to_vm(v, on_commit);
}

void verb_commit_poll(struct vm_verb *v)
{
    static const char *const says[] = {[WRITEBACK_IDLE] = "begins to write back",
                                       [WRITEBACK_COMMITTING] = "brings what is left into the object store",
                                       [WRITEBACK_SENDING] = "sends on-prem what it lacks",
                                       [WRITEBACK_APPLYING] = "on-prem writes it to the source disks",
                                       [WRITEBACK_CONFIRMING] = "notes what is on the source disks"};
    struct vm_status s;
    bool moving;

    if (vm_verb_stopping(v))
        return;
    vm_status(v->vm, &s);
    moving = s.wb.step == WRITEBACK_SENDING || s.wb.step == WRITEBACK_APPLYING;
    v->report.bytes = moving ? s.wb.bytes : 0;
    v->report.bytes_done = moving ? s.wb.bytes_done : 0;
    v->report.waiting = false;
    why_set(&v->report.text, 0, "%s", says[s.wb.step]);
    if (*s.wb.why.text)
        vm_verb_wait(v, "waits: %s", s.wb.why.text);
    else if (*s.store_why.text)
        vm_verb_wait(v, "waits for the object store: %s", s.store_why.text);
}

static void on_whole(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    if (vmlog_last(v->vm->log) > map_state(v->vm->map)->applied)
        v->result = why_set(&v->why, -EAGAIN, "something was written to VM %s meanwhile", v->ask.vm);
    verb_back(v);
}

void verb_whole_run(struct vm_verb *v)
{
    verb_to_vm(v, on_whole);
}

/* --- nothing on its way ---------------------------------------------------------------------------------*/

static void on_settle(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    if (v->vm->writeback)
        writeback_set_policy(v->vm->writeback, WB_CLOUD_PERSIST, v->vm->spec.paused);
    vm_status_look(v->vm);
    verb_back(v);
}

void verb_settle_run(struct vm_verb *v)
{
    verb_to_vm(v, on_settle);
}

/* What on-prem has whole it applies, whatever we want. */
void verb_settled_poll(struct vm_verb *v)
{
    struct vm_status s;

    if (vm_verb_called_off(v)) {
        vm_verb_next(v, 0);
        return;
    }
    vm_status(v->vm, &s);
    if (!s.has_wb || (s.wb.attached && s.wb.step == WRITEBACK_IDLE))
        vm_verb_next(v, 0);
    else
        vm_verb_wait(v, "waits for on-prem%s%s", *s.wb.why.text ? ": " : " to apply what it has",
                     s.wb.why.text);
}

/* --- who holds the source disks -------------------------------------------------------------------------*/

static void on_later(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    vm_verb_wait(v, "waits for on-prem to let go of the source disks: %s", v->why.text);
    vm_verb_later(v);
}

/* It still has to apply a cut. */
static void on_detached(struct writeback_wait *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, home);

    if (w->status != -EBUSY || v->undoing) {
        on_home(w);
        return;
    }
    v->waits = VERB_NO_WAIT;
    v->why = w->why;
    v->task.run = on_later;
    loop_post(v->vms->conf.main, &v->task);
}

static void on_detach(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    begin_wait(v, on_detached, writeback_detach);
}

void verb_detach_run(struct vm_verb *v)
{
    if (vm_verb_stopping(v) || v->emptied)
        vm_verb_next(v, 0);
    else
        verb_to_vm(v, on_detach);
}

static void on_attach(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    if (v->vm->writeback) {
        writeback_set_policy(v->vm->writeback, v->ask.storage ? v->ask.storage : v->vm->spec.storage, false);
        writeback_attach(v->vm->writeback);
    }
    vm_status_look(v->vm);
    verb_back(v);
}

void verb_attach_run(struct vm_verb *v)
{
    verb_to_vm(v, on_attach);
}

void verb_attached_poll(struct vm_verb *v)
{
    struct vm_status s;

    if (vm_verb_called_off(v)) {
        vm_verb_next(v, 0);
        return;
    }
    vm_status(v->vm, &s);
    if (!s.has_wb || (s.wb.attached && !s.wb.alarm)) {
        STEP("verb.attach", "on-prem holds the disks of a VM that came back");
        vm_verb_next(v, 0);
    } else
        vm_verb_wait(v, "waits for on-prem to hold the source disks%s%s", *s.wb.why.text ? ": " : "",
                     s.wb.why.text);
}

/* --- policy ---------------------------------------------------------------------------------------------*/

static void on_less(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);
    struct writeback *wb = v->vm->writeback;

    if (wb && v->ask.kind == VERB_PAUSE)
        writeback_set_policy(wb, v->vm->spec.storage, true);
    else if (wb && v->ask.storage == WB_CLOUD_PERSIST)
        writeback_set_policy(wb, WB_CLOUD_PERSIST, v->vm->spec.paused);
    vm_status_look(v->vm);
    verb_back(v);
}

void verb_less_run(struct vm_verb *v)
{
    verb_to_vm(v, on_less);
}

/* Cloud-persist is what it says from the verb's end on: not a byte of a cut that on-prem has goes to the
 * source disks after that. */
void verb_persist_poll(struct vm_verb *v)
{
    struct vm_status s;

    if (vm_verb_called_off(v) || v->ask.storage != WB_CLOUD_PERSIST) {
        vm_verb_next(v, 0);
        return;
    }
    vm_status(v->vm, &s);
    if (!s.has_wb || s.wb.settled)
        vm_verb_next(v, 0);
    else
        vm_verb_wait(v, "waits for on-prem%s%s", *s.wb.why.text ? ": " : " to apply what it has",
                     s.wb.why.text);
}

static void on_tell(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    if (v->vm->commit) /* not of a VM that is home */
        vm_move_by_policy(v->vm);
    if (v->vm->writeback) {
        writeback_set_policy(v->vm->writeback, v->vm->spec.storage, v->vm->spec.paused);
        writeback_attach(v->vm->writeback);
    }
    verb_back(v);
}

/* A VM that is opened again is told so by that. */
void verb_tell_run(struct vm_verb *v)
{
    if (v->emptied)
        vm_verb_next(v, 0);
    else
        verb_to_vm(v, on_tell);
}

static void on_clear(struct task *t)
{
    begin_wait(container_of(t, struct vm_verb, task), on_home, writeback_clear_alarm);
}

void verb_clear_run(struct vm_verb *v)
{
    verb_to_vm(v, on_clear);
}
