/* target/range.h - who writes where: what makes COMPARE AND WRITE atomic.
 *
 * Every write in the volume holds its blocks, shared with other writes; COMPARE AND WRITE holds its blocks
 * alone from before its read until its write is answered. Who comes later waits for its turn, in order of
 * arrival, so that nobody starves. Reads hold nothing. Belongs to the device, on the VM's loop.
 */
#ifndef ISTHMUS_RANGE_H
#define ISTHMUS_RANGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

struct command;
struct conn;

struct range_hold { /* in a command */
    TAILQ_ENTRY(range_hold) entry;
    uint64_t first, end; /* sectors */
    bool held, exclusive, waits;
};

TAILQ_HEAD(range_list, range_hold);
struct range_table {       /* of a device */
    struct range_list all; /* in order of arrival */
    unsigned nexclusive, nwaiting;
};

void range_init(struct range_table *);
/* The blocks of command->io. false: range_feed() goes on with it when it is its turn. */
bool range_enter(struct command *, bool exclusive);
/* Nothing to do for a command that holds nothing. */
void range_leave(struct command *);
/* From the connection's turn: commands of it that may go on now. */
void range_feed(struct conn *);

#endif
