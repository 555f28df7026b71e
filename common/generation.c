/* common/generation.c - see generation.h. The only file that holds the number.
 */
#include "generation.h"
#include "check.h"
#include "log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

static const char part[] = "main";

/* Tests build daemons of later generations, which differ in nothing but this (tests/lib/CMakeLists.txt). */
#ifndef ISTHMUS_GENERATION_RAISED
#define ISTHMUS_GENERATION_RAISED 0
#endif
enum { GENERATION = 1 + ISTHMUS_GENERATION_RAISED };

static atomic_uint written; /* 0: nobody has said anything yet */

unsigned generation_newest(void)
{
    return GENERATION;
}

void generation_write(unsigned generation)
{
    unsigned before = generation_written();

    CHECK(generation >= 1 && generation <= GENERATION);
    while (before < generation && !atomic_compare_exchange_weak(&written, &before, generation))
        ;
    if (before < generation)
        log_info(NULL, "from now on this daemon writes as generation %u", generation);
}

unsigned generation_written(void)
{
    unsigned now = atomic_load(&written);

    return now ? now : generation_before(GENERATION);
}

uint16_t generation_format(unsigned first)
{
    return (uint16_t)(first + generation_written() - 1);
}

int generation_reads(unsigned first, unsigned format, struct why *why)
{
    if (format >= first && format < first + GENERATION)
        return 0;
    return why_set(why, -ENOTSUP, "its format is %u and this program, of generation %d, reads %u to %u",
                   format, GENERATION, first, first + GENERATION - 1);
}

int generation_agree(const struct generation_range *a, const struct generation_range *b, struct why *why)
{
    const struct generation_range *newer = a->newest > b->newest ? a : b, *older = newer == a ? b : a;

    if (older->newest >= newer->oldest)
        return (int)older->newest;
    return why_set(why, -EPROTO,
                   "%s speaks versions %u to %u of the link protocol and %s %u to %u: update %s", newer->name,
                   newer->oldest, newer->newest, older->name, older->oldest, older->newest, older->name);
}
