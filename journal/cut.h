/* journal/cut.h - a cut of a VM's log: what has to reach the object store together, held still while it does.
 *
 * One at a time per log, on the VM's loop. From cut_open() to cut_close() nothing that the cut needs is
 * removed from the journal, whatever the guest writes over it. docs/log.md tells the whole way.
 */
#ifndef ISTHMUS_CUT_H
#define ISTHMUS_CUT_H

#include "vmlog.h"

struct cut_extent {
    uint64_t seq, lba;
    uint32_t nsectors, offset; /* sectors from the record's first */
    uint8_t disk;
    bool zero;
};

struct cut {
    uint64_t seq;               /* everything up to this record */
    uint64_t oldest_ns;         /* when the first write of it became visible; loop_now_ns */
    struct cut_extent *extents; /* once it is open; by SEQ once cut_sort() ran */
    size_t n;

    struct { /* private */
        struct vmlog *log;
        struct task task;
        size_t at, room;
        unsigned disk; /* gathered so far: all disks before this one, */
        uint64_t lba;  /* and of this one what is before */
        void (*opened)(struct cut *), (*closed)(struct cut *);
    } in;
};

/* Records that no cut has taken yet: since when (0: there are none), and how many bytes of journal all hold.
 */
uint64_t cut_pending_since_ns(const struct vmlog *);
uint64_t cut_pending_bytes(const struct vmlog *);

/* Of everything visible now. opened() comes later: what there is is gathered in slices, while writes go on.
 */
void cut_open(struct cut *, struct vmlog *, void (*opened)(struct cut *));
/* Any thread, once. */
void cut_sort(struct cut *);
/* Blocking: the content of extents that are not zero, one behind the other, nsectors * 512 bytes each; at
 * most so many, with so many sectors in all. -EBADMSG: altered on disk; -EIO. */
enum { CUT_READ_EXTENTS = 64, CUT_READ_SECTORS = 2048 };
int cut_read(const struct cut *, const struct cut_extent *, unsigned n, uint8_t *out);
/* The cut ends. committed: the store has it and the map knows; its records go from the index and the disk.
 * closed() comes later. */
void cut_close(struct cut *, bool committed, void (*closed)(struct cut *));

/* At opening, before anything is appended: the store has everything up to `seq`; numbers go on above it. */
void cut_resume(struct vmlog *, uint64_t seq);
/* Blocking: gives back disk space that committed records took. */
void cut_reclaim(struct vmlog *);

#endif
