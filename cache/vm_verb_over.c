/* cache/vm_verb_over.c - the last step of handing a VM over (vm_verb_hand.c): it goes, or it stays. Main
 * loop, but where it says otherwise.
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "step.h"
#include "vm_peer.h"
#include "vm_verb_impl.h"
#include "vms_far.h"
#include "vms_pair.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char part[] = "verb";

enum {
    OVER_MS = 4000, /* for how long the other edge may take, */
    TRIES = 5       /* and how often it is asked: something in the store may come between, as a checkpoint */
};

/* --- over -----------------------------------------------------------------------------------------------*/

/* Its commands go on: here, or at the other edge. On vm->loop, and back. */
static void on_going_on(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    if (v->vms->conf.go_on)
        v->vms->conf.go_on(v->hand.vm, v->hand.far);
    if (v->hand.far) {
        v->hand.remains = vm_remains(v->hand.vm, v->hand.seq);
    } else {
        upkeep_resume(v->hand.vm->upkeep);
        commit_brake(v->hand.vm->commit, 0);
    }
    v->task.run = v->hand.went_on;
    loop_post(v->vms->conf.main, &v->task);
}

static void go_on(struct vm_verb *v, struct vm *far, void (*done)(struct task *))
{
    v->hand.far = far;
    v->hand.went_on = done;
    v->task.run = on_going_on;
    loop_post(v->hand.vm->loop, &v->task);
}

static void on_left(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    log_info(v->ask.vm, "handed to the other edge at record %" PRIu64 ": commands waited for %" PRIu64 " ms",
             v->hand.seq, (loop_now_ns(v->vms->conf.main) - v->hand.since_ns) / 1000000);
    STEP("hand.gone", "commands of a VM that is the other edge's go there");
    if (v->hand.vm->in.gone) /* it said so before it could be known here that it had the VM */
        vms_far_left(v->vms, v->hand.vm->spec.id);
    if (!atomic_load(&v->hand.far->fenced)) /* else it is the other edge's no more */
        remains_add(v->vms->remains, v->hand.remains);
    free(v->hand.remains);
    v->hand.remains = NULL;
    vm_unref(v->hand.far);
    vms_pair_gave(v->vms, v->hand.vm);
    vm_verb_next(v, 0);
}

static void leave(struct vm_verb *v)
{
    struct vm *far;

    if (vm_verb_stopping(v)) {
        vm_verb_next(v, 0);
        return;
    }
    far = vms_far_adopt(v->vms, v->vm);
    atomic_fetch_add(&far->refs, 1);
    atomic_store(&v->vm->fenced, true);
    v->vm->in.verb = NULL;
    v->vm = NULL;
    go_on(v, far, on_left);
}

static void fence(struct work *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, work);
    struct vm_store store = vm_store_of(v->vms);

    store.stop = &v->stop;
    v->result = vm_store_fence(&store, &v->spec, &v->hand.why);
    STEP("hand.ask", "the store has said whose a VM is that was to be handed over");
}

static void fenced(struct work *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, work);

    if (vm_verb_stopping(v)) {
        vm_verb_next(v, 0);
    } else if (v->result == -ESTALE || v->result == -ENOENT) {
        leave(v);
    } else if (v->result == 0) {
        vm_verb_back_out(v, -EAGAIN);
    } else {
        log_warn(v->ask.vm, "whether the other edge has taken it is not known: %s", v->hand.why.text);
        vm_verb_wait(v, "waits for the object store to say whose the VM is: %.300s", v->hand.why.text);
        vm_verb_later(v);
    }
}

static void resolve(struct vm_verb *v)
{
    v->work = (struct work){.run = fence, .done = fenced};
    worker_do(v->vms->conf.worker, v->vms->conf.main, &v->work);
}

static void on_over(struct link_call *c)
{
    struct vm_verb *v = container_of(c, struct vm_verb, hand.call);

    if (verb_hand_answer(v))
        resolve(v);
    else
        leave(v);
}

void verb_over_run(struct vm_verb *v)
{
    struct pair_hand h = {.seq = v->hand.seq};

    if (v->hand.sent) {
        resolve(v);
        return;
    }
    if (!vms_pair_whole(v->vms, &v->why)) {
        vm_verb_back_out(v, -EAGAIN);
        return;
    }
    v->spec = v->vm->spec;
    memcpy(h.vm, v->spec.id, sizeof h.vm);
    snprintf(h.etag, sizeof h.etag, "%s", v->hand.etag);
    v->hand.sent = true;
    verb_hand_allow(v, OVER_MS);
    verb_hand_call(v, PROTO_HAND_OVER, &h, on_over);
    STEP("hand.over", "the other edge is asked to take a VM");
}

void verb_over_interrupt(struct vm_verb *v)
{
    verb_store_interrupt(v);
    if (v->hand.out)
        link_call_cancel(&v->hand.call);
}

void verb_over_poll(struct vm_verb *v)
{
    if (v->hand.out && verb_hand_late(v))
        link_call_cancel(&v->hand.call);
}

void verb_hand_end(struct vm_verb *v)
{
    if (v->hand.vm)
        vm_unref(v->hand.vm);
    v->hand.vm = NULL;
    v->hand.sent = false;
    v->hand.reads = 0;
}

/* --- it stays -------------------------------------------------------------------------------------------*/

static void forget(struct work *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, work);

    v->result = vm_hand_forget(v->vms->conf.journal, v->ask_id, &v->hand.why);
    STEP("hand.forget", "a VM that stays is noted no more");
}

/* A note that stays is asked for at the next start, for nothing. */
static void forgotten(struct work *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, work);

    if (v->result)
        log_warn(v->ask.vm, "%s", v->hand.why.text);
    verb_hand_end(v);
    if (v->status == -EAGAIN && ++v->hand.tries < TRIES && !v->cancelled && !vm_verb_stopping(v) &&
        vms_pair_whole(v->vms, &v->hand.why))
        vm_verb_anew(v);
    else
        vm_verb_next(v, 0);
}

static void on_stayed(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    log_warn(v->ask.vm, "not handed over, it goes on here: %s", v->why.text);
    if (v->hand.vm && atomic_load(&v->hand.vm->handing) && !vm_verb_stopping(v))
        vms_pair_stays(v->vms, v->hand.vm);
    v->work = (struct work){.run = forget, .done = forgotten};
    loop_work(v->vms->conf.main, &v->work);
}

void verb_hand_stay_run(struct vm_verb *v)
{
    if (!v->hand.vm) {
        on_stayed(&v->task);
        return;
    }
    if (!vm_verb_stopping(v))
        vms_pair_mirror(v->vms, v->hand.vm); /* before anything is written */
    go_on(v, NULL, on_stayed);
}
