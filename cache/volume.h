/* cache/volume.h - one disk of a VM as its initiator sees it: the log under every write, the tiers under
 * every read.
 *
 * A write is numbered and journalled (vmlog.h), then laid into the RAM tier, then answered. A read is
 * answered from the RAM tier and what is below it. Reads and writes of one sector that overlap in time may
 * be seen in either order; once a read has returned a write's data no later read returns older data.
 *
 * Lives on the VM's loop. Units: sectors of 512 bytes.
 */
#ifndef ISTHMUS_VOLUME_H
#define ISTHMUS_VOLUME_H

#include "buf.h"
#include "lease.h"
#include "tier.h"
#include "vmlog.h"

#include <sys/uio.h>

struct map;
struct volume;

enum io_op { IO_READ, IO_WRITE, IO_ZERO, IO_FLUSH };

/* One I/O, embedded in its owner (a SCSI task), who may not touch it until it is answered. */
struct io {
    enum io_op op;
    bool fua;          /* IO_WRITE, IO_ZERO */
    uint64_t lba;      /* READ, WRITE, ZERO: within the volume (checked by the caller) */
    uint32_t nsectors; /* > 0; READ and WRITE at most IO_SECTORS_MAX */
    struct buf *data;  /* WRITE: nsectors * 512 bytes; borrowed until answered */
    uint32_t data_offset;
    void (*done)(struct io *);

    int status; /* 0; -EIO: a block below is bad; -ECANCELED: the volume is going */
    /* READ, status 0: io_iov() makes the iovecs; io_release() drops the blocks, after the last byte has
     * left. */
    struct block **blocks;
    uint32_t nblocks;

    struct block *few[9]; /* private, as is the rest */
    struct block_req req;
    struct vmlog_append append;
    struct vmlog_flush flush;
    struct volume *volume;
    uint64_t since_ns;
    TAILQ_ENTRY(io) held_entry;
    bool held, cancelled; /* it waits for the gate; nobody waits for it any more */
};
enum { IO_SECTORS_MAX = 32768 };

struct volume_conf {
    struct loop *loop;
    struct vmlog *log;
    const struct map *map; /* of what has left the log for the store; or NULL */
    uint8_t disk;          /* its number in the log: the LUN, but of one that was added later */
    struct tier *top;      /* the ram tier; the volume takes the stack */
    uint64_t sectors;
    uint32_t block_bytes;
    const uint8_t *vm_id;          /* VMLOG_ID_BYTES: with that number it makes the NAA id */
    const char *vm;                /* labels metrics */
    const struct lease_gate *gate; /* reads wait while it is shut; NULL: they never do */
};
struct volume *volume_new(const struct volume_conf *);
/* Ends what waits for other machines, then, with nothing in flight any more, frees all and calls done() on
 * the loop. No volume_submit after this. */
void volume_close(struct volume *, void (*done)(void *arg), void *arg);
/* The source disk has grown. */
void volume_grow(struct volume *, uint64_t sectors);

/* true: answered already, done() will not come (a read whose blocks are all in memory). false: done() comes,
 * never before this has returned. */
bool volume_submit(struct volume *, struct io *);
/* Nobody waits for this read any more, which is not answered yet: done() comes soon, with -ECANCELED if it
 * had not come back already. Only reads: what a write has begun is finished. */
void volume_cancel(struct io *);
/* Fills iov with the bytes [from, from + n) of a finished read, neighbours in memory joined; returns how many
 * iovecs. max must be at least n / 4096 + 2. */
int io_iov(const struct io *, uint32_t from, uint32_t n, struct iovec *iov, int max);
void io_release(struct io *);

/* Whether the sector at lba is mapped, and in *same how many from there on (up to nsectors) are known to be
 * the same. What was zeroed through this volume is not, until the source disk has it: what is zero there is
 * not known. */
bool volume_mapped(struct volume *, uint64_t lba, uint64_t nsectors, uint64_t *same);

uint8_t volume_disk(const struct volume *); /* its number in the log */
uint64_t volume_sectors(const struct volume *);
uint32_t volume_block_bytes(const struct volume *); /* logical block: 512 or 4096 */
const uint8_t *volume_naa(const struct volume *); /* 8 bytes, NAA 3h (locally assigned), the same for ever */
const char *volume_serial(const struct volume *); /* 16 hex digits */
/* The NAA id of that disk of that VM. Pure. */
void volume_make_naa(const uint8_t *vm_id, uint8_t disk, uint8_t naa[8]);

#endif
