/* journal/rows.c - see rows.h.
 */
#include "rows.h"
#include "check.h"
#include "impl.h"

#include <errno.h>
#include <string.h>

static int change(struct journal *j, struct control *c, struct why *why)
{
    if (journal_failed(j))
        return why_set(why, -EIO,
                       "the disk of the journal at %s is full or fails: nothing can be changed now", j->path);
    journal_control(j, c);
    return 0;
}

int rows_write(struct journal *j, const struct row_change *rows, size_t n, bool stable, struct why *why)
{
    struct control c = {.what = CONTROL_ROWS, .rows = rows, .n = n, .unstable = !stable};

    for (size_t i = 0; i < n; i++)
        CHECK(rows[i].key_len <= ROWS_KEY_MAX && rows[i].n <= ROWS_VALUE_MAX);
    return change(j, &c, why);
}

int rows_erase(struct journal *j, const struct row_range *range, struct why *why)
{
    struct control c = {.what = CONTROL_ERASE, .range = range, .unstable = true};

    return change(j, &c, why);
}

struct row_read {
    struct journal *j;
    struct opener *opener;
    const uint8_t *key;
    size_t key_len;
    void *out;
    size_t room;
    int len;
    int (*each)(void *arg, const uint8_t *key, const uint8_t *value, size_t n);
    void *arg;
};

static int corrupt(struct journal *j, int err)
{
    if (err == -EBADMSG)
        metric_add(j->m_corrupt, 1);
    return err;
}

static int open_row(void *arg, const void *value, size_t n)
{
    struct row_read *r = arg;

    r->len = keyring_open(r->j->keys, r->opener, r->key, r->key_len, value, n, r->out, r->room);
    return r->len < 0 ? r->len : 0;
}

int rows_get(struct journal *j, enum kv_space space, const uint8_t *key, size_t key_len, void *out,
             size_t room)
{
    struct row_read r = {
        .j = j, .opener = keyring_take(j->keys), .key = key, .key_len = key_len, .out = out, .room = room};
    int err;

    pthread_rwlock_rdlock(&j->db_lock);
    err = j->kv->ops->get(j->kv, space, key, key_len, open_row, &r);
    pthread_rwlock_unlock(&j->db_lock);
    keyring_give(j->keys, r.opener);
    return err ? corrupt(j, err) : r.len;
}

static int each_row(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t n)
{
    struct row_read *r = arg;
    int len = keyring_open(r->j->keys, r->opener, key, key_len, value, n, r->opener->scratch,
                           sizeof r->opener->scratch);

    return len < 0 ? len : r->each(r->arg, key, r->opener->scratch, (size_t)len);
}

int rows_each(struct journal *j, const struct row_range *range,
              int (*each)(void *arg, const uint8_t *key, const uint8_t *value, size_t n), void *arg)
{
    struct row_read r = {.j = j, .opener = keyring_take(j->keys), .each = each, .arg = arg};
    int err;

    pthread_rwlock_rdlock(&j->db_lock);
    err = j->kv->ops->each(j->kv, range->space, range->from, range->len, range->to, range->len, each_row, &r);
    pthread_rwlock_unlock(&j->db_lock);
    keyring_give(j->keys, r.opener);
    return corrupt(j, err);
}
