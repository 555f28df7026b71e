/* tests/sim/guest_inside.h - between guest*.c.
 */
#ifndef ISTHMUS_SIM_GUEST_INSIDE_H
#define ISTHMUS_SIM_GUEST_INSIDE_H

#include "guest.h"
#include "stamp.h"

/* One sector's writes, in their order, since the last audit. The first: what it showed then. */
struct sector {
    struct {
        uint32_t number;
        bool zeros;
    } * writes;
    uint32_t n, room;
    uint32_t floor; /* what was acknowledged or read: nothing older is to be seen */
    bool busy;      /* a write is under way */
};

struct write {
    uint8_t disk;
    bool zeros, stable; /* FUA, and acknowledged */
    bool survived;
    uint32_t lba, nsectors;
    uint64_t begun_ns, done_ns, seq;
};

struct op {
    struct io io;
    TAILQ_ENTRY(op) entry;
    struct task task;
    struct guest *guest;
    uint8_t disk;
    uint32_t lba, nsectors, number;
    uint32_t *floors; /* of a read: of each sector, when it began */
};

struct guest {
    struct guest_conf conf;
    struct cut_model model;
    struct sector *sectors[GUEST_DISKS];
    struct write *writes; /* by number; 0 is none */
    uint32_t nwrites, room;
    uint64_t last_seq;
    struct sim_edge *edge;
    struct vm *vm;
    struct task look;
    struct sim_event *next;
    TAILQ_HEAD(, op) ops;
    unsigned nops, done, wanted;
    bool looking, leaving, flushing;
    bool unnumbered; /* there are writes whose seq is not known */
    bool lost;       /* its edge died: all is to be looked at first */
    enum guest_must must;
    uint64_t lost_before_us; /* GUEST_LOST_DISKS: what was acknowledged before must be there */
    bool auditing;
    uint8_t *image[GUEST_DISKS];
    uint32_t next_chunk, chunks_left;
};

void sector_begin(struct sector *, uint32_t number, bool zeros);
void sector_add(struct sector *, uint32_t number, bool zeros);
void guest_plan(struct guest *, uint64_t after_ns);
void guest_submit(struct guest *, struct op *);
void guest_invent(struct guest *); /* an I/O, and begins it */
void guest_audit_begin(struct guest *);
void guest_audit_step(struct guest *);

#endif
