/* journal/extents.h - where the newest content of a disk is: an ordered map of extents, in memory.
 *
 * Records are applied in the order of their numbers; a newer one cuts what it covers out of older ones.
 * Each record counts its live sectors, and those of each of its parts: what nothing points to any more is
 * reported as dead, once, so that its keys can be removed. Pure: no I/O, no threads, no clock.
 */
#ifndef ISTHMUS_EXTENTS_H
#define ISTHMUS_EXTENTS_H

#include "record.h"

/* What an extent and a record cost in memory and in keys, as counted against the journal's bound. */
enum { EXTENT_COST = 64, RECORD_COST = 128 };

struct extents;

/* A part whose last live sector went, or (number = EXTENTS_HEADER) a whole record; its parts were reported
 * before. */
#define EXTENTS_HEADER UINT32_MAX
typedef void extents_dead_fn(void *arg, uint64_t seq, uint32_t number);

struct extents *extents_new(extents_dead_fn *dead, void *arg);
void extents_free(struct extents **);

/* The record becomes the newest content of its range; seq is higher than any before. */
void extents_apply(struct extents *, enum record_type, uint64_t seq, uint64_t lba, uint32_t nsectors);

/* What is left of this record in [lba, lba + nsectors) goes; newer content stays. */
void extents_forget(struct extents *, uint64_t seq, uint64_t lba, uint32_t nsectors);
/* Every record up to this one goes. */
void extents_forget_through(struct extents *, uint64_t seq);

/* What lies in [lba, end), by place: at most max extents, or the parts of them that do. Returns where the
 * last one ended; end when there are no more. */
struct extents_one {
    enum record_type type;
    uint64_t seq, lba;
    uint32_t nsectors, offset; /* sectors from the record's first */
};
uint64_t extents_each(const struct extents *, uint64_t lba, uint64_t end, unsigned max,
                      void (*each)(void *arg, const struct extents_one *), void *arg);

/* As vmlog_pieces. */
unsigned extents_pieces(const struct extents *, uint64_t lba, uint32_t nsectors, struct vmlog_piece *,
                        unsigned max, uint32_t *covered);
/* Every sector of the range is DATA. */
bool extents_covered(const struct extents *, uint64_t lba, uint32_t nsectors);

uint64_t extents_cost(const struct extents *);    /* bytes: live parts, extents and records */
uint64_t extents_records(const struct extents *); /* alive */
uint64_t extents_count(const struct extents *);

/* The most that applying this record can add to extents_cost. */
static inline uint64_t extents_cost_of(enum record_type type, uint32_t nsectors)
{
    return (type == RECORD_WRITE ? (uint64_t)nsectors * SECTOR : 0) + RECORD_COST + 2 * EXTENT_COST;
}

#endif
