/* journal/writeback.c - when a VM is written back, and what on-prem and the operator say; see writeback.h.
 *
 *   idle ─► asking ─► idle                         (writeback_ask.c, as are detaching and clearing)
 *    │└─► detaching, clearing ─► idle
 *    └──► committing ─► ... ─► confirming ─► idle    (writeback_stage.c, writeback_confirm.c)
 *
 * Whatever fails ends in idle, a pause, and asking: what on-prem answers decides, not what was under way.
 */
#include "check.h"
#include "cut.h"
#include "log.h"
#include "mem.h"
#include "writeback_impl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "writeback";

enum { TICK_MS = 200, REST_MIN_MS = 500, REST_MAX_MS = 30000, ASK_MS = 15000, OUTAGE_MS = 600000 };

static void next_step(struct writeback *wb);

/* --- what is wrong --------------------------------------------------------------------------------------*/

void wb_alarm(struct writeback *wb, const char *format, ...)
{
    struct why why;
    va_list args;

    va_start(args, format);
    vsnprintf(why.text, sizeof why.text, format, args);
    va_end(args);
    if (!wb->alarm || strcmp(why.text, wb->why.text) != 0)
        log_error(wb->vm, "ALARM: %s: nothing is written back", why.text);
    wb->why = why;
    wb->alarm = true;
    wb_end_waits(wb, &wb->waits, UINT64_MAX, -EBUSY, &wb->why);
    wb_metrics_show(wb);
}

void wb_no_alarm(struct writeback *wb)
{
    if (!wb->alarm || wb->damaged)
        return;
    log_info(wb->vm, "the alarm is over: write-back goes on");
    wb->alarm = false;
    wb->why = (struct why){""};
}

/* Another edge has the VM: this one has nothing to say any more. */
void wb_lost(struct writeback *wb, const char *why)
{
    wb->lost = true;
    wb_alarm(wb, "%s", why);
    wb_end_waits(wb, &wb->detaches, UINT64_MAX, -EBUSY, &wb->why);
    wb_end_waits(wb, &wb->clears, UINT64_MAX, -EBUSY, &wb->why);
}

void wb_failed(struct writeback *wb, const char *what, const char *why)
{
    struct why text;

    metric_add(wb->m.retries, 1);
    why_set(&text, 0, "%s: %s", what, why);
    if (!wb->alarm) {
        if (strcmp(text.text, wb->why.text) != 0)
            log_warn(wb->vm, "%s; it is tried again", text.text);
        wb->why = text;
    }
    wb->rest_until_ns = loop_now_ns(wb->conf.loop) + wb->rest_ms * UINT64_C(1000000);
    wb->rest_ms = wb->rest_ms * 2 < REST_MAX_MS ? wb->rest_ms * 2 : REST_MAX_MS;
    wb->must_ask = true;
    wb_idle(wb);
}

/* --- the step, and its call -----------------------------------------------------------------------------*/

void wb_enter(struct writeback *wb, enum wb_step step)
{
    wb->step = step;
}

void wb_idle(struct writeback *wb)
{
    wb->step = WB_IDLE;
    if (wb->giving_up)
        wb->must_ask = true;
    wb->giving_up = false;
    next_step(wb);
}

static void give_up(struct writeback *wb)
{
    if (wb->step == WB_IDLE || wb->giving_up)
        return;
    wb->giving_up = true;
    wb_stage_give_up(wb);
}

struct wb_head wb_head_of(const struct writeback *wb)
{
    struct wb_head head = {.epoch = wb->conf.epoch, .target = wb->target};

    memcpy(head.vm, wb->conf.id, sizeof head.vm);
    return head;
}

static void on_answer(struct far_call *f)
{
    struct writeback *wb = container_of(f, struct writeback, call);

    buf_unref(&f->call.body);
    if (wb->giving_up) {
        buf_unref(&f->call.reply);
        wb_stage_end(wb);
        wb_idle(wb);
        return;
    }
    wb->answered(wb);
}

void wb_call(struct writeback *wb, enum proto_type type, enum link_class class, struct buf *body,
             void (*answered)(struct writeback *))
{
    wb->answered = answered;
    wb->call = (struct far_call){.call = {.type = (uint8_t)type, .class = class, .body = body},
                                 .home = wb->conf.loop,
                                 .away = wb->conf.link_loop,
                                 .peer = wb->conf.peer,
                                 .done = on_answer};
    far_call(&wb->call);
}

/* Keeps what a call says of on-prem's state; *status is its status, or -EBADMSG. */
bool wb_take(struct writeback *wb, struct link_call *call)
{
    struct wb_state state;

    if (call->status == 0) {
        if (wb_get_state(call->reply->data, call->reply->len, &state) < 0 ||
            memcmp(state.vm, wb->conf.id, sizeof state.vm) != 0)
            call->status = why_set(&call->why, -EBADMSG, "its answer is none");
        else
            wb->onprem = state;
    }
    buf_unref(&call->reply);
    return call->status == 0;
}

bool wb_take_state(struct writeback *wb)
{
    return wb_take(wb, &wb->call.call);
}

/* --- when -----------------------------------------------------------------------------------------------*/

void wb_applied(struct writeback *wb, uint64_t cut)
{
    wb->since_ns = wb->next_since_ns;
    wb->next_since_ns = 0;
    wb->overdue = false;
    wb->rest_ms = REST_MIN_MS;
    wb->why = (struct why){""};
    wb_end_waits(wb, &wb->waits, cut, 0, NULL);
    wb_metrics_show(wb);
    if (wb->conf.applied)
        wb->conf.applied(wb->conf.arg, cut);
}

static bool is_due(const struct writeback *wb)
{
    uint64_t live, objects;
    unsigned n;

    if ((wb->alarm && !wb->damaged) || !wb->attached || !wb->listed || !peer_up(wb->conf.peer))
        return false;
    if (!TAILQ_EMPTY(&wb->waits))
        return true;
    if (wb->conf.policy != WB_WRITE_BACK || wb->conf.paused ||
        vmlog_last(wb->conf.log) <= map_state(wb->conf.map)->applied)
        return false;
    map_sums(wb->conf.map, &live, &objects, &n);
    return wb->overdue || live >= wb->conf.bytes ||
           wb_unapplied_ns(wb) >= wb_begin_age_ns(wb->conf.interval_ms, wb->takes_ns);
}

/* When something changed, and once in a while: it may have an alarm. */
static bool must_ask(const struct writeback *wb)
{
    uint64_t since_ns = loop_now_ns(wb->conf.loop) - wb->asked_ns;

    return wb->must_ask || (!wb->alarm && !wb->attached) ||
           (peer_up(wb->conf.peer) && since_ns >= ASK_MS * UINT64_C(1000000));
}

static void on_stopped(struct task *t)
{
    struct writeback *wb = container_of(t, struct writeback, stop_task);
    void (*done)(void *arg) = wb->stop_done;
    void *arg = wb->stop_arg;

    wb_stage_end(wb);
    wb_metrics_free(wb);
    timer_free(&wb->tick);
    for (unsigned i = 0; i < wb->conf.ndisks; i++)
        free(wb->disks[i]);
    free(wb->spool_path);
    free(wb->vm);
    explicit_bzero(&wb->conf.master, sizeof wb->conf.master);
    free(wb);
    done(arg);
}

static void stop(struct writeback *wb)
{
    if (wb->stopped || wb->peeking)
        return;
    wb->stopped = true;
    timer_stop(&wb->tick);
    wb_end_waits(wb, &wb->waits, UINT64_MAX, -ECANCELED, NULL);
    wb_end_waits(wb, &wb->detaches, UINT64_MAX, -ECANCELED, NULL);
    wb_end_waits(wb, &wb->clears, UINT64_MAX, -ECANCELED, NULL);
    wb->stop_task.run = on_stopped;
    loop_post(wb->conf.loop, &wb->stop_task);
}

/* Idle: whatever has to be done next. */
static void next_step(struct writeback *wb)
{
    const struct wb_state *there = &wb->onprem;

    CHECK(wb->step == WB_IDLE);
    if (wb->stopping)
        stop(wb);
    else if (wb->conf.fenced && atomic_load(wb->conf.fenced) && !wb->lost)
        wb_lost(wb, "another edge has this VM");
    else if (wb->lost || (wb->conf.admitted && !atomic_load(wb->conf.admitted)) ||
             loop_now_ns(wb->conf.loop) < wb->rest_until_ns)
        return;
    else if (!TAILQ_EMPTY(&wb->detaches))
        wb_detach(wb);
    else if (wb->conf.home)
        return;
    else if (!TAILQ_EMPTY(&wb->clears))
        wb_clear(wb);
    else if (must_ask(wb))
        wb_ask(wb);
    else if (wb->alarm && !wb->damaged)
        return;
    else if (wb_can_confirm(wb))
        wb_confirm(wb);
    else if (wb_is_staged(wb))
        wb_stage_wait_applied(wb, there->target);
    else if (there->applied > map_state(wb->conf.map)->applied)
        return; /* what this edge has of it is being committed */
    else if (wb->told != wb_policy_wanted(wb) || (!wb->listed && !wb->alarm))
        wb_ask(wb);
    else if (is_due(wb))
        wb_stage_begin(wb);
}

/* --- time -----------------------------------------------------------------------------------------------*/

static void on_peeked(struct far_call *f)
{
    struct writeback *wb = container_of(f, struct writeback, peek);

    wb->peeking = false;
    buf_unref(&f->call.body);
    if (wb->step == WB_APPLYING)
        wb_take(wb, &f->call);
    else
        buf_unref(&f->call.reply);
    if (wb->stopping && wb->step == WB_IDLE)
        stop(wb);
}

/* How far is on-prem? */
static void peek(struct writeback *wb)
{
    struct wb_head head = wb_head_of(wb);

    wb->peeking = true;
    wb->peek =
        (struct far_call){.call = {.type = PROTO_WB_STATE, .class = LINK_CONTROL, .body = wb_put_head(&head)},
                          .home = wb->conf.loop,
                          .away = wb->conf.link_loop,
                          .peer = wb->conf.peer,
                          .done = on_peeked};
    far_call(&wb->peek);
}

static void watch_ages(struct writeback *wb)
{
    uint64_t last = vmlog_last(wb->conf.log), now = loop_now_ns(wb->conf.loop);

    if (!wb->since_ns && last > map_state(wb->conf.map)->applied)
        wb->since_ns = now;
    if (wb->target && !wb->next_since_ns && last > wb->target)
        wb->next_since_ns = now;
}

/* A stage holds memory and objects of the store: not for the whole of an outage. */
static void watch_link(struct writeback *wb)
{
    uint64_t now = loop_now_ns(wb->conf.loop);

    if (peer_up(wb->conf.peer))
        wb->down_since_ns = 0;
    else if (!wb->down_since_ns)
        wb->down_since_ns = now;
    else if (now - wb->down_since_ns >= wb->conf.outage_ms * UINT64_C(1000000) && wb->step >= WB_BEGINNING &&
             wb->step <= WB_ENDING)
        give_up(wb);
}

static void on_tick(struct timer *t)
{
    struct writeback *wb = container_of(t, struct writeback, tick);

    timer_set_ms(&wb->tick, TICK_MS);
    watch_ages(wb);
    watch_link(wb);
    wb_metrics_show(wb);
    if (wb->step == WB_APPLYING && !wb->giving_up && !wb->peeking && peer_up(wb->conf.peer))
        peek(wb);
    if (wb->step == WB_IDLE)
        next_step(wb);
}

/* --- what others ask for --------------------------------------------------------------------------------*/

/* Somebody asked for something: not after the pause of a failure. */
static void go_on(struct writeback *wb)
{
    wb->rest_until_ns = 0;
    if (wb->step == WB_IDLE)
        next_step(wb);
}

void writeback_now(struct writeback *wb, struct writeback_wait *w)
{
    wb_add_wait(&wb->waits, w, vmlog_last(wb->conf.log));
    if (wb->conf.home)
        wb_end_wait(wb, &wb->waits, w, -ECANCELED, NULL);
    else if (wb->alarm && !wb->damaged)
        wb_end_wait(wb, &wb->waits, w, -EBUSY, &wb->why);
    else if (w->in.seq <= map_state(wb->conf.map)->applied)
        wb_end_wait(wb, &wb->waits, w, 0, NULL);
    else
        go_on(wb);
}

/* Nobody wants any more what is on its way to on-prem; what it has whole, it applies. */
static void give_up_sending(struct writeback *wb)
{
    if ((wb->conf.policy == WB_WRITE_BACK && !wb->conf.paused) || !TAILQ_EMPTY(&wb->waits))
        return;
    if (wb->step >= WB_COMMITTING && wb->step <= WB_ENDING)
        give_up(wb);
}

void writeback_cancel(struct writeback *wb, struct writeback_wait *w)
{
    if (w->in.ended)
        return;
    if (w->in.list == &wb->detaches)
        writeback_attach(wb);
    wb_end_wait(wb, w->in.list, w, -ECANCELED, NULL);
    give_up_sending(wb);
}

void writeback_set_policy(struct writeback *wb, enum wb_policy policy, bool paused)
{
    wb->conf.policy = policy;
    wb->conf.paused = paused;
    give_up_sending(wb);
    go_on(wb);
}

void writeback_detach(struct writeback *wb, struct writeback_wait *w)
{
    wb->conf.home = true;
    wb_end_waits(wb, &wb->waits, UINT64_MAX, -ECANCELED, NULL);
    wb_add_wait(&wb->detaches, w, 0);
    if (wb->lost)
        wb_end_wait(wb, &wb->detaches, w, -EBUSY, &wb->why);
    else if (wb->step == WB_IDLE)
        go_on(wb);
    else if (wb->step != WB_CONFIRMING && wb->step != WB_DETACHING)
        give_up(wb);
}

void writeback_attach(struct writeback *wb)
{
    wb->conf.home = false;
    wb->must_ask = true;
    go_on(wb);
}

void writeback_clear_alarm(struct writeback *wb, struct writeback_wait *w)
{
    wb_add_wait(&wb->clears, w, 0);
    if (wb->lost)
        wb_end_wait(wb, &wb->clears, w, -EBUSY, &wb->why);
    else
        go_on(wb);
}

/* Whoever has an alarm is told no policy; but he applies nothing, and is sent nothing. */
static bool is_settled(const struct writeback *wb)
{
    return wb->step == WB_IDLE && wb->attached && !wb->must_ask && !wb_is_staged(wb) &&
           (wb->told == wb_policy_wanted(wb) || wb->alarm);
}

void writeback_status(const struct writeback *wb, struct writeback_status *s)
{
    static const enum writeback_step steps[] = {
        [WB_COMMITTING] = WRITEBACK_COMMITTING, [WB_PLANNING] = WRITEBACK_COMMITTING,
        [WB_BEGINNING] = WRITEBACK_SENDING,     [WB_SENDING] = WRITEBACK_SENDING,
        [WB_ENDING] = WRITEBACK_SENDING,        [WB_APPLYING] = WRITEBACK_APPLYING,
        [WB_CONFIRMING] = WRITEBACK_CONFIRMING, [WB_CLEARING] = WRITEBACK_IDLE};
    bool applying = wb->step == WB_APPLYING;
    uint64_t planned = wb->step == WB_PLANNING ? 0 : wb->plan.bytes; /* being planned it is the turn's */

    *s = (struct writeback_status){.attached = wb->attached,
                                   .held = wb->onprem.held,
                                   .alarm = wb->alarm,
                                   .link_up = peer_up(wb->conf.peer),
                                   .settled = is_settled(wb),
                                   .step = steps[wb->step],
                                   .applied = map_state(wb->conf.map)->applied,
                                   .applied_instant_ms = wb->onprem.applied_instant_ms,
                                   .target = wb->target,
                                   .unapplied_bytes = wb_unapplied_bytes(wb),
                                   .unapplied_ns = wb_unapplied_ns(wb),
                                   .bytes = applying ? wb->onprem.bytes : planned,
                                   .bytes_done = applying ? wb->onprem.bytes_applied : wb->bytes_done,
                                   .why = wb->why};
    if (!*s->why.text && !s->link_up && !wb->conf.home)
        why_set(&s->why, 0, "the link to %s is down", peer_name(wb->conf.peer));
    else if (!*s->why.text && wb->onprem.unreachable)
        why_set(&s->why, 0, "%s", *wb->onprem.text ? wb->onprem.text : "a source disk cannot be reached now");
}

struct writeback *writeback_new(const struct writeback_conf *conf)
{
    struct writeback *wb = xcalloc(1, sizeof *wb);
    char name[MAP_NAME_MAX];

    CHECK(conf->ndisks && conf->ndisks <= WB_DISKS_MAX && conf->interval_ms && conf->bytes);
    wb->conf = *conf;
    wb->vm = xstrdup(conf->vm);
    memset(wb->plan.places, -1, sizeof wb->plan.places);
    for (unsigned i = 0; i < conf->ndisks; i++) {
        CHECK(i == 0 || conf->numbers[i] > conf->numbers[i - 1]); /* the order of the map's rows */
        wb->disks[i] = xstrdup(conf->disks[i]);
        wb->plan.places[conf->numbers[i]] = (int8_t)i;
    }
    map_object_name(name, conf->id, 0);
    wb->spool_path = xasprintf("%s/%.32s.plan", conf->spool, name + strlen("vms/"));
    TAILQ_INIT(&wb->waits);
    TAILQ_INIT(&wb->detaches);
    TAILQ_INIT(&wb->clears);
    if (!wb->conf.outage_ms)
        wb->conf.outage_ms = OUTAGE_MS;
    wb->rest_ms = REST_MIN_MS;
    wb->overdue = vmlog_last(conf->log) > map_state(conf->map)->applied;
    wb->must_ask = true;
    wb_metrics_new(wb);
    timer_init(&wb->tick, conf->loop, on_tick);
    timer_set_ms(&wb->tick, 0);
    return wb;
}

void writeback_stop(struct writeback *wb, void (*done)(void *arg), void *arg)
{
    wb->stopping = true;
    wb->stop_done = done;
    wb->stop_arg = arg;
    if (wb->peeking)
        far_call_cancel(&wb->peek);
    if (wb->step == WB_IDLE) {
        stop(wb);
        return;
    }
    give_up(wb);
    if (wb->step == WB_ASKING) /* an ATTACH, too: nothing that it would have to come before */
        far_call_cancel(&wb->call);
}
