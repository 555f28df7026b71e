/* cache/vm_verb_steps.c - what the steps of the verbs do. On the main loop, but where it says otherwise.
 */
#include "check.h"
#include "discard.h"
#include "log.h"
#include "step.h"
#include "vm_spec.h"
#include "vm_swap.h"
#include "vm_verb_impl.h"
#include "vms_pair.h"

#include <errno.h>
#include <string.h>

static const char part[] = "verb";

enum { ASK_MS = 5000 };

/* --- to vm->loop and back -------------------------------------------------------------------------------*/

static void on_back(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    vm_verb_next(v, v->result);
}

void verb_to_vm(struct vm_verb *v, void (*run)(struct task *))
{
    v->result = 0;
    v->task.run = run;
    loop_post(v->vm->loop, &v->task);
}

void verb_back(struct vm_verb *v)
{
    v->task.run = on_back;
    loop_post(v->vms->conf.main, &v->task);
}

/* --- initiators out -------------------------------------------------------------------------------------*/

void verb_shut_run(struct vm_verb *v)
{
    vm_set_shut(v->vm, VM_BUSY);
    v->asked_ns = 0;
    vm_verb_next(v, 0);
}

static void on_asked(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, going);

    v->going_out = false;
    if (v->ended)
        vm_verb_next(v, v->ended_status);
}

static void on_ask(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, going);

    if (v->vms->conf.going)
        v->vms->conf.going(v->vm, v->ask.force ? VM_DROPPED : VM_ASKED);
    v->going.run = on_asked;
    loop_post(v->vms->conf.main, &v->going);
}

static void ask(struct vm_verb *v)
{
    v->going_out = true;
    v->asked_ns = loop_now_ns(v->vms->conf.main);
    v->going.run = on_ask;
    loop_post(v->vm->loop, &v->going);
}

/* A login takes its reference before it looks whether it may: once there is none but the catalog's, with the
 * VM shut, there will be no session. */
void verb_quiet_poll(struct vm_verb *v)
{
    uint64_t now = loop_now_ns(v->vms->conf.main);

    if (vm_verb_called_off(v) || atomic_load(&v->vm->refs) == 1) {
        vm_verb_next(v, 0);
        return;
    }
    if (atomic_load(&v->vm->sessions))
        vm_verb_wait(v, "waits for %u initiator(s) to log out%s", atomic_load(&v->vm->sessions),
                     v->ask.force ? "" : ": shut the VM down, or force");
    else
        vm_verb_wait(v, "waits until nobody is about to log in any more");
    if (!v->going_out && (!v->asked_ns || now - v->asked_ns >= ASK_MS * UINT64_C(1000000)))
        ask(v);
}

void verb_quiet_run(struct vm_verb *v)
{
    verb_quiet_poll(v);
}

void verb_open_run(struct vm_verb *v)
{
    vm_set_shut(v->vm, VM_OPEN);
    vm_verb_next(v, 0);
}

void verb_stay_run(struct vm_verb *v)
{
    vm_set_shut(v->vm, VM_HOME);
    vm_verb_next(v, 0);
}

/* --- the log, and what is open --------------------------------------------------------------------------*/

static void on_look(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);
    uint64_t last = map_state(v->vm->map)->last;

    v->written = vmlog_last(v->vm->log);
    if (last > v->written)
        v->written = last; /* the journal lost its end with its machine; the store had it */
    verb_back(v);
}

void verb_look_run(struct vm_verb *v)
{
    verb_to_vm(v, on_look);
}

static void on_emptied(void *arg)
{
    struct vm_verb *v = arg;

    v->emptied = true;
    vm_verb_next(v, 0);
}

void verb_empty_run(struct vm_verb *v)
{
    if (v->emptied)
        vm_verb_next(v, 0);
    else
        v->vm = vm_empty(v->vm, on_emptied, v);
}

static void on_filled(void *arg, struct vm *vm, int status, const struct why *why)
{
    struct vm_verb *v = arg;

    if (vm) {
        v->vm = vm;
        v->emptied = false;
    } else {
        v->why = *why;
    }
    vm_verb_next(v, status);
}

void verb_fill_run(struct vm_verb *v)
{
    if (v->emptied)
        vm_fill(v->vm, on_filled, v);
    else
        vm_verb_next(v, 0);
}

/* Before this start on-prem may have been asked to hold the disks already: there has to be somebody who takes
 * that back. */
void verb_refill_run(struct vm_verb *v)
{
    if (!v->ask.again || !v->emptied || atomic_load(&v->vm->fenced)) {
        vm_verb_next(v, 0);
    } else if (atomic_load(&v->vm->admitted)) {
        verb_fill_run(v);
    } else {
        vm_verb_wait(v, "waits for the object store to say whose the VM is");
        vm_verb_later(v);
    }
}

/* --- on-prem --------------------------------------------------------------------------------------------*/

static void on_sizes(struct vm_sizes *s)
{
    struct vm_verb *v = container_of(s, struct vm_verb, sizes);

    if (s->status && s->status != -ECANCELED)
        v->why = s->why;
    else if (!s->status && !vm_verb_stopping(v))
        memcpy(v->vm->spec.disks, v->spec.disks, sizeof v->spec.disks);
    vm_verb_next(v, s->status == -ECANCELED ? 0 : s->status);
}

void verb_sizes_run(struct vm_verb *v)
{
    v->spec = v->vm->spec;
    v->sizes = (struct vm_sizes){.spec = &v->spec, .done = on_sizes};
    vm_verb_wait(v, "waits for the on-prem daemon %s to say how large the disks are",
                 v->spec.disks[0].onprem);
    vm_sizes_ask(&v->sizes, v->vms->conf.link);
}

void verb_sizes_interrupt(struct vm_verb *v)
{
    vm_sizes_cancel(&v->sizes);
}

/* --- the catalog and the store --------------------------------------------------------------------------*/

static void save(struct work *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, work);
    struct vm_store store = vm_store_of(v->vms);

    store.stop = &v->stop;
    v->result = vm_save(v->vms, &v->spec, false, &v->why);
    STEP("verb.catalog", "what a verb makes of a VM is in the catalog");
    if (!v->result)
        v->result = vm_store_change(&store, &v->spec, &v->why);
    STEP("verb.entry", "and in its entry in the store");
}

static void saved(struct work *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, work);

    if (!v->result && !vm_verb_stopping(v) && v->spec.home)
        vm_set_shut(v->vm, VM_HOME);
    vm_verb_next(v, v->result);
}

/* First here, then in the store: what this edge finds at a start decides, and the verb is asked for again. */
void verb_save_run(struct vm_verb *v)
{
    if (v->plan->change)
        v->plan->change(v, &v->vm->spec);
    v->vm->spec.task = v->ask.task;
    v->spec = v->vm->spec;
    v->work = (struct work){.run = save, .done = saved};
    worker_do(v->vms->conf.worker, v->vms->conf.main, &v->work);
}

void verb_store_interrupt(struct vm_verb *v)
{
    if (vm_verb_stopping(v))
        atomic_store(&v->stop, true);
}

void verb_told_run(struct vm_verb *v)
{
    if (v->vms->pair)
        vms_pair_changed(v->vms->pair, v->vm);
    vm_verb_next(v, 0);
}

static void work_done(struct work *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, work);

    vm_verb_next(v, v->result);
}

static void wipe(struct work *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, work);
    struct journal *journal = v->vms->conf.journal;
    struct map *map;
    int err = map_open(&map, journal, v->spec.id, v->spec.name, &v->why);

    if (!err && map_state(map)->committed < v->spec.floor)
        err = discard_map(map, v->spec.floor, &v->why);
    map_close(&map);
    v->result = err ? err : vmlog_delete(journal, v->spec.id, &v->why);
    STEP("verb.wipe", "what was discarded is out of the journal and the map");
}

void verb_wipe_run(struct vm_verb *v)
{
    v->spec = v->vm->spec;
    v->work = (struct work){.run = wipe, .done = work_done};
    loop_work(v->vms->conf.main, &v->work);
}

static void sweep(struct work *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, work);

    v->result = discard_objects(v->vms->conf.stores[0], v->spec.id, v->spec.floor, &v->stop, &v->why);
    STEP("verb.sweep", "what was discarded is out of the store");
    if (!v->result)
        log_info(v->spec.name, "what it wrote, up to record %lu, is removed from journal and store",
                 v->spec.floor);
}

void verb_sweep_run(struct vm_verb *v)
{
    v->spec = v->vm->spec;
    v->work = (struct work){.run = sweep, .done = work_done};
    worker_do(v->vms->conf.worker, v->vms->conf.main, &v->work);
}

/* --- flush ----------------------------------------------------------------------------------------------*/

static void on_committed(struct commit_wait *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, commit);

    v->waits = VERB_NO_WAIT;
    if (w->status == -ESTALE)
        why_set(&v->why, 0, "another edge has taken VM %s over", v->ask.vm);
    STEP("verb.flush", "everything is in the store, as a verb wanted");
    v->result = w->status;
    verb_back(v);
}

static void on_flush(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    v->waits = VERB_COMMIT_WAIT;
    v->commit.done = on_committed;
    commit_now(v->vm->commit, &v->commit);
}

void verb_flush_run(struct vm_verb *v)
{
    verb_to_vm(v, on_flush);
}

void verb_flush_poll(struct vm_verb *v)
{
    struct vm_status s;

    if (vm_verb_stopping(v))
        return;
    vm_status(v->vm, &s);
    if (s.pending_bytes > v->report.bytes)
        v->report.bytes = s.pending_bytes;
    v->report.bytes_done = v->report.bytes - s.pending_bytes;
    v->report.waiting = false;
    if (*s.store_why.text)
        vm_verb_wait(v, "waits for the object store: %s", s.store_why.text);
}

static void on_interrupted(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, interruption);

    v->interruption_out = false;
    if (v->ended)
        vm_verb_next(v, v->ended_status);
}

static void on_interrupt(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, interruption);

    if (v->waits == VERB_COMMIT_WAIT)
        commit_cancel(v->vm->commit, &v->commit);
    else if (v->waits == VERB_HOME_WAIT)
        writeback_cancel(v->vm->writeback, &v->home);
    v->interruption.run = on_interrupted;
    loop_post(v->vms->conf.main, &v->interruption);
}

/* When the edge stops, closing the VM ends the wait. */
void verb_interrupt(struct vm_verb *v)
{
    if (vm_verb_stopping(v))
        return;
    v->interruption_out = true;
    v->interruption.run = on_interrupt;
    loop_post(v->vm->loop, &v->interruption);
}
