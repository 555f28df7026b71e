/* tests/sim/broken.h - the daemons' code with one thing broken, to prove that the checks find it.
 *
 * The linker puts a function before one of ours (CMakeLists.txt), or a simulated part does not keep its word;
 * nothing of it is in the daemons.
 */
#ifndef ISTHMUS_SIM_BROKEN_H
#define ISTHMUS_SIM_BROKEN_H

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
    BROKEN_RECORDS
};
extern enum broken broken;

const char *broken_name(enum broken);
/* It is found within so many seeds from the first. */
unsigned broken_seeds(enum broken);

#endif
