/* tests/sim/sim_table.h - ordered keys on a simulated disk: what was synced survives a crash of the machine,
 * and of the batches after it a prefix.
 */
#ifndef ISTHMUS_SIM_TABLE_H
#define ISTHMUS_SIM_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIM_TABLE_SPACES = 8 };
struct sim_table;

/* A run of changes. */
struct sim_batch;
struct sim_batch *sim_batch_new(void);
void sim_batch_free(struct sim_batch *);
void sim_batch_clear(struct sim_batch *);
/* value NULL: filled in through what is returned, before the batch is used. */
void *sim_batch_put(struct sim_batch *, unsigned space, const void *key, size_t key_len, const void *value,
                    size_t len);
void sim_batch_delete(struct sim_batch *, unsigned space, const void *key, size_t key_len);
void sim_batch_delete_range(struct sim_batch *, unsigned space, const void *from, size_t from_len,
                            const void *to, size_t to_len);
size_t sim_batch_count(const struct sim_batch *);

struct sim_table *sim_table_new(void);
void sim_table_wipe(struct sim_table *);
void sim_table_copy(struct sim_table *to,
                    const struct sim_table *from); /* into an empty one; all of it is stable */
void sim_table_apply(struct sim_table *, const struct sim_batch *);
uint64_t sim_table_applied(const struct sim_table *); /* batches, ever */
/* The first n batches are stable. */
void sim_table_sync(struct sim_table *, uint64_t n);
uint64_t sim_table_unsynced(const struct sim_table *);
/* The machine lost power: `keep` of the batches that are not stable are there, the first ones. */
void sim_table_lose(struct sim_table *, uint64_t keep);
uint64_t sim_table_bytes(const struct sim_table *);

/* The first pair whose key is at least `from` (after: above it); false: none. Pointers last until the next
 * change. */
struct sim_pair {
    const uint8_t *key, *value;
    size_t key_len, len;
};
bool sim_table_get(const struct sim_table *, unsigned space, const void *key, size_t key_len,
                   struct sim_pair *);
bool sim_table_next(const struct sim_table *, unsigned space, const void *from, size_t from_len, bool after,
                    struct sim_pair *);
/* Of two keys: as memcmp, a prefix first. */
int sim_key_compare(const void *a, size_t a_len, const void *b, size_t b_len);

#endif
