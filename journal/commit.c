/* journal/commit.c - when a cut is committed, and its steps; see commit.h. The objects are in commit_put.c.
 *
 *   idle ─► syncing ─► owning ─► moving ─► closing ─► idle     (the same when it failed, then a pause)
 *     └──► turn ─► idle
 */
#include "check.h"
#include "commit_impl.h"
#include "log.h"
#include "mem.h"
#include "step.h"
#include "vmobj.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char part[] = "commit";

enum { OWNER_TIMEOUT_MS = 30000 };
enum { TICK_MS = 200, REST_MIN_MS = 500, REST_MAX_MS = 15000 };

static void next_step(struct commit *c);

void commit_slots_init(struct commit_slots *s, unsigned objects)
{
    s->free = objects;
    TAILQ_INIT(&s->waiting);
}

/* --- who waits ------------------------------------------------------------------------------------------*/

static void on_wait_over(struct task *t)
{
    struct commit_wait *w = container_of(t, struct commit_wait, in.task);

    w->done(w);
}

static void end_wait(struct commit *c, struct commit_wait *w, int status)
{
    TAILQ_REMOVE(&c->waits, w, in.entry);
    w->in.ended = true;
    w->status = status;
    w->in.task.run = on_wait_over;
    loop_post(c->conf.loop, &w->in.task);
}

static void end_waits(struct commit *c, uint64_t through, int status)
{
    struct commit_wait *w, *next;

    for (w = TAILQ_FIRST(&c->waits); w; w = next) {
        next = TAILQ_NEXT(w, in.entry);
        if (w->in.seq <= through)
            end_wait(c, w, status);
    }
}

void commit_now(struct commit *c, struct commit_wait *w)
{
    commit_through(c, w, vmlog_last(c->conf.log));
}

void commit_through(struct commit *c, struct commit_wait *w, uint64_t seq)
{
    w->in.seq = seq;
    w->in.ended = false;
    TAILQ_INSERT_TAIL(&c->waits, w, in.entry);
    if (c->fenced)
        end_wait(c, w, -ESTALE);
    else if (w->in.seq <= map_state(c->conf.map)->committed)
        end_wait(c, w, 0);
    else if (c->state == COMMIT_IDLE)
        next_step(c);
}

void commit_cancel(struct commit *c, struct commit_wait *w)
{
    if (!w->in.ended)
        end_wait(c, w, -ECANCELED);
}

void commit_set_age(struct commit *c, unsigned age_ms)
{
    CHECK(age_ms);
    c->conf.age_ms = age_ms;
}

uint64_t commit_lag_ns(const struct commit *c)
{
    uint64_t since = cut_pending_since_ns(c->conf.log), now = loop_now_ns(c->conf.loop);

    if (c->state != COMMIT_IDLE && c->state != COMMIT_TURN)
        if (c->cut.oldest_ns && (!since || c->cut.oldest_ns < since))
            since = c->cut.oldest_ns;
    return since && since < now ? now - since : 0;
}

bool commit_failing(const struct commit *c, struct why *why)
{
    if (c->failing && why)
        *why = c->why;
    return c->failing;
}

/* --- turns of others ------------------------------------------------------------------------------------*/

static void turn_run(struct work *w)
{
    struct commit_turn *t = container_of(w, struct commit_turn, in.work);

    t->run(t);
}

static void turn_done(struct work *w)
{
    struct commit_turn *t = container_of(w, struct commit_turn, in.work);
    struct commit *c = t->in.commit;

    t->done(t);
    c->state = COMMIT_IDLE;
    next_step(c);
}

void commit_take_turn(struct commit *c, struct commit_turn *t)
{
    t->in.commit = c;
    t->in.begun = false;
    t->in.work = (struct work){.run = turn_run, .done = turn_done};
    TAILQ_INSERT_TAIL(&c->turns, t, in.entry);
    if (c->state == COMMIT_IDLE)
        next_step(c);
}

bool commit_leave_turn(struct commit *c, struct commit_turn *t)
{
    if (t->in.begun)
        return false;
    TAILQ_REMOVE(&c->turns, t, in.entry);
    return true;
}

/* --- a cut ----------------------------------------------------------------------------------------------*/

static void told_again(struct commit *c)
{
    if (!c->failing)
        return;
    c->failing = false;
    log_info(c->vm, "the object store %s has the log again, up to record %" PRIu64, c->conf.store->name,
             c->cut.seq);
}

/* Put by us now, or by us before a crash. */
static bool is_committed(const struct commit *c)
{
    return !c->failed || (c->again && map_state(c->conf.map)->committed >= c->cut.seq);
}

static void on_closed(struct cut *cut)
{
    struct commit *c = container_of(cut, struct commit, cut);
    bool committed = is_committed(c);

    if (committed) {
        pace_moved(&c->pace, 0, loop_now_ns(c->conf.loop) - c->moved_ns, true);
        STEP("commit.trim", "the index has let go of what was committed");
        metric_observe_ns(c->m_seconds, loop_now_ns(c->conf.loop) - c->began_ns);
        told_again(c);
        c->rest_ms = REST_MIN_MS;
        end_waits(c, c->cut.seq, 0);
        if (c->conf.committed)
            c->conf.committed(c->conf.arg, c->cut.seq);
    }
    c->state = COMMIT_IDLE;
    if (!committed && !c->again) {
        c->rest_until_ns = loop_now_ns(c->conf.loop) + c->rest_ms * UINT64_C(1000000);
        c->rest_ms = c->rest_ms * 2 < REST_MAX_MS ? c->rest_ms * 2 : REST_MAX_MS;
    }
    next_step(c);
}

static void close_cut(struct commit *c)
{
    commit_put_end(c);
    c->state = COMMIT_CLOSING;
    cut_close(&c->cut, is_committed(c), on_closed);
}

void commit_moved(struct commit *c)
{
    CHECK(c->state == COMMIT_MOVING);
    if (c->failed || c->stopping) {
        c->failed = true;
        commit_put_cancel(c);
        if (commit_put_idle(c))
            close_cut(c);
        return;
    }
    commit_put_advance(c);
    if (c->failed)
        commit_moved(c);
    else if (commit_put_complete(c))
        close_cut(c);
}

void commit_fail(struct commit *c, int err, const char *what, const struct why *why)
{
    if (c->failed)
        return;
    c->failed = true;
    if (err == -ECANCELED && c->stopping)
        return;
    metric_add(c->m_failures, 1);
    why_set(&c->why, 0, "%s: %s", what, why && *why->text ? why->text : strerror(-err));
    if (!c->failing)
        log_error(c->vm, "%s; what is written stays in the journal until that works", c->why.text);
    c->failing = true;
}

void commit_fence(struct commit *c, const struct why *why)
{
    c->failed = true;
    c->failing = true;
    c->why = *why;
    c->fenced = true;
    log_error(c->vm, "%s", why->text);
    end_waits(c, UINT64_MAX, -ESTALE);
    c->conf.fenced(c->conf.arg, why);
}

/* Names of objects alone do not tell: those of a cut that is long dead are removed. */
static void judge_owner(struct commit *c, const struct store_req *r)
{
    struct vmobj mine = {.epoch = c->conf.epoch}, found;
    struct why why = r->why;
    int err;

    memcpy(mine.id, c->conf.id, sizeof mine.id);
    memcpy(mine.writer, c->conf.writer, sizeof mine.writer);
    err = vmobj_judge(&c->conf.master, &mine, r->status, c->entry->data, r->len, &found, NULL, &why);
    if (err == -ESTALE)
        commit_fence(c, &why);
    else if (err)
        commit_fail(c, err, "the VM's entry in the object store cannot be read", &why);
    else
        c->named = found.whole > c->conf.floor;
}

static void on_owner(struct store_req *r)
{
    struct commit *c = container_of(r, struct commit, owner);

    c->state = COMMIT_MOVING;
    commit_put_begin(c);
    if (!c->stopping)
        judge_owner(c, r);
    STEP("commit.own", "the VM's entry was read: it is ours");
    buf_unref(&c->entry);
    commit_moved(c);
}

static void on_synced(struct vmlog_flush *f)
{
    struct commit *c = container_of(f, struct commit, flush);

    STEP("commit.sync", "the journal is fsynced up to the cut");
    c->state = COMMIT_OWNING;
    vmobj_name(c->owner_key, c->conf.id);
    c->entry = buf_new(VMOBJ_MAX);
    c->owner = (struct store_req){
        .op = STORE_GET, .timeout_ms = OWNER_TIMEOUT_MS, .done = on_owner, .key = c->owner_key};
    c->owner.get.buf = c->entry->data;
    c->owner.get.cap = VMOBJ_MAX;
    c->owner.get.whole = true;
    store_submit(c->conf.store, &c->owner);
    if (c->stopping)
        store_cancel(&c->owner);
}

static void on_opened(struct cut *cut)
{
    struct commit *c = container_of(cut, struct commit, cut);

    STEP("commit.freeze", "a cut is open");
    c->flush.done = on_synced;
    vmlog_flush(c->conf.log, &c->flush);
}

static void begin(struct commit *c)
{
    c->state = COMMIT_SYNCING;
    c->failed = c->again = false;
    c->began_ns = c->moved_ns = loop_now_ns(c->conf.loop);
    c->moved = 0;
    c->pace.bytes = c->pace.ns = 0;
    c->next = *map_state(c->conf.map);
    cut_open(&c->cut, c->conf.log, on_opened);
}

void commit_took(struct commit *c, uint64_t bytes)
{
    uint64_t now = loop_now_ns(c->conf.loop);

    pace_moved(&c->pace, bytes, now - c->moved_ns, false);
    c->moved_ns = now;
    c->moved += bytes;
}

/* Of a store that fails nobody knows when it takes more: the journal's bound is what counts then. */
static void set_pace(struct commit *c)
{
    uint64_t left = cut_pending_bytes(c->conf.log), pace;

    if (c->state != COMMIT_IDLE && c->state != COMMIT_TURN)
        left = left > c->moved ? left - c->moved : 0;
    pace = c->failing ? 0 : pace_of(&c->pace, left);
    if (c->brake && (!pace || pace > c->brake))
        pace = c->brake;
    vmlog_pace(c->conf.log, pace);
    metric_set(c->m_pace, pace);
}

void commit_brake(struct commit *c, uint64_t bytes_per_second)
{
    c->brake = bytes_per_second;
    set_pace(c);
}

/* --- when -----------------------------------------------------------------------------------------------*/

static bool is_due(const struct commit *c)
{
    uint64_t since = cut_pending_since_ns(c->conf.log);

    if (c->fenced || vmlog_last(c->conf.log) <= map_state(c->conf.map)->committed)
        return false;
    if (loop_now_ns(c->conf.loop) < c->rest_until_ns)
        return false;
    if (!TAILQ_EMPTY(&c->waits) || cut_pending_bytes(c->conf.log) >= c->conf.bytes)
        return true;
    return since && loop_now_ns(c->conf.loop) - since >= (uint64_t)c->conf.age_ms * 1000000;
}

static void on_stopped(struct task *t)
{
    struct commit *c = container_of(t, struct commit, stop_task);
    void (*done)(void *arg) = c->stop_done;
    void *arg = c->stop_arg;
    struct metric **metrics[] = {&c->m_lag,         &c->m_seconds,     &c->m_objects,
                                 &c->m_guest_bytes, &c->m_moved_bytes, &c->m_object_bytes,
                                 &c->m_failures,    &c->m_pending,     &c->m_pace};

    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        metric_free(metrics[i]);
    timer_free(&c->timer);
    commit_move_free(c);
    free(c->scratch);
    free(c->vm);
    explicit_bzero(&c->conf.master, sizeof c->conf.master);
    free(c);
    done(arg);
}

/* Idle: whatever has to be done next. */
static void next_step(struct commit *c)
{
    struct commit_turn *t = TAILQ_FIRST(&c->turns);

    CHECK(c->state == COMMIT_IDLE);
    if (t) {
        TAILQ_REMOVE(&c->turns, t, in.entry);
        t->in.begun = true;
        c->state = COMMIT_TURN;
        loop_work(c->conf.loop, &t->in.work);
    } else if (!c->stopping) {
        if (is_due(c))
            begin(c);
    } else if (!c->stopped) {
        c->stopped = true;
        timer_stop(&c->timer);
        end_waits(c, UINT64_MAX, -ECANCELED);
        c->stop_task.run = on_stopped;
        loop_post(c->conf.loop, &c->stop_task);
    }
}

static void show(const struct commit *c)
{
    metric_set(c->m_lag, commit_lag_ns(c));
    metric_set(c->m_pending, cut_pending_bytes(c->conf.log));
}

static void on_timer(struct timer *t)
{
    struct commit *c = container_of(t, struct commit, timer);

    show(c);
    set_pace(c);
    timer_set_ms(&c->timer, TICK_MS);
    if (c->state == COMMIT_IDLE)
        next_step(c);
}

struct commit *commit_new(const struct commit_conf *conf)
{
    struct commit *c = xcalloc(1, sizeof *c);

    CHECK(conf->age_ms && conf->bytes && conf->fenced && conf->worker);
    c->conf = *conf;
    c->vm = xstrdup(conf->vm);
    c->conf.vm = c->vm;
    if (!c->conf.object_bytes)
        c->conf.object_bytes = 8 << 20;
    TAILQ_INIT(&c->waits);
    TAILQ_INIT(&c->turns);
    c->rest_ms = REST_MIN_MS;
    timer_init(&c->timer, conf->loop, on_timer);
    c->m_lag = metric_new(METRIC_GAUGE, "isthmus_store_lag_seconds",
                          "Age of the oldest write that the object store lacks.", "vm=\"%s\"", c->vm);
    metric_scale(c->m_lag, 1e9);
    c->m_pending = metric_new(METRIC_GAUGE, "isthmus_store_pending_bytes",
                              "What the journal holds of a VM: written and not yet in the object store.",
                              "vm=\"%s\"", c->vm);
    c->m_pace =
        metric_new(METRIC_GAUGE, "isthmus_store_pace_bytes",
                   "Bytes a second that a VM may write, because the store takes no more; 0: all it wants.",
                   "vm=\"%s\"", c->vm);
    c->m_seconds = metric_new(METRIC_HISTOGRAM, "isthmus_commit_seconds",
                              "From opening a cut to its end in the object store.", "vm=\"%s\"", c->vm);
    c->m_objects =
        metric_new(METRIC_COUNTER, "isthmus_commit_objects_total", "Log objects put.", "vm=\"%s\"", c->vm);
    c->m_guest_bytes =
        metric_new(METRIC_COUNTER, "isthmus_commit_guest_bytes_total",
                   "Data of the guest in log objects, before compression.", "vm=\"%s\"", c->vm);
    c->m_moved_bytes =
        metric_new(METRIC_COUNTER, "isthmus_commit_moved_bytes_total",
                   "Data that was moved from mostly dead log objects into new ones, before compression.",
                   "vm=\"%s\"", c->vm);
    c->m_object_bytes = metric_new(METRIC_COUNTER, "isthmus_commit_object_bytes_total", "Log objects' size.",
                                   "vm=\"%s\"", c->vm);
    c->m_failures = metric_new(METRIC_COUNTER, "isthmus_commit_failures_total",
                               "Cuts given up and tried again.", "vm=\"%s\"", c->vm);
    show(c);
    timer_set_ms(&c->timer, TICK_MS);
    return c;
}

void commit_stop(struct commit *c, void (*done)(void *arg), void *arg)
{
    c->stopping = true;
    c->stop_done = done;
    c->stop_arg = arg;
    if (c->state == COMMIT_IDLE)
        next_step(c);
    else if (c->state == COMMIT_OWNING)
        store_cancel(&c->owner);
    else if (c->state == COMMIT_MOVING)
        commit_moved(c);
}
