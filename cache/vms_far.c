/* cache/vms_far.c - see vms_far.h. */
#include "vms_far.h"
#include "check.h"
#include "log.h"
#include "mem.h"
#include "proto_forward.h"
#include "proto_pair.h"
#include "remains.h"
#include "vm_life.h"
#include "vm_spec.h"

#include <errno.h>
#include <string.h>

static const char part[] = "pair";

enum { REST_MS = 500, GONE_MAX = 64 };

/* A VM of ours that the other edge is told of. It holds no reference: the VM may go meanwhile. */
struct telling {
    TAILQ_ENTRY(telling) entry;
    struct vms_far *far;
    uint8_t id[VMLOG_ID_BYTES];
    char name[VM_NAME_MAX + 1];
    struct link_call call;
    struct timer timer; /* the next try */
    bool out, again;
    bool refused; /* that was said in the log */
};

struct vms_far {
    struct vms *vms;
    struct peer *peer;
    TAILQ_HEAD(, telling) tellings;
    uint8_t gone[GONE_MAX][VMLOG_ID_BYTES]; /* ours that were deleted last, */
    unsigned ngone;                         /* so many ever */
    bool silent, stopping;
    void (*done)(void *arg);
    void *arg;
    struct task task;
};

/* --- those who are told ---------------------------------------------------------------------------------*/

static void forget(struct telling *t)
{
    TAILQ_REMOVE(&t->far->tellings, t, entry);
    timer_free(&t->timer);
    free(t);
}

static void on_stopped(struct task *task)
{
    struct vms_far *f = container_of(task, struct vms_far, task);

    f->done(f->arg);
}

static void look_stopped(struct vms_far *f)
{
    if (!f->stopping || !TAILQ_EMPTY(&f->tellings))
        return;
    f->stopping = false;
    f->task.run = on_stopped;
    loop_post(f->vms->conf.main, &f->task);
}

static struct vm *ours(struct vms *vms, const uint8_t id[VMLOG_ID_BYTES])
{
    struct vm *vm;

    TAILQ_FOREACH (vm, &vms->list, in.entry)
        if (memcmp(vm->spec.id, id, VMLOG_ID_BYTES) == 0)
            break;
    return vm;
}

/* --- telling that one of ours was deleted ---------------------------------------------------------------*/

/* A word that may be lost with its connection, or overtaken by what the other edge is told of a VM that it
 * did not know yet. So it is said again, and counts whatever stream there was.
 */
static void say_gone(const struct vms_far *f, const uint8_t id[VMLOG_ID_BYTES])
{
    struct pair_mark mark = {.stream = PAIR_ANY_STREAM};
    struct buf *b;

    memcpy(mark.vm, id, sizeof mark.vm);
    b = pair_put_mark(&mark);
    link_notice(f->peer, PROTO_MIRROR_END, b->data, b->len);
    buf_unref(&b);
}

static void say_gone_again(const struct vms_far *f, const uint8_t *id)
{
    for (unsigned i = 0; i < f->ngone && i < GONE_MAX; i++)
        if (!id || memcmp(f->gone[i], id, VMLOG_ID_BYTES) == 0)
            say_gone(f, f->gone[i]);
}

void vms_far_gone(struct vms_far *f, const uint8_t id[VMLOG_ID_BYTES])
{
    memcpy(f->gone[f->ngone % GONE_MAX], id, VMLOG_ID_BYTES);
    f->ngone++;
    if (!f->silent)
        say_gone(f, id);
}

void vms_far_begin(struct vms_far *f)
{
    if (f->stopping)
        return;
    f->silent = false;
    say_gone_again(f, NULL);
}

void vms_far_up(struct vms_far *f)
{
    if (!f->silent)
        say_gone_again(f, NULL);
}

/* --- telling of ours ------------------------------------------------------------------------------------*/

static void tell(struct telling *t);

static void on_told(struct link_call *call)
{
    struct telling *t = container_of(call, struct telling, call);
    struct vms_far *f = t->far;

    explicit_bzero(call->body->data, call->body->len); /* it holds secrets */
    buf_unref(&call->body);
    if (call->status == 0)
        buf_unref(&call->reply);
    t->out = false;
    if (call->status == 0)
        say_gone_again(f, t->id);
    if (f->silent) {
        forget(t);
        look_stopped(f);
    } else if (call->status) {
        bool expected = call->status == -EBUSY || call->status == -ECANCELED;

        if (!t->refused && !expected)
            log_warn(t->name, "the other edge does not export it, and is asked again: %s", call->why.text);
        t->refused = t->refused || !expected;
        timer_set_ms(&t->timer, REST_MS);
    } else if (t->again) {
        tell(t);
    }
}

static void tell(struct telling *t)
{
    struct vm *vm = ours(t->far->vms, t->id);
    struct forward_vm v = {0};
    char *text;

    if (!vm || atomic_load(&vm->fenced)) {
        forget(t);
        return;
    }
    text = vm_spec_to_json(&vm->spec, false);
    memcpy(v.vm, t->id, sizeof v.vm);
    v.shut = (uint8_t)atomic_load(&vm->shut);
    v.text = (const uint8_t *)text;
    v.len = (uint32_t)strlen(text);
    t->call = (struct link_call){.type = PROTO_FORWARD_VM, .class = LINK_CONTROL, .done = on_told};
    t->call.body = forward_put_vm(&v);
    secret_free(&text);
    CHECK(t->call.body); /* 64 disks are far below what a message takes */
    t->out = true;
    t->again = false;
    link_call(t->far->peer, &t->call);
}

static void on_timer(struct timer *timer)
{
    tell(container_of(timer, struct telling, timer));
}

void vms_far_tell(struct vms_far *f, const struct vm *vm)
{
    struct telling *t;

    if (f->stopping)
        return;
    f->silent = false;
    TAILQ_FOREACH (t, &f->tellings, entry)
        if (memcmp(t->id, vm->spec.id, sizeof t->id) == 0)
            break;
    if (t) {
        t->again = true;
        if (!t->out)
            timer_set_ms(&t->timer, 0);
        return;
    }
    t = xcalloc(1, sizeof *t);
    t->far = f;
    memcpy(t->id, vm->spec.id, sizeof t->id);
    memcpy(t->name, vm->spec.name, sizeof t->name);
    timer_init(&t->timer, f->vms->conf.main, on_timer);
    timer_set_ms(&t->timer, 0); /* when it is in the catalog */
    TAILQ_INSERT_TAIL(&f->tellings, t, entry);
}

void vms_far_silence(struct vms_far *f)
{
    struct telling *t, *next;

    f->silent = true;
    for (t = TAILQ_FIRST(&f->tellings); t; t = next) {
        next = TAILQ_NEXT(t, entry);
        if (t->out)
            link_call_cancel(&t->call);
        else
            forget(t);
    }
}

/* --- those of the other edge ----------------------------------------------------------------------------*/

struct vm *vms_far_find(struct vms *vms, const uint8_t id[VMLOG_ID_BYTES])
{
    struct vm *vm;

    TAILQ_FOREACH (vm, &vms->far, in.entry)
        if (memcmp(vm->spec.id, id, VMLOG_ID_BYTES) == 0)
            break;
    return vm;
}

/* One that has its name or its IQN and is another, here or there: initiators could not tell them apart. */
static bool is_ambiguous(struct vms *vms, const struct vm_spec *spec)
{
    struct vm *vm;
    bool same = false;

    TAILQ_FOREACH (vm, &vms->list, in.entry)
        same = same || strcmp(vm->spec.name, spec->name) == 0 || strcmp(vm->spec.iqn, spec->iqn) == 0;
    TAILQ_FOREACH (vm, &vms->far, in.entry)
        same = same || strcmp(vm->spec.name, spec->name) == 0 || strcmp(vm->spec.iqn, spec->iqn) == 0;
    return same;
}

static struct vm *insert(struct vms *vms, const struct vm_spec *spec, const struct vm *like, int shut)
{
    struct vm *vm = vm_new(vms, spec, like);

    vm->far = vm->taken = true;
    for (unsigned i = 0; i < VMLOG_DISKS; i++)
        buf_unref(&vm->reserved[i]); /* they are the owner's */
    atomic_store(&vm->shut, shut);
    atomic_store(&vm->admitted, true); /* the owner says who may log in */
    pthread_mutex_lock(&vms->lock);
    TAILQ_INSERT_TAIL(&vms->far, vm, in.entry);
    pthread_mutex_unlock(&vms->lock);
    log_info(spec->name, "can be reached here, too: the other edge serves it");
    return vm;
}

struct vm *vms_far_adopt(struct vms *vms, const struct vm *ours)
{
    return insert(vms, &ours->spec, ours, atomic_load(&ours->shut));
}

static int add(struct vms *vms, const struct forward_vm *v, struct vm_spec *spec, struct why *why)
{
    bool deleting;
    int err = vm_spec_from_json((const char *)v->text, v->len, spec, &deleting, why);

    if (!err)
        err = vm_spec_check(spec, why);
    if (!err && (deleting || memcmp(spec->id, v->vm, sizeof spec->id) != 0))
        err = why_set(why, -EBADMSG, "what is said of VM %s is of another VM", spec->name);
    if (!err && is_ambiguous(vms, spec))
        err = why_set(why, -EEXIST, "another VM here has the name or the IQN of VM %s", spec->name);
    if (err)
        return err;
    insert(vms, spec, NULL, v->shut);
    return 0;
}

/* It was told before. */
static int change(struct vm *vm, const struct forward_vm *v, struct vm_spec *spec, struct why *why)
{
    bool deleting;
    int err = vm_spec_from_json((const char *)v->text, v->len, spec, &deleting, why);

    if (err)
        return err;
    atomic_store(&vm->shut, v->shut);
    memcpy(vm->spec.prefers, spec->prefers, sizeof vm->spec.prefers);
    return 0;
}

void vms_far_request(struct vms_far *f, struct link_request *r)
{
    struct vm_spec *spec = xcalloc(1, sizeof *spec);
    struct why why = {""};
    struct forward_vm v;
    struct vm *vm;
    int err = 0;

    if (forward_get_vm(r->body, r->len, &v))
        err = why_set(&why, -EBADMSG, "this is no VM's entry");
    else if ((vm = vms_far_find(f->vms, v.vm)))
        err = change(vm, &v, spec, &why);
    else if (ours(f->vms, v.vm))
        err = why_set(&why, -EBUSY, "this edge has that VM itself, for now");
    else
        err = add(f->vms, &v, spec, &why);
    vm_spec_wipe(spec);
    free(spec);
    link_reply(&r, err, why.text, NULL, 0);
}

/* What has to be done on a far VM's loop. Holds the catalog's reference of the far one. */
struct farewell {
    struct task task;
    struct vm *far;
    struct vm *by; /* a reference; NULL: it is nobody's any more */
};

static void on_farewell(struct task *task)
{
    struct farewell *w = container_of(task, struct farewell, task);
    const struct vms_conf *conf = &w->far->in.vms->conf;

    if (w->by && conf->taken)
        conf->taken(w->far, w->by);
    else if (!w->by && conf->going)
        conf->going(w->far, VM_GONE);
    if (w->by)
        vm_unref(w->by);
    vm_unref(w->far);
    free(w);
}

static void part_with(struct vm *far, struct vm *by)
{
    struct vms *vms = far->in.vms;
    struct farewell *w = xcalloc(1, sizeof *w);

    pthread_mutex_lock(&vms->lock);
    TAILQ_REMOVE(&vms->far, far, in.entry);
    pthread_mutex_unlock(&vms->lock);
    atomic_store(&far->fenced, true);
    remains_forget(vms->remains, far->spec.id);
    w->far = far;
    w->by = by;
    if (by)
        atomic_fetch_add(&by->refs, 1);
    w->task.run = on_farewell;
    loop_post(far->loop, &w->task);
}

void vms_far_left(struct vms *vms, const uint8_t id[VMLOG_ID_BYTES])
{
    struct vm *far = vms_far_find(vms, id), *here = ours(vms, id);

    if (far)
        part_with(far, NULL);
    if (here)
        here->in.gone = true;
}

void vms_far_end(struct vms *vms)
{
    struct vm *far;

    while ((far = TAILQ_FIRST(&vms->far))) {
        log_info(far->spec.name, "cannot be reached here any more");
        part_with(far, NULL);
    }
}

void vms_far_taken(struct vms *vms, struct vm *vm)
{
    struct vm *far = vms_far_find(vms, vm->spec.id);

    if (far)
        part_with(far, vm);
}

/* --- life -----------------------------------------------------------------------------------------------*/

struct vms_far *vms_far_new(struct vms *vms, struct peer *peer)
{
    struct vms_far *f = xcalloc(1, sizeof *f);

    f->vms = vms;
    f->peer = peer;
    f->silent = true;
    TAILQ_INIT(&f->tellings);
    return f;
}

void vms_far_stop(struct vms_far *f, void (*done)(void *arg), void *arg)
{
    vms_far_silence(f);
    f->stopping = true;
    f->done = done;
    f->arg = arg;
    look_stopped(f);
}

void vms_far_free(struct vms_far **far)
{
    free(*far);
    *far = NULL;
}
