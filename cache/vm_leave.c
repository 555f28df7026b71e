/* cache/vm_leave.c - see vm_leave.h.
 *
 *   marked as being deleted ► detached (vm->loop) ► noted, erased but for its entry in the store (vm_erase.c)
 *   ► told again when it answers, for good ► the entry removed (worker) ► note removed
 *
 * Who is told that a VM was deleted finds its disks free. But of what was said before, over a connection that
 * was lost, or by this edge before it was started again, something may still be under way: an ATTACH that
 * comes after the DETACH would hold the disks of a VM that is no more, for ever. So on-prem is told for good
 * when the VM's entry says that it is being deleted: then nobody attaches it any more, and the DETACH is of a
 * higher epoch than all that was ever said of it, which on-prem keeps.
 *
 * What on-prem answers to an older epoch ends it, too: then it does not hold the disks for us.
 */
#include "vm_leave.h"
#include "check.h"
#include "log.h"
#include "mem.h"
#include "vm_spec.h"
#include "vm_value.h"

#include <errno.h>
#include <stdlib.h>

static const char part[] = "vms";
static const char folder[] = "leave";

enum {
    LEAVE_MS = 10000,
    AGAIN_MS = 5000,
    LATE_MS = 180000, /* what was sent to the store may come so much later */
    NOTE_MAX = 256
};

struct vm_leaving {
    TAILQ_ENTRY(vm_leaving) entry;
    struct vms *vms;
    uint8_t id[VMLOG_ID_BYTES];
    uint64_t epoch, told; /* the one that on-prem is told under now */
    char onprem[LINK_NAME_MAX + 1], name[VM_NAME_MAX + 1];
    struct link_call call;
    bool out;          /* with the link */
    bool released;     /* on-prem has let go */
    uint64_t until_ns; /* its entry may come to the store so long */
    struct timer again;
    struct work work;
    int status;
    struct why failed; /* at the worker */
    struct why why;    /* what the log has of how it fails */
};

/* --- the note: "leave/ID", EPOCH ONPREM VM [late] -------------------------------------------------------*/

bool vm_leave_needed(const struct vm_spec *spec)
{
    return !spec->home && vm_at_one_place(spec);
}

int vm_leave_note(struct journal *j, const struct vm_spec *spec, bool late, struct why *why)
{
    char key[VM_ID_KEY_MAX], note[NOTE_MAX];

    vm_id_key(folder, spec->id, key);
    snprintf(note, sizeof note, "%llu %s %s%s", (unsigned long long)spec->epoch, vm_spec_onprem(spec),
             spec->name, late ? " late" : "");
    return journal_meta_put(j, key, note, strlen(note), why);
}

int vm_leave_forget(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], struct why *why)
{
    char key[VM_ID_KEY_MAX];

    vm_id_key(folder, id, key);
    return journal_meta_delete(j, key, why);
}

/* --- while it is still open -----------------------------------------------------------------------------*/

static void say(const struct vm *vm, const char *why)
{
    log_warn(vm->spec.name,
             "%s still has VM %s attached, which is being deleted here, and holds its disks: %s; it is told "
             "again",
             vm_spec_onprem(&vm->spec), vm->spec.name, why);
}

static void on_left(struct writeback_wait *w)
{
    struct vm *vm = container_of(w, struct vm, in.leave);

    timer_free(&vm->in.leave_timer);
    if (w->status)
        say(vm, w->status == -ECANCELED ? "it does not answer" : w->why.text);
    vm->in.left(vm);
}

static void on_late(struct timer *t)
{
    struct vm *vm = container_of(t, struct vm, in.leave_timer);

    writeback_cancel(vm->writeback, &vm->in.leave);
}

void vm_leave(struct vm *vm, void (*done)(struct vm *))
{
    struct writeback_status s;

    if (!vm->writeback || !vm->in.erasure.held) {
        done(vm);
        return;
    }
    writeback_status(vm->writeback, &s);
    if (!s.link_up) {
        say(vm, s.why.text);
        done(vm);
        return;
    }
    vm->in.left = done;
    vm->in.leave = (struct writeback_wait){.done = on_left};
    timer_init(&vm->in.leave_timer, vm->loop, on_late);
    timer_set_ms(&vm->in.leave_timer, LEAVE_MS);
    writeback_detach(vm->writeback, &vm->in.leave);
}

/* --- afterwards -----------------------------------------------------------------------------------------*/

static void end(struct vm_leaving *l)
{
    struct vms *vms = l->vms;

    pthread_mutex_lock(&vms->lock);
    TAILQ_REMOVE(&vms->leaving, l, entry);
    pthread_mutex_unlock(&vms->lock);
    timer_free(&l->again);
    free(l);
    vms_end(vms);
}

/* The log has the same reason once. */
static void again_later(struct vm_leaving *l, const char *what, const struct why *why)
{
    if (strcmp(l->why.text, why->text) != 0)
        log_warn(l->name, "%s: %s", what, why->text);
    l->why = *why;
    timer_set_ms(&l->again, AGAIN_MS);
}

static void bury_run(struct work *w)
{
    struct vm_leaving *l = container_of(w, struct vm_leaving, work);
    struct vm_store store = vm_store_of(l->vms);

    l->status = vm_store_bury(&store, l->id, &l->failed);
    if (!l->status)
        l->status = vm_leave_forget(l->vms->conf.journal, l->id, &l->failed);
}

static void bury_done(struct work *w)
{
    struct vm_leaving *l = container_of(w, struct vm_leaving, work);

    l->work.run = NULL;
    if (!l->status || atomic_load(&l->vms->stop))
        end(l);
    else
        again_later(l, "what is left of this VM, which was deleted, cannot be removed, and is tried again",
                    &l->failed);
}

/* What is late is waited for. */
static void bury(struct vm_leaving *l)
{
    uint64_t now = loop_now_ns(l->vms->conf.main);

    if (now < l->until_ns) {
        timer_set_ms(&l->again, (unsigned)((l->until_ns - now) / 1000000) + 1);
        return;
    }
    l->work = (struct work){.run = bury_run, .done = bury_done};
    worker_do(l->vms->conf.worker, l->vms->conf.main, &l->work);
}

static void on_told(struct link_call *call)
{
    struct vm_leaving *l = container_of(call, struct vm_leaving, call);
    int status = call->status;
    char what[120];

    l->out = false;
    buf_unref(&call->body);
    buf_unref(&call->reply);
    if (atomic_load(&l->vms->stop)) {
        end(l);
    } else if (l->told != l->epoch) {
        timer_set_ms(&l->again, 0);
    } else if (status == 0 || status == -ENOENT || status == -ESTALE) {
        log_info(l->name, "%s does not hold the disks of this VM, which was deleted", l->onprem);
        l->released = true;
        bury(l);
    } else {
        snprintf(what, sizeof what, "%s still holds the disks of this VM, which was deleted", l->onprem);
        again_later(l, what, &call->why);
    }
}

/* Under an epoch that no ATTACH was ever of. With the link down the call waits for it. */
static void tell(struct vm_leaving *l)
{
    struct wb_head head = {.epoch = l->epoch + 1};

    l->told = l->epoch;
    memcpy(head.vm, l->id, sizeof head.vm);
    l->call = (struct link_call){
        .type = PROTO_VM_DETACH, .class = LINK_CONTROL, .body = wb_put_head(&head), .done = on_told};
    l->out = true;
    link_call(link_peer(l->vms->conf.link, l->onprem), &l->call);
}

static void on_again(struct timer *t)
{
    struct vm_leaving *l = container_of(t, struct vm_leaving, again);

    if (l->released)
        bury(l);
    else
        tell(l);
}

static void wait_for_late(struct vm_leaving *l)
{
    l->until_ns = loop_now_ns(l->vms->conf.main) + LATE_MS * UINT64_C(1000000);
}

static struct vm_leaving *begin(struct vms *vms, const uint8_t id[VMLOG_ID_BYTES], uint64_t epoch,
                                const char *onprem, const char *name)
{
    struct vm_leaving *l = xcalloc(1, sizeof *l);

    vms_begin(vms);
    l->vms = vms;
    memcpy(l->id, id, sizeof l->id);
    l->epoch = epoch;
    snprintf(l->onprem, sizeof l->onprem, "%s", onprem);
    snprintf(l->name, sizeof l->name, "%s", name);
    timer_init(&l->again, vms->conf.main, on_again);
    timer_set_ms(&l->again, 0);
    pthread_mutex_lock(&vms->lock);
    TAILQ_INSERT_TAIL(&vms->leaving, l, entry);
    pthread_mutex_unlock(&vms->lock);
    return l;
}

static struct vm_leaving *find(struct vms *vms, const uint8_t id[VMLOG_ID_BYTES])
{
    struct vm_leaving *l;

    TAILQ_FOREACH (l, &vms->leaving, entry)
        if (memcmp(l->id, id, sizeof l->id) == 0)
            break;
    return l;
}

void vms_leave_tell(struct vms *vms, const struct vm_spec *spec, bool late)
{
    struct vm_leaving *l = find(vms, spec->id);

    if (atomic_load(&vms->stop)) /* the next start goes on */
        return;
    if (l && l->released && !l->work.run) /* it waits for what is late */
        timer_set_ms(&l->again, 0);
    if (l) {
        l->epoch = spec->epoch;
        l->released = false;
    } else {
        l = begin(vms, spec->id, spec->epoch, vm_spec_onprem(spec), spec->name);
    }
    if (late)
        wait_for_late(l);
}

bool vms_is_leaving(struct vms *vms, const uint8_t id[VMLOG_ID_BYTES])
{
    bool leaving;

    pthread_mutex_lock(&vms->lock);
    leaving = find(vms, id) != NULL;
    pthread_mutex_unlock(&vms->lock);
    return leaving;
}

struct resuming {
    struct vms *vms;
    struct why *why;
};

static int resume(void *arg, const char *key, const void *value, size_t n)
{
    struct resuming *r = arg;
    char note[NOTE_MAX] = "", onprem[LINK_NAME_MAX + 1], name[VM_NAME_MAX + 1], late[5];
    struct vm_leaving *l;
    uint8_t id[VMLOG_ID_BYTES];
    unsigned long long epoch;
    int words;

    if (n < sizeof note)
        memcpy(note, value, n);
    for (int i = 0; i < VMLOG_ID_BYTES; i++)
        if (sscanf(key + sizeof folder + 2 * i, "%2hhx", &id[i]) != 1)
            note[0] = '\0';
    words = sscanf(note, "%llu %63s %63s %4s", &epoch, onprem, name, late);
    if (words < 3)
        return why_set(r->why, -EBADMSG, "the journal's value %s is damaged", key);
    if (vms_is_going(r->vms, id)) /* it is told when that is erased */
        return 0;
    l = begin(r->vms, id, epoch, onprem, name);
    if (words == 4)
        wait_for_late(l);
    return 0;
}

int vms_leave_resume(struct vms *vms, struct why *why)
{
    struct resuming r = {vms, why};

    return journal_meta_each(vms->conf.journal, "leave/", resume, &r, why);
}

void vms_leave_end(struct vms *vms)
{
    struct vm_leaving *l, *next;

    for (l = TAILQ_FIRST(&vms->leaving); l; l = next) {
        next = TAILQ_NEXT(l, entry);
        if (l->out)
            link_call_cancel(&l->call);
        else if (!l->work.run) /* it rests */
            end(l);
    }
}
