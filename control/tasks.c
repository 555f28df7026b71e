/* control/tasks.c - see tasks.h.
 *
 *   asked ─► written down ─► its verb works ─► ended ─► written down ─► ... ─► forgotten
 *
 * One record is written at a time, so that two of one task cannot pass each other.
 */
#include "tasks_impl.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "step.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>

static const char part[] = "tasks";

enum { TICK_MS = 1000 };

/* Who waits for a task to be written down, or to be told no. */
struct asking {
    struct task task;
    void (*done)(void *arg, uint64_t id, int status, const struct why *);
    void *arg;
    uint64_t id;
    int status;
    struct why why;
};

struct entry {
    TAILQ_ENTRY(entry) link; /* by id */
    struct tasks *tasks;
    struct tasks_info info;
    struct vm_verb *verb;  /* while it works */
    struct asking *asking; /* until it is written down for the first time */
    bool dirty, gone;
    uint64_t seen_bytes; /* done, a tick ago */
    double rate;         /* bytes per second, smoothed */
};

struct tasks {
    struct tasks_conf conf;
    TAILQ_HEAD(entries_head, entry) entries;
    uint64_t next_id;
    struct timer timer;
    struct entry *saving; /* being written or removed */
    char *json;
    struct work work;
    int status;
    struct why why;
    struct task end;
    void (*closed)(void *arg);
    void *closed_arg;
};

static bool has_ended(const struct entry *e)
{
    return e->info.state >= TASK_DONE;
}

static uint64_t now_s(void)
{
    return (uint64_t)time(NULL); /* for people only */
}

/* --- answers --------------------------------------------------------------------------------------------*/

static void on_answer(struct task *t)
{
    struct asking *a = container_of(t, struct asking, task);

    a->done(a->arg, a->status ? 0 : a->id, a->status, &a->why);
    free(a);
}

static void answer(struct tasks *ts, struct asking *a, uint64_t id, int status)
{
    a->id = id;
    a->status = status;
    a->task.run = on_answer;
    loop_post(ts->conf.main, &a->task);
}

/* --- records --------------------------------------------------------------------------------------------*/

static void save_next(struct tasks *ts);
static void begin(struct entry *e);
static void end_close(struct tasks *ts);

static void entry_free(struct entry *e)
{
    TAILQ_REMOVE(&e->tasks->entries, e, link);
    free(e);
}

/* The oldest of those that ended are forgotten. */
static void forget_some(struct tasks *ts)
{
    struct entry *e;
    unsigned ended = 0;

    TAILQ_FOREACH_REVERSE(e, &ts->entries, entries_head, link)
    if (has_ended(e) && ++ended > TASKS_KEPT)
        e->gone = true;
}

static void save(struct work *w)
{
    struct tasks *ts = container_of(w, struct tasks, work);
    char key[TASKS_KEY_MAX];

    tasks_key(ts->saving->info.id, key);
    ts->status = ts->json ? journal_meta_put(ts->conf.journal, key, ts->json, strlen(ts->json), &ts->why)
                          : journal_meta_delete(ts->conf.journal, key, &ts->why);
    STEP("task.note", "a task is written down as it is now, or forgotten");
}

static void not_saved(struct entry *e)
{
    struct tasks *ts = e->tasks;

    log_error(e->info.ask.vm, "task %" PRIu64 " cannot be written down: %s", e->info.id, ts->why.text);
    if (e->asking) { /* nothing has begun */
        e->asking->why = ts->why;
        answer(ts, e->asking, 0, -EIO);
        entry_free(e);
    } else {
        e->dirty = true; /* the timer tries again */
    }
}

static void saved(struct work *w)
{
    struct tasks *ts = container_of(w, struct tasks, work);
    struct entry *e = ts->saving;
    bool removed = !ts->json;

    free(ts->json);
    ts->json = NULL;
    ts->saving = NULL;
    if (ts->status) {
        not_saved(e);
        if (ts->closed) /* what is not written down is asked for again at the next start: verbs may be */
            end_close(ts);
        return;
    }
    if (removed) {
        entry_free(e);
    } else if (e->asking) {
        answer(ts, e->asking, e->info.id, 0);
        e->asking = NULL;
        if (!ts->closed)
            begin(e);
    }
    save_next(ts);
}

static void on_end(struct task *t)
{
    struct tasks *ts = container_of(t, struct tasks, end);
    struct entry *e;
    void (*closed)(void *arg) = ts->closed;
    void *arg = ts->closed_arg;

    while ((e = TAILQ_FIRST(&ts->entries)))
        entry_free(e);
    timer_free(&ts->timer);
    free(ts);
    closed(arg);
}

static void end_close(struct tasks *ts)
{
    ts->end.run = on_end;
    loop_post(ts->conf.main, &ts->end);
}

static void save_next(struct tasks *ts)
{
    struct entry *e;

    if (ts->saving)
        return;
    TAILQ_FOREACH (e, &ts->entries, link)
        if (e->dirty || e->gone)
            break;
    if (!e) {
        if (ts->closed)
            end_close(ts);
        return;
    }
    ts->saving = e;
    ts->json = e->gone ? NULL : tasks_to_json(&e->info);
    e->dirty = false;
    ts->work = (struct work){.run = save, .done = saved};
    loop_work(ts->conf.main, &ts->work);
}

/* --- verbs ----------------------------------------------------------------------------------------------*/

static void look(struct entry *e)
{
    struct vm_verb_report r;

    if (!e->verb)
        return;
    vm_verb_report(e->verb, &r);
    e->info.state = r.waiting ? TASK_WAITING : TASK_RUNNING;
    e->info.text = r.text;
    e->info.bytes = r.bytes;
    e->info.bytes_done = r.bytes_done;
}

static void on_done(void *arg, int status, const struct why *why)
{
    struct entry *e = arg;
    struct tasks_info *t = &e->info;

    look(e);
    e->verb = NULL;
    t->eta_s = -1;
    if (status == -ESHUTDOWN)
        return; /* goes on at the next start */
    t->ended_s = now_s();
    t->text.text[0] = '\0';
    t->state = status == 0 ? TASK_DONE : status == -ECANCELED ? TASK_CANCELLED : TASK_FAILED;
    if (t->state == TASK_FAILED) {
        t->text = *why;
        log_error(t->ask.vm, "task %" PRIu64 ", %s, failed: %s", t->id, vm_verb_name(t->ask.kind), why->text);
    } else {
        log_info(t->ask.vm, "task %" PRIu64 ", %s, is %s", t->id, vm_verb_name(t->ask.kind),
                 tasks_state_name(t->state));
    }
    e->dirty = true;
    forget_some(e->tasks);
    save_next(e->tasks);
}

static void begin(struct entry *e)
{
    log_info(e->info.ask.vm, "task %" PRIu64 ": %s", e->info.id, vm_verb_name(e->info.ask.kind));
    e->verb = vm_verb_start(e->tasks->conf.vms, &e->info.ask, on_done, e);
}

static void reckon(struct entry *e)
{
    struct tasks_info *t = &e->info;

    look(e);
    if (!t->bytes || t->bytes_done < e->seen_bytes) {
        e->rate = 0;
    } else {
        double now = (double)(t->bytes_done - e->seen_bytes) * 1000 / TICK_MS;

        e->rate = e->rate > 0 ? e->rate * 0.8 + now * 0.2 : now;
    }
    e->seen_bytes = t->bytes_done;
    t->eta_s = -1;
    if (e->rate >= 1 && t->bytes >= t->bytes_done)
        t->eta_s = (int64_t)((double)(t->bytes - t->bytes_done) / e->rate);
}

static void on_timer(struct timer *timer)
{
    struct tasks *ts = container_of(timer, struct tasks, timer);
    struct entry *e;

    TAILQ_FOREACH (e, &ts->entries, link)
        if (e->verb)
            reckon(e);
    timer_set_ms(timer, TICK_MS);
    save_next(ts);
}

/* --- asked for ------------------------------------------------------------------------------------------*/

static struct entry *entry_new(struct tasks *ts, const struct tasks_info *info)
{
    struct entry *e = xcalloc(1, sizeof *e);

    e->tasks = ts;
    e->info = *info;
    e->info.eta_s = -1;
    TAILQ_INSERT_TAIL(&ts->entries, e, link);
    return e;
}

static struct entry *at_work(const struct tasks *ts, const char *vm)
{
    struct entry *e;

    TAILQ_FOREACH (e, &ts->entries, link)
        if (!has_ended(e) && strcmp(e->info.ask.vm, vm) == 0)
            return e;
    return NULL;
}

static bool is_again(const struct vm_verb_ask *old, const struct vm_verb_ask *now)
{
    return old->kind == now->kind && old->storage == now->storage && old->commit == now->commit &&
           old->discard == now->discard && strcmp(old->prefers, now->prefers) == 0;
}

static void add_force(struct entry *e)
{
    e->info.ask.force = true;
    e->dirty = true;
    if (e->verb)
        vm_verb_force(e->verb);
    save_next(e->tasks);
}

void tasks_start(struct tasks *ts, const struct vm_verb_ask *ask,
                 void (*done)(void *arg, uint64_t id, int status, const struct why *), void *arg)
{
    struct tasks_info info = {.id = ts->next_id, .ask = *ask, .started_s = now_s()};
    struct asking *a = xcalloc(1, sizeof *a);
    struct entry *e = at_work(ts, ask->vm);
    int err;

    a->done = done;
    a->arg = arg;
    if (e && is_again(&e->info.ask, ask)) {
        if (ask->force && !e->info.ask.force)
            add_force(e);
        answer(ts, a, e->info.id, 0);
        return;
    }
    if (e)
        err = why_set(&a->why, -EBUSY, "task %" PRIu64 " (%s) works on VM %s: cancel it or wait for its end",
                      e->info.id, vm_verb_name(e->info.ask.kind), ask->vm);
    else
        err = vm_verb_check(ts->conf.vms, ask, &a->why);
    if (err) {
        answer(ts, a, 0, err);
        return;
    }
    info.ask.task = ts->next_id++;
    why_set(&info.text, 0, "begins");
    e = entry_new(ts, &info);
    e->asking = a;
    e->dirty = true;
    save_next(ts);
}

static struct entry *find(const struct tasks *ts, uint64_t id)
{
    struct entry *e;

    TAILQ_FOREACH (e, &ts->entries, link)
        if (e->info.id == id && !e->gone)
            return e;
    return NULL;
}

int tasks_cancel(struct tasks *ts, uint64_t id, struct why *why)
{
    struct entry *e = find(ts, id);

    if (!e)
        return why_set(why, -ENOENT, "there is no task %" PRIu64, id);
    if (has_ended(e))
        return why_set(why, -EALREADY, "task %" PRIu64 " has ended: it is %s", id,
                       tasks_state_name(e->info.state));
    if (!e->verb)
        return why_set(why, -EBUSY, "task %" PRIu64 " is just beginning", id);
    return vm_verb_cancel(e->verb, why);
}

bool tasks_get(const struct tasks *ts, uint64_t id, struct tasks_info *info)
{
    struct entry *e = find(ts, id);

    if (!e)
        return false;
    look(e);
    *info = e->info;
    return true;
}

void tasks_each(const struct tasks *ts, void (*each)(void *arg, const struct tasks_info *), void *arg)
{
    struct entry *e;

    TAILQ_FOREACH_REVERSE(e, &ts->entries, entries_head, link)
    if (!e->gone) {
        look(e);
        each(arg, &e->info);
    }
}

/* --- start and end --------------------------------------------------------------------------------------*/

struct opening {
    struct tasks *tasks;
    struct why *why;
};

static int open_one(void *arg, const char *key, const void *value, size_t n)
{
    struct opening *o = arg;
    struct tasks_info info;
    int err = tasks_from_json(value, n, &info, o->why);

    (void)key;
    if (err)
        return err;
    if (info.id >= o->tasks->next_id)
        o->tasks->next_id = info.id + 1;
    entry_new(o->tasks, &info);
    return 0;
}

int tasks_open(struct tasks **out, const struct tasks_conf *conf, struct why *why)
{
    struct tasks *ts = xcalloc(1, sizeof *ts);
    struct opening o = {ts, why};
    struct entry *e;
    int err;

    ts->conf = *conf;
    ts->next_id = 1;
    TAILQ_INIT(&ts->entries);
    timer_init(&ts->timer, conf->main, on_timer);
    err = journal_meta_each(conf->journal, "task/", open_one, &o, why);
    *out = ts;
    if (err)
        return err;
    TAILQ_FOREACH (e, &ts->entries, link)
        if (!has_ended(e)) {
            e->info.ask.again = true;
            begin(e);
        }
    timer_set_ms(&ts->timer, TICK_MS);
    return 0;
}

void tasks_close(struct tasks *ts, void (*done)(void *arg), void *arg)
{
    ts->closed = done;
    ts->closed_arg = arg;
    timer_stop(&ts->timer);
    save_next(ts);
}
