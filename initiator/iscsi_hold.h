/* initiator/iscsi_hold.h - the commands by which a session takes, keeps and gives up the persistent
 * reservation of a LUN. No I/O here: next() makes a command, answer() takes what came back.
 *
 *    REGISTER ──► READ ──┬──► (ours) held                      to give up: REGISTER ──► READ ──┬──► CLEAR
 *        ▲               ├──► (somebody else's) taken                                          └──►
 * UNREGISTER └── registered? └──► (none) RESERVE ──► held                                  (not ours)
 *
 * Each session registers, as each is another initiator port; one of them reserves. The type is Exclusive
 * Access - Registrants Only: who has not our key can neither write nor read, so the source VM does not start
 * at all, rather than run on stale disks until its first write fails. Nobody is preempted.
 */
#ifndef ISTHMUS_ISCSI_HOLD_H
#define ISTHMUS_ISCSI_HOLD_H

#include "why.h"

#include <stdbool.h>
#include <stdint.h>

struct scsi_task;

enum iscsi_hold_result { HOLD_MORE, HOLD_AGAIN, HOLD_LATER, HOLD_DONE };

enum iscsi_hold_outcome {
    HOLD_HELD,
    HOLD_REGAINED, /* held; but somebody had taken it from us in the meantime */
    HOLD_TAKEN,    /* somebody else has it: `other`, or 0 for a reservation without a key */
    HOLD_RELEASED,
    HOLD_NONE, /* the target has no persistent reservations */
};

struct iscsi_hold {
    enum iscsi_hold_outcome outcome; /* after HOLD_DONE */
    uint64_t other;
    uint64_t key;   /* that this was about */
    unsigned asked; /* by then; the caller's, for himself */
    bool no_aptpl;  /* the target cannot keep it over its own restart */
    /* private */
    bool releasing, fresh;
    bool registered; /* in this session's life */
    bool settled;    /* and it has seen that we hold it */
    bool lost;       /* since then somebody has changed it */
    int step;
    unsigned rounds;
};

/* A new login: nothing is known about registration. */
void iscsi_hold_forget(struct iscsi_hold *);
/* Somebody has changed it, the target says (2A/03 to 2A/05, RESERVATION CONFLICT): registers again. Who held
 * it has lost it for a while, even if another session of ours has it again before we look. */
void iscsi_hold_doubt(struct iscsi_hold *);
/* It is known not to be ours now: to have it again is no news. */
void iscsi_hold_unsettle(struct iscsi_hold *);
/* Takes or checks the reservation under key; with `release` gives up the one under that key. */
void iscsi_hold_begin(struct iscsi_hold *, uint64_t key, uint64_t release);
/* The next command; the caller's to free. */
struct scsi_task *iscsi_hold_next(const struct iscsi_hold *);
/* MORE: next() again. AGAIN: the same again. LATER: not now; *why is a sentence without its subject. */
enum iscsi_hold_result iscsi_hold_answer(struct iscsi_hold *, const struct scsi_task *, struct why *);

#endif
