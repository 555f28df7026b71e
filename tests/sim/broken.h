/* tests/sim/broken.h - the daemons' code with one thing broken, to prove that the checks find it.
 *
 * The linker puts a function before one of ours (CMakeLists.txt), or a simulated part does not keep its word;
 * nothing of it is in the daemons.
 */
#ifndef ISTHMUS_SIM_BROKEN_H
#define ISTHMUS_SIM_BROKEN_H

#include <stdbool.h>

enum broken {
    BROKEN_NOTHING,
    BROKEN_ACK_EARLY,       /* a write is answered before the journal has it */
    BROKEN_NO_SYNC,         /* a flush is answered without an fsync */
    BROKEN_FUA,             /* so is a FUA write */
    BROKEN_TRIM_EARLY,      /* the journal lets go of what was never committed */
    BROKEN_RECORD_LEFT_OUT, /* a commit leaves a record out */
    BROKEN_UNMAP_FORGOTTEN, /* zeros are lost when a cut is coalesced */
    BROKEN_CUT_UNEVEN,      /* a recovery takes one disk at an older cut than the others */
    BROKEN_NEWEST_IGNORED,  /* a recovery stops before the newest object */
    BROKEN_TORN_CUT,        /* it takes an object for the end of a cut that is not */
    BROKEN_STALE_CACHE,     /* a write is not laid into the blocks in memory */
    BROKEN_DROP_TOO_MUCH,   /* the map lets go of more than was written back */
    BROKEN_LOSS_UNNOTICED,  /* what a datastore has lost is not written again */
    BROKEN_STAGE_UNSYNCED,  /* on-prem's stage is not fsynced */
    BROKEN_PERSIST_WRITES,  /* cloud-persist writes home */
    /* of the pair */
    BROKEN_MIRROR_NOT_AWAITED, /* a write is acknowledged before the mirror has it */
    BROKEN_MIRROR_LACKS,       /* the mirror acknowledges what its journal lacks */
    BROKEN_MIRROR_UNSYNCED,    /* a flush does not wait for the mirror's fsync */
    BROKEN_KEPT_TRIMMED,       /* a kept log is trimmed before the store has it */
    BROKEN_LEASE_LONG,         /* one edge takes a lease for longer than the other */
    BROKEN_LEASE_FROM_ANSWER,  /* a lease is counted from the answer */
    BROKEN_KEEPS_ON,           /* records are kept after the swap was sent */
    BROKEN_TAKES_EARLY,        /* VMs are taken over before the lease is over */
    BROKEN_FENCE_SKIPPED,      /* a VM is taken over without a word in its entry */
    BROKEN_NOT_JOINED,         /* a VM is taken over without what was kept */
    BROKEN_TAKEN_IN_EARLY,     /* the other is taken in before the store has the rest */
    BROKEN_GATE,               /* reads do not look at the lease */
    BROKEN_SWAP,               /* the record is changed without comparing */
    /* of handing over */
    BROKEN_ANY_ETAG,    /* the entry is swapped whatever it is by now */
    BROKEN_NOT_ASKED,   /* who does not know whose the VM is goes on with it */
    BROKEN_STREAM_LATE, /* a stream begins when its VM is in use */
    BROKEN_REST,        /* the rest is not committed */
    BROKEN_KEPT_BESIDE, /* a log is kept beside what is here of the VM */
    BROKEN_UNMARKED,    /* the other edge's memory is asked for what was written since */
    BROKEN_LEFT_BEFORE, /* it answers from what the VM has left there an earlier time */
    /* of deleting */
    BROKEN_ENTRY_FIRST,   /* a VM's entry goes before anything else */
    BROKEN_NOT_CONDEMNED, /* its entry does not say that it is being deleted */
    BROKEN_THEIRS_STAYS,  /* of a pair: what is here of a VM that the other edge has, or deletes, stays */
    /* of going home */
    BROKEN_LOG_STAYS, /* the log of a VM that went home still counts */
    BROKEN_HOLDS_ON,  /* on-prem is not asked to let go of its disks */
    BROKEN_LET_IN,    /* initiators are, before its entry says that it is back */
    /* of an edge that is made the only member by force */
    BROKEN_NOT_CLEARED,  /* what was kept before that stays, as do its VMs' entries, and always counts */
    BROKEN_RECOVERS_ANY, /* what the other edge has, or had, can be recovered from the store */
    BROKEN_VARIANTS
};
extern enum broken broken;

const char *broken_name(enum broken);
/* It is found within so many seeds of its kind, */
unsigned broken_seeds(enum broken);
/* which is: those of a pair, or the others; in worlds in which VMs are deleted, or go home, or the only
 * member is lost, or nothing of that. */
bool broken_is_of_pair(enum broken);
bool broken_is_of_deleting(enum broken);
bool broken_is_of_homing(enum broken);
bool broken_is_of_forcing(enum broken);

/* The link has an answer to a call. */
struct link_call;
void broken_answer(struct link_call *);

/* What is the entry's etag now, if that one was asked for with HAND_OVER? */
struct vm_store;
struct vm_spec;
bool broken_etag(const struct vm_store *, const struct vm_spec *, const char *asked, char *now);

#endif
