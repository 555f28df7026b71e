/* target/command_io.c - a command's I/O: into the volume and back, with the blocks it holds meanwhile
 * (range.h). On the VM's loop. An aborted command's I/O is dropped here when it comes back.
 */
#include "command.h"

#include "check.h"
#include "fence.h"
#include "session.h"

#include <errno.h>

/* What an atomic write has changed in between is in memory when that is answered. */
static void read_again(struct command *cmd)
{
    struct io *io = &cmd->io;

    cmd->range.torn = range_is_atomic(cmd); /* it may be torn once more */
    if (io->status == 0)
        io_release(io);
    *io = (struct io){
        .op = IO_READ, .lba = io->lba, .nsectors = io->nsectors, .fua = io->fua, .done = io->done};
    command_go_on(cmd);
}

static void io_back(struct command *cmd)
{
    cmd->io_out = false;
    if (cmd->aborted) {
        if (cmd->io.op == IO_READ && cmd->io.status == 0)
            io_release(&cmd->io);
        fence_passed(cmd);
        command_free(&cmd);
        return;
    }
    if (cmd->range.torn) {
        read_again(cmd);
        return;
    }
    if (cmd->range.kind != RANGE_ALONE)
        range_leave(cmd);
    cmd->io_done(cmd);
}

static void on_io(struct io *io)
{
    struct command *cmd = container_of(io, struct command, io);
    struct conn *c = cmd->conn;

    io_back(cmd);
    conn_post_turn(c);
}

/* NULL: that LUN has gone since the command began. */
static bool submit_to(struct volume *v, struct io *io)
{
    if (v)
        return volume_submit(v, io);
    io->status = -ECANCELED;
    io->blocks = NULL;
    io->nblocks = 0;
    return true;
}

void command_go_on(struct command *cmd)
{
    cmd->io_out = true;
    if (submit_to(cmd->conn->session->vm->volumes[cmd->io_lun], &cmd->io)) {
        cmd->range.torn = false; /* all of it was seen at once */
        io_back(cmd);
    } else if (cmd->io.op == IO_READ) {
        range_linger(cmd);
    }
}

static void submit(struct command *cmd, void (*done)(struct command *), enum range_kind kind)
{
    cmd->io_done = done;
    cmd->io.done = on_io;
    cmd->state = COMMAND_VOLUME;
    if (session_mode(cmd->conn->session, cmd->io_lun)->write_through)
        cmd->io.fua = true;
    if (cmd->io.op == IO_FLUSH || range_enter(cmd, kind))
        command_go_on(cmd);
}

void command_submit(struct command *cmd, void (*done)(struct command *))
{
    submit(cmd, done, cmd->io.op == IO_READ ? RANGE_READ : RANGE_WRITE);
}

void command_submit_alone(struct command *cmd, void (*done)(struct command *))
{
    submit(cmd, done, RANGE_ALONE);
}

void command_submit_atomic(struct command *cmd, void (*done)(struct command *))
{
    submit(cmd, done, RANGE_ATOMIC);
}

void command_leave(struct command *cmd, void (*done)(struct command *))
{
    cmd->io_done = done;
    cmd->io.op = IO_FLUSH; /* no blocks to give back */
    cmd->io_out = true;
    cmd->state = COMMAND_VOLUME;
}

void command_back(struct command *cmd)
{
    on_io(&cmd->io);
}
