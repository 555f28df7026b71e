/* journal/impl.h - what the files of the journal share; nobody else includes it.
 *
 * Locks, in the order to take them: db_lock, then lock. db_lock is held to read by whoever uses the store
 * (but the writer), and to write by the writer while it closes and opens it again. lock guards what is marked
 * so. Neither is held while anything of a VM runs.
 */
#ifndef ISTHMUS_JOURNAL_IMPL_H
#define ISTHMUS_JOURNAL_IMPL_H

#include "journal.h"
#include "keyring.h"
#include "kv.h"
#include "metric.h"
#include "rows.h"
#include "vmlog.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    JOURNAL_META_KEY_MAX = 200,
    JOURNAL_META_VALUE_MAX = 1 << 20,
    DEAD_MAX = 64,  /* keys in one dead_keys */
    DEAD_EAGER = 16 /* as many dead_keys are worth a batch of their own; fewer wait for the next write */
};

/* Keys to be removed, of one VM: n of them, and all of records up to `through` (0: none). Owned by the writer
 * once queued. */
struct dead_keys {
    STAILQ_ENTRY(dead_keys) entry;
    uint8_t id[VMLOG_ID_BYTES];
    uint64_t through;
    unsigned n;
    struct {
        uint64_t seq;
        uint32_t number; /* a part, or EXTENTS_HEADER */
    } keys[DEAD_MAX];
};

/* Something done once in a while, by a thread that waits for it. On its stack. */
struct control {
    STAILQ_ENTRY(control) entry;
    enum { CONTROL_META_PUT, CONTROL_META_DELETE, CONTROL_PURGE, CONTROL_ROWS, CONTROL_ERASE } what;
    const char *key;
    const void *value;
    size_t n;
    const uint8_t *id;             /* PURGE: the VM */
    const struct row_change *rows; /* ROWS: n of them */
    const struct row_range *range; /* ERASE */
    bool unstable;                 /* who waits is content when it is written */
    uint64_t batch;                /* lock: set when written */
};

STAILQ_HEAD(append_list, vmlog_append);
STAILQ_HEAD(flush_list, vmlog_flush);
STAILQ_HEAD(dead_list, dead_keys);
STAILQ_HEAD(control_list, control);

struct journal {
    char *path;
    struct kv *kv;
    struct keyring *keys; /* sealing: the writer only */
    pthread_rwlock_t db_lock;

    uint64_t max_bytes, reserve_bytes; /* the reserve is for overwrites at the bound */
    _Atomic uint64_t bytes;            /* live, and on the way */
    atomic_bool failed;                /* writes wait for the disk */

    pthread_mutex_t lock;
    pthread_cond_t wake;      /* the writer: something to do */
    pthread_cond_t sync_wake; /* the syncer */
    pthread_cond_t stable;    /* who waits for a control */
    /* all of this: lock */
    struct append_list appends;
    struct dead_list dead;
    struct control_list controls;
    unsigned ndead;
    bool writer_idle, stopping;
    bool broken; /* the store has failed and is to be opened again: nobody syncs */
    int reopen;  /* -errno of a failed sync: the writer shall open the store again */
    uint64_t written, synced, sync_wanted; /* numbers of batches; they rise by one */
    TAILQ_HEAD(, vmlog) syncing;           /* logs that wait for synced to rise */

    /* the writer's own */
    struct kv_batch *batch;
    uint64_t trouble_since_ns, room_checked_ns, room_written;
    unsigned backoff_ms;
    bool room_short;

    pthread_t writer, syncer;
    struct metric *m_append, *m_sync, *m_batch_records, *m_batches, *m_bytes, *m_max, *m_corrupt, *m_failed,
        *m_stalled, *m_throttled;
};

struct vmlog {
    struct journal *journal;
    struct loop *loop;
    uint8_t id[VMLOG_ID_BYTES];
    char *vm;
    struct extents *disks[VMLOG_DISKS]; /* NULL: nothing written yet */
    uint64_t numbered, last;            /* the newest number given; the newest visible */
    uint64_t last_batch;                /* that held `last` */
    struct append_list waiting;         /* not admitted yet */
    struct timer pump;
    uint64_t pace, paced_ns; /* bytes a second that are admitted (0: all), and from when on more are */
    bool stalled, running;
    struct vmlog_follower *follower; /* NULL: there is none */
    bool in_order;                   /* nothing overtakes */
    struct append_list written;      /* in our journal, and not yet in the follower's */
    struct append_list unstable;     /* visible, fua, not synced */
    struct flush_list flushes;
    struct dead_keys *dead; /* being filled */
    unsigned out;           /* appends, flushes, fetches and cuts not done */
    uint64_t trimmed;       /* records up to this one are gone, or going, as a range */
    uint64_t frozen;        /* a cut is open: what it needs is held (0: none) */
    struct cut *gathering;  /* it is being opened */
    struct dead_list held;  /* keys that were superseded meanwhile, */
    uint64_t held_bytes;    /* and what is given back for them at its end */
    uint64_t oldest_ns;     /* when the first record after the newest cut became visible (0: none is there) */
    struct metric *m_written, *m_records;

    /* lock */
    struct append_list finished;
    struct task complete;
    bool posted;
    bool in_syncing;
    uint64_t sync_wanted;
    TAILQ_ENTRY(vmlog) sync_entry;
};

/* admit.c */
void admit_init(struct vmlog *);
void admit_waiting(struct vmlog *); /* what may go by now goes */

/* vmlog.c */
void vmlog_dead_submit(struct vmlog *);
struct dead_keys *vmlog_dead_new(const struct vmlog *);

/* cut.c: the sectors are about to become somebody else's. */
void cut_save(struct vmlog *, uint8_t disk, uint64_t lba, uint32_t nsectors);

/* fetch.c: blocking. The content of pieces, one after the other; *failed: the piece that the status is about.
 */
int fetch_pieces(struct vmlog *, const struct vmlog_piece *, uint8_t *const *to, unsigned n,
                 unsigned *failed);

/* journal.c */
uint64_t journal_now_ns(void);
void journal_dead_push(struct journal *, struct dead_keys *); /* takes it */
void journal_control(struct journal *, struct control *);     /* blocking: until stable (or written) */

/* writer.c, syncer.c */
void *writer_main(void *journal);
void *syncer_main(void *journal);
void syncer_post(struct vmlog *); /* with lock: run its `complete` */

/* space.c: the bound. Any thread. */
uint64_t space_delay_ns(const struct journal *); /* how long an append shall have waited by now */
bool space_take(struct journal *, uint64_t cost, bool overwrite);
void space_add(struct journal *, uint64_t cost); /* without asking: what is there already */
void space_give(struct journal *, uint64_t cost);

#endif
