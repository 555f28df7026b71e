/* initiator/iscsi_answer.c - what a target's answer means for an I/O: done, again, later, never. What sense
 * data say is in sense.c. Loop thread.
 */
#include "iscsi_lun.h"
#include "log.h"
#include "sense.h"

#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

static const char part[] = "iscsi";

enum { TRIES_MAX = 4, DOUBT_MS = 20 };

void iscsi_answer_taken(struct lun *l, struct datastore_io *io)
{
    if (l->doubted) { /* not before it is known whether that is still so */
        ds_delay(&l->b, io, DOUBT_MS);
        return;
    }
    why_set(&io->why, 0, "disk %s: LUN %d of %s is reserved by another host: release the reservation there",
            l->b.name, l->target.lun, l->target.iqn);
    ds_finish(&l->b, io, -EBUSY);
}

static void answer_wait(struct lun *l, struct datastore_io *io, const struct scsi_task *task)
{
    struct ds_base *b = &l->b;
    char words[200];

    if (task->status == SCSI_STATUS_TASK_SET_FULL)
        l->window = l->window > 1 ? l->window / 2 : 1;
    if (l->waits++ % 64 == 0) {
        sense_words(task, words, sizeof words);
        log_warn(b->name, "LUN %d of %s lets I/O wait: %s; %s", l->target.lun, l->target.iqn, words,
                 sense_advice(task));
    }
    ds_delay(b, io, ds_backoff_ms(b->loop, l->waits / 16));
}

static void answer_finally(struct lun *l, struct datastore_io *io, const struct scsi_task *task, int status)
{
    struct ds_base *b = &l->b;
    char words[200], deed[80];

    sense_words(task, words, sizeof words);
    why_set(&io->why, 0, "disk %s: LUN %d of %s cannot %s: %s; %s", b->name, l->target.lun, l->target.iqn,
            ds_io_words(io, deed, sizeof deed), words, sense_advice(task));
    ds_finish(b, io, status);
}

static void answer_few(struct lun *l, struct datastore_io *io, const struct scsi_task *task)
{
    struct ds_base *b = &l->b;

    if (io->op == DATASTORE_FLUSH) {
        ds_may_have_lost(b); /* it may not tell of the same twice */
        answer_finally(l, io, task, -EIO);
    } else if (++io->in.tries < TRIES_MAX) {
        ds_delay(b, io, ds_backoff_ms(b->loop, io->in.tries - 1));
    } else {
        answer_finally(l, io, task, -EIO);
    }
}

/* RESERVATION CONFLICT. The session asks who has the reservation; if it is ours, it registers again. */
static void answer_conflict(struct lun *l, struct datastore_io *io, const struct scsi_task *task)
{
    struct ds_base *b = &l->b;
    struct why why;

    if (io->op == DATASTORE_READ) {
        why_set(&why, 0,
                "disk %s: LUN %d of %s is reserved by another host, which keeps it even from being read; "
                "release the reservation there",
                b->name, l->target.lun, l->target.iqn);
        l->locked_out = true;
        ds_trouble_set(b, false, &why);
        ds_delay(b, io, ds_backoff_ms(b->loop, l->waits++ / 16));
    } else if (l->taken) {
        iscsi_answer_taken(l, io);
    } else if (l->target.key && ++io->in.tries < TRIES_MAX) {
        ds_delay(b, io, ds_backoff_ms(b->loop, io->in.tries));
    } else {
        answer_finally(l, io, task, -EBUSY);
    }
}

static void answer_session(struct lun *l, struct iscsi_session *s, struct datastore_io *io,
                           const struct scsi_task *task)
{
    struct why why;
    char words[200];

    sense_words(task, words, sizeof words);
    why_set(&why, 0, "disk %s: LUN %d of %s: %s; %s", l->b.name, l->target.lun, l->target.iqn, words,
            sense_advice(task));
    iscsi_session_drop(s, true, &why);
    ds_requeue(&l->b, io);
}

void iscsi_answer_good(struct lun *l, struct datastore_io *io)
{
    l->waits = 0;
    if (l->window < WINDOW_MAX)
        l->window++;
    if (l->locked_out && io->op == DATASTORE_READ) {
        l->locked_out = false;
        ds_trouble_clear(&l->b);
    }
    ds_done(&l->b, io);
}

/* Does it know the command, but not this form of it? */
static bool refuses_form(const struct scsi_task *task)
{
    return task->status == SCSI_STATUS_CHECK_CONDITION &&
           (int)task->sense.key == SCSI_SENSE_ILLEGAL_REQUEST &&
           task->sense.ascq != SCSI_SENSE_ASCQ_LBA_OUT_OF_RANGE &&
           task->sense.ascq != SCSI_SENSE_ASCQ_LOGICAL_UNIT_NOT_SUPPORTED;
}

void iscsi_answer_error(struct lun *l, struct iscsi_session *s, struct datastore_io *io,
                        const struct scsi_task *task)
{
    int status = io->op == DATASTORE_READ ? 0 : sense_write_status(task);

    metric_add(l->b.numbers.errors, 1);
    if (task->status == SCSI_STATUS_CHECK_CONDITION && task->sense.ascq == SCSI_SENSE_ASCQ_LBA_OUT_OF_RANGE)
        iscsi_session_ask(s);
    if (task->status == SCSI_STATUS_RESERVATION_CONFLICT) {
        answer_conflict(l, io, task);
        return;
    }
    if (status) {
        answer_finally(l, io, task, status);
        return;
    }
    if (refuses_form(task) && iscsi_command_other_form(&l->can, io)) {
        log_info(l->b.name, "LUN %d of %s refuses a form of %s: another is tried", l->target.lun,
                 l->target.iqn, io->op == DATASTORE_FLUSH ? "SYNCHRONIZE CACHE" : "WRITE SAME");
        ds_requeue(&l->b, io);
        return;
    }
    switch (task->status == SCSI_STATUS_GOOD ? SENSE_FEW : sense_judge(task)) {
    case SENSE_AGAIN:
        if (++io->in.tries % 16 == 0)
            ds_delay(&l->b, io, 1000);
        else
            ds_requeue(&l->b, io);
        break;
    case SENSE_WAIT:
        answer_wait(l, io, task);
        break;
    case SENSE_FEW:
        answer_few(l, io, task);
        break;
    case SENSE_SESSION:
        answer_session(l, s, io, task);
    }
}
