/* tests/sim/runner.c - see runner.h.
 */
#include "runner.h"

#include "sim.h"
#include "world.h"

#include "check.h"
#include "mem.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEED_S = 180 /* of this machine's time */, JOBS_MAX = 64 };

struct job {
    pid_t pid; /* 0: none */
    uint64_t seed;
    char dir[96], out[112];
};

/* A daemon's CHECK, or worse: the story up to there. */
static void died(int number)
{
    signal(number, SIG_DFL);
    sim_story(stdout);
    fflush(stdout);
    raise(number);
}

static void tell_at_death(void)
{
    static uint8_t stack[64 << 10];
    struct sigaction action = {.sa_handler = died, .sa_flags = SA_ONSTACK};
    const stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};
    static const int numbers[] = {SIGABRT, SIGSEGV, SIGBUS, SIGALRM};

    CHECK(sigaltstack(&other, NULL) == 0);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        CHECK(sigaction(numbers[i], &action, NULL) == 0);
}

void runner_live(uint64_t seed, const char *dir, const struct runner_conf *runner)
{
    struct world_conf conf = {.dir = dir,
                              .faults = !runner->calm,
                              .deleting = runner->deleting,
                              .homing = runner->homing,
                              .forcing = runner->forcing};

    tell_at_death();
    world_run(seed, &conf);
}

static void live_in_child(const struct job *j, const struct runner_conf *conf)
{
    alarm(SEED_S);
    if (!freopen(j->out, "we", stdout))
        _exit(2);
    runner_live(j->seed, j->dir, conf);
    if (sim_violations())
        sim_story(stdout);
    fflush(stdout);
    _exit(sim_violations() ? 1 : 0);
}

static void start(struct job *j, unsigned slot, uint64_t seed, const struct runner_conf *conf)
{
    j->seed = seed;
    snprintf(j->dir, sizeof j->dir, "%s/%u", conf->dir, slot);
    snprintf(j->out, sizeof j->out, "%s/out", j->dir);
    mkdir(j->dir, 0700);
    fflush(stdout);
    j->pid = fork();
    CHECK(j->pid >= 0);
    if (j->pid == 0)
        live_in_child(j, conf);
}

static void print_story(const struct job *j, int status)
{
    FILE *f = fopen(j->out, "re");
    char line[1024];

    printf("--- seed %" PRIu64 "\n", j->seed);
    while (f && fgets(line, sizeof line, f))
        fputs(line, stdout);
    if (f)
        fclose(f);
    if (WIFSIGNALED(status))
        printf("--- seed %" PRIu64 " died by signal %d (%s)\n", j->seed, WTERMSIG(status),
               strsignal(WTERMSIG(status)));
    printf("--- replay it: sim --seed %" PRIu64 "\n", j->seed);
}

/* Waits for one to end: true if it was violated. */
static bool reap(struct job *jobs, const struct runner_conf *conf, uint64_t violated, uint64_t *seed)
{
    struct job *j = jobs;
    int status;
    pid_t pid = wait(&status);

    CHECK(pid > 0);
    while (j->pid != pid)
        j++;
    j->pid = 0;
    *seed = j->seed;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return false;
    if (violated < conf->tell)
        print_story(j, status);
    return true;
}

uint64_t runner_run(const struct runner_conf *conf, uint64_t from, uint64_t n, uint64_t *first)
{
    unsigned njobs = conf->jobs < JOBS_MAX ? conf->jobs : JOBS_MAX, running = 0;
    struct job *jobs = xcalloc(njobs, sizeof *jobs);
    uint64_t violated = 0, next = from, end = from + n * conf->step;

    *first = 0;
    while (running > 0 || (next < end && !(conf->first_only && violated))) {
        bool more = next < end && !(conf->first_only && violated);
        uint64_t seed;

        for (unsigned i = 0; more && i < njobs && next < end; i++)
            if (!jobs[i].pid) {
                start(&jobs[i], i, next, conf);
                next += conf->step;
                running++;
            }
        if (reap(jobs, conf, violated, &seed)) {
            violated++;
            if (!*first || seed < *first)
                *first = seed;
        }
        running--;
    }
    free(jobs);
    return violated;
}
