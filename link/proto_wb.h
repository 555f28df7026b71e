/* link/proto_wb.h - the messages of write-back, edge to on-prem daemon; states and bytes in
 * docs/writeback.md.
 *
 * put: a new buf, the caller's. get: 0, or -EBADMSG for anything that is not exactly such a body; every bound
 * is checked, what lies in the body stays there (borrowed). Pure; any thread. Sectors are 512 bytes.
 */
#ifndef ISTHMUS_PROTO_WB_H
#define ISTHMUS_PROTO_WB_H

#include "proto.h"

enum {
    WB_ID_BYTES = 16,
    WB_HASH_BYTES = 32, /* SHA-256 */
    WB_DISKS_MAX = 64,
    WB_OFFER_MAX = 2048, /* blocks of one call */
    WB_DATA_MAX = 64,    /* pieces of one call */
    WB_ZERO_MAX = 4096,
    WB_TEXT_MAX = 255,
    WB_BLOCK_SECTORS = PROTO_BLOCK / 512
};

enum wb_policy { WB_WRITE_BACK = 1, WB_CLOUD_PERSIST = 2 };
enum wb_stage { WB_STAGE_NONE, WB_STAGE_OPEN, WB_STAGE_STAGED, WB_STAGE_APPLYING };
enum wb_kind { WB_PIECE_DATA = 1, WB_PIECE_ZERO = 2 };

struct wb_head {
    uint8_t vm[WB_ID_BYTES];
    uint64_t epoch, target; /* target: SEQ of a cut, 0 where there is none */
};

struct wb_attach {
    uint8_t vm[WB_ID_BYTES];
    uint64_t epoch;
    enum wb_policy policy;
    char name[PROTO_NAME_MAX + 1]; /* of the VM */
    unsigned ndisks;
    char disks[WB_DISKS_MAX][PROTO_NAME_MAX + 1]; /* by number of the VM's disk */
    uint64_t base; /* what the edge knows its disks to be at: for a daemon that does not know the VM */
};

struct wb_begin {
    struct wb_head head;
    uint64_t base, instant_ms;
};

struct wb_offer {
    struct wb_head head;
    uint8_t disk;
    unsigned n;
    const uint8_t *rows; /* n times: block (8), hash (32); wb_offer_row() */
};

struct wb_data {
    struct wb_head head;
    uint8_t disk;
    unsigned n;
    const uint8_t *rows; /* n times: LBA (8), sectors (1); wb_data_row() */
    const uint8_t *runs; /* of n blocks */
    uint32_t runs_len;
};

struct wb_zero {
    struct wb_head head;
    uint8_t disk;
    unsigned n;
    const uint8_t *rows; /* n times: LBA (8), sectors (8); wb_zero_row() */
};

struct wb_end {
    struct wb_head head;
    uint64_t pieces;
    uint8_t digest[WB_HASH_BYTES];
};

struct wb_state {
    uint8_t vm[WB_ID_BYTES];
    uint64_t epoch, applied, applied_instant_ms, target;
    enum wb_stage stage;
    bool held, alarm, unreachable;
    uint64_t pieces, bytes, bytes_applied;
    char text[WB_TEXT_MAX + 1]; /* for people: what is wrong, or empty */
};

struct buf *wb_put_attach(const struct wb_attach *);
int wb_get_attach(const uint8_t *p, uint32_t n, struct wb_attach *);
struct buf *wb_put_head(const struct wb_head *); /* DETACH, APPLIED, STATE */
int wb_get_head(const uint8_t *p, uint32_t n, struct wb_head *);
struct buf *wb_put_begin(const struct wb_begin *);
int wb_get_begin(const uint8_t *p, uint32_t n, struct wb_begin *);
struct buf *wb_put_end(const struct wb_end *);
int wb_get_end(const uint8_t *p, uint32_t n, struct wb_end *);
struct buf *wb_put_clear_alarm(const struct wb_head *); /* the cloud's history counts */
int wb_get_clear_alarm(const uint8_t *p, uint32_t n, struct wb_head *);
struct buf *wb_put_state(const struct wb_state *);
int wb_get_state(const uint8_t *p, uint32_t n, struct wb_state *);

struct buf *wb_put_offer(const struct wb_head *, uint8_t disk, unsigned n, const uint64_t *blocks,
                         const uint8_t (*hashes)[WB_HASH_BYTES]);
int wb_get_offer(const uint8_t *p, uint32_t n, struct wb_offer *);
void wb_offer_row(const struct wb_offer *, unsigned i, uint64_t *block, const uint8_t **hash);
/* The answer: which are wanted. */
struct buf *wb_put_wanted(const bool *wanted, unsigned n);
int wb_get_wanted(const uint8_t *p, uint32_t len, bool *wanted, unsigned n);

/* data: n blocks of PROTO_BLOCK, each piece at the beginning of its block, then zeros. */
struct buf *wb_put_data(const struct wb_head *, uint8_t disk, unsigned n, const uint64_t *lbas,
                        const uint8_t *nsectors, const uint8_t *data, bool thorough);
int wb_get_data(const uint8_t *p, uint32_t n, struct wb_data *);
void wb_data_row(const struct wb_data *, unsigned i, uint64_t *lba, uint8_t *nsectors);

struct buf *wb_put_zero(const struct wb_head *, uint8_t disk, unsigned n, const uint64_t *lbas,
                        const uint64_t *nsectors);
int wb_get_zero(const uint8_t *p, uint32_t n, struct wb_zero *);
void wb_zero_row(const struct wb_zero *, unsigned i, uint64_t *lba, uint64_t *nsectors);

/* The digest of a stage: pieces in order of disk and LBA. hash: of a data piece's sectors, else NULL. */
struct wb_digest;
struct wb_digest *wb_digest_new(void);
void wb_digest_add(struct wb_digest *, uint8_t disk, enum wb_kind, uint64_t lba, uint64_t nsectors,
                   const uint8_t *hash);
/* Frees it. */
void wb_digest_end(struct wb_digest **, uint8_t digest[WB_HASH_BYTES]);
void wb_hash(const void *bytes, size_t n, uint8_t hash[WB_HASH_BYTES]);

#endif
