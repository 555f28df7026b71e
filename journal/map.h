/* journal/map.h - where the newest committed copy of each sector is, of those that the source disk lacks.
 *
 * One map per VM, in the journal's RocksDB (docs/log.md). In memory is only which blocks it knows of: three
 * bits per 4 KiB block of the regions that have any, and the table of its log objects.
 *
 * Threads: map_knows, map_holds, map_alike, map_zeros, map_state and map_install belong to the VM's loop.
 * What is marked "blocking" runs in loop_work; of those that change the map one at a time per VM, while
 * lookups go on beside it.
 */
#ifndef ISTHMUS_MAP_H
#define ISTHMUS_MAP_H

#include "logobj.h"
#include "loop.h"
#include "rows.h"
#include "vmlog.h"

struct map;

/* What a start must know; stored whole. */
struct map_state {
    uint64_t committed;  /* the newest cut the store holds whole; 0: none */
    uint64_t last;       /* the last SEQ of the newest object applied: committed, but in the midst of a cut */
    uint64_t applied;    /* the newest cut the source disks hold whole */
    uint64_t checkpoint; /* cut of the newest checkpoint in the store; 0: none */
    uint8_t tag[LOGOBJ_TAG_BYTES]; /* of the newest object's index: the next one's chain */
};

/* A log object that the store holds. */
struct map_object {
    uint64_t first, last, bytes;
    uint32_t front_bytes; /* header and index: where its data frames begin */
    uint8_t salt[AEAD_SALT_BYTES];
    uint64_t data_sectors, live_sectors; /* put there; still pointed to */
};

/* Blocking. The map of a new VM is empty. */
int map_open(struct map **, struct journal *, const uint8_t id[VMLOG_ID_BYTES], const char *vm, struct why *);
void map_close(struct map **);
/* Blocking: every row of a VM whose map is closed. */
int map_delete(struct journal *, const uint8_t id[VMLOG_ID_BYTES], struct why *);

const struct map_state *map_state(const struct map *); /* as last installed */

/* Blocks of 4096 bytes: does the map know sectors of this one; all of them; and how many from `first`, at
 * least one, are the same in both. */
bool map_knows(const struct map *, uint8_t disk, uint64_t block);
bool map_holds(const struct map *, uint8_t disk, uint64_t block);
uint32_t map_alike(const struct map *, uint8_t disk, uint64_t first, uint32_t count);
/* Whether this block is zeros as far as the map knows, and how many from it on, up to count, are so, too. */
uint64_t map_zeros(const struct map *, uint8_t disk, uint64_t first, uint64_t count, bool *zeros);

/* Blocking. As vmlog_pieces. -EBADMSG: a row was altered. */
struct map_piece {
    enum piece_kind kind; /* ABSENT: ask the source disk */
    uint64_t lba;
    uint32_t nsectors;
    uint64_t object; /* DATA: its first SEQ, and where in it */
    uint32_t frame_at, frame_bytes, frame_sector;
};
int map_lookup(struct map *, uint8_t disk, uint64_t lba, uint32_t nsectors, struct map_piece *, unsigned max,
               unsigned *npieces, uint32_t *covered);
/* Blocking or not: from memory, any thread. -ENOENT. */
int map_object(struct map *, uint64_t first, struct map_object *);

/* --- changes: blocking; nothing is seen by map_knows and map_state until it is installed on the loop ---*/

struct map_change; /* what is to be installed; allocated here, freed by map_install */

/* The index of one object, in the order of the log; again does no harm. state: the new one, stored with it
 * (fsynced if `stable`). */
int map_apply(struct map *, const struct logobj_head *, const struct logobj_entry *, unsigned n,
              const struct map_state *state, bool stable, struct map_change **, struct why *);
/* Drops what objects that end at or before cut `through` hold: the source disks have it now. */
int map_drop(struct map *, uint64_t through, const struct map_state *state, struct map_change **,
             struct why *);
/* Drops everything of one disk, which is gone. */
int map_drop_disk(struct map *, uint8_t disk, struct map_change **, struct why *);
/* Forgets objects that have nothing live. firsts: their first SEQ. */
int map_forget(struct map *, const uint64_t *firsts, unsigned n, struct why *);
/* Stores the state alone. */
int map_state_store(struct map *, const struct map_state *, struct map_change **, struct why *);
/* On the loop. Takes it. */
void map_install(struct map *, struct map_change **);

/* The name of a log object in the store: "vms/ID/log/SEQ". */
enum { MAP_NAME_MAX = 96 }; /* of any object of a VM */
void map_object_name(char name[MAP_NAME_MAX], const uint8_t id[VMLOG_ID_BYTES], uint64_t first);

/* Every object, rising: each() is called on a copy of the table. Any thread. */
void map_objects_each(struct map *, void (*each)(void *arg, const struct map_object *), void *arg);
/* Blocking: every region of the map, by disk and place; non-zero from each() stops and is returned. each()
 * may use nothing of this journal. */
struct region;
int map_each(struct map *, int (*each)(void *arg, uint8_t disk, uint64_t lba, const struct region *),
             void *arg);
/* Sectors of data that live objects hold, and sealed bytes of all objects. Any thread. */
void map_sums(struct map *, uint64_t *live_bytes, uint64_t *object_bytes, unsigned *nobjects);

#endif
