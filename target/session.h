/* target/session.h - an I_T nexus: an initiator logged in to a VM (or to discovery), and the VM as a SCSI
 * target device.
 *
 * One connection per session (ERL 0), so a session is made when its connection's login succeeds and dies
 * with it. Belongs to the VM's loop; target->sessions lists all under target->lock, for status only.
 */
#ifndef ISTHMUS_SESSION_H
#define ISTHMUS_SESSION_H

#include "conn.h"
#include "fence.h"
#include "lun_gone.h"
#include "range.h"
#include "still.h"

/* Commands are counted by what they are. */
enum op_kind { OP_READ, OP_WRITE, OP_FLUSH, OP_ZERO, OP_OTHER, OP_KINDS };

/* Unit attentions, one bit each per LUN and session. */
enum {
    UA_RESET = 1,
    UA_CLEARED = 2,
    UA_CAPACITY = 4,
    UA_PREEMPTED = 8,     /* a persistent reservation was cleared */
    UA_RELEASED = 16,     /* one was released, or is of another type now */
    UA_UNREGISTERED = 32, /* the session's own registration was removed */
    UA_MODE = 64,         /* another session changed a mode parameter */
    UA_LUNS = 128,        /* the VM has other LUNs than before */
    UA_ACCESS = 256,      /* target port groups are in other states than before */
};

/* Mode parameters that MODE SELECT changes, as they differ from the defaults; one set for all initiators. */
struct mode {
    bool write_through;    /* WCE 0: every write is FUA */
    bool descriptor_sense; /* D_SENSE */
    bool software_protect; /* SWP */
};

/* What became of the session's last EXTENDED COPY. */
struct copy_result {
    bool known, failed;
    uint8_t list; /* its LIST IDENTIFIER */
    uint16_t segments;
    uint64_t sectors;
};

/* A VM as seen from SCSI: stays from its first login until the VM or the target goes. */
struct device {
    TAILQ_ENTRY(device) entry; /* shard->devices */
    struct vm *vm;             /* valid while a session is there */
    char name[VM_NAME_MAX + 1];
    bool far;             /* vm is: its sessions forward (forward.h) */
    struct vm *successor; /* far: this edge's now, a reference; the sessions are about to go on with it */
    struct shard *shard;  /* with successor, as is */
    struct timer taking;
    TAILQ_HEAD(, session) sessions;
    unsigned nsessions;
    struct session *reserved_by[VM_DISKS_MAX]; /* RESERVE(6) and (10) */
    struct reserved *reserved[VM_DISKS_MAX];   /* scsi_reserve.c; NULL: no registration was ever made */
    bool going;                                /* its VM is being deleted */
    struct timer going_timer;                  /* what has not logged out by then is closed, */
    uint64_t asked_ns;                         /* if it was there when it was asked to */
    struct range_table ranges;
    struct fence_list fences;
    struct lun_gone_list gone; /* LUNs that are being removed */
    struct still *still;       /* its commands wait (still.h); NULL: they do not */
    uint64_t aborts;           /* of commands in the volume, so far */
    struct mode mode[VM_DISKS_MAX];
    struct metric *m_sessions, *m_commands[OP_KINDS], *m_read_bytes, *m_written_bytes, *m_errors;
    struct metric *m_seconds[OP_ZERO]; /* read, write, flush */
};

/* A request that came before its CmdSN's turn. */
struct held {
    TAILQ_ENTRY(held) entry; /* ordered by cmd_sn */
    uint32_t cmd_sn;
    struct command *command; /* or the PDU itself: */
    uint8_t bhs[BHS_BYTES];
    uint32_t data_len;
    struct buf *data;
};

struct session {
    TAILQ_ENTRY(session) all;  /* target->sessions */
    TAILQ_ENTRY(session) peer; /* device->sessions */
    struct conn *conn;
    struct device *device;   /* NULL: discovery */
    struct vm *vm;           /* a reference */
    struct forward *forward; /* the VM is far; else NULL */
    char initiator[ISCSI_NAME_MAX + 1];
    uint8_t isid[6];
    uint16_t tsih, cid;
    uint32_t exp_cmd_sn, max_cmd_sn;
    unsigned in_window; /* commands that count against the window */
    TAILQ_HEAD(, held) held;
    uint32_t held_bytes; /* of held requests that are no commands */
    uint32_t next_ttt;
    uint16_t attention[VM_DISKS_MAX];
    unsigned capacity_generation;
    struct copy_result copy;
    atomic_ulong commands;
    uint64_t since_ns;
};

/* The login has succeeded: makes conn->session. Takes the VM's reference (NULL: discovery). Closes sessions
 * that this one replaces. */
void session_start(struct conn *, struct vm *, const char *initiator, const uint8_t isid[6], uint16_t tsih,
                   uint16_t cid, uint32_t cmd_sn);
/* From conn_close: unlinks it, so that nobody finds it; commands may still be in the volume. */
void session_end(struct conn *);
/* The VM's, which is not being deleted; NULL: nobody has logged in yet. */
struct device *device_find(struct shard *, const struct vm *);
/* The same, made if nobody has: what was kept of its reservations is in it. */
struct device *device_get(struct shard *, struct vm *);
/* No session has it any more. */
void device_free(struct device **);
/* It is nobody's any more: freed when its last session is. */
void device_leave(struct shard *, struct device *);
/* The session of a far VM becomes one of `vm`, which is this edge's. */
void session_move(struct session *, struct vm *vm);
/* The mode parameters of a LUN of the device (NULL without one). */
struct mode *session_mode(struct session *, int lun);
/* When the connection is freed. */
void session_free(struct session **);
/* Whether it is that of this I_T nexus: the initiator port, and the target port that it came to. */
bool session_is(const struct session *, const char *initiator, const uint8_t isid[6], uint16_t group);
/* The live session of this VM with this TSIH on this loop, or NULL. */
struct session *session_find(struct shard *, struct vm *, uint16_t tsih);
unsigned session_count(struct shard *, struct vm *);
/* The VM is being deleted: asks its initiators to log out, and closes what is left after 2 seconds. */
void session_vm_going(struct shard *, struct vm *, enum vm_going);

/* A complete PDU in full feature phase: in order, held or dropped by CmdSN. */
void session_pdu(struct conn *);
/* No request with this number in the window will come: ABORT TASK says so. */
void session_skip(struct conn *, uint32_t cmd_sn);
/* ExpCmdSN and MaxCmdSN into a PDU that leaves. */
void session_stamp(struct session *, uint8_t *bhs);
uint32_t session_ttt(struct session *);
/* There is one LUN more: the others tell of it. */
void session_lun_came(struct shard *, struct vm *, unsigned lun);
/* Raises a unit attention on lun (-1: all) of every session of the VM but `except`. */
void session_attention(struct device *, int lun, uint16_t what, const struct session *except);

/* RESERVE(6) and (10) on lun (-1: all) are over: all (NULL), or this session's. */
void session_unreserve(struct device *, int lun, const struct session *);

/* Single PDUs: tmf.c, nop.c, text.c. The request is in conn->rx. */
void tmf_request(struct conn *);
void tmf_drop(struct conn *); /* those that wait: the connection is closed */
void tmf_answer(struct conn *, uint32_t itt, enum tmf_response, bool close_after);
/* A function that was forwarded: the VM is this edge's now. */
void tmf_again(struct conn *, enum tmf_function, uint32_t itt, int lun);
void nop_out(struct conn *);
void nop_tick(struct conn *);     /* every second, from the connection's timer */
uint32_t nop_ping(struct conn *); /* asks for a sign of life: its tag */
void text_request(struct conn *);
void text_free(struct text_exchange **);
void logout_request(struct conn *);
void logout_ask(struct conn *); /* the async message that asks the initiator to log out */
/* The one that says that its session ends: right before the connection is closed, if it can be sent. */
void drop_tell(struct conn *);

#endif
