/* target/login_auth.h - the security stage of a login: AuthMethod, and CHAP one way or mutual.
 *
 *   START ──AuthMethod──► METHOD ──CHAP_A──► CHALLENGED ──CHAP_N, CHAP_R──► PASSED
 *     └─────None─────────────────────────────────────────────────────────────▲
 */
#ifndef ISTHMUS_LOGIN_AUTH_H
#define ISTHMUS_LOGIN_AUTH_H

#include "chap.h"
#include "keys.h"
#include "loop.h"

enum auth_state { AUTH_START, AUTH_METHOD, AUTH_CHALLENGED, AUTH_PASSED };

struct auth {
    enum auth_state state;
    /* Borrowed. user NULL or "": nothing is asked of the initiator. */
    const char *user, *secret, *mutual_user, *mutual_secret;
    struct chap chap;
};

/* What one request brought, or NULL. */
struct auth_keys {
    const char *method, *a, *i, *c, *n, *r;
};

bool auth_required(const struct auth *);
/* Answers the keys of one request. NULL, or why the login fails: a sentence without secrets. */
const char *auth_answer(struct auth *, struct loop *, const struct auth_keys *, struct text *answer);

#endif
