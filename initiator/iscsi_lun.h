/* initiator/iscsi_lun.h - the iSCSI datastore as its two files see it: ds_iscsi.c (sessions, the reservation)
 * and iscsi_answer.c (what an answer means for the I/O). Nobody else includes it.
 */
#ifndef ISTHMUS_ISCSI_LUN_H
#define ISTHMUS_ISCSI_LUN_H

#include "ds_base.h"
#include "iscsi_command.h"
#include "iscsi_hold.h"
#include "iscsi_session.h"

enum { SESSIONS_MAX = 8, WINDOW_MAX = 16 };

struct lun {
    struct ds_base b; /* first */
    struct iscsi_target target;
    struct iscsi_abilities can;
    struct iscsi_session *sessions[SESSIONS_MAX];
    unsigned nsessions;
    /* Sessions that were lost with a write on its way. It may still arrive, until the target ends the old
     * session at the new login; before that nothing is written, so that old data cannot overtake new. */
    bool fences[SESSIONS_MAX];
    struct timer fence; /* or until it may be taken to have done so */
    unsigned window;    /* I/O per session: halved by TASK SET FULL, grows back */
    unsigned waits;     /* in a row, for the back-off */
    bool held, taken;   /* the reservation, by us or by somebody else */
    bool doubted;       /* taken, but it is being asked again: writes wait for the answer */
    uint64_t told_ns;   /* when somebody was last found to have removed ours */
    bool cannot_hold;   /* the target has no reservations, after all */
    bool locked_out;    /* reads get RESERVATION CONFLICT */
};

/* Each takes io, and ends it, puts it back or delays it. */
void iscsi_answer_good(struct lun *, struct datastore_io *io);
void iscsi_answer_error(struct lun *, struct iscsi_session *, struct datastore_io *io,
                        const struct scsi_task *task);
/* It was not even asked: somebody else has the reservation. */
void iscsi_answer_taken(struct lun *, struct datastore_io *io);

#endif
