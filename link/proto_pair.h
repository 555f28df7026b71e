/* link/proto_pair.h - the messages between the two edges of a pair; states and bytes in docs/pair.md.
 *
 * put: a new buf, the caller's. get: 0, or -EBADMSG for anything that is not exactly such a body; every bound
 * is checked, what lies in the body stays there (borrowed). Pure; any thread. Sectors are 512 bytes.
 */
#ifndef ISTHMUS_PROTO_PAIR_H
#define ISTHMUS_PROTO_PAIR_H

#include "proto.h"

enum {
    PAIR_ID_BYTES = 16,               /* of a VM, or of who writes */
    PAIR_PUT_MAX = 256 * 1024,        /* bytes of one PUT */
    PAIR_RECORD_SECTORS_MAX = 32768,  /* as a record of the log */
    PAIR_PIECE_BYTES = 32,            /* the head of a piece */
    PAIR_PUT_HEAD_BYTES = 16 + 8 + 8, /* VM, stream, number */
    PAIR_RESERVE_MAX = 32 * 1024,     /* bytes of one disk's reservations */
    PAIR_DISKS = 64,                  /* of a VM: their numbers are below */
    PAIR_ETAG_MAX = 127,              /* as an object store's */
    PAIR_REMAINS_BLOCKS = 64,         /* of 4096 bytes, asked for at once */
};

/* What an edge is in its pair, as it tells the other. */
enum pair_role {
    PAIR_UNKNOWN = 1, /* it does not know yet, or waits for the other */
    PAIR_OUT,         /* no member: it serves nothing, and may be taken in */
    PAIR_SOLE,        /* the only member */
    PAIR_BOTH         /* a member, as is the other */
};

const char *pair_role_name(enum pair_role); /* "unknown", "out", "sole", "both" */

/* PAIR_PING and its answer. */
struct pair_word {
    uint8_t writer[PAIR_ID_BYTES]; /* its data directory */
    uint64_t instance;             /* this run of its process */
    uint64_t epoch;                /* of the record that it goes by; 0: it has read none */
    enum pair_role role;
    unsigned generation; /* of its program */
    /* The answer: who asked may count a lease from when it asked. The ping, of a sole member: the other has
     * every record that the store lacks, and is about to be taken in. */
    bool granted;
};

/* MIRROR_BEGIN: from now on the VM's records come, the first one being `first`. */
struct pair_begin {
    uint8_t vm[PAIR_ID_BYTES];
    uint64_t stream; /* random: this sending of this log */
    uint64_t first;
    uint8_t writer[PAIR_ID_BYTES];
    char name[PROTO_NAME_MAX + 1]; /* of the VM, for people */
};

/* MIRROR_SYNC, MIRROR_TRIM, MIRROR_END: of the stream, up to this record (END: 0). An END of any stream: the
 * VM was deleted. */
#define PAIR_ANY_STREAM 0
struct pair_mark {
    uint8_t vm[PAIR_ID_BYTES];
    uint64_t stream, seq;
};

/* MIRROR_PUT: pieces of records, in order; a record may go on in the next one. */
struct pair_put {
    uint8_t vm[PAIR_ID_BYTES];
    uint64_t stream, number; /* from 0, rising by one */
    const uint8_t *pieces;
    uint32_t len;
};
struct pair_piece {
    uint64_t seq, lba;
    uint32_t nsectors;      /* of the whole record */
    uint32_t from, sectors; /* this piece of its data; both 0: it has none */
    uint8_t type, disk;     /* 1 write, 2 zero */
    const uint8_t *data;
};

/* MIRROR_RESERVE: the reservations of a disk, from now on. What they say is nobody's here. */
struct pair_reserve {
    uint8_t vm[PAIR_ID_BYTES];
    uint64_t stream, number; /* from 0, rising by one */
    uint8_t disk;
    const uint8_t *state;
    uint32_t len; /* at most PAIR_RESERVE_MAX, and not 0 */
};

/* HAND_PREPARE, HAND_OVER: of a VM whose whole log, up to this record, is in the store (PREPARE: 0, it goes
 * on), and whose entry there has this etag (PREPARE: ""). */
struct pair_hand {
    uint8_t vm[PAIR_ID_BYTES];
    uint64_t seq;
    char etag[PAIR_ETAG_MAX + 1];
};

/* REMAINS_READ: of a VM that is ours now, by an entry of this epoch, and was the other edge's up to record
 * seq. */
struct pair_remains {
    uint8_t vm[PAIR_ID_BYTES];
    uint64_t epoch, seq;
    uint64_t first; /* blocks of 4096 bytes */
    uint32_t count; /* 1..PAIR_REMAINS_BLOCKS */
    uint8_t disk;
};

struct buf *pair_put_word(const struct pair_word *);
int pair_get_word(const uint8_t *p, uint32_t n, struct pair_word *);
struct buf *pair_put_begin(const struct pair_begin *);
int pair_get_begin(const uint8_t *p, uint32_t n, struct pair_begin *);
struct buf *pair_put_mark(const struct pair_mark *);
int pair_get_mark(const uint8_t *p, uint32_t n, struct pair_mark *);
struct buf *pair_put_reserve(const struct pair_reserve *);
int pair_get_reserve(const uint8_t *p, uint32_t n, struct pair_reserve *);
struct buf *pair_put_hand(const struct pair_hand *);
int pair_get_hand(const uint8_t *p, uint32_t n, struct pair_hand *);
struct buf *pair_put_remains(const struct pair_remains *);
int pair_get_remains(const uint8_t *p, uint32_t n, struct pair_remains *);
/* The answer. A bit of `here` for each block, the first one's the lowest; pages of those, one after the
 * other (NULL: zeros). */
struct buf *pair_put_remains_answer(uint64_t here, const uint8_t *const *pages);
/* To count blocks asked for: what is here goes into their pages (zero: into that), others may be anything
 * afterwards. */
int pair_get_remains_answer(const uint8_t *p, uint32_t n, uint32_t count, uint64_t *here,
                            uint8_t *const *pages, bool *zero);

/* Writes the head of a PUT: PAIR_PUT_HEAD_BYTES. */
void pair_put_head(uint8_t *p, const uint8_t vm[PAIR_ID_BYTES], uint64_t stream, uint64_t number);
/* Writes the head of a piece, PAIR_PIECE_BYTES; the data goes behind it. */
void pair_put_piece(uint8_t *p, const struct pair_piece *);
/* The head; the pieces are looked at by pair_next_piece(). */
int pair_get_put(const uint8_t *p, uint32_t n, struct pair_put *);
/* Takes the next piece off the front: 1, 0 (there is none), or -EBADMSG. */
int pair_next_piece(struct pair_put *, struct pair_piece *);

#endif
