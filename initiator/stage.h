/* initiator/stage.h - what the on-prem daemon knows of write-back over restarts, sealed, on its own disk.
 *
 *   VMs       a row each, opaque here (wb_record.h)
 *   stages    under a number that is never used twice: pieces by disk and LBA, and by hash
 *   contents  hash -> a place on a source disk that had that content once: a hint, the oldest are forgotten
 *
 * Formats: docs/writeback.md. Everything blocks: on the pool or a worker, never on a loop. Any thread may
 * read; what writes (put, drop, note) is one thread's at a time. Errors are -errno with why: -ENOSPC (the
 * disk is full, nothing was written), -EIO, -EBADMSG (damaged).
 */
#ifndef ISTHMUS_STAGE_H
#define ISTHMUS_STAGE_H

#include "aead.h"
#include "proto_wb.h"
#include "why.h"

struct stage;

struct stage_piece {
    uint8_t disk;
    enum wb_kind kind;
    uint64_t lba, nsectors; /* data: at most a block */
    const uint8_t *data;    /* data: nsectors of it */
    const uint8_t *hash;    /* data: of those */
};

/* dir: the daemon's data directory. At start-up: a wrong key, a newer format, damage are refused. */
int stage_open(struct stage **, const char *dir, const struct aead_key *, struct why *);
void stage_close(struct stage **);

/* each() with every VM's row; other than 0 ends it and is returned. */
int stage_vms(struct stage *,
              int (*each)(void *arg, const uint8_t vm[WB_ID_BYTES], const uint8_t *row, size_t n), void *arg,
              struct why *);
/* The row is this, and the pieces of stage `drop` (0: none) are no more: one batch, and stable with
 * everything that was put before it. */
int stage_put_vm(struct stage *, const uint8_t vm[WB_ID_BYTES], const uint8_t *row, size_t n, uint64_t drop,
                 struct why *);
/* There is no such row any more; stable. */
int stage_remove_vm(struct stage *, const uint8_t vm[WB_ID_BYTES], struct why *);
/* No stage below this number is in use: their files go. At start-up. */
void stage_sweep(struct stage *, uint64_t number);

/* Survives the process; stable with the next stage_put_vm(). */
int stage_put(struct stage *, uint64_t number, const struct stage_piece *, unsigned n, struct why *);
/* Every piece from (disk, lba) on in order, each one opened and checked; the piece is borrowed for the call.
 */
int stage_scan(struct stage *, uint64_t number, uint8_t disk, uint64_t lba,
               int (*each)(void *arg, const struct stage_piece *), void *arg, struct why *);
/* Has the stage exactly this block? 0, -ENOENT. */
int stage_has(struct stage *, uint64_t number, uint8_t disk, uint64_t block, const uint8_t *hash,
              struct why *);
/* A block of that content anywhere in the stage: 0 and its PROTO_BLOCK bytes, -ENOENT. */
int stage_find(struct stage *, uint64_t number, const uint8_t *hash, uint8_t *data, struct why *);

struct stage_content {
    char disk[PROTO_NAME_MAX + 1];
    uint64_t block;
};
/* What these places of the disk hold from now on. */
int stage_note(struct stage *, const char *disk, const uint64_t *blocks,
               const uint8_t (*hashes)[WB_HASH_BYTES], unsigned n, struct why *);
/* Where that content was once: 0, -ENOENT. To be read and compared. */
int stage_known(struct stage *, const uint8_t *hash, struct stage_content *, struct why *);

uint64_t stage_bytes(struct stage *); /* on the disk */

#endif
