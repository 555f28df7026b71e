/* cache/tier_object.h - the tier that answers from the object store what was committed there and the source
 * disk lacks.
 *
 * Which blocks the map knows of is in memory; where they are is looked up in RocksDB on a pool thread, then
 * frames are fetched, opened and checked. A store that is away is waited for. A frame that is missing or does
 * not open is fetched once more; then it is an error for the guest, and counted: nobody else has that data.
 */
#ifndef ISTHMUS_TIER_OBJECT_H
#define ISTHMUS_TIER_OBJECT_H

#include "aead.h"
#include "tier.h"

struct map;
struct store;

struct tier_object_conf {
    struct loop *loop;
    struct tier *next;
    struct map *map;     /* borrowed for the tier's life; as is */
    struct store *store; /* of this loop */
    const struct aead_key *master;
    const uint8_t *id; /* VM id, 16 bytes */
    uint8_t disk;
    const char *vm;
};
struct tier *tier_object_new(const struct tier_object_conf *);

#endif
