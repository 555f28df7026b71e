/* initiator/iscsi_session.c - the life of one iSCSI session; see iscsi_session.h for the states.
 *
 * libiscsi calls back from inside iscsi_service(), and a context must not be destroyed there: whoever finds
 * the session lost only notes it (give_up), and iscsi_session_settle() acts on it when libiscsi is off the
 * stack. While `destroying` is set, libiscsi's callbacks are its own farewell and mean nothing.
 */
#include "check.h"
#include "ds_base.h"
#include "iscsi_session_inside.h"
#include "log.h"
#include "mem.h"
#include "resolve.h"
#include "sense.h"

#include <errno.h>
#include <event2/event.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "iscsi";

enum {
    TICK_MS = 1000,
    LOGIN_S = 10, /* resolving to up */
    /* an I/O that is not answered by then: the target hangs. One that does not even answer a NOP-Out is found
     * sooner */
    READ_S = 15,
    WRITE_S = 30,
    FLUSH_S = 300,
    QUIET_S = 5, /* nothing heard for so long: ask with a NOP-Out */
    NOP_S = 5,   /* and wait so long for its answer */
};

static const char *const state_names[] = {"idle", "resolving", "connecting", "login", "probing", "up"};

void iscsi_session_enter(struct iscsi_session *s, enum state state)
{
    log_debug(s->id, "%s -> %s", state_names[s->state], state_names[state]);
    s->state = state;
    s->since_ns = loop_now_ns(s->loop);
}

double iscsi_session_seconds_since(const struct iscsi_session *s, uint64_t then_ns)
{
    return (double)(loop_now_ns(s->loop) - then_ns) / 1e9;
}

void iscsi_session_give_up(struct iscsi_session *s, bool refused, const char *format, ...)
{
    char text[sizeof s->lost_why.text];
    va_list ap;

    if (s->lost)
        return;
    s->lost = true;
    s->lost_refused = refused;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    why_set(&s->lost_why, 0, "disk %s: %s", s->target->disk, text);
}

void iscsi_session_heard(struct iscsi_session *s)
{
    s->heard_ns = loop_now_ns(s->loop);
}

/* ---- the socket ---- */

static void on_event(evutil_socket_t fd, short what, void *arg);

static void watch_socket(struct iscsi_session *s)
{
    int fd = iscsi_get_fd(s->context), wants = iscsi_which_events(s->context);
    short what = (short)((wants & POLLIN ? EV_READ : 0) | (wants & POLLOUT ? EV_WRITE : 0) | EV_PERSIST);

    if (s->event && s->event_fd == fd && s->event_what == what)
        return;
    if (s->event)
        event_free(s->event);
    s->event = event_new(loop_base(s->loop), fd, what, on_event, s);
    CHECK(s->event && event_add(s->event, NULL) == 0);
    s->event_fd = fd;
    s->event_what = what;
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
    struct iscsi_session *s = arg;
    int revents = (what & EV_READ ? POLLIN : 0) | (what & EV_WRITE ? POLLOUT : 0);

    (void)fd;
    s->serving = true;
    if (iscsi_service(s->context, revents) != 0)
        iscsi_session_give_up(s, false, "the connection to %s port %u was lost", s->host, s->port);
    s->serving = false;
    iscsi_session_settle(s);
}

static void destroy_context(struct iscsi_session *s)
{
    struct datastore_io *io;

    resolve_cancel(&s->resolve);
    if (s->event)
        event_free(s->event);
    s->event = NULL;
    s->destroying = true;
    if (s->context)
        iscsi_destroy_context(s->context);
    s->destroying = false;
    s->context = NULL;
    TAILQ_FOREACH (io, &s->issued, in.entry) {
        scsi_free_scsi_task(io->in.command);
        io->in.command = io->in.lane = NULL;
    }
    if (s->question)
        scsi_free_scsi_task(s->question);
    s->question = NULL;
    s->nop_ns = 0;
    s->todo = s->asking = 0;
}

void iscsi_session_settle(struct iscsi_session *s)
{
    struct datastore_ios issued = TAILQ_HEAD_INITIALIZER(issued);
    bool redirected, was_up = s->state == UP;

    if (s->serving)
        return;
    if (!s->lost) {
        if (s->context)
            watch_socket(s);
        return;
    }
    destroy_context(s);
    TAILQ_CONCAT(&issued, &s->issued, in.entry);
    s->nissued = 0;
    s->lost = false;
    redirected = s->redirects > 0 && s->state == LOGIN && s->lost_why.text[0] == '\0';
    iscsi_session_enter(s, IDLE);
    if (redirected) {
        timer_set_ms(&s->timer, 0);
        return;
    }
    s->redirects = 0;
    timer_set_ms(&s->timer, ds_backoff_ms(s->loop, s->lost_refused && s->fails > 3 ? 10 : s->fails));
    s->fails++;
    s->events.down(s->events.arg, s, was_up, s->lost_refused, &s->lost_why, &issued);
}

/* ---- being up ---- */

static void on_io(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct datastore_io *io = arg;
    struct iscsi_session *s = io->in.lane;
    struct scsi_task *task = io->in.command;

    (void)context;
    (void)data;
    if (!s || s->destroying)
        return;
    if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_ERROR || status == SCSI_STATUS_TIMEOUT) {
        iscsi_session_give_up(s, false, "the connection to %s port %u was lost", s->host, s->port);
        return; /* it stays among the issued: down() hands it back */
    }
    iscsi_session_heard(s);
    sense_take(task, status);
    iscsi_session_notice(s, task);
    TAILQ_REMOVE(&s->issued, io, in.entry);
    s->nissued--;
    io->in.lane = io->in.command = NULL;
    s->events.answer(s->events.arg, s, io, task);
    scsi_free_scsi_task(task);
    iscsi_ask(s);
}

void iscsi_session_notice(struct iscsi_session *s, const struct scsi_task *task)
{
    if (sense_says_reset(task) && s->state == UP) /* after a login it is nothing but a greeting */
        s->events.reset(s->events.arg);
    if (sense_says_changed(task))
        s->todo |= ASK_CAPACITY;
    if (sense_says_reserved(task)) {
        iscsi_hold_doubt(&s->hold);
        s->todo |= ASK_HOLD;
    }
}

void iscsi_session_issue(struct iscsi_session *s, struct datastore_io *io, const struct iscsi_abilities *can,
                         uint32_t block_bytes)
{
    struct scsi_task *task = iscsi_command(can, io, block_bytes);

    CHECK(s->state == UP && !s->lost);
    io->in.lane = s;
    io->in.command = task;
    io->in.issued_ns = loop_now_ns(s->loop);
    TAILQ_INSERT_TAIL(&s->issued, io, in.entry);
    s->nissued++;
    if (iscsi_scsi_command_async(s->context, s->target->lun, task, on_io, NULL, io) != 0)
        iscsi_session_give_up(s, false, "cannot ask LUN %d of %s: %s", s->target->lun, s->target->iqn,
                              iscsi_get_error(s->context));
    if (!s->serving && !s->lost)
        watch_socket(s);
    else if (!s->serving)
        timer_set_ms(&s->timer, 0); /* settle from the tick: not under our caller */
}

static void on_nop(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct iscsi_session *s = arg;

    (void)context;
    (void)data;
    if (s->destroying)
        return;
    s->nop_ns = 0;
    if (status == SCSI_STATUS_GOOD)
        iscsi_session_heard(s);
    else
        iscsi_session_give_up(s, false, "the connection to %s port %u was lost", s->host, s->port);
}

/* An I/O that should have been answered by now, or NULL. */
static const struct datastore_io *find_late(const struct iscsi_session *s)
{
    const struct datastore_io *io;

    TAILQ_FOREACH (io, &s->issued, in.entry) {
        int limit = io->op == DATASTORE_READ ? READ_S : io->op == DATASTORE_FLUSH ? FLUSH_S : WRITE_S;
        if (iscsi_session_seconds_since(s, io->in.issued_ns) > limit)
            return io;
    }
    return NULL;
}

static void check_alive(struct iscsi_session *s)
{
    const struct datastore_io *late = find_late(s);
    char words[80];

    if (late) {
        iscsi_session_give_up(s, false, "%s port %u has not answered for %.0f s when asked to %s", s->host,
                              s->port, iscsi_session_seconds_since(s, late->in.issued_ns),
                              ds_io_words(late, words, sizeof words));
    } else if (s->nop_ns && iscsi_session_seconds_since(s, s->nop_ns) > NOP_S) {
        iscsi_session_give_up(s, false, "%s port %u has not answered a NOP-Out for %d s", s->host, s->port,
                              NOP_S);
    } else if (!s->nop_ns && iscsi_session_seconds_since(s, s->heard_ns) > QUIET_S) {
        s->nop_ns = loop_now_ns(s->loop);
        if (iscsi_nop_out_async(s->context, on_nop, NULL, 0, s) != 0)
            iscsi_session_give_up(s, false, "cannot send to %s port %u: %s", s->host, s->port,
                                  iscsi_get_error(s->context));
    }
}

static void run_timer(struct timer *t)
{
    struct iscsi_session *s = container_of(t, struct iscsi_session, timer);

    if (s->state == IDLE) {
        timer_set_ms(&s->timer, TICK_MS);
        iscsi_login_start(s);
        return;
    }
    timer_set_ms(&s->timer, TICK_MS);
    if (s->state == UP && !s->lost)
        check_alive(s);
    else if (iscsi_session_seconds_since(s, s->since_ns) > LOGIN_S)
        iscsi_session_give_up(s, false, "%s port %u did not answer within %d s while %s", s->host, s->port,
                              LOGIN_S, state_names[s->state]);
    iscsi_ask_tick(s);
    iscsi_session_settle(s);
}

struct iscsi_session *iscsi_session_new(struct loop *loop, const struct iscsi_target *target, unsigned number,
                                        const struct iscsi_session_events *events)
{
    struct iscsi_session *s = xcalloc(1, sizeof *s);

    s->loop = loop;
    s->target = target;
    s->events = *events;
    TAILQ_INIT(&s->issued);
    s->number = number;
    snprintf(s->id, sizeof s->id, "%.63s/%u", target->disk, number);
    timer_init(&s->timer, loop, run_timer);
    timer_set_ms(&s->timer, 0);
    return s;
}

void iscsi_session_free(struct iscsi_session **session, struct datastore_ios *issued)
{
    struct iscsi_session *s = *session;

    *session = NULL;
    if (!s)
        return;
    CHECK(!s->serving);
    destroy_context(s);
    TAILQ_CONCAT(issued, &s->issued, in.entry);
    timer_free(&s->timer);
    free(s);
}

bool iscsi_session_up(const struct iscsi_session *s)
{
    return s->state == UP && !s->lost;
}

unsigned iscsi_session_load(const struct iscsi_session *s)
{
    return s->nissued;
}

void iscsi_session_ask(struct iscsi_session *s)
{
    s->todo |= ASK_CAPACITY;
    timer_set_ms(&s->timer, 0);
}

void iscsi_session_ask_hold(struct iscsi_session *s)
{
    s->hold_later = false;
    s->todo |= ASK_HOLD;
    timer_set_ms(&s->timer, 0);
}

void iscsi_session_hold_lost(struct iscsi_session *s)
{
    iscsi_hold_unsettle(&s->hold);
}

void iscsi_session_drop(struct iscsi_session *s, bool refused, const struct why *why)
{
    if (s->lost || s->state == IDLE)
        return;
    s->lost = true;
    s->lost_refused = refused;
    s->lost_why = *why;
    if (!s->serving)
        timer_set_ms(&s->timer, 0);
}
