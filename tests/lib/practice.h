/* tests/lib/practice.h - what the cases of `practice` share: the target under test, its processes, what is
 * wanted.
 *
 * A case says what breaks a promise in one sentence and ends the program with status 1. One thread.
 */
#ifndef ISTHMUS_PRACTICE_H
#define ISTHMUS_PRACTICE_H

#include "raw.h"

#include <sys/types.h>

struct play {
    const char *address, *iqn;
    uint16_t port;
    unsigned count;      /* how often, how many: 0 is the case's own choice */
    uint64_t at;         /* sectors that no other case reads begin here */
    pid_t edge, backend; /* the edge; the on-prem daemon, which is stopped to make reads wait. 0: not told */
    unsigned slowness;   /* of a build with sanitizers */
};
extern struct play play;

_Noreturn void broken(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define WANT(condition, ...)                                                                                 \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            broken(__VA_ARGS__);                                                                             \
    } while (0)
/* How it went, for the story's log. */
void told(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t now_ms(void);
/* How long something has taken, but for the time in which the machine ran others though we, or threads of the
 * edge or the on-prem daemon, were ready to run. */
struct span {
    uint64_t since_ms, waited_ms;
};
struct span span_begin(void);
unsigned span_ms(const struct span *);
void pause_ms(unsigned);
uint32_t any(uint32_t below); /* the same numbers every time */

/* Reads that are not in the cache wait from stall() to resume(). */
void stall(void);
void resume(void);
long edge_rss_kib(void);

/* Logged in, watched (practice_watch.c), unit attentions cleared. */
struct raw *session_new(uint8_t isid, const char *more);
/* The same with another initiator's name; status: wanted of the login. NULL if that is not success. */
struct raw *session_of(const char *initiator, const char *iqn, uint8_t isid, const char *more, int status);
void session_ready(struct raw *); /* TEST UNIT READY until it is GOOD */
/* The session answers: a ping, and nothing else comes before its answer. */
void session_quiet(struct raw *, const char *when);
void session_ends(struct raw **);  /* by a logout */
void session_reset(struct raw **); /* by a reset of the line */

/* Every field of a PDU of the target that follows from those before it. */
void watch_begin(struct raw *);
void watch_end(struct raw *);

/* READ(16) without waiting for its answer: its tag. */
uint32_t read_send(struct raw *, uint64_t lba, uint32_t sectors);
void read_good(struct raw *, uint64_t lba, uint32_t sectors);
/* The status of a task management function, which must be answered within a second. */
int managed(struct raw *, uint8_t function, uint32_t task, uint32_t ref_cmd_sn);

#define CASES(X)                                                                                             \
    X(splits)                                                                                                \
    X(exp_stat_sn)                                                                                           \
    X(dribble)                                                                                               \
    X(unsupported)                                                                                           \
    X(aborts)                                                                                                \
    X(abort_race)                                                                                            \
    X(resets)                                                                                                \
    X(reset_while_writing)                                                                                   \
    X(big_reads)                                                                                             \
    X(gone_in_flight)                                                                                        \
    X(reinstated)                                                                                            \
    X(relogin_storm)                                                                                         \
    X(removed)                                                                                               \
    X(idle_crowd)                                                                                            \
    X(logins)                                                                                                \
    X(logins_at_once)                                                                                        \
    X(never_reads)                                                                                           \
    X(resets_of_the_line)                                                                                    \
    X(more_writers_than_memory)                                                                              \
    X(one_greedy_writer)                                                                                     \
    X(hoarders)                                                                                              \
    X(too_many_connections)                                                                                  \
    X(silent_with_io)                                                                                        \
    X(slow_sender)                                                                                           \
    X(deaf_to_pings)                                                                                         \
    X(ping_under_load)                                                                                       \
    X(holds_reservation)                                                                                     \
    X(wants_reservation)                                                                                     \
    X(new_isid)                                                                                              \
    X(all_targets)

#define CASE(name) void case_##name(void);
CASES(CASE)
#undef CASE

#endif
