/* cache/vms_pair_force.c - this edge is to be the only member of its pair by force: what is lost by that, and
 * what has to be done before. docs/pair.md, "By force".
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "recover.h"
#include "vm_spec.h"
#include "vm_store.h"
#include "vms_pair_impl.h"
#include "worker.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

static const char part[] = "pair";

enum { FENCE_TRIES = 10 /* while somebody else changes a VM's entry */ };

/* Every VM that the store knows of is looked at, on the worker. */
struct survey {
    struct vms *vms;
    struct vms_losses losses;
    bool fences; /* what was sent before about this edge's own can happen no more */
    struct work work;
    int status;
    struct why why;
    void (*done)(void *arg, int status, const struct vms_losses *, const struct why *);
    void *arg;
};

/* --- on the worker --------------------------------------------------------------------------------------*/

static int glance(const struct survey *s, const struct vm_spec *spec, const struct vmobj *entry,
                  struct vms_loss *loss, struct why *why)
{
    const struct vms *vms = s->vms;
    struct recover_conf c = {.store = vms->conf.stores[0],
                             .master = &vms->conf.master,
                             .entry = *entry,
                             .vm = spec->name,
                             .floor = spec->floor,
                             .through = UINT64_MAX,
                             .stop = &vms->stop};

    return recover_glance(&c, &loss->cut, &loss->put_s, why);
}

static struct vms_loss *add(struct vms_losses *l)
{
    if (l->n % 16 == 0)
        l->list = xrealloc(l->list, (l->n + 16) * sizeof *l->list);
    l->list[l->n] = (struct vms_loss){0};
    return &l->list[l->n++];
}

static enum vms_loss_of whose_is(const struct survey *s, const struct vmobj *entry)
{
    if (memcmp(entry->writer, s->losses.member.writer, sizeof entry->writer) == 0)
        return VMS_LOSS_THEIRS;
    return memcmp(entry->writer, s->vms->conf.writer, sizeof entry->writer) == 0 ? VMS_LOSS_OURS
                                                                                 : VMS_LOSS_NOBODYS;
}

/* Of those that are being deleted this edge goes on with its own and the member's by itself. */
static int look_at(struct survey *s, const struct vm_spec *spec, const struct vmobj *entry, bool deleting,
                   struct why *why)
{
    enum vms_loss_of whose = whose_is(s, entry);
    struct vms_loss *loss;

    if (deleting && whose != VMS_LOSS_NOBODYS)
        return 0;
    loss = add(&s->losses);
    strcpy(loss->vm, spec->name);
    loss->whose = whose;
    loss->home = spec->home;
    loss->deleting = deleting;
    return whose == VMS_LOSS_THEIRS && !loss->home ? glance(s, spec, entry, loss, why) : 0;
}

static int fence(const struct survey *s, const struct vm_spec *spec, const struct vmobj *entry,
                 struct why *why)
{
    struct vm_store store = vm_store_of(s->vms);
    int err = -EAGAIN;

    if (memcmp(entry->writer, s->vms->conf.writer, sizeof entry->writer) != 0)
        return 0;
    for (unsigned i = 0; i < FENCE_TRIES && err == -EAGAIN; i++)
        err = vm_store_fence(&store, spec, why);
    return err == -ESTALE || err == -ENOENT ? 0 : err; /* it has gone by now: so it is not this edge's */
}

static int one(void *arg, const uint8_t id[VMLOG_ID_BYTES])
{
    struct survey *s = arg;
    struct vm_store store = vm_store_of(s->vms);
    struct vm_spec *spec = xcalloc(1, sizeof *spec);
    struct vmobj entry;
    char etag[ENTRY_ETAG];
    bool deleting;
    int err = vm_store_look(&store, id, spec, &entry, etag, &deleting, &s->why);

    if (err == -EBADMSG || err == -ENOTSUP) { /* nobody can go on with it as it is */
        log_error(NULL, "%s", s->why.text);
        s->losses.unreadable++;
        err = 0;
    } else if (!err && s->fences) {
        err = deleting ? 0 : fence(s, spec, &entry, &s->why);
    } else if (!err) {
        err = look_at(s, spec, &entry, deleting, &s->why);
    }
    vm_spec_wipe(spec);
    free(spec);
    return err == -ENOENT ? 0 : err;
}

static void survey_run(struct work *w)
{
    struct survey *s = container_of(w, struct survey, work);
    struct vm_store store = vm_store_of(s->vms);

    s->status = vm_store_each(&store, one, s, &s->why);
}

/* --- on the main loop -----------------------------------------------------------------------------------*/

static void survey_done(struct work *w)
{
    struct survey *s = container_of(w, struct survey, work);
    struct vms *vms = s->vms;

    s->done(s->arg, s->status, &s->losses, &s->why);
    free(s->losses.list);
    free(s);
    vms_end(vms);
}

static void survey(struct survey *s)
{
    vms_begin(s->vms);
    s->work = (struct work){.run = survey_run, .done = survey_done};
    worker_do(s->vms->conf.worker, s->vms->conf.main, &s->work);
}

static int may_force(const struct vms *vms, struct arbiter_place *member, struct why *why)
{
    if (!vms->pair || vms->pair->stopping)
        return why_set(why, -ENOENT, vms->pair ? "this edge is stopping" : "this edge is in no pair");
    if (vms->pair->purging)
        return why_set(why, -EBUSY, "what was kept for the other edge is being removed: in a moment");
    return pair_may_force(vms->pair->pair, member, why);
}

int vms_pair_losses(struct vms *vms,
                    void (*done)(void *arg, int status, const struct vms_losses *, const struct why *),
                    void *arg, struct why *why)
{
    struct arbiter_place member;
    int err = may_force(vms, &member, why);
    struct survey *s;

    if (err)
        return err;
    s = xcalloc(1, sizeof *s);
    s->vms = vms;
    s->losses.member = member;
    s->done = done;
    s->arg = arg;
    survey(s);
    return 0;
}

static void say_loss(const struct vms_loss *l, const char *member)
{
    time_t at = (time_t)l->put_s;
    char when[48] = "";
    struct tm tm;

    if (l->whose != VMS_LOSS_THEIRS || l->home)
        return;
    if (at && gmtime_r(&at, &tm))
        strftime(when, sizeof when, ", put at %Y-%m-%d %H:%M:%S UTC", &tm);
    log_warn(l->vm,
             "the store holds it up to record %" PRIu64 "%s: what %s acknowledged after that is given up",
             l->cut, when, member);
}

int vms_pair_force(struct vms *vms, const struct vms_losses *losses, struct why *why)
{
    struct arbiter_place member;
    int err = may_force(vms, &member, why);

    if (err)
        return err;
    if (memcmp(&member, &losses->member, sizeof member) != 0)
        return why_set(why, -EAGAIN, "the pair's record has changed meanwhile");
    for (size_t i = 0; i < losses->n; i++)
        say_loss(&losses->list[i], member.name);
    return pair_force(vms->pair->pair, why);
}

static void on_purged(struct work *w)
{
    struct vms_pair *p = container_of(w, struct vms_pair, purge);

    if (!p->stopping)
        pair_cleared(p->pair, p->purge_status, &p->purge_why);
    vms_pair_idle(p);
}

/* What was kept may end before what the store holds: the next start is to go by the store alone. */
static void on_kept_closed(void *arg)
{
    struct vms_pair *p = arg;

    if (!p->stopping)
        vms_pair_purge(p, on_purged);
    vms_pair_idle(p);
}

static void on_fenced(void *arg, int status, const struct vms_losses *losses, const struct why *why)
{
    struct vms_pair *p = arg;

    (void)losses;
    if (p->stopping)
        return;
    if (status)
        pair_cleared(p->pair, status, why);
    else
        vms_pair_close_keep(p, on_kept_closed);
}

/* The only member may have died while it took over one of this edge's VMs, and the swap may yet happen. Ends
 * with the process, whatever comes of it. */
void vms_pair_clear(void *arg)
{
    struct vms_pair *p = arg;
    struct survey *s = xcalloc(1, sizeof *s);

    p->purging = true;
    s->vms = p->vms;
    s->fences = true;
    s->done = on_fenced;
    s->arg = p;
    survey(s);
}
