/* cache/vms_recover_take.c - a recovery on the worker: which VMs of the store are taken over, and how
 * (vms_recover.c).
 */
#include "check.h"
#include "discard.h"
#include "keep.h"
#include "log.h"
#include "mem.h"
#include "recover.h"
#include "step.h"
#include "vm_leave.h"
#include "vm_place.h"
#include "vm_spec.h"
#include "vm_store.h"
#include "vms_pair.h"
#include "vms_recover_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "recover";

struct sentence {
    struct task task;
    struct vms_recovery *recovery;
    char text[600];
};

static void on_sentence(struct task *t)
{
    struct sentence *s = container_of(t, struct sentence, task);

    s->recovery->tell(s->recovery->arg, s->text);
    free(s);
}

/* From the worker to who asked, in order. */
static void __attribute__((format(printf, 2, 3))) say(struct vms_recovery *r, const char *format, ...)
{
    struct sentence *s = xcalloc(1, sizeof *s);
    va_list args;

    va_start(args, format);
    vsnprintf(s->text, sizeof s->text, format, args);
    va_end(args);
    s->recovery = r;
    s->task.run = on_sentence;
    loop_post(r->vms->conf.main, &s->task);
}

static void on_tell(void *arg, const char *sentence)
{
    say(arg, "%s", sentence);
}

/* --- on the worker --------------------------------------------------------------------------------------*/

/* In the catalog, or about to be: 1 by id, 2 another VM by name or IQN. */
static int is_here(struct vms *vms, const uint8_t *id, const struct vm_spec *spec)
{
    struct vm *vm;
    int here = vms_is_creating(vms, id);

    pthread_mutex_lock(&vms->lock);
    TAILQ_FOREACH (vm, &vms->list, in.entry)
        if (memcmp(vm->spec.id, id, VMLOG_ID_BYTES) == 0)
            here = 1;
        else if (spec && !here &&
                 (strcmp(vm->spec.name, spec->name) == 0 || strcmp(vm->spec.iqn, spec->iqn) == 0))
            here = 2;
    pthread_mutex_unlock(&vms->lock);
    return here;
}

/* Was this VM never written back, as far as the store can tell? Nor can it have been behind the newest cut.
 */
static bool never_went_home(const struct vm_spec *spec, const struct recover_result *result)
{
    return !vm_at_one_place(spec) || (spec->storage == WB_CLOUD_PERSIST && result->applied == 0);
}

/* At the newest cut everything is that on-prem was ever given, unless something is damaged. */
static bool is_newest(const struct vms_recovery *r, const struct recover_result *result)
{
    return r->through == UINT64_MAX && !result->damaged;
}

/* Must on-prem say where the source disks are before the VM is served? */
static bool must_ask(const struct vms_recovery *r, const struct vm_spec *spec,
                     const struct recover_result *result)
{
    return vm_at_one_place(spec) && !(is_newest(r, result) && never_went_home(spec, result));
}

/* Before anything in the store is changed: are the source disks behind the cut already? */
static int ask_onprem(struct vms_recovery *r, const struct vm_spec *spec, const struct recover_result *result,
                      struct why *why)
{
    uint64_t ahead = 0, cut = result->state.committed;
    int err;

    if (is_newest(r, result) || !vm_at_one_place(spec) || spec->home)
        return 0;
    err = vm_place_ask(r->vms, spec, &ahead, why);
    if (!err && ahead > cut)
        return why_set(why, -EINVAL,
                       "its source disks are at record %" PRIu64
                       " already, or will be: it cannot go back to record %" PRIu64,
                       ahead, cut);
    if (!err || (err == -ETIMEDOUT && (r->through == UINT64_MAX || never_went_home(spec, result))))
        return 0; /* logins wait for its answer */
    return err;
}

/* What this edge kept of the log joins the map, if the store has what came before. */
struct kept_part {
    bool stays;
    uint64_t from; /* behind this record */
    bool joined;   /* its owner has said that the store has that */
};

static int look_at_kept(const struct vms_recovery *r, const struct vm_spec *spec, struct kept_part *kept,
                        struct why *why)
{
    int err = r->inherit
                  ? keep_look(r->vms->conf.journal, spec->id, r->fallen, &kept->from, &kept->joined, why)
                  : -ENOENT;

    kept->stays = err == 0;
    return err == -ENOENT ? 0 : err;
}

/* An edge is taken in when the store has what was before of every VM, but for those that were being deleted
 * (vms_pair_errand.c): of such a one what was kept is of no use. */
static int joins(const struct vm_spec *spec, uint64_t committed, struct kept_part *kept, struct why *why)
{
    if (!kept->stays || committed >= kept->from)
        return 0;
    if (kept->joined)
        return why_set(why, -EAGAIN,
                       "the object store ends at record %" PRIu64
                       ", and its log was kept here from record %" PRIu64 " on",
                       committed, kept->from + 1);
    log_warn(spec->name,
             "its edge was deleting it, and was lost before the object store knew: it is there as of record "
             "%" PRIu64 ", for what was kept here follows on record %" PRIu64,
             committed, kept->from);
    kept->stays = false;
    return 0;
}

/* The other edge may have had the VM from this one, and have been lost before it gave anything back: then
 * what is here of reservations is what it had. */
static int clear(const struct vms_recovery *r, const struct vm_spec *spec, struct why *why)
{
    struct journal *journal = r->vms->conf.journal;

    return r->inherit && !spec->home ? vmlog_delete(journal, spec->id, why)
                                     : keep_clear(journal, spec->id, why);
}

static int take_over(struct vms_recovery *r, const struct vm_store *s, struct vm_spec *spec,
                     const struct vmobj *entry, const char *etag, struct why *why)
{
    struct vms *vms = r->vms;
    struct recover_conf c = {.journal = vms->conf.journal,
                             .store = s->store,
                             .master = s->master,
                             .entry = *entry,
                             .vm = spec->name,
                             .floor = spec->floor,
                             .through = r->through,
                             .stop = s->stop,
                             .tell = on_tell,
                             .arg = r};
    struct recover_result result = {0};
    struct vmobj next;
    struct kept_part kept = {0};
    uint64_t last = 0;
    int err = look_at_kept(r, spec, &kept, why);

    if (!err)
        err = map_delete(vms->conf.journal, spec->id, why);
    STEP("recover.entry", "a VM's entry was read, its rows of the map are gone");
    if (!err)
        err = recover_vm(&c, &result, why);
    if (err == -ENOENT && r->through == UINT64_MAX && result.unwritten)
        err = 0;
    STEP("recover.map", "the map is rebuilt");
    if (!err)
        err = joins(spec, result.state.committed, &kept, why);
    if (!err && kept.stays)
        err = keep_last(vms->conf.journal, spec->id, &last, why);
    if (!err)
        err = ask_onprem(r, spec, &result, why);
    if (!err)
        err = vm_place_note(vms->conf.journal, spec, must_ask(r, spec, &result), why);
    if (!err)
        err = recover_keep_entry(&c, &result, why);
    if (!err) {
        spec->epoch++;
        spec->task = 0; /* another edge counted its tasks */
        spec->since = result.state.committed + 1;
        spec->joined = last;
        next = recover_entry(&c, &result);
        err = vm_store_take(s, spec, &next, etag, why);
    }
    STEP("recover.take", "the VM is this edge's, by its entry");
    if (!err && !kept.stays) /* not before: another may have been first, and have its log kept here */
        err = clear(r, spec, why);
    if (!err)
        err = recover_put_aside(&c, &result, why);
    STEP("recover.beyond", "what was lost is put aside");
    if (!err && spec->floor)
        err = discard_objects(s->store, spec->id, spec->floor, s->stop, why);
    if (!err)
        err = vm_save(vms, spec, false, why);
    STEP("recover.catalog", "the VM is in the catalog");
    if (!err && kept.stays)
        err = keep_forget(vms->conf.journal, spec->id, why);
    return err;
}

struct telling {
    struct task task;
    struct vms *vms;
    struct vm_spec spec;
    bool late;
};

static void on_tell_onprem(struct task *t)
{
    struct telling *l = container_of(t, struct telling, task);

    vms_leave_tell(l->vms, &l->spec, l->late);
    vm_spec_wipe(&l->spec);
    free(l);
}

/* Its edge was deleting it when it was lost. A crash before the note is there is as one before the entry was
 * taken: whoever recovers it goes on. */
static int go_on_deleting(struct vms_recovery *r, const struct vm_store *s, struct vm_spec *spec,
                          const struct vmobj *entry, const char *etag, struct why *why)
{
    struct vm_erasure e = {.held = vm_leave_needed(spec)};
    struct telling *l;
    int err;

    spec->epoch++;
    err = vm_store_take_condemned(s, spec, entry, etag, why);
    if (!err)
        err = vm_erase_all(r->vms, spec, &e, why);
    if (err)
        return err;
    say(r, "VM %s is not recovered: it was being deleted, and that goes on%s%s%s", spec->name,
        e.held ? "; " : "", e.held ? vm_spec_onprem(spec) : "",
        e.held ? " is told to let go of its disks" : "");
    log_info(spec->name, "it was being deleted, or made, when its edge was lost: what there is of it goes");
    if (!e.held)
        return 0;
    l = xcalloc(1, sizeof *l);
    l->vms = r->vms;
    l->spec = *spec;
    l->late = e.absent;
    l->task.run = on_tell_onprem;
    loop_post(r->vms->conf.main, &l->task);
    return 0;
}

static void keep(struct vms_recovery *r, const struct vm_spec *spec)
{
    struct vm_spec *specs = xcalloc(r->nspecs + 1, sizeof *specs);

    for (unsigned i = 0; i < r->nspecs; i++) {
        specs[i] = r->specs[i];
        vm_spec_wipe(&r->specs[i]);
    }
    specs[r->nspecs++] = *spec;
    free(r->specs);
    r->specs = specs;
}

static void failed(struct vms_recovery *r, int err, const struct why *why)
{
    if (!r->status) {
        r->status = err;
        r->why = *why;
    }
    say(r, "%s", why->text);
    log_error(NULL, "%s", why->text);
}

/* Has this recovery, or the catalog, another of that name already? */
static bool is_name_taken(const struct vms_recovery *r, const struct vm_spec *spec)
{
    for (unsigned i = 0; i < r->nspecs; i++)
        if (strcmp(r->specs[i].name, spec->name) == 0 || strcmp(r->specs[i].iqn, spec->iqn) == 0)
            return true;
    return is_here(r->vms, spec->id, spec) || vms_creates_name(r->vms, spec) ||
           vms_has_going(r->vms, spec->name);
}

static int take_one(struct vms_recovery *r, const struct vm_store *s, struct vm_spec *spec,
                    const struct vmobj *entry, const char *etag, struct why *why)
{
    struct why reason;
    int err;

    if (is_name_taken(r, spec))
        return why_set(why, -EEXIST, "VM %s is not recovered: another VM here has its name", spec->name);
    err = take_over(r, s, spec, entry, etag, &reason);
    return err ? why_set(why, err, "VM %s is not recovered: %s", spec->name, reason.text) : 0;
}

/* The other edge of the pair has it; or this one, once it is alone, takes it by itself, with what was kept.
 */
static bool is_partners(const struct vms_recovery *r, const struct vmobj *entry)
{
    return r->paired && memcmp(entry->writer, r->partner, sizeof entry->writer) == 0;
}

/* Is that entry one that this recovery looks at? */
static bool is_wanted(const struct vms_recovery *r, const struct vm_spec *spec, const struct vmobj *entry)
{
    bool ours = memcmp(entry->writer, r->vms->conf.writer, sizeof entry->writer) == 0;

    if (ours && (vms_is_going(r->vms, spec->id) || vms_is_leaving(r->vms, spec->id)))
        return false; /* it is being deleted here */
    if (r->inherit && !ours && memcmp(entry->writer, r->fallen, sizeof entry->writer) != 0)
        return false;
    return *r->name ? strcmp(r->name, spec->name) == 0 : !is_partners(r, entry);
}

/* Who is the other edge of the pair was asked at the beginning. */
static bool has_moved(const struct vms_recovery *r)
{
    return !r->inherit && r->vms->pair && vms_pair_moves(r->vms->pair) != r->moves;
}

static int one(void *arg, const uint8_t id[VMLOG_ID_BYTES])
{
    struct vms_recovery *r = arg;
    struct vm_store s = vm_store_of(r->vms);
    struct vm_spec *spec;
    struct vmobj entry;
    char etag[ENTRY_ETAG];
    bool deleting = false;
    struct why why = {""};
    int err;

    if (is_here(r->vms, id, NULL))
        return 0;
    spec = xcalloc(1, sizeof *spec);
    err = vm_store_look(&s, id, spec, &entry, etag, &deleting, &why);
    if (has_moved(r)) { /* after the entry: whoever has taken it since is another edge than before */
        vm_spec_wipe(spec);
        free(spec);
        r->status = why_set(&r->why, -EAGAIN, "the pair has changed meanwhile: ask again for what is left");
        return -ECANCELED;
    }
    if (err != -ENOENT && (err || is_wanted(r, spec, &entry))) {
        r->seen++;
        if (!err && vms_is_going(r->vms, id))
            err = why_set(&why, -EBUSY, "VM %s is not recovered: what is here of it is being deleted",
                          spec->name);
        else if (!err && is_partners(r, &entry))
            err = why_set(&why, -EBUSY, "VM %s is not recovered: it is the other edge's of the pair",
                          spec->name);
        else if (!err && deleting)
            err = go_on_deleting(r, &s, spec, &entry, etag, &why);
        else if (!err)
            err = take_one(r, &s, spec, &entry, etag, &why);
        if (err)
            failed(r, err, &why);
        else if (!deleting)
            keep(r, spec);
    }
    vm_spec_wipe(spec);
    free(spec);
    return atomic_load(&r->vms->stop) ? -ECANCELED : 0;
}

void vms_recover_take(struct vms_recovery *r)
{
    struct vm_store s = vm_store_of(r->vms);
    struct why why = {""};
    int err = vm_store_each(&s, one, r, &why);

    if (err && !r->status) {
        r->status = err;
        r->why = why;
    } else if (!err && *r->name && !r->seen) {
        r->status = why_set(&r->why, -ENOENT, "the object store knows no VM %s that is not here", r->name);
    }
}
