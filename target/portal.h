/* target/portal.h - the target as its own files see it: listeners, and what each loop holds.
 *
 * struct target belongs to the main loop, except what is said otherwise. Each struct shard belongs to its
 * loop: the connections, VMs and memory budget there.
 */
#ifndef ISTHMUS_PORTAL_H
#define ISTHMUS_PORTAL_H

#include "groups.h"
#include "metric.h"
#include "paths.h"
#include "target.h"

#include <pthread.h>
#include <sys/queue.h>

struct conn;
struct device;
struct session;
struct command;
struct target;

enum { SHARD_READ_BYTES = 128 * 1024, SHARD_SPARE_COMMANDS = 512 };

/* The part of the target on one loop. */
struct shard {
    struct target *target;
    struct loop *loop;
    unsigned index;
    TAILQ_HEAD(, conn) conns;
    TAILQ_HEAD(, device) devices;
    LIST_HEAD(, forwarded) forwarded; /* sessions of the other edge's initiators */
    TAILQ_HEAD(, conn) starved;       /* connections with commands that wait for loop_bytes */
    uint64_t held_bytes;              /* of all commands of this loop */
    struct metric *m_held;            /* the same, as of the last second */
    uint8_t *read_buffer;             /* shared by all connections: what is left of it is kept by the one */
    STAILQ_HEAD(, command) spare;     /* freed commands, for the next */
    unsigned nspare;
    bool stopping;
    struct task stop_task, stopped_task; /* main -> loop (and its answer), loop -> main */
    struct task quiet_task;              /* the loop's own: after the turns of what it has closed */
    atomic_bool quiet;                   /* no socket is open, none will be */
    atomic_bool reported;                /* stopped_task is on its way */
    struct timer stop_timer;
};

struct peers;
struct portal;

struct target {
    LIST_ENTRY(target) entry; /* all of the process, under their lock */
    struct target_conf conf;  /* limits filled in */
    struct portal *portals;
    unsigned nportals;
    struct groups groups; /* of the portals */
    struct paths paths;   /* and the other edge's */
    struct shard *shards;
    struct reserve_store *reservations; /* as they were at the start; NULL without a journal */
    unsigned next_shard;                /* round robin of new connections */

    struct peers *peers;   /* open connections by address */
    atomic_uint nconns;    /* open or draining: any loop */
    atomic_uint nopen;     /* of these with a socket */
    atomic_uint last_conn; /* ids */
    atomic_uint last_tsih;

    pthread_mutex_t lock; /* guards sessions */
    TAILQ_HEAD(, session) sessions;

    struct metric *m_connections, *m_rejects, *m_logins_ok, *m_logins_failed;
    struct metric *m_refused, *m_refused_address; /* connections: too many at all, of that address */

    unsigned stopping; /* shards that have still to answer */
    bool leaving;      /* the last step of stopping has begun */
    bool quiet;        /* stop_quiet was called */
    void (*stop_quiet)(void *arg);
    void (*stop_gone)(void *arg);
    void *stop_arg;
};

/* Any thread: portal i as SendTargets names it, "ADDR:PORT" and the tag of its group, to an initiator that
 * has come to our address `here`. A wildcard portal is where `here` is, with its own port; false: it is of
 * the other family, and we do not know where. */
bool portal_named(const struct target *, unsigned i, const char *here, char address[64], uint16_t *group);

/* targets.c: the list of all. Main loop. */
void targets_add(struct target *);
void targets_remove(struct target *);

/* Its loop, while stopping: a connection has gone. */
void portal_shard_stopped(struct shard *);

#endif
