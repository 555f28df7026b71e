/* journal/writeback_confirm.c - wb.confirm, wb.trim: what the source disks hold leaves the map.
 *
 * A read that found an entry before it was dropped gets the same from the object, which stays until two
 * checkpoints later (upkeep.c); one that looks afterwards gets it from the source disk.
 */
#include "check.h"
#include "log.h"
#include "step.h"
#include "writeback_impl.h"

#include <inttypes.h>

static const char part[] = "writeback";

static void confirm_run(struct commit_turn *t)
{
    struct writeback *wb = container_of(t, struct writeback, turn);
    struct map_state state = *map_state(wb->conf.map); /* nobody changes it: it is our turn */

    state.applied = wb->confirming;
    wb->turn_status = map_drop(wb->conf.map, state.applied, &state, &wb->change, &wb->turn_why);
}

static void confirm_done(struct commit_turn *t)
{
    struct writeback *wb = container_of(t, struct writeback, turn);
    uint64_t cut = wb->confirming;

    if (wb->turn_status) {
        wb_stage_end(wb);
        wb_failed(wb, "it cannot be noted that a cut is on the source disks", wb->turn_why.text);
        return;
    }
    map_install(wb->conf.map, &wb->change);
    STEP("wb.confirm", "the map has let go of what the source disks hold");
    if (wb->began_ns)
        metric_observe_ns(wb->m.seconds, loop_now_ns(wb->conf.loop) - wb->began_ns);
    wb->began_ns = 0;
    log_info(wb->vm, "the source disks are at record %" PRIu64, cut);
    wb_stage_end(wb);
    wb_applied(wb, cut);
    upkeep_look(wb->conf.upkeep);
    wb_idle(wb);
}

bool wb_can_confirm(const struct writeback *wb)
{
    const struct map_state *here = map_state(wb->conf.map);

    return wb->onprem.applied > here->applied && wb->onprem.applied <= here->committed;
}

void wb_confirm(struct writeback *wb)
{
    if (!wb_can_confirm(wb)) { /* not yet in the store */
        wb_stage_end(wb);
        wb_idle(wb);
        return;
    }
    wb_enter(wb, WB_CONFIRMING);
    wb->confirming = wb->onprem.applied;
    wb->turn = (struct commit_turn){.run = confirm_run, .done = confirm_done};
    commit_take_turn(wb->conf.commit, &wb->turn);
}
