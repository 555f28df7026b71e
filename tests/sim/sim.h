/* tests/sim/sim.h - the machine of the simulator: events on simulated time, nodes, fibers.
 *
 * One process, one thread. A node is a machine with daemons on it; its loops, its pool and every thread that
 * its code starts are fibers of it, which give way only where a thread would wait (sim_thread.c). What
 * happens is decided by the seed alone: the order of what is due at the same time, latencies, faults. A
 * killed node's fibers never run again; what they had in memory is lost with the process of this seed.
 */
#ifndef ISTHMUS_SIM_H
#define ISTHMUS_SIM_H

#include "loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/queue.h>

#define SIM_US UINT64_C(1000)
#define SIM_MS UINT64_C(1000000)
#define SIM_S  UINT64_C(1000000000)

struct sim_node;
struct fiber;

/* --- randomness ---- of the seed */

uint64_t sim_random(void);
uint64_t sim_below(uint64_t n);                    /* 0 to n - 1; n > 0 */
uint64_t sim_between(uint64_t low, uint64_t high); /* both included */
bool sim_chance(uint32_t per_million);
void sim_random_bytes(void *, size_t);
/* Mostly about `usual`, now and then much more: what disks and networks do. */
uint64_t sim_latency(uint64_t usual_ns);

/* --- events --- */

struct sim_event;
extern uint64_t sim_now; /* nanoseconds since the beginning */

/* fire(arg) in so long, outside of every fiber; never if the node (may be NULL: the world) was killed.
 * Returns a handle that is valid until then. */
struct sim_event *sim_after(struct sim_node *, uint64_t after_ns, void (*fire)(void *), void *arg);
void sim_cancel(struct sim_event **); /* NULL is allowed; leaves NULL */

/* Runs events until stop() says so, none is left or the time has come. */
enum sim_end { SIM_STOPPED, SIM_IDLE, SIM_TIMEOUT };
enum sim_end sim_run(uint64_t until_ns, bool (*stop)(void *arg), void *arg);
uint64_t sim_events_run(void);

/* A seed's beginning: time 0, nothing there. Once a process. */
void sim_begin(uint64_t seed);

/* --- the story ---- a line each, kept in memory until somebody wants them */

void sim_say(const struct sim_node *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void sim_story(FILE *to);
void sim_story_live(bool on);  /* to stderr as it happens, with the daemons' own log */
uint64_t sim_story_hash(void); /* the same for the same story */
/* Something that must never be was seen. */
void sim_violation(const char *format, ...) __attribute__((format(printf, 1, 2)));
unsigned sim_violations(void);

/* --- nodes --- */

struct sim_node {
    char name[24];
    bool alive;
    unsigned life;                 /* rises with each start */
    int32_t ppm;                   /* its clock runs so much fast */
    int64_t wall_ns;               /* its wall clock is so much ahead */
    uint64_t paused_until;         /* nothing of it runs before */
    uint64_t clock_sim, clock_own; /* its monotonic clock was clock_own at clock_sim */
    TAILQ_HEAD(, fiber) fibers;
    void *user; /* of who made it */
};

void sim_node_init(struct sim_node *, const char *name);
/* boot(arg) on a fiber of its own: the main thread. */
void sim_node_start(struct sim_node *, void (*boot)(void *arg), void *arg);
/* From now on nothing of it happens. May be called on one of its fibers: then it does not return. */
void sim_node_kill(struct sim_node *);
void sim_node_pause(struct sim_node *, uint64_t ns);
struct sim_node *sim_node_current(void); /* whose fiber runs; NULL: none */
uint64_t sim_node_clock(const struct sim_node *);
uint64_t sim_node_wall_ns(const struct sim_node *);
/* The clock's rate is another from now on. */
void sim_node_rate(struct sim_node *, int32_t ppm);
/* What its clock calls so long, in simulated time. */
uint64_t sim_node_span(const struct sim_node *, uint64_t ns);

/* --- fibers --- */

struct fiber *fiber_start(struct sim_node *, void (*run)(void *arg), void *arg, uint64_t after_ns);
/* On a fiber: gives way. */
void fiber_sleep(uint64_t ns);
/* Waits until fiber_wake(what) or the time is over (UINT64_MAX: never; then true is returned). */
bool fiber_wait(const void *what, uint64_t timeout_ns);
void fiber_wake(const void *what, bool all);
struct fiber *fiber_current(void);
uint64_t fiber_id(const struct fiber *); /* never another's again */
void fiber_join(uint64_t id);            /* until that one has ended */
/* While > 0 nothing on this fiber may give way. */
extern unsigned fiber_atomic;
/* Now and then a fiber gives way where it takes a lock. */
void fiber_preempt(uint32_t per_million);
void fiber_maybe_preempt(void);

/* --- loops --- */

/* A loop of the node; name is borrowed. */
struct loop *sim_loop_new(struct sim_node *, const char *name);
void sim_loop_run(struct loop *);   /* on the calling fiber; never returns */
void sim_loop_start(struct loop *); /* on a fiber of its own */
struct sim_node *sim_loop_node(struct loop *);

/* --- steps ---- of the daemons' code (step.h) */

size_t sim_steps(void);
const char *sim_step_name(size_t);
/* The node whose code gets there the n-th time is killed: kill(arg, name), on its fiber. One at a time. */
void sim_step_arm(size_t step, unsigned times, void (*kill)(void *arg, struct sim_node *, const char *name),
                  void *arg);

#endif
