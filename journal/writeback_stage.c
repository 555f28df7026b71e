/* journal/writeback_stage.c - one stage, step by step; docs/writeback.md, "A write-back at the edge".
 *
 *   committing ─► planning ─► beginning ─► sending ─► ending ─► applying ─► (writeback_confirm.c)
 *                                ▲                      │ it is not whole
 *                                └──────────────────────┘
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "step.h"
#include "writeback_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

static const char part[] = "writeback";

enum { TRIES = 3 };

static void begin(struct writeback *wb);

static void give_slot(struct writeback *wb)
{
    if (wb->slotted)
        ++*wb->conf.slots;
    wb->slotted = false;
}

void wb_stage_end(struct writeback *wb)
{
    wb_send_end(wb);
    wb_plan_close(&wb->plan);
    if (wb->holding)
        upkeep_release(wb->conf.upkeep);
    wb->holding = false;
    give_slot(wb);
    wb->target = 0;
}

static void given_up(struct writeback *wb)
{
    wb_stage_end(wb);
    wb_idle(wb);
}

static void failed(struct writeback *wb, const char *what, const char *why)
{
    wb_stage_end(wb);
    wb_failed(wb, what, why);
}

/* --- wb.applied -----------------------------------------------------------------------------------------*/

static void on_applied(struct writeback *wb)
{
    if (!wb_take_state(wb)) {
        failed(wb, "on-prem does not apply what it has staged", wb->call.call.why.text);
        return;
    }
    if (wb->onprem.applied < wb->target) {
        failed(wb, "on-prem does not apply what it has staged",
               wb->onprem.alarm ? wb->onprem.text : "it has given the stage up");
        return;
    }
    STEP("wb.applied", "the on-prem daemon has applied and flushed a stage; the edge has not noted it");
    wb_confirm(wb);
}

void wb_stage_wait_applied(struct writeback *wb, uint64_t target)
{
    struct wb_head head;

    wb_enter(wb, WB_APPLYING);
    wb->target = target;
    head = wb_head_of(wb);
    wb_call(wb, PROTO_WB_APPLIED, LINK_CONTROL, wb_put_head(&head), on_applied);
}

/* --- wb.staged ------------------------------------------------------------------------------------------*/

static void on_ended(struct writeback *wb)
{
    if (wb->call.call.status == -EAGAIN && ++wb->tries < TRIES) {
        log_info(wb->vm, "on-prem lacks some of the stage (%s): offered again", wb->call.call.why.text);
        metric_add(wb->m.retries, 1);
        begin(wb);
        return;
    }
    if (!wb_take_state(wb)) {
        failed(wb, "on-prem does not take a stage", wb->call.call.why.text);
        return;
    }
    STEP("wb.staged", "the on-prem daemon has a stage whole and stable");
    wb->takes_ns = wb_takes_ns(wb->takes_ns, loop_now_ns(wb->conf.loop) - wb->began_ns);
    wb_send_end(wb);
    wb_plan_close(&wb->plan);
    give_slot(wb);
    wb_stage_wait_applied(wb, wb->target);
}

static void end(struct writeback *wb)
{
    struct wb_end e = {.head = wb_head_of(wb), .pieces = wb->plan.pieces};

    wb_enter(wb, WB_ENDING);
    wb_digest_end(&wb->sender.digest, e.digest);
    wb_call(wb, PROTO_WB_END, LINK_WRITEBACK, wb_put_end(&e), on_ended);
}

/* --- wb.send --------------------------------------------------------------------------------------------*/

void wb_stage_sent(struct writeback *wb)
{
    int status = wb->sender.status;
    struct why why = wb->sender.why;

    if (wb->giving_up) {
        given_up(wb);
    } else if (status == -EBADMSG) { /* nothing else may take its place */
        wb_stage_end(wb);
        wb->damaged = true;
        wb_alarm(wb, "what is to be written back cannot be read from the object store: %s", why.text);
        wb_failed(wb, "the object store", why.text);
    } else if (status) {
        failed(wb, "a stage cannot be sent", why.text);
    } else {
        wb->damaged = false;
        wb_no_alarm(wb);
        end(wb);
    }
}

/* --- wb.begin -------------------------------------------------------------------------------------------*/

static void on_begun(struct writeback *wb)
{
    if (!wb_take_state(wb)) {
        failed(wb, "on-prem does not begin a stage", wb->call.call.why.text);
        return;
    }
    if (wb->onprem.applied >= wb->target) { /* an answer of before was lost */
        wb_confirm(wb);
        return;
    }
    if (wb_is_staged(wb)) {
        wb_stage_wait_applied(wb, wb->onprem.target);
        return;
    }
    STEP("wb.begin", "the on-prem daemon has opened a stage");
    wb_enter(wb, WB_SENDING);
    wb_send_begin(wb);
}

static void begin(struct writeback *wb)
{
    struct wb_begin b = {
        .head = wb_head_of(wb), .base = map_state(wb->conf.map)->applied, .instant_ms = wb->instant_ms};

    wb_send_end(wb);
    wb_enter(wb, WB_BEGINNING);
    wb_call(wb, PROTO_WB_BEGIN, LINK_CONTROL, wb_put_begin(&b), on_begun);
}

/* In a turn: the map is at a cut, unless one was given up in the midst of its objects. */
static void plan_run(struct commit_turn *t)
{
    struct writeback *wb = container_of(t, struct writeback, turn);
    const struct map_state *state = map_state(wb->conf.map);

    wb->turn_status = -EAGAIN;
    if (state->last != state->committed)
        return;
    wb->planned = state->committed;
    wb->turn_status = wb_plan_write(&wb->plan, wb->spool_path, wb->conf.map, &wb->turn_why);
}

static void plan_done(struct commit_turn *t)
{
    struct writeback *wb = container_of(t, struct writeback, turn);

    if (wb->giving_up || wb->turn_status == -EAGAIN) {
        given_up(wb);
        return;
    }
    if (wb->turn_status) {
        failed(wb, "a stage cannot be begun", wb->turn_why.text);
        return;
    }
    wb->target = wb->planned;
    wb->next_since_ns = vmlog_last(wb->conf.log) > wb->target ? loop_now_ns(wb->conf.loop) : 0;
    log_debug(wb->vm, "records %" PRIu64 " to %" PRIu64 ": %" PRIu64 " piece(s), %" PRIu64 " MiB",
              map_state(wb->conf.map)->applied + 1, wb->target, wb->plan.pieces, wb->plan.bytes >> 20);
    begin(wb);
}

/* --- wb.commit ------------------------------------------------------------------------------------------*/

static void on_committed(struct commit_wait *w)
{
    struct writeback *wb = container_of(w, struct writeback, commit_wait);
    const struct map_state *state = map_state(wb->conf.map);

    if (wb->giving_up || w->status == -ECANCELED) {
        given_up(wb);
        return;
    }
    if (w->status) {
        wb_lost(wb, "another edge writes this VM's log");
        given_up(wb);
        return;
    }
    STEP("wb.commit", "everything that a write-back is to bring is in the object store");
    if (state->committed == state->applied) {
        wb_applied(wb, state->applied);
        given_up(wb);
        return;
    }
    wb_enter(wb, WB_PLANNING);
    upkeep_hold(wb->conf.upkeep);
    wb->holding = true;
    wb->turn = (struct commit_turn){.run = plan_run, .done = plan_done};
    commit_take_turn(wb->conf.commit, &wb->turn);
}

/* For people: the cut has everything that was written until now. */
static uint64_t wall_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void wb_stage_begin(struct writeback *wb)
{
    if (wb->conf.slots && !*wb->conf.slots) /* the next tick looks again */
        return;
    if (wb->conf.slots)
        --*wb->conf.slots;
    wb->slotted = wb->conf.slots != NULL;
    wb_enter(wb, WB_COMMITTING);
    wb->began_ns = loop_now_ns(wb->conf.loop);
    wb->instant_ms = wall_clock_ms();
    wb->tries = 0;
    wb->commit_wait.done = on_committed;
    commit_now(wb->conf.commit, &wb->commit_wait);
}

void wb_stage_give_up(struct writeback *wb)
{
    switch (wb->step) {
    case WB_COMMITTING:
        commit_cancel(wb->conf.commit, &wb->commit_wait);
        break;
    case WB_PLANNING:
    case WB_CONFIRMING:
        if (commit_leave_turn(wb->conf.commit, &wb->turn))
            given_up(wb);
        break;
    case WB_SENDING:
        wb_send_cancel(wb);
        break;
    case WB_ASKING:
        if (wb->call.call.type != PROTO_VM_ATTACH) /* a DETACH that follows could overtake it */
            far_call_cancel(&wb->call);
        break;
    case WB_BEGINNING:
    case WB_ENDING:
    case WB_APPLYING:
    case WB_DETACHING:
    case WB_CLEARING:
        far_call_cancel(&wb->call);
        break;
    case WB_IDLE:
        break;
    }
}
