/* initiator/iscsi_ask.c - an iSCSI session asks its LUN: what is it (iscsi_probe.c), who holds its
 * reservation (iscsi_hold.c).
 *
 * One question at a time, after the login and then now and again. The reservation comes first, as a LUN that
 * is reserved answers to those only who are registered. Loop thread, mostly with libiscsi on the stack.
 */
#include "iscsi_session_inside.h"
#include "log.h"
#include "sense.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

static const char part[] = "iscsi";

enum {
    CAPACITY_S = 30, /* ask so often */
    HOLD_S = 5,
    AGAIN_MAX = 20,
};

static void ask_next(struct iscsi_session *s);

static void hold_answered(struct iscsi_session *s, const struct scsi_task *task)
{
    struct why why = {""};
    enum iscsi_hold_result result = iscsi_hold_answer(&s->hold, task, &why);

    if (result == HOLD_AGAIN && ++s->again >= AGAIN_MAX)
        result = HOLD_LATER;
    if (result == HOLD_MORE || result == HOLD_AGAIN)
        return;
    s->asking = 0;
    if (result == HOLD_LATER) {
        log_info(s->id, "LUN %d of %s: its reservation is asked again later: %s", s->target->lun,
                 s->target->iqn, why.text);
        s->hold_later = true;
        s->todo |= ASK_HOLD;
        return;
    }
    if (s->probe.locked_out && !(s->todo & ASK_ALL))
        s->todo |= ASK_PROTECTION;
    s->events.hold(s->events.arg, s, &s->hold);
}

static void probe_answered(struct iscsi_session *s, const struct scsi_task *task)
{
    struct why why;
    enum iscsi_probe_result result = iscsi_probe_answer(&s->probe, task, &why);

    if (result == PROBE_AGAIN && ++s->again >= AGAIN_MAX)
        result = PROBE_FAILED;
    if (result == PROBE_MORE || result == PROBE_AGAIN)
        return;
    s->asking = 0;
    if (result == PROBE_FAILED) {
        iscsi_session_give_up(s, true, "LUN %d of %s: %s", s->target->lun, s->target->iqn, why.text);
        return;
    }
    s->asked_ns = loop_now_ns(s->loop);
    s->news = true;
}

static void on_answer(struct iscsi_context *context, int status, void *data, void *arg)
{
    struct iscsi_session *s = arg;
    struct scsi_task *task = s->question;

    (void)context;
    (void)data;
    if (s->destroying)
        return;
    s->question = NULL;
    if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_ERROR || status == SCSI_STATUS_TIMEOUT) {
        iscsi_session_give_up(s, false, "the connection to %s port %u was lost", s->host, s->port);
        scsi_free_scsi_task(task);
        return;
    }
    iscsi_session_heard(s);
    sense_take(task, status);
    if (status == SCSI_STATUS_CHECK_CONDITION)
        iscsi_session_notice(s, task);
    if (s->asking == ASK_HOLD)
        hold_answered(s, task);
    else
        probe_answered(s, task);
    scsi_free_scsi_task(task);
    ask_next(s);
}

static void begin_hold(struct iscsi_session *s)
{
    s->held_ns = loop_now_ns(s->loop);
    s->hold.asked = s->target->asked;
    iscsi_hold_begin(&s->hold, s->target->key, s->target->release);
}

/* What to ask now; 0: nothing. */
static unsigned choose(struct iscsi_session *s)
{
    const struct iscsi_target *t = s->target;
    unsigned what = s->todo & (s->hold_later ? ~(unsigned)ASK_HOLD : ~0u);

    if (what & ASK_HOLD && t->key == 0 && t->release == 0) {
        s->todo &= ~(unsigned)ASK_HOLD;
        what &= ~(unsigned)ASK_HOLD;
    }
    what &= ~what + 1; /* the lowest bit */
    s->todo &= ~what;
    s->again = 0;
    if (what == ASK_HOLD)
        begin_hold(s);
    else if (what == ASK_PROTECTION)
        iscsi_probe_unlocked(&s->probe);
    else if (what != 0)
        iscsi_probe_begin(&s->probe, what == ASK_ALL);
    return what;
}

static void ask_next(struct iscsi_session *s)
{
    if (s->lost || s->question)
        return;
    if (s->asking == 0)
        s->asking = choose(s);
    if (s->asking != 0) {
        s->question = s->asking == ASK_HOLD ? iscsi_hold_next(&s->hold) : iscsi_probe_next(&s->probe);
        if (iscsi_scsi_command_async(s->context, s->target->lun, s->question, on_answer, NULL, s) != 0)
            iscsi_session_give_up(s, false, "cannot ask LUN %d of %s: %s", s->target->lun, s->target->iqn,
                                  iscsi_get_error(s->context));
        return;
    }
    if (s->todo != 0)
        return; /* waits for the tick */
    if (s->state == PROBING) {
        iscsi_session_enter(s, UP);
        s->fails = s->redirects = 0;
    }
    if (s->news)
        s->events.known(s->events.arg, s, &s->probe.info, &s->probe.can);
    s->news = false;
}

void iscsi_ask(struct iscsi_session *s)
{
    ask_next(s);
}

void iscsi_ask_all(struct iscsi_session *s)
{
    iscsi_hold_forget(&s->hold);
    s->asking = 0;
    s->hold_later = s->news = false;
    s->todo = ASK_HOLD | ASK_ALL;
    ask_next(s);
}

void iscsi_ask_tick(struct iscsi_session *s)
{
    if (s->state != PROBING && s->state != UP)
        return;
    s->hold_later = false;
    if (s->state == UP && iscsi_session_seconds_since(s, s->asked_ns) >= CAPACITY_S)
        s->todo |= ASK_CAPACITY;
    if (s->state == UP && iscsi_session_seconds_since(s, s->held_ns) >= HOLD_S)
        s->todo |= ASK_HOLD;
    ask_next(s);
}
