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
    struct guest *guest; /* NULL: nobody waits for it any more */
    struct vm *vm;
    void (*done)(struct io *);
    struct loop *loop; /* NULL: it is not on its way to this one */
    bool waits;        /* for the VM, which is being handed over, or (vm NULL) for where it will be */
    unsigned history;  /* in which it began */
    uint8_t disk;
    uint32_t lba, nsectors, number;
    uint32_t *floors; /* of a read: of each sector, when it began */
};

TAILQ_HEAD(ops, op);

struct guest {
    struct guest_conf conf;
    struct cut_model model;
    struct sector *sectors[GUEST_DISKS];
    struct write *writes; /* by number; 0 is none */
    uint32_t nwrites, room;
    uint64_t last_seq;
    struct sim_edge *edges[2]; /* where its target may be; the second may be NULL */
    struct path {
        struct sim_edge *edge;
        struct vm *vm; /* a reference, and a session; NULL: it is not logged in */
        bool leaving;
        struct ops ops; /* under way */
    } path, old;        /* old: where it was before, and is still logged in */
    unsigned look;      /* the newest; others do not count any more */
    uint64_t looked_ns; /* when that was sent; 0: none is out */
    uint64_t heard_ns;  /* something was answered, or asked with nothing under way */
    struct sim_event *next;
    unsigned nops, done, wanted;
    uint32_t strays;  /* writes to where it was before */
    unsigned history; /* rises when it is settled what that is */
    bool flushing;
    bool unnumbered; /* there are writes whose seq is not known */
    bool lost;       /* its edge died: all is to be looked at first */
    bool moves;      /* its VM was handed to the other edge: what is under way waits to be begun there */
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
/* It becomes a read, or gets a write's bytes. */
void guest_read(const struct guest *, struct op *);
void guest_stamp(const struct guest *, struct op *);
void guest_audit_begin(struct guest *);
void guest_audit_step(struct guest *);
void guest_judge_read(struct guest *, struct op *); /* and drops what it holds */
/* Begins the op on that path. */
void guest_send(struct guest *, struct path *, struct op *);
void guest_post(struct op *); /* to its VM's loop */
/* It is answered, or never was begun, and nobody waits for it: in no list any more. */
void guest_op_drop(struct op *);
void guest_op_free(struct op *);

/* guest_still.c. An I/O of a VM is begun, and answered; */
void guest_seat_begin(struct vm *);
void guest_seat_end(struct vm *);
bool guest_waits_at(const struct vm *); /* none is begun now */
void guest_take_along(struct guest *);  /* its path has a VM again: it goes on there with what waits */
/* What was on its way to where the VM was. */
void guest_sent_in_vain(struct guest *, const struct sim_edge *);
void guest_seats_lost(const struct sim_edge *);

/* guest_path.c */
void guest_look(struct guest *,
                bool check); /* for a way; check: one that answers, instead of the one it has */
void guest_leave(struct path *);
void guest_watch(void *guest); /* from now on: looks whether its way answers */

#endif
