/* initiator/sense.h - what a target meant by its SCSI status and sense data, for the retry logic and for
 * people.
 */
#ifndef ISTHMUS_SENSE_H
#define ISTHMUS_SENSE_H

#include <stdbool.h>
#include <stddef.h>

struct scsi_task;

enum sense_verdict {
    SENSE_AGAIN,   /* ask again at once: it only had something to say first */
    SENSE_WAIT,    /* ask again later, for as long as it takes: busy, becoming ready, reserved */
    SENSE_FEW,     /* ask again a few times, then it is an error */
    SENSE_SESSION, /* this session is of no use any more: log in again */
};

/* The first thing to do with an answer: its status, and no sense but what has come. (libiscsi reads sense
 * data without a look at how many bytes there are.) */
void sense_take(struct scsi_task *task, int status);
/* task ended with a status other than GOOD. */
enum sense_verdict sense_judge(const struct scsi_task *task);
/* "MEDIUM ERROR, unrecovered read error (key 3h, asc/ascq 11h/00h)". */
void sense_words(const struct scsi_task *task, char *out, size_t size);
/* What the operator can do about it. */
const char *sense_advice(const struct scsi_task *task);
/* What it means for a write that should not be tried again: -EROFS, -ENOSPC, -EBUSY (reserved by somebody
 * else); 0: none of them. */
int sense_write_status(const struct scsi_task *task);
/* The target was restarted or reset: its cache may be lost. */
bool sense_says_reset(const struct scsi_task *task);
/* Somebody has changed the reservations. */
bool sense_says_reserved(const struct scsi_task *task);
/* Capacity, mode or inventory are other than they were: ask again. */
bool sense_says_changed(const struct scsi_task *task);

#endif
