/* initiator/wb_impl.h - shared by writeback.c and wb_*.c only. Loop thread, but for run() of work.
 */
#ifndef ISTHMUS_WB_IMPL_H
#define ISTHMUS_WB_IMPL_H

#include "metric.h"
#include "wb_record.h"
#include "worker.h"
#include "writeback.h"

struct wb_vm;
struct wb_apply;

/* Something that shall be stable of a VM. One after the other; each sees what those before have made. */
struct wb_change {
    TAILQ_ENTRY(wb_change) entry;
    /* Changes *next, which is a copy of what is stable now; false: there is nothing to change. May name a
     * stage whose pieces go with it, or say that nothing is to be kept of the VM. */
    bool (*make)(struct wb_vm *, struct wb_change *, struct wb_record *next);
    /* Once, later. status 0: vm->rec is so now. */
    void (*done)(struct wb_vm *, struct wb_change *, int status, const struct why *);
    uint64_t drop;
    bool forget;
};

/* A message, until it is answered. */
struct wb_op {
    TAILQ_ENTRY(wb_op) entry;
    struct wb_vm *vm;
    struct link_request *request;
    uint8_t type;
    struct wb_head head;
    union {
        struct wb_attach *attach; /* freed with the op */
        struct wb_begin begin;
        struct wb_end end;
        struct wb_data data;
        struct wb_zero zero;
        struct wb_offer offer;
    };
    struct wb_change change;
    struct work work;
    uint64_t number; /* of the stage, for the work */
    int status;      /* of the work */
    struct why why;
    uint64_t pieces, bytes;
    bool same; /* end: the stage is what the edge says */
};
TAILQ_HEAD(wb_ops, wb_op);

enum wb_offer_result { OFFER_WANTED, OFFER_IN_STAGE, OFFER_SAME_PLACE, OFFER_ELSEWHERE, OFFER_RESULTS };

struct wb_metrics {
    char vm[PROTO_NAME_MAX + 1]; /* as they call it */
    struct metric *instant, *applied, *alarm, *staged_bytes, *applied_bytes, *apply_seconds;
    struct metric *offered[OFFER_RESULTS];
};

struct wb_vm {
    TAILQ_ENTRY(wb_vm) entry;
    struct writeback *wb;
    struct wb_record rec; /* what is stable */

    TAILQ_HEAD(, wb_change) changes;
    struct wb_change *change; /* being written */
    struct wb_record next;
    struct work write;
    int write_status;
    bool write_needed;
    struct why write_why;

    struct wb_ops ops; /* in the order they came */
    struct wb_op *op;  /* the first of them, in work */
    bool pumping;
    struct wb_ops waiting; /* WB_APPLIED */
    struct timer let_go;   /* of the disks, while it is detached */
    unsigned let_go_tries;

    uint64_t pieces, bytes; /* came into the open stage since the daemon was started */
    uint64_t bytes_applied;
    bool settling; /* marks that are not known yet are being asked for */
    struct wb_apply *apply;
    struct why trouble; /* why applying does not go on, or "" */
    struct wb_metrics metrics;
};

struct writeback {
    struct loop *loop;
    struct stage *stage;
    struct wb_disks disks;
    struct worker *writer, *scanner;
    TAILQ_HEAD(, wb_vm) vms;
    unsigned nvms;
    uint64_t next_number; /* of a stage */
    unsigned nchunks;     /* pieces of all VMs in memory, on their way to datastores */
    unsigned busy;        /* works and I/O that are out */
    bool closing;
    void (*done)(void *arg);
    void *arg;
    struct task task;
    struct metric *stage_bytes;
};

/* ---- writeback.c ---- */

void wb_busy(struct writeback *);
void wb_go_idle(struct writeback *); /* one less is out */
/* The VM's disk i, opened; NULL if it is not there now. */
struct datastore *wb_disk(const struct wb_vm *, unsigned i, const struct datastore_info **);
struct source *wb_source(const struct writeback *, const char *disk);
/* All are there? If not, why says which is not. */
bool wb_disks_ready(const struct wb_vm *, struct why *);
/* Runs on the thread that writes the stage. w->done() must call wb_go_idle(). */
void wb_write(struct writeback *, struct work *);
void wb_pool(struct writeback *, struct work *);
void wb_change(struct wb_vm *, struct wb_change *);
void wb_raise_alarm(struct wb_vm *, enum wb_alarm, const char *text);
struct wb_vm *wb_vm_new(struct writeback *, const uint8_t id[WB_ID_BYTES]);
/* Forgets a VM that has no message and no change, and no row that counts. */
void wb_vm_forget(struct wb_vm *);
/* "2026-11-29T01:30:00.123Z" */
const char *wb_instant(uint64_t ms, char text[32]);

/* ---- wb_vm.c: messages ---- */

void wb_pump(struct wb_vm *);
void wb_let_go(struct timer *);
/* Answers the op in work and goes on with the next. */
void wb_op_end(struct wb_op *, int status, const char *why, struct buf *body);
void wb_op_state(struct wb_op *);
/* Answers and frees an op that is in no list. */
void wb_op_answer(struct wb_op *, int status, const char *why, struct buf *body);
/* WB_APPLIED: those that can be answered now. */
void wb_wake(struct wb_vm *);
void wb_show_metrics(struct wb_vm *);

/* ---- wb_state.c: what is asked, what is answered ---- */

struct buf *wb_state_of(const struct wb_vm *);
/* Is there a stage open for what this op brings? If not it is answered. */
bool wb_stage_wants(struct wb_op *, uint8_t disk);
/* Do these sectors lie on the disk, as far as it is known? -EINVAL with why. */
int wb_span_check(const struct wb_vm *, uint8_t disk, uint64_t lba, uint64_t nsectors, struct why *);

/* ---- wb_data.c, wb_offer.c ---- */

void wb_on_data(struct wb_op *);
void wb_on_zero(struct wb_op *);
void wb_on_end(struct wb_op *);
void wb_on_offer(struct wb_op *);

/* ---- wb_marks.c ---- */

/* One I/O to each disk of a VM at once. */
struct wb_round {
    struct wb_vm *vm;
    unsigned pending;
    int status; /* of the first that failed */
    struct why why;
    void (*done)(struct wb_round *); /* frees it */
    struct wb_round_io {
        struct datastore_io io;
        struct wb_round *round;
    } io[WB_DISKS_MAX];
};
/* MARK or FLUSH. All disks must be ready. */
void wb_round_start(struct wb_vm *, enum datastore_op, void (*done)(struct wb_round *));
/* Asks for the marks that are not known yet, if the disks are there. */
void wb_settle(struct wb_vm *);
/* Everybody else is kept from writing, as far as the datastore can; or no longer. */
void wb_hold(struct wb_vm *, bool hold);
void wb_hold_disk(struct wb_vm *, unsigned i, bool hold);

/* ---- wb_apply.c, wb_chunk.c ---- */

enum wb_phase { APPLY_IDLE, APPLY_MARKS, APPLY_WRITE, APPLY_FLUSH, APPLY_NEW_MARKS, APPLY_DONE };

struct wb_apply {
    struct wb_vm *vm;
    enum wb_phase phase;
    uint64_t generation[WB_DISKS_MAX]; /* before the first write */
    uint32_t max_io_bytes, max_zero_bytes;
    bool reading, read_all;
    uint8_t next_disk; /* where reading goes on */
    uint64_t next_lba;
    struct {
        uint8_t disk;
        uint64_t lba, nsectors;
    } zeros;           /* what is left of a run of zeros */
    unsigned inflight; /* chunks */
    int status;        /* first thing that went wrong in this try */
    struct why why;
    bool redo; /* a disk went away: all of it again */
    unsigned fails;
    struct why said; /* in the log */
    uint64_t started_ns;
    struct wb_mark marks[WB_DISKS_MAX];
    struct wb_change change;
    struct timer retry;
};

/* Goes on with what is staged, if it can. */
void wb_apply_go(struct wb_vm *);
void wb_apply_later(struct wb_vm *);
void wb_apply_new(struct wb_vm *);
void wb_apply_free(struct wb_vm *);
/* Chunks: as many as may be out; wb_apply_written() when none is left, or one failed and none is out. */
void wb_chunks(struct wb_vm *);
void wb_apply_written(struct wb_vm *);

#endif
