/* journal/writeback_impl.h - what the files of write-back share. Not for others.
 *
 *   writeback.c          when, and what others ask for
 *   writeback_wait.c     who waits for it
 *   writeback_ask.c      what on-prem says: attaching, detaching, the end of an alarm
 *   writeback_stage.c    the steps of one stage, from the commit to on-prem's "applied"
 *   writeback_confirm.c  its last ones: the map lets go of it
 *   writeback_plan.c     the list of its pieces, in a file, and a window of it in memory
 *   writeback_send.c     window by window: pieces, zeros, the digest
 *   writeback_batch.c    some pieces: read from the store, offered, sent
 */
#ifndef ISTHMUS_WRITEBACK_IMPL_H
#define ISTHMUS_WRITEBACK_IMPL_H

#include "far_call.h"
#include "frames.h"
#include "metric.h"
#include "writeback.h"

#include <stdio.h>

enum {
    WB_WINDOW = 65536,         /* pieces in memory: 6 MiB */
    WB_BATCH = 512,            /* pieces read at once, of one disk: 2 MiB, */
    WB_BATCH_FRAMES = 4 << 20, /* and of frames, as they are in the store, at most about so much */
    WB_BATCHES = 3,            /* under way at once */
    WB_BATCH_DATA = WB_BATCH / WB_DATA_MAX
};

/* A piece of the stage; a row of the plan. */
struct wb_piece {
    uint64_t lba, nsectors; /* data: within one block */
    uint64_t object;        /* 0: zeros */
    uint32_t frame_at, frame_bytes;
    uint8_t disk, frame_sector;
    uint8_t none[6]; /* it goes to a file as it is: without holes, which would have what memory held */
};
_Static_assert(sizeof(struct wb_piece) == 40, "no holes in a wb_piece");

struct wb_plan {
    FILE *file;                 /* rows by disk and LBA; unlinked */
    int8_t places[VMLOG_DISKS]; /* of a disk's number among the VM's disks at on-prem; -1: nowhere */
    uint64_t pieces, bytes;     /* of data */
};

/* The part of the plan that is in memory. */
struct wb_window {
    struct wb_piece *pieces;
    uint8_t (*hashes)[WB_HASH_BYTES]; /* of data pieces */
    uint32_t *order;                  /* data pieces by disk, object and frame */
    unsigned n, ndata;
};

struct wb_data_call {
    struct far_call call;
    struct wb_batch *batch;
    bool out;
};

struct wb_batch {
    struct writeback *wb;
    enum {
        BATCH_FREE,
        BATCH_FETCHING,
        BATCH_RESTING, /* the store does not answer: the same again after a pause */
        BATCH_OPENING,
        BATCH_OFFERING,
        BATCH_PACKING,
        BATCH_SENDING
    } state;
    const uint32_t *order; /* of the window; n of them */
    unsigned n;
    uint8_t disk;
    struct frames frames;
    uint8_t *data; /* n blocks */
    struct work work;
    struct timer retry;
    unsigned retry_ms, again;
    struct far_call offer;
    bool *wanted; /* n */
    struct wb_data_call calls[WB_BATCH_DATA];
    struct buf *bodies[WB_BATCH_DATA];
    unsigned ncalls, out;
    uint64_t bytes;
};

struct wb_sender {
    bool running;
    struct wb_window window;
    unsigned next; /* of window.order: what no batch has taken */
    unsigned next_zero;
    bool working; /* the pool has the window */
    bool summed;  /* the window is in the digest */
    struct work work;
    int work_status;
    struct why work_why;
    struct wb_digest *digest;
    uint64_t left; /* rows of the plan that have not been in a window */
    struct wb_batch batches[WB_BATCHES];
    unsigned nbusy;
    struct far_call zero;
    bool zero_out;
    int status;
    struct why why;
};

enum wb_step {
    WB_IDLE,
    WB_ASKING, /* WB_STATE, and VM_ATTACH where that is needed */
    WB_COMMITTING,
    WB_PLANNING, /* a turn */
    WB_BEGINNING,
    WB_SENDING,
    WB_ENDING,
    WB_APPLYING,
    WB_CONFIRMING, /* a turn */
    WB_DETACHING,
    WB_CLEARING /* the alarm */
};

TAILQ_HEAD(wb_waits, writeback_wait);

struct writeback {
    struct writeback_conf conf;
    char *vm, *spool_path, *disks[WB_DISKS_MAX];
    enum wb_step step;
    bool giving_up; /* the step shall end soon */
    struct timer tick;
    struct wb_waits waits, detaches, clears;

    /* what on-prem says */
    struct wb_state onprem;
    bool attached, lost, alarm;
    bool listed;    /* it has said yes to this list of disks */
    bool relisting; /* detached only to be attached with that */
    bool damaged;   /* the alarm is about an object of the store: tried again all the same */
    bool must_ask;
    enum wb_policy telling, told; /* in an ATTACH, and what it knows; 0: not sure */
    uint64_t asked_ns;
    struct why why;         /* of the alarm, or of the last failure */
    uint64_t rest_until_ns; /* after a failure */
    unsigned rest_ms;
    uint64_t down_since_ns; /* the link; 0: it is up */

    /* ages of what the source disks lack */
    bool overdue;                     /* since before the start */
    uint64_t since_ns, next_since_ns; /* of what is behind `applied`, behind `target`; 0: nothing */

    /* the stage */
    bool holding; /* upkeep is held, */
    bool slotted; /* and a slot taken */
    uint64_t target, instant_ms, began_ns;
    uint64_t planned;  /* the cut that the plan is of: by the turn, `target` once that is over */
    uint64_t takes_ns; /* one is taken to last so long, until on-prem has all of it */
    unsigned tries;
    struct wb_plan plan;
    struct wb_sender sender;
    uint64_t bytes_done;

    struct commit_wait commit_wait;
    struct commit_turn turn;
    int turn_status;
    struct why turn_why;
    struct map_change *change;
    uint64_t confirming; /* the cut */
    struct far_call call;
    void (*answered)(struct writeback *);
    struct far_call peek; /* how far on-prem is with applying */
    bool peeking;

    bool stopping, stopped;
    void (*stop_done)(void *arg);
    void *stop_arg;
    struct task stop_task;

    struct writeback_metrics {
        struct metric *age, *pending, *seconds, *data_bytes, *known_bytes, *sent_bytes, *retries, *applied,
            *applied_instant, *alarm;
    } m;
};

/* writeback.c */
void wb_enter(struct writeback *, enum wb_step);
/* The step is over: idle, and on with whatever is to be done. */
void wb_idle(struct writeback *);
/* It did not work: what and why; a pause, then on-prem is asked where it is. */
void wb_failed(struct writeback *, const char *what, const char *why);
void wb_alarm(struct writeback *, const char *format, ...) __attribute__((format(printf, 2, 3)));
void wb_no_alarm(struct writeback *);
void wb_lost(struct writeback *, const char *why);
/* A call of this step; takes the body. answered() is not called when the step is given up. */
void wb_call(struct writeback *, enum proto_type, enum link_class, struct buf *body,
             void (*answered)(struct writeback *));
struct wb_head wb_head_of(const struct writeback *);
/* The answer of wb_call(): false if it is none. */
bool wb_take_state(struct writeback *);
bool wb_take(struct writeback *, struct link_call *);
/* Everything up to the cut is on the source disks. */
void wb_applied(struct writeback *, uint64_t cut);

/* writeback_wait.c */
void wb_add_wait(struct wb_waits *, struct writeback_wait *, uint64_t seq);
void wb_end_wait(struct writeback *, struct wb_waits *, struct writeback_wait *, int status,
                 const struct why *);
void wb_end_waits(struct writeback *, struct wb_waits *, uint64_t through, int status, const struct why *);

/* writeback_ask.c */
void wb_ask(struct writeback *);
void wb_detach(struct writeback *);
void wb_clear(struct writeback *);
bool wb_is_staged(const struct writeback *); /* on-prem has a cut whole that is not applied */
enum wb_policy wb_policy_wanted(const struct writeback *);

/* writeback_metrics.c */
void wb_metrics_new(struct writeback *);
void wb_metrics_free(struct writeback *);
void wb_metrics_show(struct writeback *);
uint64_t wb_unapplied_bytes(const struct writeback *);
uint64_t wb_unapplied_ns(const struct writeback *);

/* How long a write-back is taken to last, once one has lasted so long: the longest of late counts, ever less.
 */
static inline uint64_t wb_takes_ns(uint64_t before_ns, uint64_t last_ns)
{
    uint64_t faded_ns = before_ns - before_ns / 4;

    return last_ns > faded_ns ? last_ns : faded_ns;
}

/* The age of the oldest write at which a write-back begins, so that on-prem has all of it before the interval
 * is over: by half as much again as it is taken to last earlier, and by an eighth of the interval; at half of
 * it, at the earliest. */
static inline uint64_t wb_begin_age_ns(unsigned interval_ms, uint64_t takes_ns)
{
    uint64_t interval_ns = interval_ms * UINT64_C(1000000),
             early_ns = takes_ns + takes_ns / 2 + interval_ns / 8;

    return interval_ns - (early_ns < interval_ns / 2 ? early_ns : interval_ns / 2);
}

/* writeback_stage.c */
void wb_stage_begin(struct writeback *);
void wb_stage_wait_applied(struct writeback *, uint64_t target); /* of a stage that on-prem has whole */
void wb_stage_give_up(struct writeback *);                       /* the step ends soon, wb_idle() follows */
void wb_stage_sent(struct writeback *);                          /* the sender is done */
void wb_stage_end(struct writeback *);                           /* forgets what belongs to a stage */

/* writeback_confirm.c */
bool wb_can_confirm(
    const struct writeback *); /* on-prem is at a cut that the store has, and further than is noted */
void wb_confirm(struct writeback *);

/* writeback_plan.c: blocking */
int wb_plan_write(struct wb_plan *, const char *path, struct map *, struct why *);
void wb_plan_close(struct wb_plan *);
int wb_window_load(struct wb_window *, struct wb_plan *, uint64_t left, struct why *);
void wb_window_sum(const struct wb_window *, struct wb_digest *);
void wb_window_free(struct wb_window *);

/* writeback_send.c */
void wb_send_begin(struct writeback *);
void wb_send_cancel(struct writeback *);
void wb_send_advance(struct writeback *);
void wb_send_fail(struct writeback *, int status, const struct why *);
void wb_send_end(struct writeback *); /* not running: frees */
struct far_call wb_send_call(struct writeback *, enum proto_type, struct buf *body,
                             void (*done)(struct far_call *));

/* writeback_batch.c */
void wb_batch_begin(struct wb_batch *, struct writeback *, const uint32_t *order, unsigned n);
unsigned wb_batch_take(const struct wb_window *, unsigned from); /* how many pieces the next batch has */
void wb_batch_cancel(struct wb_batch *);

#endif
