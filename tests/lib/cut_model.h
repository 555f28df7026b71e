/* tests/lib/cut_model.h - what was written to the disks of one VM, and whether they are at a cut of it.
 *
 * A history is a file of events in the order in which they were seen: a write is begun before it is sent,
 * done after its answer has come. Of one sector there is never more than one write under way. So what is
 * known of the order that the target gave the writes is exactly this: a write that was done before another
 * was begun comes before it. The disks are at a cut if there is a set of writes such that each sector shows
 * the last of the set that covers it, and the set holds with each write all that come before it. The smallest
 * such set is built up from what the sectors show and what had to survive; where a sector refuses what the
 * set wants of it there is none.
 */
#ifndef ISTHMUS_CUT_MODEL_H
#define ISTHMUS_CUT_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { CUT_DISKS_MAX = 8 };

enum cut_event_kind {
    CUT_BEGIN = 1, /* a write is about to be sent */
    CUT_DONE,      /* it was acknowledged, or was found to have happened */
    CUT_VOID,      /* it was found not to have happened: it never will have */
    CUT_FLUSH,     /* a SYNCHRONIZE CACHE is about to be sent: one at a time */
    CUT_FLUSHED,   /* it was acknowledged */
};

struct cut_event {
    uint8_t kind;
    uint8_t disk;
    uint8_t zeros; /* a write of zeros */
    uint8_t reserved;
    uint32_t number;
    uint32_t lba, nsectors;
    uint64_t us; /* wall clock, microseconds since 1970 */
};

struct cut_write {
    uint32_t number, lba, nsectors;
    uint8_t disk;
    bool zeros, is_void, in_set, must, refused;
    uint64_t begun, done; /* places in the history; done: UINT64_MAX if it is not */
    uint64_t done_us;
};

struct cut_disk {
    uint64_t id; /* its stamps' */
    uint32_t nsectors;
    uint32_t *shown; /* by sector: the number that it shows, or CUT_ZEROS or CUT_FOREIGN */
    uint32_t *at;    /* by sector: place in its chain taken for it, from 1; 0: as prepared */
    uint64_t *first; /* by sector: where its chain begins in `chain` */
    uint32_t *chain; /* indexes of writes, in order */
};
#define CUT_ZEROS   0xffffffffU
#define CUT_FOREIGN 0xfffffffeU

struct cut_model {
    FILE *file; /* to append to */
    unsigned ndisks;
    struct cut_disk disks[CUT_DISKS_MAX];
    struct cut_write *writes; /* that happened or may have, by number */
    uint32_t nwrites, room;
    uint32_t next_number;
    uint64_t events;
    uint64_t flush_begun,
        flushed; /* places of the begin of the last flush, and of the last acknowledged one */
    unsigned lost, torn;
    void (*say)(void *arg, const char *sentence); /* of each violation, the first few; may be NULL */
    void *arg;
};

/* Makes a history without events; false with errno set. vm names the stamps. */
bool cut_create(const char *path, const char *vm, unsigned ndisks, const uint32_t *nsectors);

/* What the stamps of a disk carry. */
uint64_t cut_disk_id(const char *vm, unsigned disk);

/* Reads the history; false, with a sentence on stderr. Free with cut_model_close. */
bool cut_model_open(struct cut_model *m, const char *path);
void cut_model_close(struct cut_model *m);

/* Adds to the history and its file. */
uint32_t cut_begin(struct cut_model *m, uint8_t disk, bool zeros, uint32_t lba, uint32_t nsectors);
void cut_done(struct cut_model *m, uint32_t number);
void cut_flush(struct cut_model *m, bool acknowledged); /* one at a time */

/* What the disk holds there. */
void cut_show(struct cut_model *m, uint8_t disk, uint32_t lba, const uint8_t *bytes, uint32_t nsectors);

enum cut_must {
    CUT_NOTHING, /* any cut will do */
    CUT_ACKNOWLEDGED,
    CUT_SYNCED, /* what was acknowledged before the last acknowledged flush was begun */
    CUT_SINCE,  /* what was acknowledged before a time */
};

/* After every sector was shown: counts in lost and torn. true: the disks are at a cut that holds what must
 * be. */
bool cut_judge(struct cut_model *m, enum cut_must must, uint64_t before_us);

/* What the judged disks show is the history from now on: what is not in the set never happened. */
void cut_settle(struct cut_model *m);

#endif
