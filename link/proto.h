/* link/proto.h - the messages between edge and on-prem daemon, carried by link.h; bytes in docs/link.md.
 *
 * Disks are named, not handled: a request needs no state on the other side, so either side may restart at
 * any time. Sizes are bytes; offsets and lengths of reads are multiples of 4096 (the last block of a disk
 * whose size is not one is padded with zeros).
 */
#ifndef ISTHMUS_PROTO_H
#define ISTHMUS_PROTO_H

#include "buf.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum proto_type {
    PROTO_DISK_STAT = 1,    /* call: what is this disk? */
    PROTO_DISK_READ = 2,    /* call: bytes of it, as runs (runs.h) */
    PROTO_DISK_CHANGED = 3, /* notice: its size is another now; body as the answer of DISK_STAT, with name */
    /* write-back: proto_wb.h */
    PROTO_VM_ATTACH = 4,
    PROTO_VM_DETACH = 5,
    PROTO_WB_BEGIN = 6,
    PROTO_WB_OFFER = 7,
    PROTO_WB_DATA = 8,
    PROTO_WB_ZERO = 9,
    PROTO_WB_END = 10,
    PROTO_WB_APPLIED = 11,
    PROTO_WB_STATE = 12,
    PROTO_VM_CLEAR_ALARM = 13,
    /* between the edges of a pair: proto_pair.h */
    PROTO_PAIR_PING = 14,
    PROTO_MIRROR_BEGIN = 15,
    PROTO_MIRROR_PUT = 16,
    PROTO_MIRROR_SYNC = 17,
    PROTO_MIRROR_TRIM = 18,
    PROTO_MIRROR_END = 19,
    /* of initiators that came to the other edge's portals: proto_forward.h */
    PROTO_FORWARD_VM = 20,
    PROTO_FORWARD_PORTALS = 21,
    PROTO_FORWARD_OPEN = 22,
    PROTO_FORWARD_CLOSE = 23,
    PROTO_FORWARD_COMMAND = 24,
    PROTO_FORWARD_DATA = 25,
    PROTO_FORWARD_FETCH = 26,
    PROTO_FORWARD_TASK = 27,
    PROTO_FORWARD_DONE = 28,
    PROTO_FORWARD_LOGOUT = 29,
    PROTO_MIRROR_RESERVE = 30, /* proto_pair.h */
    /* from the owner of a VM to the other edge, which becomes it: proto_pair.h */
    PROTO_HAND_PREPARE = 31,
    PROTO_HAND_OVER = 32,
    /* from the owner of a VM to the edge that had it: proto_pair.h */
    PROTO_REMAINS_READ = 33,
};

enum { PROTO_NAME_MAX = 63, PROTO_READ_MAX = 256 * 1024, PROTO_BLOCK = 4096 };

struct proto_stat {
    char name[PROTO_NAME_MAX + 1];
    uint64_t bytes;       /* size of the disk */
    uint32_t block_bytes; /* its logical block size: 512 or 4096 */
    bool read_only;
    char identity[128]; /* what the datastore calls it (NAA, serial, path), for people */
};

struct proto_read {
    char name[PROTO_NAME_MAX + 1];
    uint64_t offset;
    uint32_t bytes; /* 1..PROTO_READ_MAX */
};

/* Letters, digits, '.', '_' and '-', not first '.' or '-', at most PROTO_NAME_MAX. */
bool proto_name_ok(const char *name);

struct buf *proto_put_stat_call(const char *name);
int proto_get_stat_call(const uint8_t *p, uint32_t n, char name[PROTO_NAME_MAX + 1]); /* 0 or -EBADMSG */
struct buf *proto_put_stat(const struct proto_stat *);
int proto_get_stat(const uint8_t *p, uint32_t n, struct proto_stat *);
struct buf *proto_put_read(const struct proto_read *);
int proto_get_read(const uint8_t *p, uint32_t n, struct proto_read *); /* checks every bound */

/* runs: a reply to DISK_READ is a sequence of runs of blocks: zero (no bytes), raw, or LZ4. */

/* Encodes n bytes (a multiple of PROTO_BLOCK) into a new buf. thorough spends
 * about six times the processor time (some 120 MB/s of a core) on a tenth fewer bytes; the format is the
 * same. */
struct buf *runs_encode(const uint8_t *data, uint32_t n, bool thorough);
/* Decodes into the pages given, nblocks of PROTO_BLOCK bytes each. zero[i] is set for a block that is all
 * zeros, whose page is then left untouched. -EBADMSG unless the runs are well formed and fill exactly. */
int runs_decode(const uint8_t *p, uint32_t n, uint8_t *const *pages, bool *zero, uint32_t nblocks);

#endif
