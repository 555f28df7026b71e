/* initiator/iscsi_session_inside.h - a session as its three files see it: iscsi_session.c (its life and its
 * I/O), iscsi_login.c (from IDLE to PROBING), iscsi_ask.c (questions to the LUN). Nobody else includes it.
 */
#ifndef ISTHMUS_ISCSI_SESSION_INSIDE_H
#define ISTHMUS_ISCSI_SESSION_INSIDE_H

#include "iscsi_hold.h"
#include "iscsi_probe.h"
#include "iscsi_session.h"

/* What there may be to ask, in this order. */
enum { ASK_HOLD = 1, ASK_ALL = 2, ASK_PROTECTION = 4, ASK_CAPACITY = 8 };

enum state { IDLE, RESOLVING, CONNECTING, LOGIN, PROBING, UP };

struct iscsi_session {
    struct loop *loop;
    const struct iscsi_target *target;
    struct iscsi_session_events events;
    char id[80]; /* for the log: disk/number */
    unsigned number;

    enum state state;
    unsigned fails; /* in a row, for the back-off */
    uint64_t since_ns;
    struct timer timer; /* back-off when idle, else the tick */
    struct resolve *resolve;
    char host[256]; /* where to now: the target's host, or where we were sent */
    unsigned port, redirects;

    struct iscsi_context *context;
    struct event *event;
    int event_fd;
    short event_what;
    bool serving, destroying; /* libiscsi is on the stack */

    bool lost, lost_refused;
    struct why lost_why;

    struct datastore_ios issued;
    unsigned nissued;
    uint64_t heard_ns, nop_ns, asked_ns, held_ns; /* nop_ns: when the NOP-Out in flight was sent, or 0 */

    /* questions to the LUN, one at a time: iscsi_ask.c */
    struct iscsi_probe probe;
    struct iscsi_hold hold;
    struct scsi_task *question; /* in flight */
    unsigned todo, asking;      /* of ASK_: to be asked; the one of the question */
    unsigned again;             /* the same answer in a row: ask again */
    bool news;                  /* the probe has found out something that known() was not told */
    bool hold_later;            /* ASK_HOLD waits for the tick */
};

void iscsi_session_enter(struct iscsi_session *, enum state);
double iscsi_session_seconds_since(const struct iscsi_session *, uint64_t then_ns);
void iscsi_session_heard(struct iscsi_session *);
/* Notes that the session is lost; the first reason counts. settle() does the rest. */
void iscsi_session_give_up(struct iscsi_session *, bool refused, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Acts on what was noted while libiscsi was on the stack. Every callback from outside ends here. */
void iscsi_session_settle(struct iscsi_session *);
/* What an answer tells beside the status of its command. */
void iscsi_session_notice(struct iscsi_session *, const struct scsi_task *);

/* From IDLE. */
void iscsi_login_start(struct iscsi_session *);

/* Asks what is in todo; UP when nothing is left. */
void iscsi_ask(struct iscsi_session *);
/* A new login: everything. */
void iscsi_ask_all(struct iscsi_session *);
void iscsi_ask_tick(struct iscsi_session *);

#endif
