/* target/reserve.h - persistent reservations of one LUN (SPC-4 5.13), and which command conflicts with what.
 *
 * Pure: state in, state and consequences out; no session, no I/O. A registrant is an I_T nexus: an initiator
 * port (iSCSI name and ISID) at one of our target ports, of which each portal group is one. scsi_reserve.c
 * has the commands, reserve_store.c what survives a restart.
 */
#ifndef ISTHMUS_RESERVE_H
#define ISTHMUS_RESERVE_H

#include "iscsi.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RESERVE_REGISTRANTS_MAX = 128, RESERVE_PORTS_MAX = 16, RESERVE_TARGETS_MAX = 32, RESERVE_NOBODY = -1 };

enum reserve_type {
    RESERVE_NONE = 0,
    RESERVE_WRITE_EXCLUSIVE = 1,
    RESERVE_EXCLUSIVE_ACCESS = 3,
    RESERVE_WRITE_EXCLUSIVE_REGISTRANTS = 5,
    RESERVE_EXCLUSIVE_ACCESS_REGISTRANTS = 6,
    RESERVE_WRITE_EXCLUSIVE_ALL = 7,
    RESERVE_EXCLUSIVE_ACCESS_ALL = 8,
};

/* What a command is to a reservation of somebody else's; a column of scsi_ops. */
enum reserve_class {
    RESERVE_FREE,       /* never in conflict: INQUIRY */
    RESERVE_STATUS,     /* tells about the disk: TEST UNIT READY */
    RESERVE_READS,      /* looks at the medium */
    RESERVE_WRITES,     /* changes it, or the disk */
    RESERVE_STARTS,     /* START STOP UNIT: by what it asks for, STATUS or WRITES */
    RESERVE_PREVENTS,   /* PREVENT ALLOW MEDIUM REMOVAL: FREE or WRITES */
    RESERVE_PERSISTENT, /* PERSISTENT RESERVE IN and OUT: have rules of their own */
    RESERVE_CLASSES
};

/* Service actions of PERSISTENT RESERVE OUT. */
enum reserve_action {
    RESERVE_REGISTER,
    RESERVE_RESERVE,
    RESERVE_RELEASE,
    RESERVE_CLEAR,
    RESERVE_PREEMPT,
    RESERVE_PREEMPT_ABORT,
    RESERVE_REGISTER_IGNORE,
    RESERVE_MOVE,
};

struct reserve_port {
    char name[ISCSI_NAME_MAX + 1];
    uint8_t isid[6];
};

struct reserve_nexus {
    struct reserve_port initiator;
    uint16_t target; /* the target port's relative identifier, which is the tag of its portal group */
};

struct registrant {
    struct reserve_nexus nexus;
    uint64_t key;
};

struct reserve {
    uint32_t generation;
    uint8_t type; /* enum reserve_type */
    bool aptpl;   /* as the last registration asked */
    int holder;   /* index of the registrant; RESERVE_NOBODY without reservation and when all hold it */
    unsigned n;
    struct registrant registrants[RESERVE_REGISTRANTS_MAX];
};

struct reserve_request {
    enum reserve_action action;
    uint8_t type;
    uint64_t key, service_key;
    bool aptpl;
    bool unregister; /* MOVE: who moves it leaves */
    struct reserve_nexus from;
    unsigned nports; /* further initiator ports to register, or where MOVE moves to */
    struct reserve_port ports[RESERVE_PORTS_MAX];
    unsigned ntargets; /* with ALL_TG_PT all target ports, or where MOVE moves to; 0: that of `from` */
    uint16_t targets[RESERVE_TARGETS_MAX];
};

enum reserve_result {
    RESERVE_GOOD,
    RESERVE_CONFLICT,
    RESERVE_BAD_PORTS,  /* initiator ports are named where none may be */
    RESERVE_BAD_KEY,    /* the service action key must be another */
    RESERVE_BAD_TARGET, /* to move it to oneself */
    RESERVE_BAD_RELEASE,
    RESERVE_FULL,
};

/* Who has to be told. */
enum reserve_notice {
    RESERVE_TELL_PREEMPTED = 1,    /* the reservation is gone by CLEAR */
    RESERVE_TELL_RELEASED = 2,     /* released, or another kind */
    RESERVE_TELL_UNREGISTERED = 4, /* it was removed */
    RESERVE_TELL_ABORT = 8,        /* its commands are to be aborted */
};
struct reserve_notices {
    unsigned n;
    struct {
        struct reserve_nexus nexus;
        uint8_t what;
    } each[RESERVE_REGISTRANTS_MAX];
};

void reserve_init(struct reserve *);
bool reserve_type_valid(uint8_t type);
bool reserve_all_hold(uint8_t type);
/* Index of the nexus' registration, or RESERVE_NOBODY. */
int reserve_find(const struct reserve *, const char *name, const uint8_t isid[6], uint16_t target);
bool reserve_holds(const struct reserve *, int registrant);
/* PERSISTENT RESERVE OUT. Nothing is changed unless it is GOOD. */
enum reserve_result reserve_out(struct reserve *, const struct reserve_request *, struct reserve_notices *);

/* Whether a command of that class and nexus conflicts; never with PERSISTENT. */
bool reserve_conflicts(const struct reserve *, enum reserve_class, const char *name, const uint8_t isid[6],
                       uint16_t target);
/* The same for RESERVE(6) and (10) of another session. */
bool reserve_conflicts_old(enum reserve_class);

/* What is kept over a restart, and by the other edge of a pair; docs/reservations.md. */
enum { RESERVE_FORMAT = 3, RESERVE_SAVED_MAX = 12 + RESERVE_REGISTRANTS_MAX * (18 + ISCSI_NAME_MAX) };
size_t reserve_put(const struct reserve *, uint8_t out[RESERVE_SAVED_MAX]);
/* 0, -EPROTONOSUPPORT (a newer format), -EBADMSG. only_target: the target port there was in format 1. */
int reserve_get(struct reserve *, const uint8_t *bytes, size_t n, uint16_t only_target);
/* The same of what the other edge of a pair sends, and what was kept of that. */
int reserve_get_sent(struct reserve *, const uint8_t *bytes, size_t n);

/* TransportIDs of iSCSI initiator ports (SPC-4 7.6.4.6). put: returns how many bytes. get: how many it took,
 * or 0: it is none, or names no single port. */
enum { RESERVE_TRANSPORT_ID_MAX = 4 + ISCSI_NAME_MAX + 24 };
size_t reserve_put_port(const struct reserve_port *, uint8_t out[RESERVE_TRANSPORT_ID_MAX]);
size_t reserve_get_port(struct reserve_port *, const uint8_t *bytes, size_t n);

#endif
