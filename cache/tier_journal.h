/* cache/tier_journal.h - the tier that answers from the VM's log what was written and not yet elsewhere.
 *
 * A block may be in the log whole, in part (sectors), or not at all; what is missing comes from the next
 * tier first, then the log's sectors are laid over it.
 */
#ifndef ISTHMUS_TIER_JOURNAL_H
#define ISTHMUS_TIER_JOURNAL_H

#include "tier.h"

struct vmlog;

/* log is borrowed for the tier's life; disk is its number in it. */
struct tier *tier_journal_new(struct loop *, struct tier *next, struct vmlog *log, uint8_t disk,
                              const char *vm);

#endif
