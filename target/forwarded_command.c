/* target/forwarded_command.c - commands that came from the other edge, from their first byte until it has the
 * answer. On the session's loop.
 */
#include "forwarded_parts.h"

#include "check.h"
#include "mem.h"

#include <errno.h>

enum { ENTRIES_MAX = 2048 /* commands of a session that are here, or whose answers are kept */ };

/* A command of a session, until the other edge has its answer. */
struct forwarded_command {
    TAILQ_ENTRY(forwarded_command) entry;
    struct forwarded *owner;
    uint64_t number;
    struct asked *asked; /* who waits for its answer */
    struct command *cmd; /* while it is executed */
    struct buf *data;    /* that came ahead: the first `got` bytes of it */
    uint32_t got;
    struct buf *answer; /* when it was: head bytes, then data */
    uint32_t head;
};

static struct forwarded_command *find(struct forwarded *f, uint64_t number)
{
    struct forwarded_command *e;

    TAILQ_FOREACH_REVERSE(e, &f->commands, forwarded_commands, entry)
    if (e->number == number)
        return e;
    return NULL;
}

static void forget(struct forwarded_command **pe)
{
    struct forwarded_command *e = *pe;
    struct forwarded *f = e->owner;

    *pe = NULL;
    CHECK(!e->asked);
    if (e->cmd)
        e->cmd->forwarded = NULL;
    if (e->data)
        f->ahead -= e->data->len;
    TAILQ_REMOVE(&f->commands, e, entry);
    f->ncommands--;
    buf_unref(&e->data);
    buf_unref(&e->answer);
    free(e);
}

/* NULL: it was overtaken, or there are too many; asked is answered then. */
static struct forwarded_command *enter(struct forwarded *f, uint64_t number, struct asked **a)
{
    struct forwarded_command *e = find(f, number), *at;

    if (e)
        return e;
    if (number < f->fence || f->ncommands >= ENTRIES_MAX) {
        forwarded_refuse(a, -EAGAIN,
                         number < f->fence ? "a task management function has overtaken it"
                                           : "too many commands");
        return NULL;
    }
    e = xcalloc(1, sizeof *e);
    e->owner = f;
    e->number = number;
    TAILQ_FOREACH_REVERSE(at, &f->commands, forwarded_commands, entry)
    if (at->number < number)
        break;
    if (at)
        TAILQ_INSERT_AFTER(&f->commands, at, e, entry);
    else
        TAILQ_INSERT_HEAD(&f->commands, e, entry);
    f->ncommands++;
    return e;
}

void forwarded_acknowledged(struct forwarded *f, uint64_t below)
{
    struct forwarded_command *e, *next;

    for (e = TAILQ_FIRST(&f->commands); e && e->number < below; e = next) {
        next = TAILQ_NEXT(e, entry);
        if (!e->cmd)
            forget(&e);
    }
}

void forwarded_gone(struct command *cmd)
{
    struct forwarded_command *e = cmd->forwarded;

    if (!e)
        return;
    if (e->asked)
        forwarded_refuse(&e->asked, -ECANCELED, "the command was aborted");
    forget(&e);
}

/* --- data and commands ----------------------------------------------------------------------------------*/

/* Data of a command, in order; what has come already may come again. false: asked is answered. */
static bool collect(struct forwarded_command *e, const struct forward_data *d, struct asked **a)
{
    struct forwarded *f = e->owner;

    if (!e->data && d->bytes) {
        if (f->ahead + d->bytes > f->conn->target->conf.session_bytes + COMMAND_BYTES_MAX) {
            forwarded_refuse(a, -EAGAIN, "there is no room for its data");
            forget(&e);
            return false;
        }
        e->data = buf_new(d->bytes);
        f->ahead += d->bytes;
    }
    if ((e->data ? e->data->len : 0) != d->bytes || d->from > e->got) {
        forwarded_refuse(a, -EAGAIN, "its data does not follow");
        forget(&e);
        return false;
    }
    if (d->len)
        memcpy(e->data->data + d->from, d->data, d->len);
    if (d->from + d->len > e->got)
        e->got = d->from + d->len;
    return true;
}

void forwarded_data(struct forwarded *f, struct asked *a)
{
    struct forward_data d;
    struct forwarded_command *e;

    if (forward_get_data(a->r->body, a->r->len, &d)) {
        forwarded_refuse_body(&a);
        return;
    }
    e = enter(f, d.number, &a);
    if (!e || (!e->cmd && !e->answer && !collect(e, &d, &a)))
        return;
    forwarded_reply(&a, NULL, 0, 0);
}

static void send_answer(struct forwarded_command *e)
{
    uint32_t bytes = e->answer->len - e->head;

    forwarded_reply(&e->asked, buf_ref(e->answer), 0,
                    e->head + (bytes < FORWARD_PIECE ? bytes : FORWARD_PIECE));
}

void forwarded_execute(struct forwarded *f, struct asked *a)
{
    struct conn *c = f->conn;
    struct forward_command q;
    struct forwarded_command *e;
    struct buf *data;

    if (forward_get_command(a->r->body, a->r->len, &q)) {
        forwarded_refuse_body(&a);
        return;
    }
    forwarded_acknowledged(f, q.below);
    if (c->session->device->still && !find(f, q.data.number)) {
        forwarded_refuse(&a, -EAGAIN, "the VM is being handed over");
        return;
    }
    e = enter(f, q.data.number, &a);
    if (!e)
        return;
    if (e->cmd || e->answer) { /* its call has come again, by another connection */
        if (e->asked)
            forwarded_refuse(&e->asked, -EAGAIN, "it was asked again");
        e->asked = a;
        if (e->answer)
            send_answer(e);
        return;
    }
    if (!collect(e, &q.data, &a))
        return;
    e->asked = a;
    data = e->data;
    e->data = NULL;
    f->ahead -= data ? data->len : 0;
    e->cmd = command_take(c, &(struct command_taken){.itt = (uint32_t)q.data.number,
                                                     .edtl = q.edtl,
                                                     .reads = q.reads,
                                                     .writes = q.writes,
                                                     .lun = q.lun,
                                                     .cdb = q.cdb,
                                                     .data = data,
                                                     .forwarded = e});
    command_start(e->cmd);
    conn_post_turn(c);
}

void forwarded_fetch(struct forwarded *f, struct asked *a)
{
    struct forward_fetch q;
    const struct forwarded_command *e;

    if (forward_get_fetch(a->r->body, a->r->len, &q)) {
        forwarded_refuse_body(&a);
        return;
    }
    e = find(f, q.number);
    if (!e || !e->answer)
        forwarded_refuse(&a, -ESTALE, "there is no such answer");
    else if (q.from > e->answer->len - e->head || q.len > e->answer->len - e->head - q.from)
        forwarded_refuse_body(&a);
    else
        forwarded_reply(&a, buf_ref(e->answer), e->head + q.from, q.len);
}

/* What the command has for its initiator. */
static void fill(struct command *cmd, uint8_t *to, uint32_t n)
{
    enum { IOVS = 64 };
    struct iovec iov[IOVS];
    uint32_t done = 0;

    if (!cmd->in_io) {
        memcpy(to, cmd->in, n);
        return;
    }
    while (done < n) {
        uint32_t some = n - done < (IOVS - 4) * BLOCK_BYTES ? n - done : (IOVS - 4) * BLOCK_BYTES;
        int m = io_iov(&cmd->io, done, some, iov, IOVS);

        for (int i = 0; i < m; i++) {
            memcpy(to + done, iov[i].iov_base, iov[i].iov_len);
            done += (uint32_t)iov[i].iov_len;
        }
    }
}

void forwarded_answer(struct command *cmd)
{
    struct forwarded_command *e = cmd->forwarded;
    struct forward_answer a = {.status = cmd->status,
                               .response_len = cmd->response_len,
                               .response = cmd->response,
                               .out_bytes = cmd->out_bytes,
                               .in_len = cmd->in_len};

    if (e) {
        a.bytes = a.len = cmd->reads ? (cmd->in_len < cmd->edtl ? cmd->in_len : cmd->edtl) : 0;
        e->answer = forward_put_answer(&a);
        e->head = e->answer->len - a.bytes;
        if (a.bytes)
            fill(cmd, e->answer->data + e->head, a.bytes);
        cmd->forwarded = NULL;
        e->cmd = NULL;
        if (e->asked)
            send_answer(e);
    }
    command_free(&cmd);
}

void forwarded_forget_all(struct forwarded *f)
{
    struct forwarded_command *e;

    while ((e = TAILQ_FIRST(&f->commands))) {
        if (e->asked)
            forwarded_refuse(&e->asked, -ESTALE, "the session is closed");
        forget(&e);
    }
}
