/* journal/export.h - what a map says of a disk, as a file: the sectors that the store has, at their places.
 *
 * Blocking, on a thread that may wait (worker.h), for tools. At most some MiB are in memory.
 */
#ifndef ISTHMUS_EXPORT_H
#define ISTHMUS_EXPORT_H

#include "map.h"
#include "map_region.h"
#include "store.h"

struct export_conf {
    struct store *store;
    struct map *map;
    const struct aead_key *master;
    uint8_t id[VMLOG_ID_BYTES];
    uint8_t disk;
    int fd;     /* of a file of the disk's size: sectors that the map does not know stay as they are */
    bool punch; /* zeros are written as holes; else the file has holes there already */
};

struct export_result {
    uint64_t data_bytes, zero_bytes; /* of the disk */
};

/* 0, or -errno with why: -EBADMSG, -ENOENT: an object is damaged or missing. */
int export_disk(const struct export_conf *, struct export_result *, struct why *);

#endif
