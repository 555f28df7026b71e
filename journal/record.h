/* journal/record.h - keys and values of a log, byte by byte; docs/journal.md and this change together.
 */
#ifndef ISTHMUS_RECORD_H
#define ISTHMUS_RECORD_H

#include "vmlog.h"

enum {
    JOURNAL_FORMAT = 2,
    SECTOR = 512,
    PART_SECTORS = 128, /* payload is stored in parts of 64 KiB */
    PART_BYTES = PART_SECTORS * SECTOR,
    RECORD_KEY_BYTES = VMLOG_ID_BYTES + 8,
    RECORD_PART_KEY_BYTES = RECORD_KEY_BYTES + 4,
    RECORD_HEADER_BYTES = 16
};

/* What the space `log` says about a record. */
struct record_header {
    enum record_type type;
    uint8_t disk;
    uint64_t lba;
    uint32_t nsectors;
};

void record_key(uint8_t key[RECORD_KEY_BYTES], const uint8_t id[VMLOG_ID_BYTES], uint64_t seq);
void record_part_key(uint8_t key[RECORD_PART_KEY_BYTES], const uint8_t id[VMLOG_ID_BYTES], uint64_t seq,
                     uint32_t part);
/* The first key after every key of this VM. */
void record_key_end(uint8_t key[RECORD_KEY_BYTES], const uint8_t id[VMLOG_ID_BYTES]);

void record_encode(uint8_t bytes[RECORD_HEADER_BYTES], const struct record_header *);
/* 0, or -EBADMSG for what record_encode cannot have written. */
int record_decode(struct record_header *, const uint8_t *bytes, size_t n);

static inline uint32_t record_parts(enum record_type type, uint32_t nsectors)
{
    return type == RECORD_WRITE ? (nsectors + PART_SECTORS - 1) / PART_SECTORS : 0;
}

static inline uint32_t record_part_sectors(uint32_t nsectors, uint32_t part)
{
    uint32_t left = nsectors - part * PART_SECTORS;
    return left < PART_SECTORS ? left : PART_SECTORS;
}

#endif
