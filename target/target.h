/* target/target.h - the iSCSI side of the edge: portals, logins, sessions, SCSI.
 *
 * One target_start() serves every VM of the catalog, each as one iSCSI target whose disks are LUNs 0, 1, ...
 * Listening sockets belong to the main loop; a connection starts on any of `loops`, and moves to its VM's
 * loop as soon as its login has named the VM. All that follows happens there, without a lock.
 *
 * A portal group is a SCSI target port: an initiator port that logs in by two groups has two sessions.
 */
#ifndef ISTHMUS_TARGET_H
#define ISTHMUS_TARGET_H

#include "loop.h"
#include "vm.h"
#include "why.h"

struct target;

enum {
    TARGET_PORTALS_MAX = 16,
    TARGET_GROUPS_SECOND = 0x8000 /* portal_groups_from of a pair's second edge */
};

/* Pointers are borrowed until target_stop() is done, strings are copied. 0 in a limit means its default. */
struct target_conf {
    struct vms *vms;
    struct journal *journal; /* keeps reservations over a restart; NULL: none are kept */
    struct loop *main;
    struct loop **loops; /* the same as the VMs' */
    unsigned nloops;
    const char **portals; /* "ADDR:PORT[,TAG]", "[ADDR6]:PORT[,TAG]"; port 0 takes a free one */
    unsigned nportals;
    uint16_t portal_group; /* 1: the tag of those that say none */
    /* In a pair, so that the edges' tags differ: this is added to each. */
    uint16_t portal_groups_from;
    struct peer *twin; /* the other edge; NULL: there is none. Its link's loop is `main` */
    const char
        *portal_name; /* "HOST:PORT" for portals of all addresses, as the other edge names them; or "" */
    /* Discovery sessions: CHAP asked when user is set. */
    const char *discovery_user, *discovery_secret, *discovery_mutual_user, *discovery_mutual_secret;

    unsigned max_connections;             /* 1024 */
    unsigned max_connections_per_address; /* 768: of one initiator's IP address */
    unsigned max_sessions_per_vm;         /* 64 */
    unsigned login_seconds;               /* 15: a login that takes longer is closed */
    unsigned ping_seconds;                /* 5: a NOP-In after so long a silence */
    unsigned ping_timeout_seconds;        /* 600: closed when it stays silent for so much longer */
    unsigned window;                      /* 128: commands of one session in flight */
    uint32_t first_burst_bytes;           /* 65536: the FirstBurstLength we agree to, at most */
    uint32_t max_burst_bytes;             /* 1 MiB: the same for MaxBurstLength */
    uint64_t session_bytes;               /* 64 MiB: data of one session's commands held in memory */
    uint64_t loop_bytes;                  /* 256 MiB: the same for all sessions of one loop together */
};

/* Main loop (or before it runs). 0 or -errno with why: a port in use, an address that is not ours, ... */
int target_start(struct target **, const struct target_conf *, struct why *);

/* Main loop. Stops listening, asks initiators to log out, and closes what is left after 2 seconds; quiet()
 * comes on the main loop within 5 seconds, when no connection is open. Commands still in a volume then are
 * dropped when they come back. Takes the target: it frees itself, and says gone() after quiet() when nothing
 * of it will come on any loop any more; the loops have to go on until then. */
void target_stop(struct target *, void (*quiet)(void *arg), void (*gone)(void *arg), void *arg);

/* The port of portal number i, for "ADDR:0". */
uint16_t target_port(const struct target *, unsigned i);

/* On vm->loop: logs out the sessions of a VM (vms_conf.going); may come again. */
void target_vm_going(struct vm *, enum vm_going);
/* vms_conf.lun_going and lun_came. */
void target_lun_going(struct vm *, unsigned lun, void (*done)(void *arg), void *arg);
void target_lun_came(struct vm *, unsigned lun);

/* vms_conf.taken, paths and mirrored. */
void target_vm_taken(struct vm *far, struct vm *by);
void target_vm_paths(struct vm *, bool other);
bool target_vm_mirrored(struct vm *);
/* vms_conf.still and go_on. */
void target_vm_still(struct vm *, void (*done)(void *arg), void *arg);
void target_vm_go_on(struct vm *, struct vm *far);
/* Main loop: what comes from the other edge of the pair, PROTO_FORWARD_* but for VM. */
void target_link_request(struct target *, struct link_request *);
void target_link_notice(struct target *, uint8_t type, const uint8_t *body, uint32_t len);
/* Main loop: the link to it is up. */
void target_link_up(struct target *);

struct target_session {
    const char *initiator; /* its iSCSI name */
    const char *address;   /* "ADDR:PORT" of the initiator */
    const char *portal;    /* and ours, */
    uint16_t portal_group; /* with its tag */
    const char *vm;
    char connection[16]; /* as in the log: c17 */
    uint16_t tsih;
    uint64_t commands;
    uint64_t age_ns;
};
/* Any thread; each() runs under a lock: copy and return. */
void target_each_session(struct target *, void (*each)(void *arg, const struct target_session *), void *arg);

#endif
