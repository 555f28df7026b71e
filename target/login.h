/* target/login.h - the login phase of a connection: stages, keys, authentication. */
#ifndef ISTHMUS_LOGIN_H
#define ISTHMUS_LOGIN_H

#include "conn.h"

void login_start(struct conn *);
/* The complete PDU in rx, in SECURITY or OPERATIONAL. */
void login_pdu(struct conn *);
/* On the loop that the VM lives on, after conn_move. */
void login_moved(struct conn *);
/* Every second. true: the login waits for us, not for the initiator. */
bool login_waits(struct conn *);
void login_free(struct login **);

/* May initiators log in to this VM now? On its loop. */
struct admission {
    enum { ADMIT_YES, ADMIT_LATER, ADMIT_NO } what;
    enum login_status status; /* NO */
    const char *why;          /* NO; LATER: what is waited for */
};
struct admission login_admission(struct shard *, struct vm *);

#endif
