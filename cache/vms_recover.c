/* cache/vms_recover.c - taking over VMs that the object store knows of and this edge does not.
 *
 *   worker: entry ► map and log ► taken (compare-and-swap) ► lost objects put aside ► catalog
 *   then for each: log opened (worker) ► volumes (its loop) ► in the catalog (main)
 *
 * A crash leaves a VM taken over or not; either way the next recovery goes on with it. What was recovered in
 * part is not in the catalog: its rows are removed when it is recovered again.
 *
 * A VM whose entry says that it is being deleted is taken over, too, but erased (vm_erase.c); on-prem is told
 * (vm_leave.c) by itself, whether or not it answers now.
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "vm_spec.h"
#include "vms_pair.h"
#include "vms_recover_impl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "recover";

static void recover_run(struct work *w)
{
    vms_recover_take(container_of(w, struct vms_recovery, work));
}

static void open_next(struct vms_recovery *r);

static void on_arrived(struct vm_arrival *a)
{
    struct vms_recovery *r = container_of(a, struct vms_recovery, arrival);
    const struct vm_spec *spec = &r->specs[r->next++];

    if (!a->status)
        log_info(spec->name, "recovered: %u disk(s), %s", vm_spec_disks(spec), spec->iqn);
    if (a->status && !r->status) {
        r->status = a->status;
        r->why = a->why;
    }
    open_next(r);
}

static void end(struct vms_recovery *r)
{
    struct vms *vms = r->vms;

    vms->recovering = false;
    r->done(r->arg, r->status, r->nspecs, &r->why);
    for (unsigned i = 0; i < r->nspecs; i++)
        vm_spec_wipe(&r->specs[i]);
    free(r->specs);
    free(r);
    vms_end(vms);
}

static void open_next(struct vms_recovery *r)
{
    if (r->next == r->nspecs) {
        end(r);
        return;
    }
    r->arrival.vms = r->vms;
    r->arrival.done = on_arrived;
    vm_arrive(&r->arrival, &r->specs[r->next]);
}

static void recover_done(struct work *w)
{
    open_next(container_of(w, struct vms_recovery, work));
}

static void on_busy(struct task *t)
{
    struct vms_recovery *r = container_of(t, struct vms_recovery, task);
    struct vms *vms = r->vms;

    r->done(r->arg, r->status, 0, &r->why);
    free(r);
    vms_end(vms);
}

static void start(struct vms_recovery *r)
{
    struct vms *vms = r->vms;

    vms_begin(vms);
    if (!r->status && vms->recovering)
        r->status = why_set(&r->why, -EBUSY, "a recovery is running already");
    if (!r->status && !vms_admitted(vms, &r->why))
        r->status = -EBUSY;
    if (r->status) {
        r->task.run = on_busy;
        loop_post(vms->conf.main, &r->task);
        return;
    }
    vms->recovering = true;
    r->work = (struct work){.run = recover_run, .done = recover_done};
    worker_do(vms->conf.worker, vms->conf.main, &r->work);
}

void vms_recover(struct vms *vms, const char *name, uint64_t through,
                 void (*tell)(void *arg, const char *sentence),
                 void (*done)(void *arg, int status, unsigned recovered, const struct why *), void *arg)
{
    struct vms_recovery *r = xcalloc(1, sizeof *r);
    struct pair_status pair;

    r->vms = vms;
    r->paired = vms_pair_status(vms, &pair) && pair.other_writer;
    if (r->paired)
        memcpy(r->partner, pair.other_writer, sizeof r->partner);
    if (vms->pair)
        r->moves = vms_pair_moves(vms->pair);
    if (r->paired && pair.inheriting)
        r->status = why_set(&r->why, -EBUSY, "the VMs of the other edge are being taken over, by itself");
    else if (vms->pair && vms_pair_status(vms, &pair) && pair.preparing)
        r->status = why_set(&r->why, -EBUSY, "the other edge is being taken in: try again in a moment");
    snprintf(r->name, sizeof r->name, "%s", name ? name : "");
    r->through = through;
    r->tell = tell;
    r->done = done;
    r->arg = arg;
    start(r);
}

static void on_inherited_sentence(void *arg, const char *sentence)
{
    (void)arg;
    log_info(NULL, "%s", sentence);
}

void vms_inherit(struct vms *vms, const uint8_t fallen[LOGOBJ_WRITER_BYTES],
                 void (*done)(void *arg, int status, unsigned recovered, const struct why *), void *arg)
{
    struct vms_recovery *r = xcalloc(1, sizeof *r);

    r->vms = vms;
    r->inherit = true;
    memcpy(r->fallen, fallen, sizeof r->fallen);
    r->through = UINT64_MAX;
    r->tell = on_inherited_sentence;
    r->done = done;
    r->arg = arg;
    start(r);
}
