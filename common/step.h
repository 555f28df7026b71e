/* common/step.h - named steps: where a process may be killed by a test, to the instruction.
 *
 * STEP("commit.put", "...") stands in the code where something that outlives the process has just been done.
 * Its name and words are collected by the linker: `--steps` of the daemons prints them, so that the crash
 * tests play each that there is. Without `--crash-at` a step costs one load and a branch that is never taken.
 */
#ifndef ISTHMUS_STEP_H
#define ISTHMUS_STEP_H

#include "why.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>

struct step {
    const char *name; /* PART.STEP; the same at two places is one step */
    const char *what; /* what has been done when it is reached */
    atomic_bool armed;
};

#define STEP(step_name, step_what)                                                                           \
    do {                                                                                                     \
        static struct step step_here = {.name = (step_name), .what = (step_what)};                           \
        static struct step *const step_ref __attribute__((section("isthmus_steps"), used)) = &step_here;     \
        if (__builtin_expect(atomic_load_explicit(&step_here.armed, memory_order_relaxed), 0))               \
            step_reached();                                                                                  \
    } while (0)

/* Any thread. Dies here (SIGKILL) if it is the time that was asked for. */
void step_reached(void);

/* SPEC is STEP or STEP:N: die the N-th time (from 1) that it is reached. Once, before other threads start.
 * -EINVAL: there is no such step, or N is not a number. */
int step_crash_at(const char *spec, struct why *why);

/* A line for each step of this program, by name: name, tab, what has been done. */
void step_print(FILE *to);

#endif
