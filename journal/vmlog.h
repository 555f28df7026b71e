/* journal/vmlog.h - the log of one VM: every write, unmap and write-same, numbered.
 *
 * Order: records are numbered when appended and become visible (to vmlog_extents, and to the owner through
 * done()) in that order, when they are in the journal. Lives on the VM's loop; all calls and callbacks are
 * there. Units: sectors of 512 bytes, whatever the disk's logical block.
 *
 * What a crash leaves: the log up to some record, none torn; with everything acknowledged by done() there
 * after a crash of the process, and everything before a completed flush (or FUA) after one of the machine.
 */
#ifndef ISTHMUS_VMLOG_H
#define ISTHMUS_VMLOG_H

#include "buf.h"
#include "journal.h"

#include <sys/queue.h>

enum { VMLOG_ID_BYTES = 16, VMLOG_DISKS = 64, VMLOG_WRITE_SECTORS = 32768 /* 16 MiB, the largest record */ };

enum record_type { RECORD_WRITE = 1, RECORD_ZERO = 2 }; /* later: reservation and configuration changes */

struct vmlog;

/* Reads the VM's record headers back and builds the index. Blocking: at start-up or from loop_work; the log
 * then belongs to `loop`. id is the VM's UUID; vm its name for logs and metrics. */
int vmlog_open(struct vmlog **, struct journal *, struct loop *, const uint8_t id[VMLOG_ID_BYTES],
               const char *vm, struct why *);
/* Nothing in flight any more; not from within a callback of this log. */
void vmlog_close(struct vmlog **);
/* Removes every record of a VM whose log is closed. Blocking: from loop_work. */
int vmlog_delete(struct journal *, const uint8_t id[VMLOG_ID_BYTES], struct why *);

uint64_t vmlog_last(const struct vmlog *); /* the newest visible sequence number */
/* A disk that nothing is appended to or fetched from any more: what the log has of it goes, and nothing of it
 * is in later cuts. After a crash its records may be there again: it is to be said again. On the loop, or
 * before anything is appended. */
void vmlog_discard(struct vmlog *, uint8_t disk);

struct vmlog_append {
    enum record_type type;
    uint8_t disk;
    bool fua;          /* done() only when stable */
    uint64_t lba;      /* sectors */
    uint32_t nsectors; /* RECORD_WRITE: at most VMLOG_WRITE_SECTORS; RECORD_ZERO: any */
    struct buf *data;  /* RECORD_WRITE: nsectors * 512 bytes from data_offset; borrowed until done() */
    uint32_t data_offset;
    /* On the VM's loop, when the record is in the journal (and stable, if fua): in order of numbers among
     * those without fua, and among those with it; a later write never waits for an earlier one's fsync.
     * While the journal is at its bound or its disk refuses, it waits. There is no failure. */
    void (*done)(struct vmlog_append *);
    /* Before its done(), strictly in order of numbers, when the record became visible: the moment to update
     * caches. Runs even when fua has still to be waited for. May be NULL. */
    void (*visible)(struct vmlog_append *);
    uint64_t seq; /* set when numbered */

    struct { /* private */
        STAILQ_ENTRY(vmlog_append) entry;
        struct vmlog *log;
        uint64_t since_ns, cost, batch;
    } in;
};
void vmlog_append(struct vmlog *, struct vmlog_append *);
/* From now on only so many bytes of journal a second are admitted, and what is more waits; 0: all. */
void vmlog_pace(struct vmlog *, uint64_t bytes_per_second);

/* done() when everything that was visible when this was called is stable. */
struct vmlog_flush {
    void (*done)(struct vmlog_flush *);
    struct { /* private */
        STAILQ_ENTRY(vmlog_flush) entry;
        struct vmlog *log;
        struct task task;
        uint64_t since_ns, batch, seq;
    } in;
};
void vmlog_flush(struct vmlog *, struct vmlog_flush *);

/* Another journal that must have each record before it counts: visible only when `has` says so, stable only
 * when `stable` does. Embedded in its owner; on the log's loop. */
struct vmlog_follower {
    /* A record has its number and goes to our journal; called in order of numbers. Its data stays until
     * vmlog_followed() was told that it is there. */
    void (*append)(struct vmlog_follower *, const struct vmlog_append *);
    /* Somebody waits until everything up to this record, which it has, is stable there. */
    void (*sync)(struct vmlog_follower *, uint64_t seq);
    uint64_t has, stable; /* up to which record; set by vmlog_follow(), then raised by the follower */
};
/* From the next number on it is followed; what has a number already is not. Returns that number. NULL: not
 * followed any more, and nobody waits for it. Not from within a callback of this log. */
uint64_t vmlog_follow(struct vmlog *, struct vmlog_follower *);
/* `has` or `stable` was raised. */
void vmlog_followed(struct vmlog *);

/* The log of a VM that another edge serves: records keep the numbers they came with, so none may overtake. */
void vmlog_keep_order(struct vmlog *);
/* Blocking no one: records up to this one, which is visible, are needed no more. */
void vmlog_forget(struct vmlog *, uint64_t through);

/* Where the newest content of a range is. Pieces come in order and cover [lba, lba + nsectors). */
enum piece_kind { PIECE_ABSENT /* not in this log: ask the next tier */, PIECE_ZERO, PIECE_DATA };
struct vmlog_piece {
    enum piece_kind kind;
    uint64_t lba;
    uint32_t nsectors;
    uint64_t seq;         /* DATA: the record, */
    uint32_t part;        /* the part of it that holds the first sector, */
    uint32_t part_sector; /* and where in that part */
};
/* Fills at most max pieces; returns how many. *covered gets how many sectors they span (all, unless max was
 * too small). A DATA piece lies within one part. */
unsigned vmlog_pieces(struct vmlog *, uint8_t disk, uint64_t lba, uint32_t nsectors, struct vmlog_piece *,
                      unsigned max, uint32_t *covered);

/* Reads the content of DATA pieces back from the journal, off the loop. -ENOENT: the record was superseded
 * and removed meanwhile: ask vmlog_pieces again. -EBADMSG: altered on disk: an error for the guest. */
struct vmlog_fetch {
    const struct vmlog_piece *pieces; /* borrowed; all DATA */
    uint8_t **to;                     /* where each piece's bytes go */
    unsigned n;
    int status;
    void (*done)(struct vmlog_fetch *);
    struct { /* private */
        struct vmlog *log;
        struct work work;
        unsigned failed; /* the piece that status is about */
    } in;
};
void vmlog_fetch(struct vmlog *, struct vmlog_fetch *);

#endif
