/* initiator/iscsi_probe.h - the questions a session asks a LUN: is it ready, how large, who is it, how long
 * may an I/O be, how are zeros written, has it reservations, may it be written. No I/O here: next() makes a
 * command, answer() takes what came back.
 */
#ifndef ISTHMUS_ISCSI_PROBE_H
#define ISTHMUS_ISCSI_PROBE_H

#include "datastore.h"
#include "iscsi_command.h"

struct scsi_task;

enum iscsi_probe_result { PROBE_MORE, PROBE_AGAIN, PROBE_DONE, PROBE_FAILED };

struct iscsi_probe {
    struct datastore_info info;
    struct iscsi_abilities can;
    bool locked_out; /* a reservation kept us from asking whether it may be written */
    bool whole;      /* all questions, not only the capacity */
    bool thin, thin_zeros;
    int step;
    unsigned steps; /* commands made since begin */
};

/* whole: forget what was known. Else only the capacity is asked again. */
void iscsi_probe_begin(struct iscsi_probe *, bool whole);
/* Asks again what it was locked out of. */
void iscsi_probe_unlocked(struct iscsi_probe *);
/* The next command; the caller's to free. */
struct scsi_task *iscsi_probe_next(const struct iscsi_probe *);
/* MORE: next() again. AGAIN: the same question again (the caller counts). FAILED: *why is a sentence without
 * its subject; it is set with AGAIN too. */
enum iscsi_probe_result iscsi_probe_answer(struct iscsi_probe *, const struct scsi_task *, struct why *);

#endif
