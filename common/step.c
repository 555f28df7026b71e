#include "step.h"
#include "mem.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Made by the linker: the section's bounds. Weak, for a program may have no step. */
extern struct step *const __start_isthmus_steps[] __attribute__((weak));
extern struct step *const __stop_isthmus_steps[] __attribute__((weak));

static atomic_uint times_left;

static size_t nsteps(void)
{
    return ((uintptr_t)__stop_isthmus_steps - (uintptr_t)__start_isthmus_steps) / sizeof(struct step *);
}

void step_reached(void)
{
    if (atomic_fetch_sub(&times_left, 1) != 1)
        return;
    kill(getpid(), SIGKILL);
    for (;;)
        pause(); /* nothing after the step is done by this thread */
}

int step_crash_at(const char *spec, struct why *why)
{
    size_t bytes = strcspn(spec, ":");
    unsigned long times = 1;
    bool found = false;
    char *end;

    if (spec[bytes] == ':') {
        times = strtoul(spec + bytes + 1, &end, 10);
        if (*end || end == spec + bytes + 1 || times == 0 || times > 1000000000)
            return why_set(why, -EINVAL, "%s: STEP or STEP:N, N from 1 on", spec);
    }
    atomic_store(&times_left, (unsigned)times);
    for (size_t i = 0; i < nsteps(); i++) {
        struct step *s = __start_isthmus_steps[i];

        if (strlen(s->name) == bytes && memcmp(s->name, spec, bytes) == 0) {
            atomic_store(&s->armed, true);
            found = true;
        }
    }
    if (!found)
        return why_set(why, -EINVAL, "%.*s is not a step of this program: see --steps", (int)bytes, spec);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct step *const *)a)->name, (*(struct step *const *)b)->name);
}

void step_print(FILE *to)
{
    size_t n = nsteps();
    CLEANUP_FREE struct step **sorted = xcalloc(n + 1, sizeof *sorted);

    for (size_t i = 0; i < n; i++)
        sorted[i] = __start_isthmus_steps[i];
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || strcmp(sorted[i]->name, sorted[i - 1]->name) != 0)
            fprintf(to, "%s\t%s\n", sorted[i]->name, sorted[i]->what);
    }
}
