/* tests/lib/cut_load.h - all disks of one VM through one iSCSI session: looked at, and loaded with writes
 * that a history (cut_model.h) keeps. One thread.
 *
 * A session may have several paths, as a multipath initiator has: one is used, and when its connection is
 * lost or says nothing for so long (CUT_PATIENCE_MS) that an initiator would give it up, a login at the next
 * one is tried, and what had no answer is sent again there.
 */
#ifndef ISTHMUS_CUT_LOAD_H
#define ISTHMUS_CUT_LOAD_H

#include "cut_model.h"

#include <signal.h>

struct cut_session;

enum { CUT_PATHS_MAX = 4, CUT_PATIENCE_MS = 5000 };

/* Logs in to the target of one of the iscsi:// URLs (the caller's, as long as the session), trying for so
 * long: it may be starting. NULL with a sentence on stderr. */
struct cut_session *cut_login(char *const *urls, unsigned nurls, unsigned seconds);
/* With several paths: at the next one, trying them for so long. The session is without a path meanwhile. */
bool cut_next_path(struct cut_session *session, unsigned seconds);
void cut_logout(struct cut_session **session);

/* Shows the model every sector of every disk (LUN i is disk i). 0; -EPIPE: the connection was lost; -EIO: the
 * target refused, with a sentence on stderr. */
int cut_read_disks(struct cut_session *session, struct cut_model *m);

/* Set it (a signal handler may): a login ends without, a load as if its time were over. */
extern volatile sig_atomic_t cut_stopping;

struct cut_load_result {
    unsigned acknowledged, stale; /* stale: reads that did not hold the last acknowledged write */
    unsigned switches, stall_ms;  /* to another path; the longest time without any answer */
    bool died;                    /* the connection was lost, or no path led anywhere */
    bool refused;                 /* the target refused something, or ended a command badly */
};

/* Writes every sector of every disk once, in order. */
void cut_fill(struct cut_session *session, struct cut_model *m, struct cut_load_result *result);

/* Writes of all sizes, zeros, unmaps, reads and flushes, for so long or until the connection is lost. The
 * model must have been judged: every sector shows what it holds. */
void cut_load(struct cut_session *session, struct cut_model *m, unsigned depth, unsigned milliseconds,
              uint64_t seed, struct cut_load_result *result);

#endif
