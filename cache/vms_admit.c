/* cache/vms_admit.c - at start-up: may this edge use the store, and whose are the VMs of its catalog?
 *
 *   round (worker): deployment ► each VM's entry     ──► served, fenced, or asked again after a pause
 *
 * What an edge finds on its own disks may be long out of date: another edge may have taken its VMs over. So a
 * VM is served only when the store has said that it is still ours; a store that does not answer is waited
 * for. Reading is enough for that: with a store that is full, VMs are served, and what they write stays in
 * the journal, as in any outage. But of a VM that went home, came back, or was discarded when the process
 * ended, its entry must say so first.
 */
#include "check.h"
#include "deployment.h"
#include "log.h"
#include "mem.h"
#include "store_wait.h"
#include "vm_life.h"
#include "vm_spec.h"
#include "vmobj.h"
#include "vms_pair.h"

#include <errno.h>
#include <string.h>

static const char part[] = "vms";

enum { REST_MIN_MS = 500, REST_MAX_MS = 15000, TIMEOUT_MS = 10000 };

struct asked {
    struct vm *vm;       /* a reference */
    struct vm_spec spec; /* as it was when the round began */
    int status;
    struct why why;
};

struct admission_round {
    struct vms *vms;
    struct work work;
    bool entered; /* before this round */
    bool ours;    /* what the VMs' entries say counts */
    int status;
    struct why why;
    unsigned n;
    struct asked list[];
};

static void begin(struct vms *vms);

/* --- on the worker --------------------------------------------------------------------------------------*/

/* Ours, by its head. Who takes the VM over goes by the rest. */
static int heed(struct admission_round *r, const struct vm_spec *mine, const struct buf *text,
                struct why *why)
{
    struct vm_store s = vm_store_of(r->vms);
    struct vm_spec *found = xcalloc(1, sizeof *found);
    bool deleting = false;
    int err = vm_spec_from_json((const char *)text->data, text->len, found, &deleting, why);

    if (!err && deleting) /* as when this edge's disks were set back to before that */
        err = why_set(why, -ESTALE,
                      "its entry in the object store says that it is being deleted: it is not served");
    else if (!err)
        err = vm_store_settle(&s, mine, found, why);
    else
        err = 0;
    vm_spec_wipe(found);
    free(found);
    return err == -ENOENT ? -ESTALE : err;
}

static void ask(struct admission_round *r, struct asked *a, uint8_t *bytes)
{
    const struct vms_conf *conf = &r->vms->conf;
    struct vmobj mine = {.epoch = a->spec.epoch};
    struct vmobj found;
    char name[MAP_NAME_MAX];
    struct store_req q = {.op = STORE_GET, .timeout_ms = TIMEOUT_MS, .key = name};
    struct buf *text = NULL;

    memcpy(mine.id, a->spec.id, sizeof mine.id);
    memcpy(mine.writer, conf->writer, sizeof mine.writer);
    vmobj_name(name, mine.id);
    q.get.buf = bytes;
    q.get.cap = VMOBJ_MAX;
    q.get.whole = true;
    store_wait(conf->stores[0], &q, &r->vms->stop);
    a->why = q.why;
    a->status = vmobj_judge(&conf->master, &mine, q.status, bytes, q.len, &found, &text, &a->why);
    if (a->status == -ESTALE && a->spec.floor && a->spec.since == a->spec.floor + 1) {
        mine.epoch--; /* a discard was noted here, and not there any more: its task goes on with that */
        a->status = vmobj_judge(&conf->master, &mine, q.status, bytes, q.len, &found, &text, &a->why);
    }
    if (a->status == 0)
        a->status = heed(r, &a->spec, text, &a->why);
    vmobj_wipe(&text);
}

/* It was about to be handed over when the process ended: no swap of before may still happen. */
static void settle(struct admission_round *r, struct asked *a)
{
    struct vm_store s = vm_store_of(r->vms);
    int noted = vm_hand_noted(r->vms->conf.journal, a->spec.id, &a->why);

    if (noted == 0)
        return;
    a->status = noted < 0 ? noted : vm_store_fence(&s, &a->spec, &a->why);
    if (a->status == -ENOENT)
        a->status = -ESTALE;
    if (a->status == 0)
        a->status = vm_hand_forget(r->vms->conf.journal, a->spec.id, &a->why);
}

static void round_run(struct work *w)
{
    struct admission_round *r = container_of(w, struct admission_round, work);
    CLEANUP_FREE uint8_t *bytes = xmalloc(VMOBJ_MAX);
    struct deployment d;

    if (!r->entered)
        r->status = deployment_enter(r->vms->conf.stores[0], &r->vms->conf.master, &r->vms->stop, &d,
                                     &r->ours, &r->why);
    if (deployment_is_final(r->status))
        r->ours = false;
    for (unsigned i = 0; i < r->n && r->ours; i++) {
        ask(r, &r->list[i], bytes);
        if (r->list[i].status == 0)
            settle(r, &r->list[i]);
        if (r->list[i].status == -ECANCELED) {
            r->status = -ECANCELED;
            r->ours = false;
        }
    }
}

/* --- on the main loop -----------------------------------------------------------------------------------*/

static void on_timer(struct timer *t)
{
    begin(container_of(t, struct vms, admission.timer));
}

static void wait_longer(struct vms *vms, const struct why *why)
{
    if (strcmp(vms->admission.why.text, why->text) != 0)
        log_warn(NULL, "no VM is served before the object store has said whose it is: %s", why->text);
    vms->admission.why = *why;
}

static void wait_to_write(struct vms *vms, const struct why *why)
{
    if (strcmp(vms->admission.why.text, why->text) != 0)
        log_warn(NULL, "the object store can be read, but not written to: %s; what VMs write stays here",
                 why->text);
    vms->admission.why = *why;
}

/* true: it has to be asked again. */
static bool judge(struct admission_round *r, const struct asked *a)
{
    struct vm *vm = a->vm;
    struct why why;

    if (a->status == 0) {
        atomic_store(&vm->admitted, true);
        return false;
    }
    if (a->status == -ESTALE) { /* it was never served: there is nobody to be told */
        log_error(vm->spec.name, "%s", a->why.text);
        atomic_store(&vm->fenced, true);
        return false;
    }
    why_set(&why, 0, "the entry of VM %s cannot be used yet: %s", vm->spec.name, a->why.text);
    wait_longer(r->vms, &why);
    return true;
}

static void round_done(struct work *w)
{
    struct admission_round *r = container_of(w, struct admission_round, work);
    struct vms *vms = r->vms;
    bool again = r->status != 0, stopping = atomic_load(&vms->stop);

    if (r->status && !stopping && deployment_is_final(r->status)) {
        vms->admission.why = r->why;
        again = false;
        vms->admission.refused(vms->admission.arg, &r->why);
    } else if (r->status && !stopping) {
        (r->ours ? wait_to_write : wait_longer)(vms, &r->why);
    }
    if (r->status == 0)
        vms->admission.entered = true;
    if (r->ours)
        vms->admission.ours = true;
    for (unsigned i = 0; i < r->n; i++) {
        if (r->ours && judge(r, &r->list[i]))
            again = true;
        vm_spec_wipe(&r->list[i].spec);
        vm_unref(r->list[i].vm);
    }
    if (!again && r->status == 0 && *vms->admission.why.text)
        log_info(NULL, "the object store has answered: VMs are served");
    if (again && !stopping) {
        timer_set_ms(&vms->admission.timer, vms->admission.rest_ms);
        vms->admission.rest_ms *= 2;
        if (vms->admission.rest_ms > REST_MAX_MS)
            vms->admission.rest_ms = REST_MAX_MS;
    }
    free(r);
    vms_end(vms);
}

static void begin(struct vms *vms)
{
    struct admission_round *r;
    struct vm *vm;
    unsigned n = 0;

    TAILQ_FOREACH (vm, &vms->list, in.entry)
        n++;
    r = xcalloc(1, sizeof *r + n * sizeof *r->list);
    TAILQ_FOREACH (vm, &vms->list, in.entry) {
        if (atomic_load(&vm->admitted) || atomic_load(&vm->fenced))
            continue;
        atomic_fetch_add(&vm->refs, 1);
        r->list[r->n].vm = vm;
        r->list[r->n++].spec = vm->spec;
    }
    r->vms = vms;
    r->entered = r->ours = vms->admission.entered;
    r->work = (struct work){.run = round_run, .done = round_done};
    vms_begin(vms);
    worker_do(vms->conf.worker, vms->conf.main, &r->work);
}

void vms_admit(struct vms *vms, void (*refused)(void *arg, const struct why *), void *arg)
{
    vms->admission.refused = refused;
    vms->admission.arg = arg;
    vms->admission.rest_ms = REST_MIN_MS;
    timer_init(&vms->admission.timer, vms->conf.main, on_timer);
    begin(vms);
}

void vms_admission_end(struct vms *vms)
{
    if (vms->admission.refused)
        timer_free(&vms->admission.timer);
}

static bool said(const struct vms *vms, bool yes, struct why *why)
{
    if (vms->pair && !vms_pair_member(vms->pair, why))
        return false;
    if (!yes)
        why_set(why, 0, "the object store is waited for%s%s", *vms->admission.why.text ? ": " : "",
                vms->admission.why.text);
    return yes;
}

bool vms_admitted(const struct vms *vms, struct why *why)
{
    return said(vms, vms->admission.entered, why);
}

bool vms_served(const struct vms *vms, struct why *why)
{
    return said(vms, vms->admission.ours, why);
}
