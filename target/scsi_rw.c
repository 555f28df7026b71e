/* target/scsi_rw.c - READ, WRITE, WRITE AND VERIFY, VERIFY, SYNCHRONIZE CACHE, PRE-FETCH: SBC-3 5.x. CDBs of
 * 6, 10, 12 and 16 bytes share one decoder. On the connection's loop.
 */
#include "scsi.h"

#include "check.h"
#include "mem.h"
#include "session.h"
#include "wire.h"

#include <errno.h>

enum { FUA = 0x08, PROTECT = 0xe0, BYTCHK = 0x06, WRITE_ATOMIC = 0x9c };

struct range {
    uint64_t lba;
    uint32_t count;
};

static struct range decode(const uint8_t *cdb)
{
    if (cdb[0] == WRITE_ATOMIC)
        return (struct range){get64(cdb + 2), get16(cdb + 12)};
    switch (cdb[0] >> 5) {
    case 0:
        return (struct range){get24(cdb + 1) & 0x1fffff, cdb[4] ? cdb[4] : 256};
    case 1:
    case 2:
        return (struct range){get32(cdb + 2), get16(cdb + 7)};
    case 4:
        return (struct range){get64(cdb + 2), get32(cdb + 10)};
    default:
        return (struct range){get32(cdb + 2), get32(cdb + 6)};
    }
}

static bool has_flags(const struct command *cmd)
{
    return cmd->cdb[0] >> 5 != 0;
}

/* There is no protection information: RDPROTECT and its like must be 0. */
static bool no_protection(struct command *cmd)
{
    if (!has_flags(cmd) || !(cmd->cdb[1] & PROTECT))
        return true;
    command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 1, 7);
    return false;
}

static void set_io(struct command *cmd, enum io_op op, struct range r)
{
    uint32_t per_block = scsi_block_bytes(cmd) / SECTOR_BYTES;

    cmd->io = (struct io){.op = op, .lba = r.lba * per_block, .nsectors = r.count * per_block};
}

/* READ */

uint32_t scsi_read_prepare(struct command *cmd)
{
    struct range r = decode(cmd->cdb);

    uint32_t wanted = cmd->reads ? cmd->edtl : 0;

    if (no_protection(cmd) && scsi_range(cmd, r.lba, r.count, true))
        cmd->besides = r.count * scsi_block_bytes(cmd) < wanted ? r.count * scsi_block_bytes(cmd) : wanted;
    return 0;
}

static void on_read(struct command *cmd)
{
    if (cmd->io.status) {
        command_io_failed(cmd, SENSE_UNRECOVERED_READ_ERROR);
        return;
    }
    cmd->in_io = true;
    cmd->in_len = decode(cmd->cdb).count * scsi_block_bytes(cmd);
    metric_add(cmd->conn->session->device->m_read_bytes, (uint64_t)cmd->io.nsectors * SECTOR_BYTES);
    command_good(cmd);
}

/* What the initiator does not expect is not read; the residual tells of it. */
void scsi_read(struct command *cmd)
{
    struct range r = decode(cmd->cdb);
    uint32_t block = scsi_block_bytes(cmd), wanted = cmd->reads ? cmd->edtl : 0;

    cmd->in_len = r.count * block;
    if (wanted < cmd->in_len)
        r.count = (wanted + block - 1) / block;
    if (!r.count) {
        command_good(cmd);
        return;
    }
    set_io(cmd, IO_READ, r);
    command_submit(cmd, on_read);
}

/* WRITE, WRITE AND VERIFY */

static bool verifies(const struct command *cmd)
{
    return (cmd->cdb[0] & 0x1f) == 0x0e && cmd->cdb[0] != 0x0e;
}

uint32_t scsi_write_prepare(struct command *cmd)
{
    struct range r = decode(cmd->cdb);

    if (!no_protection(cmd) || !scsi_range(cmd, r.lba, r.count, true))
        return 0;
    return r.count * scsi_block_bytes(cmd);
}

static void on_written(struct command *cmd)
{
    if (cmd->io.status) {
        command_io_failed(cmd, SENSE_WRITE_ERROR);
        return;
    }
    metric_add(cmd->conn->session->device->m_written_bytes, (uint64_t)cmd->io.nsectors * SECTOR_BYTES);
    command_good(cmd);
}

/* An EDTL below what the CDB says: whole blocks that came are written, the residual tells. */
void scsi_write(struct command *cmd)
{
    struct range r = decode(cmd->cdb);
    uint32_t came = (cmd->received < cmd->need ? cmd->received : cmd->need) / scsi_block_bytes(cmd);

    if (r.count > came)
        r.count = came;
    if (!r.count) {
        command_good(cmd);
        return;
    }
    set_io(cmd, IO_WRITE, r);
    cmd->io.data = cmd->data;
    cmd->io.fua = verifies(cmd) || (has_flags(cmd) && cmd->cdb[1] & FUA);
    if (cmd->cdb[0] == WRITE_ATOMIC)
        command_submit_atomic(cmd, on_written);
    else
        command_submit(cmd, on_written);
}

/* VERIFY: the medium alone (BYTCHK 00b), against as much data (01b), or against one block (11b). */

static unsigned bytchk(const struct command *cmd)
{
    return (cmd->cdb[1] & BYTCHK) >> 1;
}

uint32_t scsi_verify_prepare(struct command *cmd)
{
    struct range r = decode(cmd->cdb);

    if (!no_protection(cmd) || !scsi_range(cmd, r.lba, r.count, bytchk(cmd) != 0))
        return 0;
    if (bytchk(cmd) == 2) {
        command_check_field(cmd, SENSE_INVALID_FIELD_IN_CDB, true, 1, 2);
        return 0;
    }
    cmd->besides = bytchk(cmd) ? r.count * scsi_block_bytes(cmd) : 0;
    return !r.count || !bytchk(cmd) ? 0 : (bytchk(cmd) == 1 ? r.count : 1) * scsi_block_bytes(cmd);
}

/* Compares what was read with the data out, which is repeated if it is one block. */
static bool matches(struct command *cmd)
{
    uint32_t n = cmd->io.nsectors * SECTOR_BYTES, block = scsi_block_bytes(cmd);
    bool same = true;

    for (uint32_t at = 0; same && at < n; at += block) {
        const uint8_t *want = cmd->data->data + (bytchk(cmd) == 1 ? at : 0);
        struct iovec iov[3];
        int count = io_iov(&cmd->io, at, block, iov, 3);

        for (int i = 0; same && i < count; want += iov[i++].iov_len)
            same = memcmp(iov[i].iov_base, want, iov[i].iov_len) == 0;
    }
    return same;
}

static void on_verify_read(struct command *cmd)
{
    bool same;

    if (cmd->io.status) {
        command_io_failed(cmd, SENSE_UNRECOVERED_READ_ERROR);
        return;
    }
    same = matches(cmd);
    io_release(&cmd->io);
    if (same)
        command_good(cmd);
    else
        command_check(cmd, SENSE_MISCOMPARE);
}

/* Without data to compare the medium is taken to be good: what is read is checked on its way anyway. */
void scsi_verify(struct command *cmd)
{
    struct range r = decode(cmd->cdb);
    uint32_t wanted = cmd->out_bytes;

    if (!wanted) {
        command_good(cmd);
        return;
    }
    if (cmd->received < wanted) {
        scsi_check_length(cmd, SENSE_INVALID_FIELD_IN_CDB);
        return;
    }
    set_io(cmd, IO_READ, r);
    command_submit(cmd, on_verify_read);
}

/* SYNCHRONIZE CACHE: everything written so far becomes stable, whatever range is named. IMMED is not
 * followed: an early GOOD would say nothing. */

static void on_flushed(struct command *cmd)
{
    command_good(cmd);
}

void scsi_synchronize_cache(struct command *cmd)
{
    struct range r = decode(cmd->cdb);

    if (!scsi_range(cmd, r.lba, r.count, false))
        return;
    cmd->io = (struct io){.op = IO_FLUSH};
    command_submit(cmd, on_flushed);
}

/* PRE-FETCH: a read whose blocks are let go of when they have come. With IMMED it has nobody to answer to and
 * lives for itself; there are only so many of those, and what is too much is not fetched: it is a hint.
 * CONDITION MET says that all of it is (or will be) in the cache, GOOD that it is not. */

enum { IMMED = 0x02, PREFETCH_BYTES = 4 << 20, PREFETCHES_MAX = 32 };

static atomic_uint prefetches; /* that live for themselves */

/* As much of it as is fetched; cmd->left: blocks that are not. */
static struct range prefetch_range(struct command *cmd)
{
    struct range r = decode(cmd->cdb);
    uint64_t all = r.count ? r.count : scsi_blocks(cmd) - r.lba; /* 0: to the end */
    uint32_t most = PREFETCH_BYTES / scsi_block_bytes(cmd);

    r.count = all < most ? (uint32_t)all : most;
    cmd->left = all - r.count;
    return r;
}

uint32_t scsi_prefetch_prepare(struct command *cmd)
{
    struct range r = decode(cmd->cdb);

    if (scsi_range(cmd, r.lba, r.count, false) && !(cmd->cdb[1] & IMMED)) {
        r = prefetch_range(cmd);
        cmd->besides = r.count * scsi_block_bytes(cmd);
    }
    return 0;
}

static void on_prefetched(struct io *io)
{
    if (!io->status)
        io_release(io);
    free(io);
    atomic_fetch_sub(&prefetches, 1);
}

static bool prefetch_for_itself(struct command *cmd)
{
    struct io *io;

    if (atomic_fetch_add(&prefetches, 1) >= PREFETCHES_MAX) {
        atomic_fetch_sub(&prefetches, 1);
        return false;
    }
    io = xmalloc(sizeof *io);
    *io = cmd->io;
    io->done = on_prefetched;
    if (volume_submit(scsi_volume(cmd), io))
        on_prefetched(io);
    return true;
}

static void prefetch_answer(struct command *cmd, bool whole)
{
    if (whole)
        command_condition_met(cmd);
    else
        command_good(cmd);
}

static void on_prefetch_read(struct command *cmd)
{
    if (cmd->io.status) {
        command_io_failed(cmd, SENSE_UNRECOVERED_READ_ERROR);
        return;
    }
    io_release(&cmd->io);
    prefetch_answer(cmd, cmd->left == 0);
}

void scsi_prefetch(struct command *cmd)
{
    set_io(cmd, IO_READ, prefetch_range(cmd));
    if (cmd->cdb[1] & IMMED)
        prefetch_answer(cmd, prefetch_for_itself(cmd) && cmd->left == 0);
    else
        command_submit(cmd, on_prefetch_read);
}
