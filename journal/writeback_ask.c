/* journal/writeback_ask.c - what on-prem says of a VM, and whether that fits to what is here: attaching,
 * detaching, the end of an alarm.
 */
#include "log.h"
#include "mem.h"
#include "writeback_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "writeback";

/* --- asking ---------------------------------------------------------------------------------------------*/

enum wb_policy wb_policy_wanted(const struct writeback *wb)
{
    return wb->conf.policy == WB_WRITE_BACK || !TAILQ_EMPTY(&wb->waits) ? WB_WRITE_BACK : WB_CLOUD_PERSIST;
}

bool wb_is_staged(const struct writeback *wb)
{
    return wb->onprem.stage == WB_STAGE_STAGED || wb->onprem.stage == WB_STAGE_APPLYING;
}

/* What was served while it fitted is in memories that would be mixed, too: another history stays one until
 * the VM is opened anew. */
static void place(struct writeback *wb, enum writeback_place place)
{
    if (!wb->conf.place || atomic_load(wb->conf.place) == WRITEBACK_OTHER ||
        atomic_load(wb->conf.place) == (int)place)
        return;
    atomic_store(wb->conf.place, (int)place);
    wb->conf.placed(wb->conf.arg);
}

/* Is a cut of this log at on-prem that this edge has not? The edge before may have brought it there, and its
 * records may be here, kept from it, before they are in the store. */
static bool is_beyond(const struct writeback *wb, uint64_t cut)
{
    if (cut <= wb->conf.joined)
        return false;
    return cut > map_state(wb->conf.map)->committed ||
           (wb->onprem.epoch < wb->conf.epoch && wb->conf.since && cut >= wb->conf.since);
}

/* Does what on-prem has fit to what is here? */
static void judge(struct writeback *wb)
{
    const struct map_state *here = map_state(wb->conf.map);
    const struct wb_state *there = &wb->onprem;
    uint64_t ahead = wb_is_staged(wb) && there->target > there->applied ? there->target : there->applied;

    if (there->epoch > wb->conf.epoch)
        wb_lost(wb, "another edge has taken this VM over, says the on-prem daemon");
    else if (is_beyond(wb, ahead)) {
        wb_alarm(wb,
                 "the source disks are at record %" PRIu64
                 " of this VM's log, or will be, and the object store "
                 "has it only up to record %" PRIu64 ": they are another history",
                 ahead, wb->conf.since ? wb->conf.since - 1 : here->committed);
        place(wb, WRITEBACK_OTHER);
        return;
    } else if (there->applied < here->applied)
        wb_alarm(wb,
                 "the on-prem daemon says that the source disks are at record %" PRIu64
                 ", but it had confirmed record %" PRIu64 ": its data directory is not the one it had",
                 there->applied, here->applied);
    else {
        place(wb, WRITEBACK_FITS);
        if (there->alarm)
            wb_alarm(wb, "%s", *there->text ? there->text : "somebody else has written to a source disk");
        else
            wb_no_alarm(wb);
    }
}

static void on_attached(struct writeback *wb)
{
    if (wb->call.call.status == -ESTALE) {
        wb_lost(wb, wb->call.call.why.text);
    } else if (wb->call.call.status == -EINVAL && !wb->listed && !wb->onprem.alarm) {
        buf_unref(&wb->call.call.reply);
        wb->relisting = true; /* it has the VM with the disks that it had before */
        wb_detach(wb);
        return;
    } else if (!wb_take_state(wb)) {
        wb_failed(wb, "the source disks cannot be attached", wb->call.call.why.text);
        return;
    } else {
        if (!wb->attached)
            log_info(wb->vm, "attached at %s: the source disks are at record %" PRIu64 "%s",
                     peer_name(wb->conf.peer), wb->onprem.applied, wb->onprem.held ? ", and reserved" : "");
        wb->attached = wb->listed = true;
        wb->told = wb->telling;
        judge(wb);
    }
    wb->must_ask = false;
    wb_idle(wb);
}

static void attach(struct writeback *wb)
{
    struct wb_attach *a = xcalloc(1, sizeof *a);

    memcpy(a->vm, wb->conf.id, sizeof a->vm);
    a->epoch = wb->conf.epoch;
    a->policy = wb->telling = wb_policy_wanted(wb);
    wb->told = 0; /* refused or unanswered, it may know this one or the one before */
    snprintf(a->name, sizeof a->name, "%s", wb->vm);
    a->ndisks = wb->conf.ndisks;
    for (unsigned i = 0; i < a->ndisks; i++)
        snprintf(a->disks[i], sizeof a->disks[i], "%s", wb->disks[i]);
    a->base = map_state(wb->conf.map)->applied;
    wb_call(wb, PROTO_VM_ATTACH, LINK_CONTROL, wb_put_attach(a), on_attached);
    free(a);
}

static void on_asked(struct writeback *wb)
{
    int status = wb->call.call.status;

    wb->asked_ns = loop_now_ns(wb->conf.loop);
    if (status == -ENOENT) { /* it does not know the VM */
        wb->attached = wb->listed = false;
        attach(wb);
        return;
    }
    if (status == -ESTALE) {
        wb_lost(wb, wb->call.call.why.text);
    } else if (!wb_take_state(wb)) {
        wb_failed(wb, "on-prem does not say where the source disks are", wb->call.call.why.text);
        return;
    } else {
        judge(wb);
    }
    wb->must_ask = false;
    if (wb->lost || (wb->alarm && !wb->onprem.alarm)) {
        wb_idle(wb);
    } else if (wb_is_staged(wb) || (!wb->alarm && wb_can_confirm(wb))) {
        /* It is under way, or done, whatever the policy is now: noted before anything else is said. */
        wb->attached = true;
        wb->told = WB_WRITE_BACK;
        wb_idle(wb);
    } else if (!wb->attached || !wb->listed || wb->onprem.epoch != wb->conf.epoch ||
               wb->told != wb_policy_wanted(wb)) {
        attach(wb);
    } else {
        wb_idle(wb);
    }
}

void wb_ask(struct writeback *wb)
{
    struct wb_head head;

    wb_enter(wb, WB_ASKING);
    wb->target = 0;
    head = wb_head_of(wb);
    wb_call(wb, PROTO_WB_STATE, LINK_CONTROL, wb_put_head(&head), on_asked);
}

/* --- detaching, clearing --------------------------------------------------------------------------------*/

static void on_detached(struct writeback *wb)
{
    int status = wb->call.call.status;
    struct why why = wb->call.call.why;

    buf_unref(&wb->call.call.reply);
    if (wb->relisting && status && status != -ESTALE) {
        wb->relisting = false;
        wb_failed(wb, "the source disks cannot be attached anew", why.text);
        return;
    }
    wb->relisting = false;
    if (status == 0 || status == -ENOENT) {
        wb->attached = wb->listed = false;
        wb->onprem = (struct wb_state){0};
        log_info(wb->vm, "detached: %s has let go of the source disks", peer_name(wb->conf.peer));
        wb_end_waits(wb, &wb->detaches, UINT64_MAX, 0, NULL);
    } else if (status == -EBUSY) {
        wb->conf.home = false;
        wb->must_ask = true;
        wb_end_waits(wb, &wb->detaches, UINT64_MAX, -EBUSY, &why);
    } else if (status == -ESTALE) {
        wb_lost(wb, why.text);
    } else {
        wb_failed(wb, "the source disks cannot be let go of", why.text);
        return;
    }
    wb_idle(wb);
}

void wb_detach(struct writeback *wb)
{
    struct wb_head head;

    wb_enter(wb, WB_DETACHING);
    wb->target = 0;
    head = wb_head_of(wb);
    wb_call(wb, PROTO_VM_DETACH, LINK_CONTROL, wb_put_head(&head), on_detached);
}

static void on_cleared(struct writeback *wb)
{
    int status = wb->call.call.status;

    wb->must_ask = true;
    if (!wb_take_state(wb)) {
        wb_end_waits(wb, &wb->clears, UINT64_MAX, status ? status : -EIO, &wb->call.call.why);
    } else {
        judge(wb);
        wb_end_waits(wb, &wb->clears, UINT64_MAX, wb->alarm ? -EBUSY : 0, &wb->why);
    }
    wb_idle(wb);
}

void wb_clear(struct writeback *wb)
{
    struct wb_head head;

    wb_enter(wb, WB_CLEARING);
    wb->target = 0;
    head = wb_head_of(wb);
    wb_call(wb, PROTO_VM_CLEAR_ALARM, LINK_CONTROL, wb_put_clear_alarm(&head), on_cleared);
}
