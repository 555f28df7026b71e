/* tests/sim/guest.h - a VM's guest: what it writes and reads over the volumes, and what it may see.
 *
 * Of one sector there is never more than one write under way; reads go where they like. So each sector has an
 * order of writes, and a read may show the last one that was acknowledged or read before it began, or a later
 * one. After a crash of its edge the guest first reads everything: that must be a cut of what it wrote
 * (cut_model.h) that holds what had to survive, and is its history from then on.
 *
 * Where two edges are a pair it has a way to each, as an initiator with two paths: it uses one, tries the
 * other when that one has not answered for a while, and goes there if a read is answered. The old way, as
 * long as its edge does not know that it is over, gets a read or a write now and then: what it answers must
 * be true, too. When its VM is handed over (guest_still.c) it goes to the other edge with all that it has
 * sent: for the guest nothing has happened.
 */
#ifndef ISTHMUS_SIM_GUEST_H
#define ISTHMUS_SIM_GUEST_H

#include "cut_model.h"
#include "sim_edge.h"

enum { GUEST_DISKS = 2 };

/* What must have survived; weaker ones come later. */
enum guest_must { GUEST_WAS_KILLED, GUEST_LOST_POWER, GUEST_LOST_DISKS };

struct guest;

struct guest_conf {
    const char *vm, *path; /* of the history */
    const char *stamps;    /* what names what it writes; NULL: vm */
    unsigned ndisks;
    uint32_t nsectors;
    unsigned depth;    /* I/Os in flight */
    uint64_t think_ns; /* between two */
    unsigned nops;     /* then it is content */
    /* What must have survived at that edge (*before_us: GUEST_LOST_DISKS: what was acknowledged before that);
     * and it has seen that it has: that is its history from now on. Both NULL: before_us of guest_twin(). */
    enum guest_must (*must)(void *arg, const struct sim_edge *, uint64_t *before_us);
    void (*settled)(void *arg, const struct sim_edge *);
    /* That edge has acknowledged a write, begun then. May be NULL. */
    void (*acknowledged)(void *arg, const struct sim_edge *, uint64_t begun_ns);
    void *arg;
};
struct guest *guest_new(const struct guest_conf *);
/* A guest of the same VM as it would be found somewhere else: it only looks, once, whether what was
 * acknowledged before is there in a cut. path is for it alone. */
struct guest *guest_twin(struct guest *, const char *path, uint64_t before_us);
/* What the source disk shows before anything was written. */
void guest_prepare(const struct guest *, unsigned disk, uint8_t *bytes);
/* From now on its target is there; or at one of the two (other: NULL). */
void guest_target(struct guest *, struct sim_edge *, struct sim_edge *other);
void guest_going(struct guest *, struct vm *);
/* It is no more; what is under way is nobody's. */
void guest_end(struct guest *);
/* On the VM's loop. Nothing is begun at it any more; quiet() when all that was under way is answered. */
void guest_still(struct vm *, void (*quiet)(void *arg), void *arg);
bool guest_is_quiet_at(const struct vm *); /* nobody is answered there */
/* It goes on: each guest there, or (far) at the other edge; quiet() will not be called any more. */
void guest_stillness_ends(struct vm *);
void guest_go_on(struct guest *, struct vm *, bool far);
/* The edge is gone, and everything under way with it. */
void guest_lost(struct guest *, const struct sim_edge *);
void guest_more(struct guest *, unsigned nops);

/* It runs where its disks are, and writes to them. */
void guest_write_elsewhere(struct guest *, uint8_t *const *disks);

bool guest_running(const struct guest *);          /* it has a target, and has seen that all is well there */
bool guest_content(const struct guest *);          /* all it wanted is done */
struct vm *guest_vm(const struct guest *);         /* NULL: it has none */
struct sim_edge *guest_edge(const struct guest *); /* whose that is */
uint64_t guest_last(const struct guest *);         /* the highest number of a record of its own */
unsigned guest_done(const struct guest *);         /* I/Os */
/* When the first write above that record was acknowledged; UINT64_MAX: none was. */
uint64_t guest_acknowledged_above(const struct guest *, uint64_t seq);
/* Are these disks at a cut that holds what was acknowledged before? Else a violation, of `what`. */
bool guest_judge(struct guest *, uint8_t *const *disks, uint64_t before_us, const char *what);

#endif
