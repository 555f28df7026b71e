/* control/failback.c - see failback.h. A timer looks at what is so now; nothing tells it.
 */
#include "failback.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "metric.h"
#include "vms_pair.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/queue.h>

static const char part[] = "failback";

enum { TICK_MS = 500 };
#define REST_MAX_NS (3600 * UINT64_C(1000000000))
/* Somebody waits for it. */
#define ALL_REST_MIN_NS (5 * UINT64_C(1000000000))
#define ALL_REST_MAX_NS (60 * UINT64_C(1000000000))

static const char by_command[] = "it was handed over by command, and stays until an edge is taken in again";

/* What is known of a VM of this edge. */
struct turn {
    TAILQ_ENTRY(turn) entry;
    uint8_t id[VMLOG_ID_BYTES];
    char name[VM_NAME_MAX + 1], prefers[PROTO_NAME_MAX + 1];
    uint64_t preferred; /* the newest task that has said what it prefers */
    bool due;           /* else it stays, because: why */
    bool seen, found;   /* in this look; for the first time */
    uint64_t next_ns;   /* was refused (why): not before */
    uint64_t rest_ns;   /* after the next refusal */
    struct why why;
};

struct failback {
    struct failback_conf conf;
    TAILQ_HEAD(, turn) turns;
    struct timer timer;
    uint64_t epoch;                /* of the record since when both have been members */
    uint64_t calm_ns;              /* since then all is calm; 0: it is not */
    struct why stir;               /* what is not */
    bool asking;                   /* a task was asked for, and is not there yet */
    uint64_t task;                 /* under way; 0: none */
    uint8_t moves[VMLOG_ID_BYTES]; /* asking, or task: of this VM */
    char vm[VM_NAME_MAX + 1];
    bool all;      /* every VM of this edge goes */
    unsigned left; /* all: VMs that have not gone */
    unsigned away; /* VMs of this edge that prefer the other */
    struct metric *m_away, *m_done, *m_refused;
};

static struct turn *turn_of(const struct failback *f, const uint8_t id[VMLOG_ID_BYTES])
{
    struct turn *t;

    TAILQ_FOREACH (t, &f->turns, entry)
        if (memcmp(t->id, id, sizeof t->id) == 0)
            break;
    return t;
}

static uint64_t now_ns(const struct failback *f)
{
    return loop_now_ns(f->conf.main);
}

/* --- what is so now -------------------------------------------------------------------------------------*/

static uint64_t first_rest(const struct failback *f)
{
    return f->all ? ALL_REST_MIN_NS : f->conf.after_ns;
}

static void make_due(struct failback *f, struct turn *t)
{
    t->due = true;
    t->next_ns = 0;
    t->rest_ns = first_rest(f);
    t->why.text[0] = '\0';
}

/* One that is new here was made here, or somebody has handed it over. */
static void look_at_vm(void *arg, struct vm *vm)
{
    struct failback *f = arg;
    struct turn *t = turn_of(f, vm->spec.id);
    struct pair_status s;

    if (!t) {
        t = xcalloc(1, sizeof *t);
        memcpy(t->id, vm->spec.id, sizeof t->id);
        memcpy(t->name, vm->spec.name, sizeof t->name);
        memcpy(t->prefers, vm->spec.prefers, sizeof t->prefers);
        make_due(f, t);
        t->found = true;
        t->due = vm->spec.epoch == 0;
        if (!t->due)
            why_set(&t->why, 0, "%s", by_command);
        TAILQ_INSERT_TAIL(&f->turns, t, entry);
    } else if (strcmp(t->prefers, vm->spec.prefers) != 0) {
        memcpy(t->prefers, vm->spec.prefers, sizeof t->prefers);
        make_due(f, t);
    }
    t->seen = true;
    if (!vm->spec.home && !atomic_load(&vm->fenced))
        f->left++;
    if (vms_pair_status(f->conf.vms, &s) && strcmp(vm->spec.prefers, s.other) == 0 &&
        !atomic_load(&vm->fenced))
        f->away++;
}

/* What it prefers may have changed and changed back since the last look: somebody has wanted each. */
static void look_at_preference(void *arg, const struct tasks_info *info)
{
    struct failback *f = arg;
    struct turn *t;

    if (info->ask.kind != VERB_PREFER || info->state != TASK_DONE)
        return;
    TAILQ_FOREACH (t, &f->turns, entry)
        if (strcmp(t->name, info->ask.vm) == 0)
            break;
    if (!t || info->id <= t->preferred)
        return;
    t->preferred = info->id;
    if (!t->found)
        make_due(f, t);
}

static void look_at_vms(struct failback *f)
{
    struct turn *t, *next;

    TAILQ_FOREACH (t, &f->turns, entry)
        t->seen = t->found = false;
    f->away = f->left = 0;
    vms_each(f->conf.vms, look_at_vm, f);
    for (t = TAILQ_FIRST(&f->turns); t; t = next) {
        next = TAILQ_NEXT(t, entry);
        if (t->seen)
            continue;
        TAILQ_REMOVE(&f->turns, t, entry);
        free(t);
    }
    tasks_each(f->conf.tasks, look_at_preference, f);
    metric_set(f->m_away, f->away);
}

/* Without the other edge this one goes on with all that it has. */
static void look_at_all(struct failback *f)
{
    struct pair_status s;

    if (!f->all || (vms_pair_status(f->conf.vms, &s) && s.role == PAIR_BOTH))
        return;
    f->all = false;
    log_warn(NULL, "the fail-over is called off, with %u VM(s) here: %s", f->left, f->stir.text);
}

/* An edge has been taken in: whatever is here that prefers the other edge goes there. */
static void look_at_pair(struct failback *f)
{
    struct pair_status s;
    struct turn *t;

    if (!vms_pair_calm(f->conf.vms, &f->stir)) {
        f->calm_ns = 0;
        look_at_all(f);
        return;
    }
    if (!f->calm_ns)
        f->calm_ns = now_ns(f);
    if (!vms_pair_status(f->conf.vms, &s) || s.epoch == f->epoch)
        return;
    f->epoch = s.epoch;
    f->calm_ns = now_ns(f);
    TAILQ_FOREACH (t, &f->turns, entry)
        make_due(f, t);
}

/* --- one goes -------------------------------------------------------------------------------------------*/

static void refused(struct failback *f, const char *sentence)
{
    struct turn *t = turn_of(f, f->moves);
    uint64_t most = f->all ? ALL_REST_MAX_NS : REST_MAX_NS;

    metric_add(f->m_refused, 1);
    if (!t)
        return;
    t->next_ns = now_ns(f) + t->rest_ns;
    log_warn(f->vm, "it stays here for now, and is handed over again in %" PRIu64 " s: %s",
             t->rest_ns / 1000000000, sentence);
    t->rest_ns = t->rest_ns * 2 < most ? t->rest_ns * 2 : most;
    why_set(&t->why, 0, "%s", sentence);
}

static void look_at_task(struct failback *f)
{
    struct tasks_info info;
    struct turn *t = turn_of(f, f->moves);

    if (!f->task)
        return;
    if (!tasks_get(f->conf.tasks, f->task, &info))
        refused(f, "its task is not known any more");
    else if (info.state == TASK_DONE)
        metric_add(f->m_done, 1);
    else if (info.state == TASK_FAILED)
        refused(f, info.text.text);
    else if (info.state != TASK_CANCELLED)
        return;
    else if (f->all)
        refused(f, "its task was cancelled");
    else if (t) {
        t->due = false;
        why_set(&t->why, 0, "task %" PRIu64 " was cancelled: it stays until an edge is taken in again",
                f->task);
    }
    f->task = 0;
}

static void on_asked(void *arg, uint64_t id, int status, const struct why *why)
{
    struct failback *f = arg;

    f->asking = false;
    f->task = id;
    if (status)
        refused(f, why->text);
}

static void give(struct failback *f, const struct vm *vm)
{
    struct vm_verb_ask ask = {.kind = VERB_HAND_OVER};

    memcpy(f->moves, vm->spec.id, sizeof f->moves);
    memcpy(f->vm, vm->spec.name, sizeof f->vm);
    memcpy(ask.vm, vm->spec.name, sizeof ask.vm);
    if (f->all)
        log_info(f->vm, "it is handed over, as are all");
    else
        log_info(f->vm, "it is handed to %s, which it prefers", vm->spec.prefers);
    f->asking = true;
    tasks_start(f->conf.tasks, &ask, on_asked, f);
}

static void is_hand_over(void *arg, const struct tasks_info *t)
{
    bool *found = arg;

    *found = *found || (t->ask.kind == VERB_HAND_OVER && t->state < TASK_DONE);
}

struct search {
    const struct failback *f;
    const char *other;
    struct vm *found;
};

static void is_next(void *arg, struct vm *vm)
{
    struct search *s = arg;
    const struct turn *t = turn_of(s->f, vm->spec.id);

    if (s->found || !t || t->next_ns > now_ns(s->f) || vm->spec.home || atomic_load(&vm->fenced))
        return;
    if (s->f->all || (t->due && strcmp(vm->spec.prefers, s->other) == 0))
        s->found = vm;
}

static void look_for_next(struct failback *f)
{
    struct search search = {.f = f};
    struct pair_status s;
    bool busy = false;

    if (f->asking || f->task || !f->calm_ns || !vms_pair_status(f->conf.vms, &s))
        return;
    if (!f->all && (!f->conf.on || !f->away || now_ns(f) - f->calm_ns < f->conf.after_ns))
        return;
    tasks_each(f->conf.tasks, is_hand_over, &busy);
    if (busy)
        return;
    search.other = s.other;
    vms_each(f->conf.vms, is_next, &search);
    if (search.found)
        give(f, search.found);
}

static void on_timer(struct timer *timer)
{
    struct failback *f = container_of(timer, struct failback, timer);

    timer_set_ms(timer, TICK_MS);
    look_at_task(f);
    look_at_vms(f);
    look_at_pair(f);
    look_for_next(f);
}

/* --- all go ---------------------------------------------------------------------------------------------*/

int failback_give_all(struct failback *f, bool all, struct why *why)
{
    struct turn *t;

    if (all && !vms_pair_whole(f->conf.vms, why))
        return -EAGAIN;
    if (all == f->all)
        return 0;
    f->all = all;
    look_at_vms(f);
    TAILQ_FOREACH (t, &f->turns, entry) {
        t->next_ns = 0;
        t->rest_ns = first_rest(f);
    }
    log_info(NULL,
             all ? "fail-over: the %u VM(s) that are here go to the other edge"
                 : "the fail-over is called off, with %u VM(s) here",
             f->left);
    return 0;
}

bool failback_gives_all(const struct failback *f, unsigned *left)
{
    *left = f->left;
    return f->all;
}

/* --- why ------------------------------------------------------------------------------------------------*/

static void why_tried(const struct turn *t, uint64_t now, struct why *why)
{
    why_set(why, 0, "it is tried again in %" PRIu64 " s: %.300s", (t->next_ns - now) / 1000000000 + 1,
            t->why.text);
}

static void why_here(const struct failback *f, const struct vm *vm, struct why *why)
{
    const struct turn *t = turn_of(f, vm->spec.id);
    uint64_t now = now_ns(f), calm = f->calm_ns ? f->calm_ns + f->conf.after_ns : 0;

    if (vm->spec.home)
        why_set(why, 0, "it runs on-prem");
    else if (f->task && memcmp(f->moves, vm->spec.id, sizeof f->moves) == 0)
        why_set(why, 0, "it is being handed over: task %" PRIu64, f->task);
    else if (f->all && t && t->next_ns > now)
        why_tried(t, now, why);
    else if (f->all)
        why_set(why, 0, "it waits for its turn: all VMs of this edge are handed over");
    else if (!f->conf.on)
        why_set(why, 0, "failback is off here");
    else if (!calm)
        why_set(why, 0, "%s", *f->stir.text ? f->stir.text : "the pair is not whole");
    else if (t && !t->due)
        *why = t->why;
    else if (calm > now)
        why_set(why, 0, "it goes there when all has been calm for %" PRIu64 " s more",
                (calm - now) / 1000000000 + 1);
    else if (t && t->next_ns > now)
        why_tried(t, now, why);
    else
        why_set(why, 0, "it waits for its turn");
}

void failback_why(const struct failback *f, const struct vm *vm, struct why *why)
{
    const char *prefers = vm->spec.prefers;
    struct pair_status s;
    bool here = !vm->far && !atomic_load(&vm->fenced);

    why->text[0] = '\0';
    if (!vms_pair_status(f->conf.vms, &s))
        return;
    if (here && f->all) {
        why_here(f, vm, why);
        return;
    }
    if (!*prefers || strcmp(prefers, here ? s.self : s.other) == 0)
        return;
    if (strcmp(prefers, s.self) != 0 && strcmp(prefers, s.other) != 0)
        why_set(why, 0, "%s is no edge of this pair", prefers);
    else if (here)
        why_here(f, vm, why);
    else
        why_set(why, 0, "%s says why", s.other);
}

/* --- life -----------------------------------------------------------------------------------------------*/

struct failback *failback_new(const struct failback_conf *conf)
{
    static const char tried[] = "isthmus_failback_total";
    static const char tried_help[] = "VMs that were handed to the edge which they prefer, or were to be.";
    struct failback *f = xcalloc(1, sizeof *f);

    f->conf = *conf;
    TAILQ_INIT(&f->turns);
    f->m_away = metric_new(METRIC_GAUGE, "isthmus_failback_away",
                           "VMs of this edge that prefer the other edge of the pair.", "%s", "");
    f->m_done = metric_new(METRIC_COUNTER, tried, tried_help, "result=\"done\"");
    f->m_refused = metric_new(METRIC_COUNTER, tried, tried_help, "result=\"refused\"");
    timer_init(&f->timer, conf->main, on_timer);
    timer_set_ms(&f->timer, TICK_MS);
    return f;
}

void failback_stop(struct failback *f)
{
    if (f)
        timer_stop(&f->timer);
}

void failback_free(struct failback **failback)
{
    struct failback *f = *failback;
    struct turn *t;

    *failback = NULL;
    if (!f)
        return;
    while ((t = TAILQ_FIRST(&f->turns))) {
        TAILQ_REMOVE(&f->turns, t, entry);
        free(t);
    }
    timer_free(&f->timer);
    metric_free(&f->m_away);
    metric_free(&f->m_done);
    metric_free(&f->m_refused);
    free(f);
}
