/* tests/sim/main.c - sim: seeds, one after the other, each in a process of its own.
 *
 *   sim --seeds N [--from S]   N seeds from S (1) on; what a seed that was violated tells is printed
 *   sim --seed S [--live]      one seed, in this process, and its story
 *   --broken                   each broken variant (broken.h) until a seed is violated, at most as many as it
 * may take
 *   --variant N                with the N-th of them
 *   --calm                     without faults
 *   --debug                    with the daemons' debug lines
 */
#include "broken.h"
#include "sim.h"
#include "world.h"

#include "log.h"
#include "mem.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SEED_S = 120 /* of this machine's time */, STORIES = 3 };

static char dir[64];

/* A daemon's CHECK, or worse: the story up to there. */
static void died(int number)
{
    signal(number, SIG_DFL);
    sim_story(stdout);
    fflush(stdout);
    raise(number);
}

static void on_death(void)
{
    static uint8_t stack[64 << 10];
    struct sigaction action = {.sa_handler = died, .sa_flags = SA_ONSTACK};
    const stack_t other = {.ss_sp = stack, .ss_size = sizeof stack};

    sigaltstack(&other, NULL);
    sigaction(SIGABRT, &action, NULL);
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
}

static void empty_dir(void)
{
    CLEANUP_FREE char *command = xasprintf("rm -rf '%s'", dir);

    if (system(command) != 0)
        fprintf(stderr, "sim: cannot remove %s\n", dir);
}

static void run_one(uint64_t seed, bool calm)
{
    struct world_conf conf = {.dir = dir, .faults = !calm};

    world_run(seed, &conf);
}

/* In a child: 0 good, 1 violated, anything else died. */
static int run_child(uint64_t seed, bool calm, bool quiet)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        alarm(SEED_S);
        if (quiet && !freopen("/dev/null", "w", stdout))
            _exit(2);
        run_one(seed, calm);
        if (sim_violations() && !quiet) {
            printf("--- seed %" PRIu64 "\n", seed);
            sim_story(stdout);
            fflush(stdout);
        }
        _exit(sim_violations() ? 1 : 0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        perror("sim");
        exit(2);
    }
    if (WIFSIGNALED(status) && !quiet)
        printf("--- seed %" PRIu64 " died by signal %d (%s); replay it: sim --seed %" PRIu64 " --live\n",
               seed, WTERMSIG(status), strsignal(WTERMSIG(status)), seed);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}

/* Each variant must be found within its seeds. */
static int run_broken(void)
{
    unsigned caught = 0;

    for (broken = 1; broken < BROKEN_RECORDS; broken++) {
        unsigned seed = 1;

        while (seed <= broken_seeds(broken) && run_child(seed, false, true) == 0)
            seed++;
        if (seed <= broken_seeds(broken))
            printf("variant %d caught by seed %u of %u: %s\n", (int)broken, seed, broken_seeds(broken),
                   broken_name(broken));
        else
            printf("variant %d NOT caught by %u seeds: %s\n", (int)broken, broken_seeds(broken),
                   broken_name(broken));
        fflush(stdout);
        caught += seed <= broken_seeds(broken);
    }
    printf("broken %d caught %u\n", BROKEN_RECORDS - 1, caught);
    return caught == BROKEN_RECORDS - 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run_many(uint64_t from, uint64_t n, bool calm)
{
    uint64_t violated = 0;

    for (uint64_t seed = from; seed < from + n; seed++)
        violated += run_child(seed, calm, violated >= STORIES) != 0;
    printf("seeds %" PRIu64 " violations %" PRIu64 "\n", n, violated);
    return violated ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seeds", required_argument, NULL, 'n'},
                                            {"from", required_argument, NULL, 'f'},
                                            {"seed", required_argument, NULL, 's'},
                                            {"broken", no_argument, NULL, 'b'},
                                            {"variant", required_argument, NULL, 'v'},
                                            {"live", no_argument, NULL, 'l'},
                                            {"debug", no_argument, NULL, 'd'},
                                            {"calm", no_argument, NULL, 'c'},
                                            {NULL, 0, NULL, 0}};
    uint64_t n = 0, from = 1, seed = 0;
    bool calm = false, one = false, live = false, debug = false, all_broken = false;
    int c, rc;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'n')
            n = strtoull(optarg, NULL, 10);
        else if (c == 'f')
            from = strtoull(optarg, NULL, 10);
        else if (c == 's')
            one = true, seed = strtoull(optarg, NULL, 10);
        else if (c == 'l')
            live = true;
        else if (c == 'b')
            all_broken = true;
        else if (c == 'v')
            broken = (enum broken)strtoul(optarg, NULL, 10);
        else if (c == 'd')
            debug = true;
        else if (c == 'c')
            calm = true;
        else
            return 2;
    }
    snprintf(dir, sizeof dir, "/dev/shm/isthmus-sim.%d", (int)getpid());
    if (mkdir(dir, 0700) < 0) {
        perror(dir);
        return 2;
    }
    mallopt(M_MMAP_THRESHOLD, 1 << 20); /* nothing else is given back: it ends soon */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    log_set_level(debug ? "debug" : "info");
    on_death();
    if (one) {
        sim_story_live(live);
        run_one(seed, calm);
        if (!live)
            sim_story(stdout);
        printf("seed %" PRIu64 " violations %u events %" PRIu64 " story %016" PRIx64 "\n", seed,
               sim_violations(), sim_events_run(), sim_story_hash());
        rc = sim_violations() ? EXIT_FAILURE : EXIT_SUCCESS;
    } else if (all_broken) {
        rc = run_broken();
    } else {
        rc = run_many(from, n, calm);
    }
    empty_dir();
    return rc;
}
