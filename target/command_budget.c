/* target/command_budget.c - the memory that commands hold. On the connection's loop.
 *
 * A session may hold session_bytes, a loop loop_bytes. A command that finds no room waits, unless no other of
 * its session has been let in (so that everybody gets on): then a small one is let in always, a large one up
 * to LOOP_TIMES of what a loop may hold, since those who hold it may never send their data. Unsolicited data
 * must be taken, also of those that wait: it is bounded by FirstBurstLength times the window. What a command
 * will read, and patterns, count as its data do.
 */
#include "command.h"
#include "command_parts.h"

#include "session.h"

enum { SMALL_BYTES = 1 << 20, LOOP_TIMES = 4 };

bool command_has_room(struct conn *c, uint32_t bytes)
{
    const struct target_conf *conf = &c->target->conf;
    uint64_t loop = c->shard->held_bytes + bytes;

    if (!c->admitted_bytes)
        return bytes <= SMALL_BYTES || c->shard->held_bytes < COMMAND_BYTES_MAX ||
               loop <= conf->loop_bytes * LOOP_TIMES;
    return c->held_bytes + bytes <= conf->session_bytes && loop <= conf->loop_bytes;
}

uint32_t command_wants(const struct command *cmd)
{
    uint32_t have = cmd->data ? cmd->data->len : 0;

    return (cmd->need > have ? cmd->need - have : 0) + cmd->besides;
}

void command_charge(struct command *cmd, uint32_t bytes)
{
    cmd->charged += bytes;
    if (cmd->admitted)
        cmd->conn->admitted_bytes += bytes;
    cmd->conn->held_bytes += bytes;
    cmd->conn->shard->held_bytes += bytes;
}

void command_wait_for_room(struct command *cmd)
{
    struct conn *c = cmd->conn;

    cmd->state = COMMAND_WAIT;
    STAILQ_INSERT_TAIL(&c->commands.waiting, cmd, waiting);
    if (!c->is_starved) {
        c->is_starved = true;
        TAILQ_INSERT_TAIL(&c->shard->starved, c, starving);
    }
}

void command_feed(struct conn *c)
{
    struct command *cmd;

    while (conn_open(c) && (cmd = STAILQ_FIRST(&c->commands.waiting))) {
        if (!command_has_room(c, command_wants(cmd)))
            return;
        STAILQ_REMOVE_HEAD(&c->commands.waiting, waiting);
        command_admit(cmd);
    }
    if (c->is_starved && STAILQ_EMPTY(&c->commands.waiting)) {
        c->is_starved = false;
        TAILQ_REMOVE(&c->shard->starved, c, starving);
    }
}

void command_feed_shard(struct shard *s)
{
    struct conn *c = TAILQ_FIRST(&s->starved), *next;

    for (; c; c = next) {
        unsigned before = c->nouts;

        next = TAILQ_NEXT(c, starving);
        command_feed(c);
        if (conn_open(c) && c->nouts > before) /* not what the socket does not take: that would never end */
            conn_post_turn(c);
    }
}
