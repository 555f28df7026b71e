/* journal/map_impl.h - what the files of the map share. Not for others. */
#ifndef ISTHMUS_MAP_IMPL_H
#define ISTHMUS_MAP_IMPL_H

#include "map.h"
#include "map_region.h"

#include <bsd/sys/tree.h>
#include <pthread.h>

enum {
    MAP_KEY_BYTES = VMLOG_ID_BYTES + 1 + 8,
    MAP_OBJECT_KEY_BYTES = VMLOG_ID_BYTES + 8,
    MAP_OBJECT_BYTES = 8 + 8 + 4 + AEAD_SALT_BYTES + 8 + 8,
    MAP_STATE_BYTES = 4 * 8 + LOGOBJ_TAG_BYTES,
    MAP_ROW_MAX = REGION_SECTORS * REGION_ENTRY_BYTES
};

struct object_node {
    RB_ENTRY(object_node) entry;
    struct map_object object;
};
RB_HEAD(object_tree, object_node);
RB_PROTOTYPE(object_tree, object_node, entry, object_order)

/* Which blocks of one disk the map knows of. */
struct known {
    struct region_blocks *regions;
    uint64_t nregions;
};

struct map {
    struct journal *journal;
    uint8_t id[VMLOG_ID_BYTES];
    char *vm;
    /* the loop's */
    struct known disks[VMLOG_DISKS];
    struct map_state state;

    pthread_mutex_t lock;
    struct object_tree objects; /* lock */
    uint64_t live_sectors, object_bytes;
    unsigned nobjects;
};

struct mark {
    uint64_t region;
    struct region_blocks blocks;
    uint8_t disk;
};

struct map_change {
    struct mark *marks;
    size_t nmarks, room;
    struct map_state state;
    bool has_state;
};

/* map.c */
void map_key(uint8_t key[MAP_KEY_BYTES], const uint8_t id[VMLOG_ID_BYTES], uint8_t disk, uint64_t region);
void map_object_key(uint8_t key[MAP_OBJECT_KEY_BYTES], const uint8_t id[VMLOG_ID_BYTES], uint64_t first);
void map_object_write(uint8_t bytes[MAP_OBJECT_BYTES], const struct map_object *);
void map_state_write(uint8_t bytes[MAP_STATE_BYTES], const struct map_state *);
int map_state_read(struct map_state *, const uint8_t *value, size_t n); /* 0 or -EBADMSG */
struct row_range map_range(const uint8_t id[VMLOG_ID_BYTES], enum kv_space);
struct object_node *map_object_find(struct map *, uint64_t first); /* lock */
void map_object_insert(struct map *, const struct map_object *);   /* lock; new or replaced */
void map_mark(struct map_change *, uint8_t disk, uint64_t region, struct region_blocks);
/* As map_each, from this region on. */
int map_each_from(struct map *, uint8_t disk, uint64_t region,
                  int (*each)(void *arg, uint8_t disk, uint64_t lba, const struct region *), void *arg);
int map_region_read(struct map *, uint8_t disk, uint64_t region, struct region *); /* blocking; empty: n 0 */

#endif
