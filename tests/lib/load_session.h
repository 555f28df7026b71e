/* tests/lib/load_session.h - one iSCSI session that does nothing but keep reads or writes in flight.
 *
 * For load-gen only: it trusts its target, dies with a sentence on anything unexpected, and is one thread's.
 */
#ifndef ISTHMUS_LOAD_SESSION_H
#define ISTHMUS_LOAD_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct load {
    const char *host, *port, *target;
    unsigned lun;
    bool write, sequential, digests;
    bool single;  /* a PDU by a system call */
    unsigned vms; /* sessions go to so many targets in turn: their names differ in the last digit, from 1 */
    uint32_t io_bytes, depth;
    uint64_t span_bytes; /* 0: the whole disk */
    uint64_t now_ns;     /* of this turn */
    bool ending;         /* no new I/O */
    /* An I/O has its answer. */
    void (*done)(uint64_t took_ns);
};

struct load_session;

/* Takes host, port, target and LUN of iscsi://HOST:PORT/IQN/LUN; once a process. */
void load_url(struct load *, const char *url);

/* Connects and logs in, waiting. */
struct load_session *load_session_new(struct load *, unsigned number);
/* The same in steps. It has no connection yet: */
struct load_session *load_session_make(struct load *, unsigned number);
/* Connects, and sends the login's request; login takes the answer, waiting: so many log in together. */
void load_session_dial(struct load_session *);
void load_session_login(struct load_session *);
/* Closes without a logout, and waits until the target has closed, too. It may dial again. */
void load_session_hang_up(struct load_session *);
/* After all are logged in: clears unit attentions, reads the size. */
void load_session_prepare(struct load_session *);
/* Fills the queue; nothing waits from here on. */
void load_session_begin(struct load_session *);
/* Receives what there is, starts as many, sends. False: there was nothing. */
bool load_session_turn(struct load_session *);
int load_session_fd(const struct load_session *);
bool load_session_wants_write(const struct load_session *);
unsigned load_session_in_flight(const struct load_session *);
void load_session_free(struct load_session **);
/* Logs out, waits for the answer and for the target to close; nothing may be in flight. */
void load_session_logout(struct load_session **);
/* Gone without a word: the connection is reset. */
void load_session_vanish(struct load_session **);

__attribute__((noreturn, format(printf, 1, 2))) void load_die(const char *format, ...);

#endif
