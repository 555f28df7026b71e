/* initiator/iscsi_session.h - one iSCSI session to a LUN: connects, logs in, asks what the LUN is, does
 * I/O, notices when the target hangs or goes, and comes back.
 *
 *    IDLE ──► RESOLVING ──► CONNECTING ──► LOGIN ──► PROBING ──► UP
 *      ▲          └─────────────┴────────────┴──────────┴────────┘  (lost, refused, no answer in time)
 *      └ waits for the back-off
 *
 * Loop thread. libiscsi's own reconnecting is off: it would sleep in our loop, and it cannot tell the owner.
 */
#ifndef ISTHMUS_ISCSI_SESSION_H
#define ISTHMUS_ISCSI_SESSION_H

#include "datastore.h"

struct scsi_task;
struct iscsi_abilities;
struct iscsi_hold;
struct iscsi_session;

struct iscsi_target {
    char *initiator; /* our name */
    char *host;      /* name or numeric address, without brackets */
    unsigned port;
    char *iqn;
    int lun;
    char *user, *secret;               /* CHAP; "" for none */
    char *target_user, *target_secret; /* mutual CHAP; "" for none */
    const char *disk;                  /* for sentences and logs */
    /* The reservation to be held under this key; the one to be given up before that. 0: none. After a change:
     * iscsi_session_ask_hold(). */
    uint64_t key, release;
    unsigned asked; /* how often that was said */
};

/* Fills it from the URL (iscsi_target.c); -EINVAL with why. clear() it in any case. */
int iscsi_target_set(struct iscsi_target *, const char *url, struct why *);
void iscsi_target_clear(struct iscsi_target *);

struct iscsi_session_events {
    /* The LUN was asked: first after each login, then now and again. */
    void (*known)(void *arg, struct iscsi_session *, const struct datastore_info *,
                  const struct iscsi_abilities *);
    /* It cannot be used; it tries again by itself. was_up: it could, before. refused: a definite answer of
     * the target. What it had issued is the owner's again. */
    void (*down)(void *arg, struct iscsi_session *, bool was_up, bool refused, const struct why *,
                 struct datastore_ios *issued);
    /* The target's answer to io, which is the owner's again. task ends with the call. */
    void (*answer)(void *arg, struct iscsi_session *, struct datastore_io *io, const struct scsi_task *task);
    /* Who has the reservation: h->outcome. */
    void (*hold)(void *arg, struct iscsi_session *, const struct iscsi_hold *h);
    /* The target was restarted or reset under us. */
    void (*reset)(void *arg);
    void *arg;
};

/* target is borrowed for its life. */
struct iscsi_session *iscsi_session_new(struct loop *, const struct iscsi_target *, unsigned number,
                                        const struct iscsi_session_events *);
/* No events any more; *issued gets what it had issued. */
void iscsi_session_free(struct iscsi_session **, struct datastore_ios *issued);

bool iscsi_session_up(const struct iscsi_session *);
/* I/O issued and not answered. */
unsigned iscsi_session_load(const struct iscsi_session *);
/* Needs a session that is up. Abilities and block_bytes as known() said. */
void iscsi_session_issue(struct iscsi_session *, struct datastore_io *, const struct iscsi_abilities *,
                         uint32_t block_bytes);
/* Ask for the capacity again soon: known() follows. */
void iscsi_session_ask(struct iscsi_session *);
/* Take, check or give up the reservation soon, as the target's keys say: hold() follows. */
void iscsi_session_ask_hold(struct iscsi_session *);
/* Another session has found that it was taken, or has given it up: once it is ours again, that is no news. */
void iscsi_session_hold_lost(struct iscsi_session *);
/* Give this session up and log in again. */
void iscsi_session_drop(struct iscsi_session *, bool refused, const struct why *);

#endif
