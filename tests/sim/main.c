/* tests/sim/main.c - sim: what comes from a seed (docs/simulator.md).
 *
 *   sim --seeds N [--from S]   N seeds from S (1) on; the first few that are violated tell their story
 *   sim --seed S [--live]      one seed, in this process, and its story; --live: as it happens
 *   sim --broken [--variant N] each broken variant (broken.h), or that one, until a seed is violated
 *   --variant N                with the N-th broken variant
 *   --jobs N                   so many seeds at once (1)
 *   --calm                     without faults
 *   --deleting                 worlds with one more VM, which is made and deleted again and again
 *   --homing                   worlds in which the first VM goes home and comes back, again and again
 *   --forcing                  worlds of pairs whose only member is lost for good now and then
 *   --debug                    with the daemons' debug lines
 */
#include "broken.h"
#include "runner.h"
#include "sim.h"

#include "log.h"
#include "mem.h"

#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STORIES = 3 };

static char dir[64];

static void empty_dir(void)
{
    CLEANUP_FREE char *command = xasprintf("rm -rf '%s'", dir);

    if (system(command) != 0)
        fprintf(stderr, "sim: cannot remove %s\n", dir);
}

/* Each must be found within its seeds. */
static int run_broken(struct runner_conf conf)
{
    int from = broken ? (int)broken : 1, to = broken ? (int)broken : BROKEN_VARIANTS - 1, caught = 0;
    uint64_t seed;

    conf.tell = 0;
    conf.first_only = true;
    conf.step = 2; /* of one kind */
    for (int variant = from; variant <= to; variant++) {
        bool found;

        broken = (enum broken)variant;
        conf.deleting = broken_is_of_deleting(broken);
        conf.homing = broken_is_of_homing(broken);
        conf.forcing = broken_is_of_forcing(broken);
        found = runner_run(&conf, broken_is_of_pair(broken) ? 2 : 1, broken_seeds(broken), &seed) > 0;

        if (found)
            printf("variant %d caught by seed %" PRIu64 ", the %" PRIu64 ". of %u: %s\n", (int)broken, seed,
                   (seed + 1) / 2, broken_seeds(broken), broken_name(broken));
        else
            printf("variant %d NOT caught by %u seeds: %s\n", (int)broken, broken_seeds(broken),
                   broken_name(broken));
        caught += found;
    }
    printf("broken %d caught %d\n", to - from + 1, caught);
    return caught == to - from + 1 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int run_many(const struct runner_conf *conf, uint64_t from, uint64_t n)
{
    uint64_t first, violated = runner_run(conf, from, n, &first);

    printf("seeds %" PRIu64 " violations %" PRIu64 "\n", n, violated);
    return violated ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run_one(uint64_t seed, const struct runner_conf *conf, bool live)
{
    sim_story_live(live);
    runner_live(seed, dir, conf);
    if (!live)
        sim_story(stdout);
    printf("seed %" PRIu64 " violations %u events %" PRIu64 " story %016" PRIx64 "\n", seed, sim_violations(),
           sim_events_run(), sim_story_hash());
    return sim_violations() ? EXIT_FAILURE : EXIT_SUCCESS;
}

struct options {
    uint64_t seeds, from, seed;
    bool one, live, debug, broken;
    struct runner_conf runner;
};

static bool read_options(struct options *o, int argc, char **argv)
{
    static const struct option known[] = {{"seeds", required_argument, NULL, 'n'},
                                          {"from", required_argument, NULL, 'f'},
                                          {"seed", required_argument, NULL, 's'},
                                          {"jobs", required_argument, NULL, 'j'},
                                          {"variant", required_argument, NULL, 'v'},
                                          {"broken", no_argument, NULL, 'b'},
                                          {"live", no_argument, NULL, 'l'},
                                          {"calm", no_argument, NULL, 'c'},
                                          {"debug", no_argument, NULL, 'd'},
                                          {"deleting", no_argument, NULL, 'e'},
                                          {"homing", no_argument, NULL, 'h'},
                                          {"forcing", no_argument, NULL, 'o'},
                                          {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        uint64_t number = optarg ? strtoull(optarg, NULL, 10) : 0;

        if (c == '?' || (optarg && number == 0) || (c == 'v' && number >= BROKEN_VARIANTS))
            return false;
        *(c == 'n' ? &o->seeds : c == 'f' ? &o->from : c == 's' ? &o->seed : &number) = number;
        o->one |= c == 's';
        o->live |= c == 'l';
        o->debug |= c == 'd';
        o->broken |= c == 'b';
        o->runner.calm |= c == 'c';
        o->runner.deleting |= c == 'e';
        o->runner.homing |= c == 'h';
        o->runner.forcing |= c == 'o';
        if (c == 'j')
            o->runner.jobs = (unsigned)number;
        if (c == 'v')
            broken = (enum broken)number;
    }
    return optind == argc && (o->seeds > 0) + o->one + o->broken == 1;
}

int main(int argc, char **argv)
{
    struct options o = {.from = 1, .runner = {.dir = dir, .jobs = 1, .tell = STORIES, .step = 1}};
    int rc;

    if (!read_options(&o, argc, argv)) {
        fprintf(stderr, "Usage: sim --seeds N [--from S] | --seed S [--live] | --broken\n"
                        "           [--variant N] [--jobs N] [--calm] [--deleting] [--homing] [--forcing]\n"
                        "           [--debug]\n");
        return 2;
    }
    snprintf(dir, sizeof dir, "/dev/shm/isthmus-sim.%d", (int)getpid());
    if (mkdir(dir, 0700) < 0) {
        perror(dir);
        return 2;
    }
    mallopt(M_MMAP_THRESHOLD, 32 << 20); /* nothing else is given back: it ends soon */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    log_set_level(o.debug ? "debug" : "info");
    if (o.one)
        rc = run_one(o.seed, &o.runner, o.live);
    else if (o.broken)
        rc = run_broken(o.runner);
    else
        rc = run_many(&o.runner, o.from, o.seeds);
    empty_dir();
    return rc;
}
