/* target/paths.h - by which portals a VM is reached: this edge's, and those of the other edge of a pair,
 * which forward. Here is what SCSI and iSCSI tell of that: portal groups, their addresses and states (ALUA).
 */
#ifndef ISTHMUS_PATHS_H
#define ISTHMUS_PATHS_H

#include "groups.h"
#include "link.h"
#include "proto_forward.h"

#include <pthread.h>

/* What the other edge has said of its portals. */
struct paths {
    pthread_mutex_t lock;
    struct forward_portals theirs;
    struct link_call call; /* telling ours: the main loop's, as is */
    bool telling;
    char name[FORWARD_ADDRESS_MAX + 1]; /* how a wildcard portal is reached, or "" */
};

struct target;

/* Asymmetric access states, as REPORT TARGET PORT GROUPS says them. */
enum paths_access { PATHS_OPTIMIZED = 0x0, PATHS_NON_OPTIMIZED = 0x1, PATHS_UNAVAILABLE = 0x3 };

/* Any thread. Ours and theirs. */
struct groups paths_groups(struct target *);
/* How a VM that is ours is reached by that group: the only place that knows. */
enum paths_access paths_access(const struct target *, uint16_t tag);
/* Every address that the other edge told. Under a lock: copy and return. */
void paths_each(struct target *, void (*each)(void *arg, const char *address, uint16_t group), void *arg);

/* Main loop. Tells the other edge of our portals. */
void paths_tell(struct target *);
/* PROTO_FORWARD_PORTALS. */
void paths_request(struct target *, struct link_request *);
void paths_init(struct paths *, const char *name);
void paths_free(struct paths *);

#endif
