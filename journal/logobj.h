/* journal/logobj.h - a log object: a run of a VM's log as the object store holds it. Pure: bytes in, bytes
 * out.
 *
 * docs/log.md specifies it byte by byte. An object is built once, from its first SEQ on, and never changed.
 * Its index comes first, so that recovery reads the beginning of an object and nothing more. Everything but
 * the header is sealed; whoever opens says which VM and which SEQ he expects, so a swapped or renamed object
 * does not open. Any thread; nothing here is shared.
 */
#ifndef ISTHMUS_LOGOBJ_H
#define ISTHMUS_LOGOBJ_H

#include "aead.h"
#include "buf.h"
#include "why.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    LOGOBJ_FORMAT = 1, /* of generation 1 */
    LOGOBJ_HEAD_BYTES = 96,
    LOGOBJ_ENTRY_BYTES = 32,
    LOGOBJ_FRAME_SECTORS = 128,
    LOGOBJ_FRAME_BYTES = LOGOBJ_FRAME_SECTORS * 512, /* plain */
    LOGOBJ_FRAME_OVERHEAD = 8 + AEAD_TAG_BYTES,
    LOGOBJ_ENTRIES_MAX = 65536,
    LOGOBJ_BYTES_MAX = 64 << 20, /* one of more is not ours */
    LOGOBJ_TAG_BYTES = AEAD_TAG_BYTES,
    LOGOBJ_WRITER_BYTES = 16
};

enum logobj_kind { LOGOBJ_DATA = 1, LOGOBJ_ZERO, LOGOBJ_MOVED_DATA, LOGOBJ_MOVED_ZERO };

struct logobj_entry {
    enum logobj_kind kind;
    uint8_t disk;
    uint8_t frame_sector; /* the first sector's place in its frame */
    uint32_t nsectors;    /* data: within one frame */
    uint64_t lba;
    uint64_t seq;         /* of the record; moved: of the object that it came from */
    uint32_t frame_at;    /* from the first data frame on */
    uint32_t frame_bytes; /* sealed; zero: 0 */
};

static inline bool logobj_is_data(enum logobj_kind kind)
{
    return kind == LOGOBJ_DATA || kind == LOGOBJ_MOVED_DATA;
}

static inline bool logobj_is_moved(enum logobj_kind kind)
{
    return kind == LOGOBJ_MOVED_DATA || kind == LOGOBJ_MOVED_ZERO;
}

struct logobj_head {
    bool ends_cut;
    uint32_t index_bytes; /* sealed; the data frames begin behind it */
    uint8_t vm[16];
    uint64_t first, last, epoch;
    uint8_t salt[AEAD_SALT_BYTES];
    uint8_t chain[LOGOBJ_TAG_BYTES]; /* the tag of the object before */
    uint64_t bytes;                  /* of the whole object */
};

/* --- building --- */

struct logobj_builder;
/* first, epoch, vm, salt (random, never used before) and chain of `head` are taken; the rest is for the end.
 */
struct logobj_builder *logobj_begin(const struct aead_key *master, const struct logobj_head *head,
                                    const uint8_t writer[LOGOBJ_WRITER_BYTES]);
void logobj_free(struct logobj_builder **);
/* One extent: moved ones first, then rising seq; data is nsectors * 512 bytes, NULL for zeros. Frame fields
 * of the entry are ignored. Whole frames of zeros become zero entries. */
void logobj_add(struct logobj_builder *, const struct logobj_entry *, const uint8_t *data);
/* Sealed bytes so far, about; and whether it takes no more entries. */
uint64_t logobj_size(const struct logobj_builder *);
bool logobj_full(const struct logobj_builder *);

struct logobj_built {
    struct logobj_head head;
    struct buf *front, *frames; /* the object is front, then frames (never NULL, may be of length 0) */
    uint8_t tag[LOGOBJ_TAG_BYTES];
    struct logobj_entry *entries; /* what went into the index */
    unsigned nentries;
};
/* Ends the object; frees the builder. The caller owns *out: logobj_built_free. */
void logobj_end(struct logobj_builder **, uint64_t last, bool ends_cut, struct logobj_built *out);
void logobj_built_free(struct logobj_built *);

/* --- reading. All trust nothing; -EBADMSG with a sentence for what does not open --- */

/* n bytes of the beginning; at least LOGOBJ_HEAD_BYTES. -ENOTSUP: a newer format. */
int logobj_head_read(struct logobj_head *, const uint8_t *bytes, size_t n, const uint8_t vm[16],
                     uint64_t first, struct why *);

struct logobj_index {
    uint8_t writer[LOGOBJ_WRITER_BYTES];
    uint8_t tag[LOGOBJ_TAG_BYTES];
    struct logobj_entry *entries; /* logobj_index_free */
    unsigned nentries;
};
/* front: the header and the sealed index, LOGOBJ_HEAD_BYTES + head->index_bytes bytes. */
int logobj_index_read(struct logobj_index *, const struct aead_key *master, const struct logobj_head *,
                      const uint8_t *front, struct why *);
void logobj_index_free(struct logobj_index *);

/* Opens the data frames of one object. */
struct logobj_opener;
struct logobj_opener *logobj_opener_new(const struct aead_key *master, const uint8_t vm[16], uint64_t first,
                                        const uint8_t salt[AEAD_SALT_BYTES]);
void logobj_opener_free(struct logobj_opener **);
/* Plain bytes (a multiple of 512), or -EBADMSG. */
int logobj_frame_open(struct logobj_opener *, uint32_t frame_at, const uint8_t *sealed, uint32_t n,
                      uint8_t out[LOGOBJ_FRAME_BYTES]);

#endif
