/* target/command.h - a SCSI command in flight: its write data on the way in, its answer on the way out.
 *
 *   HELD (CmdSN gap) ──► COLLECT (write data) ──► WAIT (memory) ──► VOLUME ──► SENDING ──► freed
 *
 * Belongs to its connection, on its loop. An aborted command has no answer; while its I/O is in the volume
 * it stays, buffers and all, until that comes back.
 */
#ifndef ISTHMUS_COMMAND_H
#define ISTHMUS_COMMAND_H

#include "out.h"
#include "range.h"
#include "sense.h"
#include "volume.h"

#include <sys/queue.h>

struct conn;
struct flight;
struct forwarded_command;
struct scsi_op;
struct shard;

enum command_state { COMMAND_HELD, COMMAND_COLLECT, COMMAND_WAIT, COMMAND_VOLUME, COMMAND_SENDING };
/* What an address that is no LUN of the VM may be. */
enum { LUN_NONE = -1, LUN_REPORT_LUNS = -2 /* the well-known logical unit, SPC-4 8.2 */ };
enum { COMMAND_R2TS = 8, COMMAND_BUCKETS = 64, COMMAND_RECENT = 256, COMMAND_BYTES_MAX = 16 << 20 };

struct r2t {
    uint32_t ttt, offset, len, got, data_sn;
    bool open;
};

struct command {
    LIST_ENTRY(command) bucket;    /* commands.by_itt */
    TAILQ_ENTRY(command) entry;    /* commands.all, oldest first */
    STAILQ_ENTRY(command) waiting; /* commands.waiting, or shard->spare */
    struct conn *conn;
    enum command_state state;
    uint32_t itt, cmd_sn, edtl;
    bool immediate, reads, writes, aborted, in_window;
    bool admitted; /* there is room for all its data */
    uint8_t lun_field[8];
    int lun;               /* LUN_NONE: no such address */
    int io_lun;            /* whose volume io goes to: lun, but for a copy to another disk */
    struct volume *volume; /* lun's, from when it is looked at until it has its answer; it may be going */
    uint8_t cdb[16];
    const struct scsi_op *op;            /* NULL: not looked at yet, or not here */
    struct flight *flight;               /* on its way to the owner: forward_command.c */
    struct forwarded_command *forwarded; /* it came from the other edge: forwarded.c */

    /* Data out. data holds the first `received` of `need` bytes. */
    struct buf *data;
    uint32_t out_bytes; /* what the CDB asks for */
    uint32_t need;      /* what will be collected: the smaller of that and the EDTL */
    uint32_t received, unsolicited_max, asked, r2t_sn, unsolicited_sn;
    bool unsolicited; /* Data-Out without R2T are still coming */
    struct r2t r2ts[COMMAND_R2TS];
    unsigned nr2ts;

    /* The answer. */
    uint8_t status;
    struct sense sense;
    uint8_t *in;                           /* malloc'd, or NULL */
    uint32_t in_len;                       /* bytes the device has for the initiator */
    bool in_io;                            /* they are io's blocks */
    uint32_t sent, data_sn, burst_left;    /* Data-In so far */
    uint8_t response[2 + SENSE_BYTES_MAX]; /* data segment of the response PDU */
    uint8_t response_len;
    uint32_t besides; /* bytes it will hold besides data: what is read, patterns; until charged */
    uint32_t charged; /* bytes held against the budgets */

    struct io io;
    struct range_hold range;
    bool io_out;                       /* io is in the volume */
    void (*io_done)(struct command *); /* its next step */
    uint64_t at, left;                 /* progress of a command of several I/Os: sectors, or descriptors */
    struct buf *scratch;
    uint64_t aborted_at; /* by the device's count of aborts */
    uint64_t since_ns;

    struct out out; /* while SENDING */
};

LIST_HEAD(command_bucket, command);
TAILQ_HEAD(command_list, command);
struct command_table {
    struct command_bucket by_itt[COMMAND_BUCKETS];
    struct command_list all;
    STAILQ_HEAD(, command) waiting; /* for memory, in order */
    unsigned n, nimmediate;
    uint32_t recent[COMMAND_RECENT]; /* tags answered while their Data-Out may still come: a window of them */
    unsigned next_recent, nrecent;
};

void command_table_init(struct command_table *);
struct command *command_find(struct conn *, uint32_t itt);
/* Whether Data-Out for this tag may still come though its command has been answered or aborted. */
bool command_recent(struct conn *, uint32_t itt);

/* The LUN in eight bytes of a PDU. */
int command_lun(const uint8_t field[8]);
/* The SCSI Command in conn->rx, its immediate data in rx.data (taken). in_order: its CmdSN has come. */
void command_arrived(struct conn *, bool in_order);
/* One that came by the other edge, all its data with it (taken). Then command_start(). */
struct command_taken {
    uint32_t itt, edtl;
    bool reads, writes;
    const uint8_t *lun, *cdb;
    struct buf *data;
    struct forwarded_command *forwarded;
};
struct command *command_take(struct conn *, const struct command_taken *);
/* Its CmdSN has come. */
void command_start(struct command *);
/* Where the segment of the Data-Out in rx goes: NULL with *why set refuses it, and with 0 drops it. */
uint8_t *command_data_place(struct conn *, struct command **, int *why);
/* That segment is complete. */
void command_data_arrived(struct command *);

/* A zeroed buffer for n bytes of data in. */
uint8_t *command_in(struct command *, uint32_t n);
/* status GOOD, CONDITION MET, or CHECK CONDITION with sense. */
void command_good(struct command *);
void command_condition_met(struct command *);
void command_check(struct command *, enum sense_code);
void command_conflict(struct command *); /* status RESERVATION CONFLICT */
/* The answer that the owner gave: status, response, data and both lengths are set. */
void command_forwarded(struct command *);
/* Its I/O has failed: `medium` when that is why, or the LUN has gone, or the VM is going. */
void command_io_failed(struct command *, enum sense_code medium);
/* The same with a value in the INFORMATION field. */
void command_check_information(struct command *, enum sense_code, uint64_t information);
/* The same, pointing at a field: byte of the CDB (or of the parameter list) and bit (7..0, or -1). */
void command_check_field(struct command *, enum sense_code, bool in_cdb, uint16_t byte, int bit);
/* Submits command->io to its volume; done() is called when it is back, unless the command was aborted. The
 * only exception to "never before it returned": an I/O answered at once calls it now. */
void command_submit(struct command *, void (*done)(struct command *));
/* It waits for something else than its volume: from leave to back it stays, aborted or not; done() is called
 * by back, unless it was aborted. */
void command_leave(struct command *, void (*done)(struct command *));
void command_back(struct command *);
/* The same with the blocks of its I/O for itself until its answer, or its end. */
void command_submit_alone(struct command *, void (*done)(struct command *));
/* A write that no read sees half of. */
void command_submit_atomic(struct command *, void (*done)(struct command *));
/* range.c: what it waited for is out of its way. */
void command_go_on(struct command *);
/* Its LUN has gone: if nothing of it is in the volume yet, that is its answer. */
void command_lun_gone(struct command *);
/* Ends without an answer: now, or when its I/O is back. */
void command_abort(struct command *);
void command_abort_lun(struct conn *, int lun); /* -1: all */
void command_abort_all(struct conn *);
/* send.c: its last byte has left, or never will. */
void command_free(struct command **);
/* Memory was given back: start who waits. */
void command_feed(struct conn *);
/* The same for a whole loop. */
void command_feed_shard(struct shard *);

#endif
