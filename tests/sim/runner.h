/* tests/sim/runner.h - seeds in processes of their own: one that dies is a violation, and leaves nothing
 * behind.
 */
#ifndef ISTHMUS_SIM_RUNNER_H
#define ISTHMUS_SIM_RUNNER_H

#include <stdbool.h>
#include <stdint.h>

struct runner_conf {
    const char *dir; /* for all of it */
    unsigned jobs;   /* at once */
    bool calm;       /* without faults */
    bool deleting;   /* worlds in which VMs are deleted, */
    bool forcing;    /* or are of a pair whose only member is lost for good */
    bool homing;     /* or go home and come back */
    unsigned tell;   /* so many violated seeds tell their story on stdout */
    unsigned step;   /* from one seed to the next */
    bool first_only; /* ends with the first that is violated */
};

/* This process lives this seed. */
void runner_live(uint64_t seed, const char *dir, const struct runner_conf *);
/* n seeds from `from` on: how many were violated; *first is one of them, the lowest that ran (0: none). */
uint64_t runner_run(const struct runner_conf *, uint64_t from, uint64_t n, uint64_t *first);

#endif
