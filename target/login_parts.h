/* target/login_parts.h - what login.c and login_keys.c have between them. Nobody else includes it. On the
 * connection's loop.
 */
#ifndef ISTHMUS_LOGIN_PARTS_H
#define ISTHMUS_LOGIN_PARTS_H

#include "conn.h"
#include "login_auth.h"

enum { LOGIN_TEXT_MAX = 16384 };

struct login {
    unsigned requests;
    uint8_t bhs[BHS_BYTES]; /* of the request being answered */
    uint8_t isid[6];
    uint16_t tsih, cid;
    char *in; /* the request's text, so far */
    uint32_t in_len;
    struct text out; /* its answer: `sent` bytes of it have left */
    size_t sent;
    bool failed, identified, answered_first, declared;
    bool waiting; /* for the object store to say whose the VM is */
    bool discovery;
    char initiator[ISCSI_NAME_MAX + 1], target[ISCSI_NAME_MAX + 1];
    struct vm *vm; /* a reference, or NULL */
    struct auth auth;
};

/* Refuses the login and closes once that has been sent. */
void login_fail(struct conn *, enum login_status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* login_keys.c */
/* Who logs in to what, from the whole text of the first request; false when the login has failed. */
bool login_names(struct conn *);
/* Every key of the request; false when the login has failed. */
bool login_keys(struct conn *, struct auth_keys *);
/* What we say unasked. */
void login_declare(struct conn *);

#endif
