/* journal/recover.h - one VM's map rebuilt from the store alone; docs/log.md, "Recovery".
 *
 * The newest checkpoint that the VM's entry names and that opens, then the log objects behind it, each of
 * which must follow the one before. Blocking, on a thread that may wait (worker.h). The rows are written into
 * a journal that has none of this VM.
 */
#ifndef ISTHMUS_RECOVER_H
#define ISTHMUS_RECOVER_H

#include "store_wait.h"
#include "vmobj.h"

struct recover_result;

struct recover_conf {
    struct journal *journal;
    struct store *store;
    const struct aead_key *master;
    struct vmobj entry; /* objects from its `since` on with an older epoch do not count */
    const char *vm;     /* for the log */
    uint64_t floor;     /* what was written up to there was thrown away (discard.h); 0: nothing was */
    uint64_t through;   /* at most to this cut; UINT64_MAX: the newest */
    bool audited;       /* whoever asks looks at every object itself: what is missing need not be told */
    /* The map is there, as a recovery of the same VM has left it with this result: only what was committed
     * since is read. Not to be used when the entry names other checkpoints since: objects may have gone that
     * this map needs. NULL: there is none. */
    const struct recover_result *from;
    const atomic_bool *stop; /* may be NULL */
    /* A sentence for the operator, as it goes: what is missing or damaged, where it ended. May be NULL. */
    void (*tell)(void *arg, const char *sentence);
    void *arg;
};

struct recover_result {
    struct map_state state; /* its `committed` is the cut that was reached, `checkpoint` that of */
    struct checkpoint_id newest, before; /* the one it began with; and the one before, which counts still */
    bool unwritten;   /* -ENOENT: because the VM's first commit has never ended, if it was ever begun. Its
                         source   disks are its only cut, and the log begins anew */
    uint64_t applied; /* the source disks are at this cut at least, says the newest checkpoint that opens */
    uint64_t objects, entries; /* read after it */
    uint64_t beyond; /* objects behind the cut, which are of no use: of cuts that never ended, or damaged */
    uint64_t unfinished; /* of those: the beginning of a cut, one object after the other */
    uint64_t missing;    /* objects that this cut needs, and that are not there: each was told */
    bool damaged;        /* something did not open, or is missing */
};

/* 0; -ENOENT: the store has nothing of this VM, or `through` was thrown away, or the source disks are behind
 * the cut already; -EBADMSG, -ECANCELED, -EIO with why. */
int recover_vm(const struct recover_conf *, struct recover_result *, struct why *);
/* What the VM's entry is to say from now on, but for whose it is. */
struct vmobj recover_entry(const struct recover_conf *, const struct recover_result *);
/* Before the VM is taken over: its entry as it was is put aside, if what is behind the cut will be. */
int recover_keep_entry(const struct recover_conf *, const struct recover_result *, struct why *);
/* If something is damaged, or `through` asked for an older cut: what is behind the result's cut is put aside
 * and removed, log objects and checkpoints (docs/log.md, "What was put aside"). What a crash has left there
 * stays. */
int recover_put_aside(const struct recover_conf *, const struct recover_result *, struct why *);

/* How far a recovery would come, as the names and heads of objects tell, without a map: the newest whole cut
 * (0: there is none, the VM is as its source disks are), and when its last object was put (0: not known). */
int recover_glance(const struct recover_conf *, uint64_t *cut, int64_t *put_s, struct why *);

/* For tools. The first SEQ of every log object that is there, rising; non-zero from each() stops and is
 * returned. */
int recover_each_object(const struct recover_conf *, int (*each)(void *arg, uint64_t first), void *arg,
                        struct why *);

/* How many objects were put aside, and their bytes; drop: removes them. */
int recover_lost(const struct recover_conf *, bool drop, uint64_t *n, uint64_t *bytes, struct why *);

#endif
