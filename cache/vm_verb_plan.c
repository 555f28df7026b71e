/* cache/vm_verb_plan.c - the plans of the verbs: which steps, in which order.
 *
 * What holds a crash at any step together: the catalog's entry changes in one step, the final one. Before it
 * a start finds the VM as it was, after it as it will be; the verb is asked for again and does what is left.
 */
#include "vm_verb_impl.h"

#define SHUT                                                                                                 \
    {"asks initiators to log out", verb_shut_run, NULL, NULL},                                               \
    {                                                                                                        \
        "waits for initiators", verb_quiet_run, verb_quiet_poll, NULL                                        \
    }
#define SETTLE                                                                                               \
    {"stops what is on its way to on-prem", verb_settle_run, NULL, NULL},                                    \
    {                                                                                                        \
        "waits for on-prem", verb_settled_poll, verb_settled_poll, NULL                                      \
    }
#define DETACH                                                                                               \
    {                                                                                                        \
        "lets go of the source disks", verb_detach_run, NULL, verb_interrupt                                 \
    }
#define LOOK                                                                                                 \
    {                                                                                                        \
        "looks how far the log has come", verb_look_run, NULL, NULL                                          \
    }
#define CLOSE                                                                                                \
    {                                                                                                        \
        "closes the VM", verb_empty_run, NULL, NULL                                                          \
    }
#define SAVE                                                                                                 \
    {                                                                                                        \
        "notes it in the catalog", verb_save_run, NULL, verb_store_interrupt                                 \
    }
#define FILL                                                                                                 \
    {                                                                                                        \
        "opens the VM", verb_fill_run, NULL, NULL                                                            \
    }
#define LESS                                                                                                 \
    {"stops what shall not be written back", verb_less_run, NULL, NULL},                                     \
    {                                                                                                        \
        "waits for on-prem", verb_persist_poll, verb_persist_poll, NULL                                      \
    }
#define TELL                                                                                                 \
    {                                                                                                        \
        "tells on-prem", verb_tell_run, NULL, NULL                                                           \
    }
#define WIPE                                                                                                 \
    {                                                                                                        \
        "removes what it wrote from the journal", verb_wipe_run, NULL, NULL                                  \
    }
#define SWEEP                                                                                                \
    {                                                                                                        \
        "removes what it wrote from the object store", verb_sweep_run, NULL, verb_store_interrupt            \
    }
#define OPEN                                                                                                 \
    {                                                                                                        \
        "lets initiators in", verb_open_run, NULL, NULL                                                      \
    }

#define STAY                                                                                                 \
    {                                                                                                        \
        "stays on-prem", verb_stay_run, NULL, NULL                                                           \
    }

static const struct verb_plan back_to_the_cloud = {.steps = {FILL, TELL, OPEN}};

static const struct verb_plan stays_home = {
    .steps = {{"opens the VM", verb_refill_run, NULL, NULL}, DETACH, CLOSE, STAY},
};

/* The log begins anew above everything that was ever written, with one number left out: a map whose cut is
 * below the floor has still to be emptied. A new epoch, so that no late object of before counts. Nothing was
 * written since the last time: nothing to do. */
static void throw_away(struct vm_verb *v, struct vm_spec *spec)
{
    if (spec->floor >= v->written) /* more: it has been changed so already, and is saved again */
        return;
    spec->floor = v->written + 1;
    spec->since = spec->floor + 1;
    spec->joined = 0;
    spec->epoch++;
}

static const struct verb_plan discard = {
    .change = throw_away,
    .undo = &back_to_the_cloud,
    .final = 6,
    .steps = {SHUT, SETTLE, LOOK, CLOSE, SAVE, FILL, SWEEP, OPEN},
};

/* It was noted here before a crash: what is left. Nobody was let in before the store had it, too
 * (vms_admit.c). */
static const struct verb_plan discarded = {.final = 0, .steps = {SAVE, SWEEP, OPEN}};

/* What is not on the source disks is not wanted. What is on them must not come over what is written there
 * from now on: whoever knows the log from the store alone does not know that it is. */
static void go_home(struct vm_verb *v, struct vm_spec *spec)
{
    throw_away(v, spec);
    spec->home = true;
}

static const struct verb_plan home_without = {
    .change = go_home,
    .undo = &back_to_the_cloud,
    .final = 7,
    .steps = {SHUT, SETTLE, DETACH, LOOK, CLOSE, SAVE, WIPE, SWEEP},
};

static const struct verb_plan home_with = {
    .change = go_home,
    .undo = &back_to_the_cloud,
    .final = 7,
    .steps = {SHUT,
              {"writes back", verb_commit_run, verb_commit_poll, verb_interrupt},
              {"looks whether on-prem has everything", verb_whole_run, NULL, NULL},
              DETACH,
              LOOK,
              CLOSE,
              SAVE,
              WIPE,
              SWEEP},
};

/* What was asked of the on-prem daemon meanwhile is in v->spec, and by now in the VM's. */
static void come_here(struct vm_verb *v, struct vm_spec *spec)
{
    if (v->ask.storage)
        spec->storage = v->ask.storage;
    spec->paused = false;
    spec->home = false;
}

static const struct verb_plan from_home = {
    .change = come_here,
    .undo = &stays_home,
    .final = 4,
    .steps = {{"asks on-prem how large the disks are", verb_sizes_run, NULL, verb_sizes_interrupt},
              FILL,
              {"asks on-prem to hold the source disks", verb_attach_run, NULL, NULL},
              {"waits for on-prem to hold the source disks", verb_attached_poll, verb_attached_poll, NULL},
              SAVE,
              TELL,
              OPEN},
};

static void change_policy(struct vm_verb *v, struct vm_spec *spec)
{
    if (v->ask.kind == VERB_PAUSE || v->ask.kind == VERB_RESUME)
        spec->paused = v->ask.kind == VERB_PAUSE;
    else if (v->ask.storage)
        spec->storage = v->ask.storage;
}

static const struct verb_plan as_it_was = {.steps = {TELL}};

static const struct verb_plan policy = {
    .change = change_policy,
    .undo = &as_it_was,
    .final = 2,
    .steps = {LESS, SAVE, TELL},
};

/* A run-in-cloud of a VM that is here. */
static const struct verb_plan already_here = {
    .change = change_policy,
    .undo = &as_it_was,
    .final = 2,
    .steps = {LESS, SAVE, TELL, OPEN},
};

/* One that a crash ended after its final step; */
static const struct verb_plan came_here = {.final = 0, .steps = {SAVE, TELL, OPEN}};

/* and the same of a run-on-prem. */
static const struct verb_plan already_home = {.final = 0, .steps = {SAVE, WIPE, SWEEP}};

static const struct verb_plan closes_again = {.steps = {CLOSE, STAY}};

/* Of a VM that is home: an edge that was lost in the midst of a run-in-cloud may have left on-prem with its
 * disks. */
static const struct verb_plan home_again = {
    .undo = &closes_again,
    .final = 2,
    .steps = {FILL, DETACH, CLOSE, STAY},
};

static const struct verb_plan flush = {
    .final = 1,
    .steps = {{"writes what the object store lacks", verb_flush_run, verb_flush_poll, verb_interrupt}},
};

static const struct verb_plan commit = {
    .final = 1,
    .steps = {{"writes back", verb_commit_run, verb_commit_poll, verb_interrupt}},
};

static const struct verb_plan clear_alarm = {
    .final = 1,
    .steps = {{"asks on-prem to go on", verb_clear_run, NULL, verb_interrupt}},
};

static const struct verb_plan stays_here = {
    .steps = {{"goes on here", verb_hand_stay_run, NULL, NULL}},
};

static const struct verb_plan hand_over = {
    .undo = &stays_here,
    .final = 7,
    .steps = {{"waits for a checkpoint that is being made", verb_pause_run, NULL, verb_pause_interrupt},
              {"writes what the object store lacks", verb_flush_run, verb_flush_poll, verb_cut_interrupt},
              {"lets the other edge read what it is", verb_prepare_run, NULL, verb_prepare_interrupt},
              {"notes that it is handed over", verb_note_run, NULL, verb_store_interrupt},
              {"writes what came since", verb_closer_run, NULL, verb_cut_interrupt},
              {"makes its commands wait", verb_still_run, verb_still_poll, NULL},
              {"writes the rest", verb_rest_run, verb_rest_poll, NULL},
              {"hands it over", verb_over_run, verb_over_poll, verb_over_interrupt}},
};

static void prefer_another(struct vm_verb *v, struct vm_spec *spec)
{
    memcpy(spec->prefers, v->ask.prefers, sizeof spec->prefers);
}

static const struct verb_plan prefer = {
    .change = prefer_another,
    .final = 0,
    .steps = {SAVE, {"tells the other edge", verb_told_run, NULL, NULL}},
};

/* Its final step was done before a crash. What was written since is not its business. */
static bool done_before(const struct vm *vm, const struct vm_verb_ask *ask)
{
    return ask->task && vm->spec.task == ask->task;
}

const struct verb_plan *vm_verb_plan(const struct vm *vm, const struct vm_verb_ask *ask)
{
    switch (ask->kind) {
    case VERB_RUN_IN_CLOUD:
        if (vm->spec.home)
            return &from_home;
        return done_before(vm, ask) ? &came_here : &already_here;
    case VERB_RUN_ON_PREM:
        if (vm->spec.home)
            return done_before(vm, ask) ? &already_home : &home_again;
        return ask->discard ? &home_without : &home_with;
    case VERB_DISCARD:
        return done_before(vm, ask) ? &discarded : &discard;
    case VERB_FLUSH:
        return &flush;
    case VERB_COMMIT:
        return &commit;
    case VERB_CLEAR_ALARM:
        return &clear_alarm;
    case VERB_HAND_OVER:
        return &hand_over;
    case VERB_PREFER:
        return &prefer;
    case VERB_STORAGE:
    case VERB_PAUSE:
    case VERB_RESUME:
        return &policy;
    case VERB_KINDS:
        break;
    }
    return NULL;
}
