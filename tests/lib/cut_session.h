/* tests/lib/cut_session.h - what cut_load.c knows of a session. Not for others.
 */
#ifndef ISTHMUS_CUT_SESSION_H
#define ISTHMUS_CUT_SESSION_H

#include "cut_load.h"

#include <iscsi/iscsi.h>

struct cut_session {
    struct iscsi_context *iscsi; /* NULL: there is no path now */
    char *const *paths;          /* URLs */
    unsigned npaths, at;
    bool used; /* there was a login */
};

uint64_t cut_now_ms(void);
/* Ends what is there; commands under way are answered. */
void cut_session_close(struct cut_session *);

#endif
