/* tests/lib/store_ram.h - an object store in memory, on any loop: real, fake or simulated.
 *
 * Keeps every promise of store.h; answers from the loop, without delay (store_wrap.h adds what real stores
 * add). Several stores may share one memory, as clients of one bucket do.
 */
#ifndef ISTHMUS_STORE_RAM_H
#define ISTHMUS_STORE_RAM_H

#include "store.h"

struct ram_bucket;

struct ram_bucket *ram_bucket_new(void);
void ram_bucket_free(struct ram_bucket **);
size_t ram_bucket_count(const struct ram_bucket *);

/* The bucket is borrowed. */
struct store *store_ram_new(struct loop *, struct ram_bucket *, unsigned inflight_max);

#endif
