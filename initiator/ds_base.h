/* initiator/ds_base.h - what every datastore has: the I/O that waits, the I/O that is retried, the answers,
 * what is written and not flushed, the numbers, and the sentence about what is wrong.
 *
 * A datastore embeds a ds_base first and gives it two functions. An I/O is always in exactly one place:
 * `reads` or `changes` (to be issued), `delayed` (to be issued at its retry_ns), the back end's own list
 * (issued: ds_take gave it), or `finished` (its done() is about to run). Loop thread only.
 */
#ifndef ISTHMUS_DS_BASE_H
#define ISTHMUS_DS_BASE_H

#include "datastore.h"
#include "metric.h"

/* Of the I/O that a datastore has issued, at most so many are no reads: reads are waited for by a guest. */
enum { DS_CHANGES_MAX = 8 };

enum { DS_ZEROS_BYTES = 128 << 10 };
extern const uint8_t ds_zeros[DS_ZEROS_BYTES];

struct ds_numbers {
    struct metric *read_seconds, *reads, *read_bytes;
    struct metric *write_seconds, *writes, *written_bytes, *zeroed_bytes; /* a zeroing is a write */
    struct metric *flush_seconds, *losses;
    struct metric *reconnects, *errors, *up;
};

struct ds_base {
    struct datastore ds;
    struct loop *loop;
    char *name, *shown; /* the disk's name; the URL without secrets */
    struct datastore_events events;
    struct datastore_info info;
    bool known; /* info is */
    bool closing;
    unsigned busy; /* issued I/O and work on the pool: not freed before it is 0 */
    struct why trouble;
    struct why locked; /* why info.read_only */

    struct datastore_ios reads, changes, delayed, finished;
    unsigned changing; /* issued, and no reads */
    bool flushing;     /* one of them is a flush */
    bool fenced;       /* none may be issued now */
    /* writes and zeroings that ended; how many of them had when the last successful flush was issued */
    uint64_t written, flushed;
    uint64_t generation;
    bool marks; /* the back end answers DATASTORE_MARK; else there is none */
    struct timer retry;
    struct task task; /* runs the finished, tells events, frees */
    bool posted;
    bool tell_opened, tell_refused, tell_resized, tell_taken;
    struct why taken;

    void (*pump)(struct ds_base *);    /* issue what ds_take() gives, as far as there is room */
    void (*destroy)(struct ds_base *); /* free the back end; called once, from the loop */

    struct ds_numbers numbers;
};

void ds_init(struct ds_base *, const struct datastore_ops *, struct loop *, const struct datastore_conf *,
             const struct datastore_events *);
/* For ops. submit checks and queues; there is nothing to hold unless a back end has more. */
void ds_submit(struct datastore *, struct datastore_io *);
uint64_t ds_generation(const struct datastore *);
void ds_hold_nothing(struct datastore *, uint64_t key);
bool ds_holds_nothing(const struct datastore *);
const struct datastore_info *ds_info(const struct datastore *);
const struct why *ds_trouble(const struct datastore *);

/* The next I/O to issue, or NULL: reads first, but the others are never left out. It is within bounds. Needs
 * `known`. */
struct datastore_io *ds_take(struct ds_base *);
/* Where a ZERO is done by writing zeros: bytes of ds_zeros that come next, from offset + in.part on. */
uint32_t ds_next_zeros(struct datastore_io *);
/* The datastore did what it was asked: ends io, or puts it back if there are zeros left to write. */
void ds_done(struct ds_base *, struct datastore_io *);
/* Ends io, which is in no list. status != 0: why is set in io already. */
void ds_finish(struct ds_base *, struct datastore_io *, int status);
/* Puts io, which is in no list, back: first in the queue, or after ms. */
void ds_requeue(struct ds_base *, struct datastore_io *);
void ds_take_back(struct ds_base *, struct datastore_ios *issued); /* all of them, in their order */
void ds_delay(struct ds_base *, struct datastore_io *, uint64_t ms);
/* What was written and not flushed may be lost. */
void ds_may_have_lost(struct ds_base *);
/* "read 4096 bytes at 8192", "flush", for sentences. Returns out. */
const char *ds_io_words(const struct datastore_io *, char *out, size_t size);
/* Marks it closing, ends what waits, and frees it all once nothing is busy. The back end first requeues what
 * it can take back. */
void ds_close(struct ds_base *);
/* Takes and drops a hold on the datastore's memory. */
void ds_hold(struct ds_base *);
void ds_release(struct ds_base *);

/* The datastore answered: info is this. Tells opened or resized if that is news. */
void ds_known(struct ds_base *, const struct datastore_info *);
/* Somebody else has, or had, our reservation: told to the owner. */
void ds_taken(struct ds_base *, const struct why *);
/* It does not work now. Logged when the sentence is another than before. final: a definite refusal. */
void ds_trouble_set(struct ds_base *, bool final, const struct why *);
/* It works (again). */
void ds_trouble_clear(struct ds_base *);

void ds_numbers_init(struct ds_numbers *, const char *disk);
void ds_numbers_free(struct ds_numbers *);
/* io ended after ns. */
void ds_count(struct ds_numbers *, const struct datastore_io *io, uint64_t ns);

/* Milliseconds to wait before try number `tries` (0, 1, ...): 100 ms doubling up to 5 s, half of it jitter.
 */
uint64_t ds_backoff_ms(struct loop *, unsigned tries);

/* Between ds_base.c and ds_queue.c. */
void ds_post(struct ds_base *); /* the task runs soon */
void ds_cancel(struct ds_base *, struct datastore_io *);
void ds_run_retry(struct timer *);

int ds_iscsi_url_check(const char *url, struct why *);
int ds_nbd_url_check(const char *url, struct why *);
int ds_file_url_check(const char *url, struct why *);

#endif
