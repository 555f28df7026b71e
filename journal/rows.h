/* journal/rows.h - sealed rows beside the log: what the map keeps in the journal's database.
 *
 * Blocking: from loop_work or at start-up, any thread. Rows written by one caller become durable in the order
 * of the calls, and in the order of everything else in the journal. A value at most ROWS_VALUE_MAX bytes.
 */
#ifndef ISTHMUS_ROWS_H
#define ISTHMUS_ROWS_H

#include "journal.h"
#include "kv.h"

enum { ROWS_KEY_MAX = 32, ROWS_VALUE_MAX = 65000 };

struct row_change {
    enum kv_space space;
    uint8_t key[ROWS_KEY_MAX];
    size_t key_len;
    const void *value; /* NULL: delete; borrowed for the call */
    size_t n;
};

/* Keys of one length, [from, to). */
struct row_range {
    enum kv_space space;
    uint8_t from[ROWS_KEY_MAX], to[ROWS_KEY_MAX];
    size_t len;
};

/* All in one batch. stable: fsynced, with everything before it. -EIO with why while the journal's disk is
 * full or fails. */
int rows_write(struct journal *, const struct row_change *, size_t n, bool stable, struct why *);
int rows_erase(struct journal *, const struct row_range *, struct why *);

/* Length of the value, -ENOENT, -EBADMSG (altered), -EIO. */
int rows_get(struct journal *, enum kv_space, const uint8_t *key, size_t key_len, void *out, size_t room);
/* Rising; the value is opened, borrowed for the call; non-zero from each() stops and is returned. each() may
 * use nothing of this journal. */
int rows_each(struct journal *, const struct row_range *,
              int (*each)(void *arg, const uint8_t *key, const uint8_t *value, size_t n), void *arg);

#endif
