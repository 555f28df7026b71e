/* common/generation.h - which generation of Isthmus this program is of, and as which it may write.
 *
 * One number stands for all that daemons say to each other and leave in an object store. A program of
 * generation N speaks as N and as N - 1, reads what N and all before it have written, and writes as new as
 * everybody understands who may have to read it. docs/generations.md has the rules and what each number
 * stands for.
 *
 * Any thread. One answer for the whole process, which only rises.
 */
#ifndef ISTHMUS_GENERATION_H
#define ISTHMUS_GENERATION_H

#include "why.h"

#include <stdint.h>

unsigned generation_newest(void); /* this program's own */

/* The oldest that a program of this one still speaks and writes. */
static inline unsigned generation_before(unsigned newest)
{
    return newest > 1 ? newest - 1 : 1;
}

/* From now on things may be written as this one, at most generation_newest(): whoever may have to read them
 * can. A lower one than before changes nothing. */
void generation_write(unsigned generation);
/* As which things are written now. */
unsigned generation_written(void);

/* For the field of an object that tells its format: `first` is what generation 1 writes there, and each
 * generation after it one more. */
uint16_t generation_format(unsigned first);
/* 0, or -ENOTSUP with why: it was written by a generation that this program does not know. */
int generation_reads(unsigned first, unsigned format, struct why *why);

/* Who speaks what. */
struct generation_range {
    const char *name;
    unsigned oldest, newest;
};
/* The newest that both speak. -EPROTO with why if there is none: the same sentence whoever of the two asks.
 */
int generation_agree(const struct generation_range *, const struct generation_range *, struct why *why);

#endif
