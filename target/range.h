/* target/range.h - who is where: what makes COMPARE AND WRITE, ORWRITE and WRITE ATOMIC atomic.
 *
 * Every write in the volume holds its blocks, and every read that could not be answered at once. COMPARE AND
 * WRITE and ORWRITE hold theirs ALONE, against writes, from before their read until their write is answered.
 * WRITE ATOMIC is against reads: one that has to wait for some of its blocks must not see half of it. It
 * waits for none (what they wait for may be the WAN): such a read is made once more. A read that comes later
 * waits for the write. Who waits does so in order of arrival, so that nobody starves. Belongs to the device,
 * on the VM's loop.
 */
#ifndef ISTHMUS_RANGE_H
#define ISTHMUS_RANGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct command;
struct conn;

enum range_kind { RANGE_READ, RANGE_WRITE, RANGE_ATOMIC, RANGE_ALONE, RANGE_KINDS };

struct range_hold { /* in a command */
    TAILQ_ENTRY(range_hold) entry;
    uint64_t first, end; /* sectors */
    enum range_kind kind;
    bool held, waits;
    bool torn; /* a read: some of its blocks may be older than an atomic write, others newer */
};

TAILQ_HEAD(range_list, range_hold);
struct range_table {       /* of a device */
    struct range_list all; /* in order of arrival */
    unsigned n[RANGE_KINDS], nwaiting;
};

void range_init(struct range_table *);
/* The blocks of command->io. false: range_feed() goes on with it when it is its turn. */
bool range_enter(struct command *, enum range_kind);
/* A read that has entered will take a while. */
void range_linger(struct command *);
/* Whether an atomic write is where that read is. */
bool range_is_atomic(struct command *);
/* Nothing to do for a command that holds nothing. */
void range_leave(struct command *);
/* From the connection's turn: commands of it that may go on now. */
void range_feed(struct conn *);

#endif
