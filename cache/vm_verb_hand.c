/* cache/vm_verb_hand.c - a VM is handed to the other edge of the pair, while both are there: the side that
 * gives. The other is vms_hand.c; docs/pair.md ("Handing over") has the messages, and why there is one owner
 * at any time.
 *
 *   committed ► the other reads the map ► noted ► still ► the rest is committed ► OVER ► forwarded, deleted
 * here
 *
 * Until OVER is sent the VM stays, whatever fails. Once it was sent the entry in the store tells whose the VM
 * is, and until that is known its commands wait. The note makes the next run of this edge ask in the same
 * way.
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "mirror.h"
#include "step.h"
#include "vm_value.h"
#include "vm_verb_impl.h"
#include "vms_far.h"
#include "vms_pair.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char folder[] = "hand";

enum {
    LONG_MS = 500, /* a map that took longer to be read is read again: what came since */
    READS = 3,
    SHORT_MS = 50,        /* a cut */
    SLOW_BYTES = 8 << 20, /* a second */
    STILL_MS = 1000,      /* for how long commands wait for those under way, */
    REST_MS = 2000        /* and for the store */
};

/* --- the note: "hand/ID" --------------------------------------------------------------------------------*/

int vm_hand_forget(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], struct why *why)
{
    char key[VM_ID_KEY_MAX];

    vm_id_key(folder, id, key);
    return journal_meta_delete(j, key, why);
}

static int found(void *arg, const char *key, const void *value, size_t n)
{
    (void)arg;
    (void)key;
    (void)value;
    (void)n;
    return 1;
}

int vm_hand_noted(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], struct why *why)
{
    char key[VM_ID_KEY_MAX];

    vm_id_key(folder, id, key);
    return journal_meta_each(j, key, found, NULL, why);
}

/* --- time -----------------------------------------------------------------------------------------------*/

static uint64_t now_ns(const struct vm_verb *v)
{
    return loop_now_ns(v->vms->conf.main);
}

void verb_hand_allow(struct vm_verb *v, unsigned ms)
{
    v->hand.until_ns = now_ns(v) + ms * UINT64_C(1000000);
}

bool verb_hand_late(const struct vm_verb *v)
{
    return now_ns(v) >= v->hand.until_ns;
}

/* --- the store's part stays as it is --------------------------------------------------------------------*/

/* On vm->loop, as the next three. */
static void on_ready(void *arg)
{
    struct vm_verb *v = arg;

    if (v->hand.looked)
        return;
    v->hand.looked = true;
    verb_back(v);
}

static void on_pause(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    upkeep_pause(v->hand.vm->upkeep, on_ready, v);
}

static void on_enough_back(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, interruption);

    v->interruption_out = false;
    if (v->ended)
        vm_verb_next(v, v->ended_status);
}

static void on_enough(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, interruption);

    if (!v->hand.looked) {
        v->hand.looked = true;
        v->result =
            why_set(&v->why, -EBUSY, "commands of VM %s do not end: it stays here for now", v->ask.vm);
        verb_back(v);
    }
    v->interruption.run = on_enough_back;
    loop_post(v->vms->conf.main, &v->interruption);
}

/* What is waited for on vm->loop is not waited for any longer. */
static void enough(struct vm_verb *v)
{
    v->interruption_out = true;
    v->interruption.run = on_enough;
    loop_post(v->hand.vm->loop, &v->interruption);
}

void verb_pause_run(struct vm_verb *v)
{
    v->hand.vm = v->vm;
    atomic_fetch_add(&v->vm->refs, 1);
    v->hand.looked = false;
    verb_to_vm(v, on_pause);
}

void verb_pause_interrupt(struct vm_verb *v)
{
    enough(v);
}

/* --- the other edge reads the map -----------------------------------------------------------------------*/

void verb_hand_call(struct vm_verb *v, uint8_t type, const struct pair_hand *h,
                    void (*done)(struct link_call *))
{
    v->hand.call = (struct link_call){
        .type = type, .class = LINK_CONTROL, .brief = true, .body = pair_put_hand(h), .done = done};
    v->hand.out = true;
    link_call(vms_pair_peer(v->vms), &v->hand.call);
}

/* The answer, with why. */
int verb_hand_answer(struct vm_verb *v)
{
    struct link_call *c = &v->hand.call;

    v->hand.out = false;
    buf_unref(&c->body);
    if (c->status == 0)
        buf_unref(&c->reply);
    else
        why_set(&v->why, 0, "the other edge does not take VM %s: %s", v->ask.vm,
                *c->why.text ? c->why.text : strerror(-c->status));
    return c->status;
}

static void on_prepared(struct link_call *c)
{
    struct vm_verb *v = container_of(c, struct vm_verb, hand.call);
    int status = verb_hand_answer(v);

    if (!status && now_ns(v) - v->hand.since_ns > LONG_MS * UINT64_C(1000000) && ++v->hand.reads < READS &&
        !vm_verb_called_off(v))
        verb_prepare_run(v);
    else
        vm_verb_next(v, status);
}

void verb_prepare_run(struct vm_verb *v)
{
    struct pair_hand h = {.seq = 0};

    if (!vms_pair_whole(v->vms, &v->why)) {
        vm_verb_next(v, -EAGAIN);
        return;
    }
    memcpy(h.vm, v->vm->spec.id, sizeof h.vm);
    v->hand.since_ns = now_ns(v);
    verb_hand_call(v, PROTO_HAND_PREPARE, &h, on_prepared);
}

void verb_prepare_interrupt(struct vm_verb *v)
{
    if (v->hand.out)
        link_call_cancel(&v->hand.call);
}

/* --- noted ----------------------------------------------------------------------------------------------*/

static void note(struct work *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, work);
    struct vm_store store = vm_store_of(v->vms);
    struct vmobj entry;
    char key[VM_ID_KEY_MAX];

    store.stop = &v->stop;
    vm_id_key(folder, v->spec.id, key);
    v->result = journal_meta_put(v->vms->conf.journal, key, v->spec.name, strlen(v->spec.name), &v->why);
    if (!v->result)
        v->result = vm_store_get(&store, v->ask_id, &v->spec, &entry, v->hand.etag, &v->why);
    if (!v->result && memcmp(entry.writer, store.writer, sizeof entry.writer) != 0)
        v->result = why_set(&v->why, -EAGAIN, "another edge has taken VM %s over", v->ask.vm);
    STEP("hand.note", "the journal says that a VM is being handed over, its entry was read");
}

static void noted(struct work *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, work);

    vm_verb_next(v, v->result);
}

void verb_note_run(struct vm_verb *v)
{
    v->spec = v->vm->spec;
    memcpy(v->ask_id, v->spec.id, sizeof v->ask_id);
    v->work = (struct work){.run = note, .done = noted};
    worker_do(v->vms->conf.worker, v->vms->conf.main, &v->work);
}

/* --- what came since ------------------------------------------------------------------------------------*/

static void commit(struct vm_verb *v, void (*done)(struct commit_wait *))
{
    v->waits = VERB_COMMIT_WAIT;
    v->commit.done = done;
    commit_now(v->hand.vm->commit, &v->commit);
}

/* Each cut has what came during the one before it: the last one, for which commands wait, shall be short. So
 * for a moment the VM writes no faster than this. */
static void on_closer(struct commit_wait *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, commit);
    uint64_t now = loop_now_ns(v->hand.vm->loop), took = now - v->hand.cut_ns;
    bool shrinks = took < v->hand.took_ns;

    v->waits = VERB_NO_WAIT;
    v->result = w->status;
    v->hand.cut_ns = now;
    v->hand.took_ns = took;
    if (!w->status && shrinks && took > SHORT_MS * UINT64_C(1000000))
        commit(v, on_closer);
    else
        verb_back(v);
}

static void on_close_in(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    commit_brake(v->hand.vm->commit, SLOW_BYTES);
    v->hand.cut_ns = loop_now_ns(v->hand.vm->loop);
    v->hand.took_ns = UINT64_MAX;
    commit(v, on_closer);
}

void verb_closer_run(struct vm_verb *v)
{
    verb_to_vm(v, on_close_in);
}

static void on_cut_off(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, interruption);

    if (v->waits == VERB_COMMIT_WAIT)
        commit_cancel(v->hand.vm->commit, &v->commit);
    v->interruption.run = on_enough_back;
    loop_post(v->vms->conf.main, &v->interruption);
}

void verb_cut_interrupt(struct vm_verb *v)
{
    v->interruption_out = true;
    v->interruption.run = on_cut_off;
    loop_post(v->hand.vm->loop, &v->interruption);
}

/* --- still ----------------------------------------------------------------------------------------------*/

/* On vm->loop. */
static void on_still(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    commit_brake(v->hand.vm->commit, 0);
    if (v->vms->conf.still)
        v->vms->conf.still(v->hand.vm, on_ready, v);
    else
        on_ready(v);
}

void verb_still_run(struct vm_verb *v)
{
    atomic_store(&v->vm->handing, true);
    v->hand.since_ns = now_ns(v);
    v->hand.looked = false;
    verb_hand_allow(v, STILL_MS);
    verb_to_vm(v, on_still);
}

void verb_still_poll(struct vm_verb *v)
{
    if (!v->interruption_out && verb_hand_late(v))
        enough(v);
}

/* --- the rest is committed ------------------------------------------------------------------------------*/

static void on_mirror_left(void *arg)
{
    (void)arg;
}

/* Nothing is written any more, so there is nothing to mirror; who takes the VM drops what it has kept. */
static void on_rest(struct commit_wait *w)
{
    struct vm_verb *v = container_of(w, struct vm_verb, commit);
    struct vm *vm = v->hand.vm;

    v->waits = VERB_NO_WAIT;
    v->hand.seq = map_state(vm->map)->committed;
    if (w->status == -ECANCELED)
        v->result = why_set(&v->why, -EAGAIN, "the object store is too slow for VM %s to be handed over now",
                            v->ask.vm);
    else if (w->status || vmlog_last(vm->log) > v->hand.seq)
        v->result = why_set(&v->why, -EAGAIN, "the object store has not all that VM %s wrote", v->ask.vm);
    else if (vm->mirror) {
        mirror_stop(vm->mirror, false, on_mirror_left, NULL);
        vm->mirror = NULL;
    }
    STEP("hand.rest", "the store has all of a VM whose commands wait, its stream has ended");
    verb_back(v);
}

static void on_commit(struct task *t)
{
    struct vm_verb *v = container_of(t, struct vm_verb, task);

    commit(v, on_rest);
}

void verb_rest_run(struct vm_verb *v)
{
    verb_hand_allow(v, REST_MS);
    verb_to_vm(v, on_commit);
}

void verb_rest_poll(struct vm_verb *v)
{
    if (v->interrupted || !verb_hand_late(v))
        return;
    v->interrupted = true;
    verb_cut_interrupt(v);
}
