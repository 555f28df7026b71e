/* cache/vm_place.c - see vm_place.h.
 */
#include "vm_place.h"
#include "check.h"
#include "log.h"
#include "mem.h"
#include "vm_spec.h"
#include "vm_value.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>

static const char part[] = "vms";

enum { ASK_MS = 30000, TICK_MS = 100 };
static const char folder[] = "place";

/* --- the note: "place/ID" -------------------------------------------------------------------------------*/

int vm_place_forget(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], struct why *why)
{
    char key[VM_ID_KEY_MAX];

    vm_id_key(folder, id, key);
    return journal_meta_delete(j, key, why);
}

int vm_place_note(struct journal *j, const struct vm_spec *spec, bool unknown, struct why *why)
{
    char key[VM_ID_KEY_MAX];

    vm_id_key(folder, spec->id, key);
    return unknown ? journal_meta_put(j, key, "unknown", strlen("unknown"), why)
                   : journal_meta_delete(j, key, why);
}

static int found(void *arg, const char *key, const void *value, size_t n)
{
    struct vm *vm = arg;

    (void)key;
    (void)value;
    (void)n;
    atomic_store(&vm->place, WRITEBACK_UNKNOWN);
    return 0;
}

int vm_place_load(struct vm *vm, struct why *why)
{
    char key[VM_ID_KEY_MAX];

    vm_id_key(folder, vm->spec.id, key);
    return journal_meta_each(vm->in.vms->conf.journal, key, found, vm, why);
}

/* --- on-prem has said it --------------------------------------------------------------------------------*/

struct noting {
    struct vm *vm; /* a reference */
    bool unknown;
    struct work work;
    int status;
    struct why why;
};

static void note_run(struct work *w)
{
    struct noting *n = container_of(w, struct noting, work);

    n->status = vm_place_note(n->vm->in.vms->conf.journal, &n->vm->spec, n->unknown, &n->why);
}

/* Without its note the VM waits for on-prem at the next start, too, or once more for nothing. */
static void note_done(struct work *w)
{
    struct noting *n = container_of(w, struct noting, work);

    if (n->status)
        log_error(n->vm->spec.name, "where the source disks are cannot be noted: %s", n->why.text);
    vm_unref(n->vm);
    free(n);
}

/* false: it is being closed, and nobody may use it. */
static bool take_reference(struct vm *vm)
{
    unsigned refs = atomic_load(&vm->refs);

    while (refs && !atomic_compare_exchange_weak(&vm->refs, &refs, refs + 1))
        ;
    return refs != 0;
}

void vm_placed(void *arg)
{
    struct vm *vm = arg;
    bool other = atomic_load(&vm->place) == WRITEBACK_OTHER;
    struct noting *n;

    if (!take_reference(vm))
        return;
    if (other && vm->in.vms->conf.going)
        vm->in.vms->conf.going(vm, VM_DROPPED);
    n = xcalloc(1, sizeof *n);
    n->vm = vm;
    n->unknown = other;
    n->work = (struct work){.run = note_run, .done = note_done};
    loop_work(vm->loop, &n->work);
}

/* --- asking, for a recovery -----------------------------------------------------------------------------*/

struct asking {
    struct vms *vms;
    const struct vm_spec *spec;
    struct task task;
    struct timer timer;
    struct link_call call;
    uint64_t until_ns;
    bool late;
    struct wb_state state;
    int status;
    struct why why;
    pthread_mutex_t lock; /* of what the worker waits for */
    pthread_cond_t cond;
    bool over;
};

static void on_answer(struct link_call *call)
{
    struct asking *a = container_of(call, struct asking, call);

    timer_free(&a->timer);
    buf_unref(&call->body);
    a->status = call->status;
    a->why = call->why;
    if (!a->status && wb_get_state(call->reply->data, call->reply->len, &a->state) < 0)
        a->status = why_set(&a->why, -EPROTO, "on-prem does not say where the source disks are");
    buf_unref(&call->reply);
    if (a->status == -ECANCELED && a->late)
        a->status = why_set(&a->why, -ETIMEDOUT,
                            "%s does not answer, and has to say at which cut the source disks are",
                            vm_spec_onprem(a->spec));
    pthread_mutex_lock(&a->lock);
    a->over = true;
    pthread_cond_signal(&a->cond);
    pthread_mutex_unlock(&a->lock);
}

static void on_timer(struct timer *t)
{
    struct asking *a = container_of(t, struct asking, timer);

    a->late = loop_now_ns(a->vms->conf.main) >= a->until_ns;
    if (a->late || atomic_load(&a->vms->stop))
        link_call_cancel(&a->call);
    else
        timer_set_ms(t, TICK_MS);
}

static void on_ask(struct task *t)
{
    struct asking *a = container_of(t, struct asking, task);
    struct wb_head head = {.epoch = a->spec->epoch + 1};

    memcpy(head.vm, a->spec->id, sizeof head.vm);
    a->until_ns = loop_now_ns(a->vms->conf.main) + ASK_MS * UINT64_C(1000000);
    timer_init(&a->timer, a->vms->conf.main, on_timer);
    timer_set_ms(&a->timer, TICK_MS);
    a->call = (struct link_call){
        .type = PROTO_WB_STATE, .class = LINK_CONTROL, .body = wb_put_head(&head), .done = on_answer};
    link_call(link_peer(a->vms->conf.link, vm_spec_onprem(a->spec)), &a->call);
}

int vm_place_ask(struct vms *vms, const struct vm_spec *spec, uint64_t *ahead, struct why *why)
{
    struct asking a = {.vms = vms, .spec = spec, .task = {.run = on_ask}};

    pthread_mutex_init(&a.lock, NULL);
    pthread_cond_init(&a.cond, NULL);
    loop_post(vms->conf.main, &a.task);
    pthread_mutex_lock(&a.lock);
    while (!a.over)
        pthread_cond_wait(&a.cond, &a.lock);
    pthread_mutex_unlock(&a.lock);
    pthread_cond_destroy(&a.cond);
    pthread_mutex_destroy(&a.lock);
    *ahead = a.state.applied;
    if (a.state.stage >= WB_STAGE_STAGED && a.state.target > a.state.applied)
        *ahead = a.state.target;
    if (a.status == -ENOENT) /* nothing was ever written back, or it has let go of the disks since */
        return 0;
    if (a.status)
        *why = a.why;
    return a.status;
}
