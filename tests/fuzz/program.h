/* tests/fuzz/program.h - inputs that are little programs: a byte that says how to begin, then steps, each its
 * kind, a length of two bytes and so many bytes. What is missing is zero, so every input is a program.
 *
 * A length to each step keeps what follows a change as it was; mutate.c works on steps, not on bytes.
 */
#ifndef ISTHMUS_FUZZ_PROGRAM_H
#define ISTHMUS_FUZZ_PROGRAM_H

#include "wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { PROGRAM_STEPS = 64, STEP_HEAD_BYTES = 3 };

/* The bytes of an input, or of one step, that are still to be looked at. */
struct program {
    const uint8_t *p, *end;
};

static inline uint8_t take8(struct program *in)
{
    return in->p < in->end ? *in->p++ : 0;
}

static inline uint32_t take16(struct program *in)
{
    uint32_t high = take8(in);

    return high << 8 | take8(in);
}

/* At most *n bytes; *n is how many there are. */
static inline const uint8_t *take(struct program *in, uint32_t *n)
{
    const uint8_t *p = in->p;

    if (*n > (size_t)(in->end - p))
        *n = (uint32_t)(in->end - p);
    in->p += *n;
    return p;
}

static inline const uint8_t *take_rest(struct program *in, uint32_t *n)
{
    *n = UINT32_MAX;
    return take(in, n);
}

static inline bool take_step(struct program *in, uint8_t *kind, struct program *step)
{
    uint32_t n;

    if (in->p >= in->end)
        return false;
    *kind = take8(in);
    n = take16(in);
    step->p = take(in, &n);
    step->end = step->p + n;
    return true;
}

/* Where new steps are written; what does not fit is left out. */
struct maker {
    uint8_t *at, *end;
    uint64_t seed;
};

uint32_t make_random(struct maker *, uint32_t below);
void make_step(struct maker *, uint8_t kind, const void *bytes, size_t n);

/* By the target: appends a step, or a few that belong together. */
void program_make(struct maker *);
/* By the target: whether the bytes of such a step are text of login keys from *at on. */
bool program_text(uint8_t kind, unsigned *at);

#endif
