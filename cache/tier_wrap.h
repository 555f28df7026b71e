/* cache/tier_wrap.h - tiers that only make trouble: delay and fail, put into a stack from the configuration.
 *
 *      delay:50ms                              every read waits that long (ms or s), then goes on
 *      fail:every=100,errno=EIO,file=/tmp/x    every hundredth read fails with that errno (EIO, ENOENT or
 *                                              ECANCELED), as long as the file exists (without file: always)
 *
 * Made and used on the loop of the disk they serve. They take `next`: tier_stack_free() frees it too.
 */
#ifndef ISTHMUS_TIER_WRAP_H
#define ISTHMUS_TIER_WRAP_H

#include "tier.h"
#include "why.h"

/* NULL with a sentence if args cannot be understood. */
struct tier *tier_delay_new(struct loop *, struct tier *next, const char *args, struct why *);
struct tier *tier_fail_new(struct loop *, struct tier *next, const char *args, struct why *);
int tier_delay_check(const char *args, struct why *); /* 0, or -EINVAL with the sentence */
int tier_fail_check(const char *args, struct why *);

/* Stacks what spec names, top first, separated by blanks ("delay:50ms fail:every=100"), over next, and
 * returns the top; an empty spec gives next itself. NULL with a sentence: next is untouched. */
struct tier *tier_wrap(const char *spec, struct loop *, struct tier *next, struct why *);
/* 0, or -EINVAL with the sentence, before there is a loop. */
int tier_wrap_check(const char *spec, struct why *);

#endif
