/* tests/lib/stamp.h - sectors that say whose they are: of which disk, at which address, by which write.
 *
 * A stamp fills its sector: what it says, and a pattern made from that. So half a write, a sector of another
 * place or disk, and an older write are all told from what should be there.
 */
#ifndef ISTHMUS_STAMP_H
#define ISTHMUS_STAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { STAMP_SECTOR = 512 };
#define STAMP_MAGIC 0x4953544d55533032ULL /* "ISTMUS02" */

struct stamp {
    uint64_t magic;
    uint64_t disk; /* whatever names a disk of a VM */
    uint64_t lba;
    uint32_t write; /* number of the write that made it */
    uint32_t check;
    uint64_t pattern[(STAMP_SECTOR - 32) / 8];
};

static inline void stamp_make(struct stamp *s, uint64_t disk, uint64_t lba, uint32_t write)
{
    uint64_t x = ((lba << 32 | write) ^ disk * 0xD6E8FEB86659FD93ULL) * 0x9E3779B97F4A7C15ULL;
    uint32_t sum = 0;

    *s = (struct stamp){.magic = STAMP_MAGIC, .disk = disk, .lba = lba, .write = write};
    for (size_t i = 0; i < sizeof s->pattern / sizeof *s->pattern; i++) {
        x ^= x >> 29;
        x = x * 0xBF58476D1CE4E5B9ULL + 1;
        s->pattern[i] = x;
        sum = (sum << 5 | sum >> 27) ^ (uint32_t)(x >> 32) ^ (uint32_t)x;
    }
    s->check = sum;
}

static inline bool stamp_is_zero(const uint8_t *sector)
{
    return sector[0] == 0 && memcmp(sector, sector + 1, STAMP_SECTOR - 1) == 0;
}

/* Is it exactly what that write put there? */
static inline bool stamp_is(const uint8_t *sector, uint64_t disk, uint64_t lba, uint32_t write)
{
    struct stamp expected;

    stamp_make(&expected, disk, lba, write);
    return memcmp(sector, &expected, STAMP_SECTOR) == 0;
}

/* The number of the write that it says it is of; false: it is no whole stamp of that place. */
static inline bool stamp_read(const uint8_t *sector, uint64_t disk, uint64_t lba, uint32_t *write)
{
    memcpy(write, sector + offsetof(struct stamp, write), sizeof *write);
    return stamp_is(sector, disk, lba, *write);
}

#endif
