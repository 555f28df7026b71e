/* initiator/iscsi_session.c - the life of one iSCSI session; see iscsi_session.h for the states.
 *
 * libiscsi calls back from inside iscsi_service(), and a context must not be destroyed there: whoever finds
 * the session lost only notes it (give_up), and settle() acts on it when libiscsi is off the stack. While
 * `destroying` is set, libiscsi's callbacks are its own farewell and mean nothing.
 */
#include "iscsi_session.h"

#include "check.h"
#include "ds_base.h"
#include "iscsi_probe.h"
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
    LOGIN_S = 10,   /* resolving to up */
    COMMAND_S = 15, /* a command that is not answered by then: the target hangs */
    QUIET_S = 5,    /* nothing heard for so long: ask with a NOP-Out */
    NOP_S = 5,      /* and wait so long for its answer */
    ASK_S = 30,     /* ask for the capacity so often */
    PROBE_TRIES = 20,
    REDIRECTS_MAX = 4,
};

enum state { IDLE, RESOLVING, CONNECTING, LOGIN, PROBING, UP };
static const char *const state_names[] = {"idle", "resolving", "connecting", "login", "probing", "up"};

struct iscsi_session {
    struct loop *loop;
    const struct iscsi_target *target;
    struct iscsi_session_events events;
    char id[80]; /* for the log: disk/number */

    enum state state;
    unsigned fails; /* in a row, for the back-off */
    uint64_t since_ns;
    struct timer timer; /* back-off when idle, else the tick */
    struct resolve *resolve;
    char host[256]; /* where to now: the target's host, or where we were sent */
    unsigned port, redirects;

    struct iscsi_context *context;
    struct event *event;
    int event_fd;
    short event_what;
    bool serving, destroying; /* libiscsi is on the stack */

    bool lost, lost_refused;
    struct why lost_why;

    struct datastore_ios issued;
    unsigned nissued;
    uint64_t heard_ns, nop_ns, asked_ns; /* nop_ns: when the NOP-Out in flight was sent, or 0 */

    struct iscsi_probe probe;
    struct scsi_task *probe_task; /* in flight */
    unsigned probe_tries;
    bool ask; /* capacity, when the probe is free */
};

static void settle(struct iscsi_session *);
static void start_probe(struct iscsi_session *);

static void enter(struct iscsi_session *s, enum state state)
{
    log_debug(s->id, "%s -> %s", state_names[s->state], state_names[state]);
    s->state = state;
    s->since_ns = loop_now_ns(s->loop);
}

static double seconds_since(const struct iscsi_session *s, uint64_t then_ns)
{
    return (double)(loop_now_ns(s->loop) - then_ns) / 1e9;
}

/* Notes that the session is lost; the first reason counts. settle() does the rest. */
__attribute__((format(printf, 3, 4))) static void give_up(struct iscsi_session *s, bool refused,
                                                          const char *format, ...)
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

static void heard(struct iscsi_session *s)
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
        give_up(s, false, "the connection to %s port %u was lost", s->host, s->port);
    s->serving = false;
    settle(s);
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
    if (s->probe_task)
        scsi_free_scsi_task(s->probe_task);
    s->probe_task = NULL;
    s->nop_ns = 0;
    s->ask = false;
}

/* Acts on what was noted while libiscsi was on the stack. Every callback from outside ends here. */
static void settle(struct iscsi_session *s)
{
    struct datastore_ios issued = TAILQ_HEAD_INITIALIZER(issued);
    bool redirected;

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
    enter(s, IDLE);
    if (redirected) {
        timer_set_ms(&s->timer, 0);
        return;
    }
    s->redirects = 0;
    timer_set_ms(&s->timer, ds_backoff_ms(s->loop, s->lost_refused && s->fails > 3 ? 10 : s->fails));
    s->fails++;
    s->events.down(s->events.arg, s, s->lost_refused, &s->lost_why, &issued);
}

/* ---- coming up ---- */

static void on_login(struct iscsi_context *context, int status, void *data, void *arg);

static void on_connect(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct iscsi_session *s = arg;

    (void)data;
    if (s->destroying)
        return;
    if (status != SCSI_STATUS_GOOD || s->state != CONNECTING) {
        give_up(s, false, "cannot reach %s port %u: %s", s->host, s->port, iscsi_get_error(context));
        return;
    }
    enter(s, LOGIN);
    if (iscsi_login_async(context, on_login, s) != 0)
        give_up(s, false, "cannot log in to %s: %s", s->target->iqn, iscsi_get_error(context));
}

/* Login status (RFC 7143, 11.13.5), which libiscsi hands over in its text only, in parentheses at the end. */
static unsigned login_status(const char *text)
{
    const char *p = strrchr(text, '(');
    unsigned status = 0;

    if (p)
        sscanf(p, "(%u)", &status);
    return status;
}

static void login_failed(struct iscsi_session *s, const char *text)
{
    const struct iscsi_target *t = s->target;
    unsigned status = login_status(text);
    char reason[160];

    switch (status) {
    case 0x0201:
        snprintf(reason, sizeof reason, "authentication failure; check user and secret");
        break;
    case 0x0202:
        snprintf(reason, sizeof reason, "not authorized; allow initiator %.80s on the target", t->initiator);
        break;
    case 0x0203:
        snprintf(reason, sizeof reason, "no such target; check the name, and that %.80s may see it",
                 t->initiator);
        break;
    case 0x0204:
        snprintf(reason, sizeof reason, "the target was removed");
        break;
    default:
        snprintf(reason, sizeof reason, "%.150s", text);
    }
    give_up(s, status >> 8 == 2, "cannot log in to %s at %s port %u: %s", t->iqn, s->host, s->port, reason);
}

/* "address:port[,tag]", with brackets around an IPv6 address: go there for this once. */
static void follow(struct iscsi_session *s, const char *address)
{
    char host[sizeof s->host];
    unsigned port = 3260;
    int n = address[0] == '[' ? sscanf(address, "[%255[^]]]:%u", host, &port)
                              : sscanf(address, "%255[^:,]:%u", host, &port);

    if (n < 1 || port == 0 || port > 65535 || s->redirects >= REDIRECTS_MAX) {
        give_up(s, true, "%s at %s sends us elsewhere, to no usable address", s->target->iqn, s->host);
        return;
    }
    log_info(s->id, "%s port %u sends us to %s port %u", s->host, s->port, host, port);
    snprintf(s->host, sizeof s->host, "%s", host);
    s->port = port;
    s->redirects++;
    give_up(s, false, "moved");
    s->lost_why.text[0] = '\0';
}

static void on_login(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct iscsi_session *s = arg;

    (void)data;
    if (s->destroying || s->lost)
        return;
    if (status == SCSI_STATUS_REDIRECT) {
        follow(s, iscsi_get_target_address(context));
    } else if (status != SCSI_STATUS_GOOD) {
        login_failed(s, iscsi_get_error(context));
    } else {
        heard(s);
        enter(s, PROBING);
        iscsi_probe_begin(&s->probe, true);
        start_probe(s);
    }
}

static void set_secrets(struct iscsi_session *s)
{
    const struct iscsi_target *t = s->target;

    if (t->user[0])
        iscsi_set_initiator_username_pwd(s->context, t->user, t->secret);
    if (t->target_user[0])
        iscsi_set_target_username_pwd(s->context, t->target_user, t->target_secret);
}

static void on_resolved(void *arg, int status, const char *address, const struct why *why)
{
    struct iscsi_session *s = arg;
    char portal[300];

    s->resolve = NULL;
    if (status) {
        give_up(s, false, "%s", why->text);
        settle(s);
        return;
    }
    enter(s, CONNECTING);
    s->context = iscsi_create_context(s->target->initiator);
    CHECK(s->context);
    iscsi_set_noautoreconnect(s->context, 1);
    iscsi_set_targetname(s->context, s->target->iqn);
    iscsi_set_session_type(s->context, ISCSI_SESSION_NORMAL);
    iscsi_set_header_digest(s->context, ISCSI_HEADER_DIGEST_NONE_CRC32C);
    set_secrets(s);
    snprintf(portal, sizeof portal, strchr(address, ':') ? "[%s]:%u" : "%s:%u", address, s->port);
    s->serving = true;
    if (iscsi_connect_async(s->context, portal, on_connect, s) != 0)
        give_up(s, false, "cannot reach %s port %u: %s", s->host, s->port, iscsi_get_error(s->context));
    s->serving = false;
    settle(s);
}

static void start(struct iscsi_session *s)
{
    if (s->redirects == 0) {
        snprintf(s->host, sizeof s->host, "%s", s->target->host);
        s->port = s->target->port;
    }
    enter(s, RESOLVING);
    s->lost_why.text[0] = '\0';
    timer_set_ms(&s->timer, TICK_MS);
    s->resolve = resolve_start(s->loop, s->host, s->fails, on_resolved, s);
}

/* ---- what is the LUN? ---- */

static void probe_done(struct iscsi_session *s)
{
    s->asked_ns = loop_now_ns(s->loop);
    if (s->state == PROBING) {
        enter(s, UP);
        s->fails = s->redirects = 0;
    }
    s->events.known(s->events.arg, s, &s->probe.info);
}

static void on_probe(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct iscsi_session *s = arg;
    struct scsi_task *task = s->probe_task;
    enum iscsi_probe_result result;
    struct why why;

    (void)context;
    (void)data;
    if (s->destroying)
        return;
    s->probe_task = NULL;
    if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_ERROR || status == SCSI_STATUS_TIMEOUT) {
        give_up(s, false, "the connection to %s port %u was lost", s->host, s->port);
        scsi_free_scsi_task(task);
        return;
    }
    heard(s);
    task->status = status;
    result = iscsi_probe_answer(&s->probe, task, &why);
    scsi_free_scsi_task(task);
    if (result == PROBE_AGAIN && ++s->probe_tries >= PROBE_TRIES)
        result = PROBE_FAILED;
    if (result == PROBE_DONE)
        probe_done(s);
    else if (result == PROBE_FAILED)
        give_up(s, true, "LUN %d of %s: %s", s->target->lun, s->target->iqn, why.text);
    else
        start_probe(s);
}

static void start_probe(struct iscsi_session *s)
{
    struct scsi_task *task = iscsi_probe_next(&s->probe);

    if (s->probe.steps == 0)
        s->probe_tries = 0;
    s->probe.steps++;
    s->probe_task = task;
    if (iscsi_scsi_command_async(s->context, s->target->lun, task, on_probe, NULL, s) != 0)
        give_up(s, false, "cannot ask LUN %d of %s: %s", s->target->lun, s->target->iqn,
                iscsi_get_error(s->context));
}

/* ---- being up ---- */

static void on_read(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct datastore_io *io = arg;
    struct iscsi_session *s = io->in.lane;
    struct scsi_task *task = io->in.command;

    (void)context;
    (void)data;
    if (!s || s->destroying)
        return;
    if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_ERROR || status == SCSI_STATUS_TIMEOUT) {
        give_up(s, false, "the connection to %s port %u was lost", s->host, s->port);
        return; /* it stays among the issued: down() hands it back */
    }
    heard(s);
    task->status = status;
    TAILQ_REMOVE(&s->issued, io, in.entry);
    s->nissued--;
    io->in.lane = io->in.command = NULL;
    s->events.answer(s->events.arg, s, io, task);
    scsi_free_scsi_task(task);
}

void iscsi_session_read(struct iscsi_session *s, struct datastore_io *io, uint32_t block_bytes)
{
    uint64_t lba = io->offset / block_bytes;
    struct scsi_task *task;

    CHECK(s->state == UP && !s->lost);
    io->in.lane = s;
    io->in.issued_ns = loop_now_ns(s->loop);
    TAILQ_INSERT_TAIL(&s->issued, io, in.entry);
    s->nissued++;
    task = s->probe.no_read16 ? scsi_cdb_read10((uint32_t)lba, io->len, (int)block_bytes, 0, 0, 0, 0, 0)
                              : scsi_cdb_read16(lba, io->len, (int)block_bytes, 0, 0, 0, 0, 0);
    CHECK(task && scsi_task_add_data_in_buffer(task, (int)io->len, io->data) == 0);
    io->in.command = task;
    if (iscsi_scsi_command_async(s->context, s->target->lun, task, on_read, NULL, io) != 0)
        give_up(s, false, "cannot ask LUN %d of %s: %s", s->target->lun, s->target->iqn,
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
        heard(s);
    else
        give_up(s, false, "the connection to %s port %u was lost", s->host, s->port);
}

static void check_alive(struct iscsi_session *s)
{
    struct datastore_io *oldest = TAILQ_FIRST(&s->issued);

    if (oldest && seconds_since(s, oldest->in.issued_ns) > COMMAND_S) {
        give_up(s, false, "%s port %u has not answered a read for %d s", s->host, s->port, COMMAND_S);
    } else if (s->nop_ns && seconds_since(s, s->nop_ns) > NOP_S) {
        give_up(s, false, "%s port %u has not answered a NOP-Out for %d s", s->host, s->port, NOP_S);
    } else if (!s->nop_ns && seconds_since(s, s->heard_ns) > QUIET_S) {
        s->nop_ns = loop_now_ns(s->loop);
        if (iscsi_nop_out_async(s->context, on_nop, NULL, 0, s) != 0)
            give_up(s, false, "cannot send to %s port %u: %s", s->host, s->port, iscsi_get_error(s->context));
    }
}

static void check_capacity(struct iscsi_session *s)
{
    if (s->probe_task || s->lost || (!s->ask && seconds_since(s, s->asked_ns) < ASK_S))
        return;
    s->ask = false;
    iscsi_probe_begin(&s->probe, false);
    start_probe(s);
}

static void run_timer(struct timer *t)
{
    struct iscsi_session *s = container_of(t, struct iscsi_session, timer);

    if (s->state == IDLE) {
        start(s);
        return;
    }
    timer_set_ms(&s->timer, TICK_MS);
    if (s->state == UP && !s->lost) {
        check_alive(s);
        check_capacity(s);
    } else if (seconds_since(s, s->since_ns) > LOGIN_S) {
        give_up(s, false, "%s port %u did not answer within %d s while %s", s->host, s->port, LOGIN_S,
                state_names[s->state]);
    }
    settle(s);
}

struct iscsi_session *iscsi_session_new(struct loop *loop, const struct iscsi_target *target, unsigned number,
                                        const struct iscsi_session_events *events)
{
    struct iscsi_session *s = xcalloc(1, sizeof *s);

    s->loop = loop;
    s->target = target;
    s->events = *events;
    TAILQ_INIT(&s->issued);
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
    s->ask = true;
    timer_set_ms(&s->timer, 0);
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
