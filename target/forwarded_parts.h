/* target/forwarded_parts.h - what forwarded.c (sessions, and whom a request concerns) and forwarded_command.c
 * have between them. Nobody else includes it. On the session's loop.
 */
#ifndef ISTHMUS_FORWARDED_PARTS_H
#define ISTHMUS_FORWARDED_PARTS_H

#include "forwarded.h"
#include "proto_forward.h"
#include "session.h"

/* A request until it is answered. */
struct asked {
    TAILQ_ENTRY(asked) entry; /* tasks of its session */
    struct task task;
    struct shard *shard;
    struct link_request *r;
    struct vm *vm; /* OPEN: a reference */
    uint32_t itt;  /* TASK */
    int status;
    char why[200];
    struct buf *body; /* of the answer: these bytes of it */
    uint32_t from, len;
};

struct forwarded {
    LIST_ENTRY(forwarded) entry; /* shard->forwarded */
    struct conn *conn;
    uint64_t number;
    uint64_t fence; /* commands with lower numbers that come now for the first time were overtaken */
    TAILQ_HEAD(forwarded_commands, forwarded_command) commands; /* by number */
    unsigned ncommands;
    uint64_t ahead; /* bytes of data that came ahead */
    TAILQ_HEAD(, asked) tasks;
};

/* Answers it with these bytes of the body; takes both. */
void forwarded_reply(struct asked **, struct buf *body, uint32_t from, uint32_t len);
void forwarded_refuse(struct asked **, int status, const char *why);
void forwarded_refuse_body(struct asked **); /* it is no such message */

/* forwarded_command.c: these take what was asked. */
void forwarded_data(struct forwarded *, struct asked *);
void forwarded_execute(struct forwarded *, struct asked *);
void forwarded_fetch(struct forwarded *, struct asked *);
/* The other edge has the answers with lower numbers, and waits for nothing else down there. */
void forwarded_acknowledged(struct forwarded *, uint64_t below);
/* A command has its answer; takes it. */
void forwarded_answer(struct command *);
/* All of them: the session is closed. */
void forwarded_forget_all(struct forwarded *);

#endif
