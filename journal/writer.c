/* journal/writer.c - the thread that writes: whatever all VMs have queued becomes one batch.
 *
 * It seals the payload, hands the batch to the store, and passes the records back to their VMs' loops. When
 * the disk refuses or is nearly full it says so once, waits, opens the store again and writes the very same
 * batch again: same keys, same values. Nothing is answered before that worked.
 */
#include "check.h"
#include "extents.h"
#include "impl.h"
#include "log.h"
#include "mem.h"
#include "record.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

static const char part[] = "journal";

enum {
    BATCH_BYTES = 4 << 20, /* a batch is closed when it holds as much, */
    BATCH_RECORDS = 1024,  /* or as many records, */
    BATCH_DEAD = 64,       /* or as many dead_keys */
    BACKOFF_MIN_MS = 100,
    BACKOFF_MAX_MS = 5000,
    ROOM_CHECK_MS = 100,       /* free space is looked at that often while writing, */
    ROOM_CHECK_BYTES = 8 << 20 /* or after as much */
};
static const uint64_t room_reserve_max = 128u << 20; /* kept free, or 5 % of a small file system */

struct haul {
    struct append_list appends;
    struct dead_list dead;
    struct control_list controls;
    unsigned nappends;
    uint64_t bytes;
    bool fua;
};

/* --- taking ---------------------------------------------------------------------------------------------*/

static bool something_to_do(const struct journal *j)
{
    return !STAILQ_EMPTY(&j->appends) || !STAILQ_EMPTY(&j->controls) || j->reopen || j->ndead >= DEAD_EAGER ||
           j->stopping;
}

static void take_appends(struct journal *j, struct haul *h)
{
    struct vmlog_append *a;

    while (h->nappends < BATCH_RECORDS && h->bytes < BATCH_BYTES && (a = STAILQ_FIRST(&j->appends))) {
        STAILQ_REMOVE_HEAD(&j->appends, in.entry);
        STAILQ_INSERT_TAIL(&h->appends, a, in.entry);
        h->nappends++;
        h->bytes += a->in.cost;
        h->fua |= a->fua;
    }
}

/* With lock. */
static void take(struct journal *j, struct haul *h)
{
    struct dead_keys *d;

    memset(h, 0, sizeof *h);
    STAILQ_INIT(&h->appends);
    STAILQ_INIT(&h->dead);
    STAILQ_INIT(&h->controls);
    take_appends(j, h);
    STAILQ_CONCAT(&h->controls, &j->controls);
    for (unsigned n = 0; n < BATCH_DEAD && (d = STAILQ_FIRST(&j->dead)); n++) {
        STAILQ_REMOVE_HEAD(&j->dead, entry);
        STAILQ_INSERT_TAIL(&h->dead, d, entry);
        j->ndead--;
    }
}

/* --- building -------------------------------------------------------------------------------------------*/

static void put_sealed(struct journal *j, enum kv_space space, const void *key, size_t key_len,
                       const void *value, size_t n)
{
    keyring_seal(j->keys, key, key_len, value, n,
                 j->kv->ops->batch_value(j->kv, j->batch, space, key, key_len, n + SEAL_OVERHEAD));
}

static void put_append(struct journal *j, const struct vmlog_append *a)
{
    struct record_header h = {a->type, a->disk, a->lba, a->nsectors};
    uint8_t key[RECORD_PART_KEY_BYTES], header[RECORD_HEADER_BYTES];
    uint32_t nparts = record_parts(a->type, a->nsectors);

    for (uint32_t i = 0; i < nparts; i++) {
        record_part_key(key, a->in.log->id, a->seq, i);
        put_sealed(j, KV_DATA, key, RECORD_PART_KEY_BYTES,
                   a->data->data + a->data_offset + (size_t)i * PART_BYTES,
                   (size_t)record_part_sectors(a->nsectors, i) * SECTOR);
    }
    record_key(key, a->in.log->id, a->seq);
    record_encode(header, &h);
    put_sealed(j, KV_LOG, key, RECORD_KEY_BYTES, header, sizeof header);
}

static void put_dead_range(struct journal *j, const struct dead_keys *d)
{
    uint8_t from[RECORD_KEY_BYTES], to[RECORD_KEY_BYTES];

    record_key(from, d->id, 0);
    record_key(to, d->id, d->through + 1);
    j->kv->ops->batch_delete_range(j->kv, j->batch, KV_LOG, from, sizeof from, to, sizeof to);
    j->kv->ops->batch_delete_range(j->kv, j->batch, KV_DATA, from, sizeof from, to, sizeof to);
}

static void put_dead(struct journal *j, const struct dead_keys *d)
{
    uint8_t key[RECORD_PART_KEY_BYTES];

    if (d->through)
        put_dead_range(j, d);

    for (unsigned i = 0; i < d->n; i++) {
        if (d->keys[i].number == EXTENTS_HEADER) {
            record_key(key, d->id, d->keys[i].seq);
            j->kv->ops->batch_delete(j->kv, j->batch, KV_LOG, key, RECORD_KEY_BYTES);
        } else {
            record_part_key(key, d->id, d->keys[i].seq, d->keys[i].number);
            j->kv->ops->batch_delete(j->kv, j->batch, KV_DATA, key, RECORD_PART_KEY_BYTES);
        }
    }
}

static void put_row(struct journal *j, const struct row_change *r)
{
    if (r->value)
        put_sealed(j, r->space, r->key, r->key_len, r->value, r->n);
    else
        j->kv->ops->batch_delete(j->kv, j->batch, r->space, r->key, r->key_len);
}

static void put_control(struct journal *j, const struct control *c)
{
    uint8_t from[RECORD_KEY_BYTES], to[RECORD_KEY_BYTES];

    switch (c->what) {
    case CONTROL_META_PUT:
        put_sealed(j, KV_META, c->key, strlen(c->key), c->value, c->n);
        break;
    case CONTROL_META_DELETE:
        j->kv->ops->batch_delete(j->kv, j->batch, KV_META, c->key, strlen(c->key));
        break;
    case CONTROL_PURGE:
        record_key(from, c->id, 0);
        record_key_end(to, c->id);
        j->kv->ops->batch_delete_range(j->kv, j->batch, KV_LOG, from, sizeof from, to, sizeof to);
        j->kv->ops->batch_delete_range(j->kv, j->batch, KV_DATA, from, sizeof from, to, sizeof to);
        break;
    case CONTROL_ROWS:
        for (size_t i = 0; i < c->n; i++)
            put_row(j, &c->rows[i]);
        break;
    case CONTROL_ERASE:
        j->kv->ops->batch_delete_range(j->kv, j->batch, c->range->space, c->range->from, c->range->len,
                                       c->range->to, c->range->len);
        break;
    }
}

static void build(struct journal *j, struct haul *h)
{
    struct vmlog_append *a;
    struct dead_keys *d;
    struct control *c;

    j->kv->ops->batch_clear(j->kv, j->batch);
    STAILQ_FOREACH (a, &h->appends, in.entry)
        put_append(j, a);
    STAILQ_FOREACH (d, &h->dead, entry)
        put_dead(j, d);
    STAILQ_FOREACH (c, &h->controls, entry)
        put_control(j, c);
}

/* --- trouble --------------------------------------------------------------------------------------------*/

/* Looks at the file system now and then. While in trouble a quarter more is wanted, so as not to flap. */
static bool room_is_short(struct journal *j, uint64_t *free_bytes)
{
    uint64_t now = journal_now_ns(), total, reserve;

    *free_bytes = 0;
    if (!j->trouble_since_ns && now - j->room_checked_ns < ROOM_CHECK_MS * UINT64_C(1000000) &&
        j->room_written < ROOM_CHECK_BYTES)
        return false;
    j->room_checked_ns = now;
    j->room_written = 0;
    if (j->kv->ops->room(j->kv, free_bytes, &total) < 0)
        return false; /* the write itself will tell */
    reserve = total / 20 < room_reserve_max ? total / 20 : room_reserve_max;
    return *free_bytes < (j->trouble_since_ns ? reserve + reserve / 4 : reserve);
}

static void trouble_begins(struct journal *j, int err, uint64_t free_bytes)
{
    uint64_t total;

    if (j->trouble_since_ns)
        return;
    j->trouble_since_ns = journal_now_ns();
    j->backoff_ms = BACKOFF_MIN_MS;
    atomic_store(&j->failed, true);
    metric_set(j->m_failed, 1);
    if (err == -ENOSPC && free_bytes == 0)
        j->kv->ops->room(j->kv, &free_bytes, &total);
    if (err == -ENOSPC)
        log_error(NULL, "disk full at %s (%" PRIu64 " bytes free): writes wait until there is space", j->path,
                  free_bytes);
    else
        log_error(NULL, "the disk at %s fails (%s): writes wait until it works again", j->path,
                  strerror(-err));
}

static void trouble_ends(struct journal *j)
{
    if (!j->trouble_since_ns)
        return;
    log_info(NULL, "journal at %s takes writes again after %.1f s", j->path,
             (double)(journal_now_ns() - j->trouble_since_ns) / 1e9);
    j->trouble_since_ns = 0;
    atomic_store(&j->failed, false);
    metric_set(j->m_failed, 0);
}

/* Sleeps for the back-off, which doubles. false: the journal is being closed. */
static bool back_off(struct journal *j, unsigned max_ms)
{
    unsigned ms = j->backoff_ms < max_ms ? j->backoff_ms : max_ms;
    struct timespec until;
    bool stopping;

    if (j->backoff_ms < BACKOFF_MAX_MS)
        j->backoff_ms *= 2;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += (time_t)(ms / 1000) + until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&j->lock);
    while (!j->stopping && pthread_cond_timedwait(&j->wake, &j->lock, &until) != ETIMEDOUT)
        ;
    stopping = j->stopping;
    pthread_mutex_unlock(&j->lock);
    return !stopping;
}

/* The store has latched an error: close it and open it again until that works. Readers wait meanwhile. */
static bool open_again(struct journal *j, int err)
{
    uint64_t free_bytes;
    struct why why;
    bool closed;

    do {
        if (!back_off(j, BACKOFF_MAX_MS))
            return false;
    } while (err == -ENOSPC && room_is_short(j, &free_bytes));
    pthread_rwlock_wrlock(&j->db_lock);
    j->kv->ops->close(j->kv);
    while ((closed = j->kv->ops->open(j->kv, &why) < 0)) {
        log_debug(NULL, "%s", why.text);
        if (!back_off(j, BACKOFF_MAX_MS))
            break;
    }
    pthread_rwlock_unlock(&j->db_lock);
    return !closed;
}

static void set_broken(struct journal *j, bool broken)
{
    pthread_mutex_lock(&j->lock);
    j->broken = broken;
    pthread_cond_signal(&j->sync_wake);
    pthread_mutex_unlock(&j->lock);
}

/* Writes the batch, or with batch = false makes sure that the store works, however long it takes. false: the
 * journal is being closed. */
static bool put_through(struct journal *j, bool batch)
{
    for (;;) {
        uint64_t free_bytes;
        int err;

        if (batch && room_is_short(j, &free_bytes)) {
            trouble_begins(j, -ENOSPC, free_bytes);
            j->kv->ops->reclaim(j->kv);
            if (!back_off(j, 1000))
                return false;
            continue;
        }
        err = batch ? j->kv->ops->write(j->kv, j->batch) : j->kv->ops->sync(j->kv);
        if (err == 0) {
            trouble_ends(j);
            return true;
        }
        trouble_begins(j, err, 0);
        set_broken(j, true);
        if (!open_again(j, err))
            return false;
        set_broken(j, false);
    }
}

/* A sync failed: see syncer.c. */
static bool recover_sync(struct journal *j, int err)
{
    bool ok;

    trouble_begins(j, err, 0);
    ok = open_again(j, err) && put_through(j, false);
    pthread_mutex_lock(&j->lock);
    j->reopen = 0;
    pthread_cond_signal(&j->sync_wake);
    pthread_mutex_unlock(&j->lock);
    return ok;
}

/* --- giving back ----------------------------------------------------------------------------------------*/

static void deliver(struct journal *j, struct haul *h)
{
    struct vmlog_append *a;
    struct control *c;

    pthread_mutex_lock(&j->lock);
    j->written++;
    while ((a = STAILQ_FIRST(&h->appends))) {
        struct vmlog *log = a->in.log;

        STAILQ_REMOVE_HEAD(&h->appends, in.entry);
        a->in.batch = j->written;
        STAILQ_INSERT_TAIL(&log->finished, a, in.entry);
        syncer_post(log);
    }
    if (!STAILQ_EMPTY(&h->controls)) {
        STAILQ_FOREACH (c, &h->controls, entry) {
            c->batch = j->written;
            h->fua |= !c->unstable;
        }
        pthread_cond_broadcast(&j->stable);
    }
    if (h->fua) {
        j->sync_wanted = j->written;
        pthread_cond_signal(&j->sync_wake);
    }
    pthread_mutex_unlock(&j->lock);
}

static void forget_dead(struct haul *h)
{
    struct dead_keys *d;

    while ((d = STAILQ_FIRST(&h->dead))) {
        STAILQ_REMOVE_HEAD(&h->dead, entry);
        free(d);
    }
}

void *writer_main(void *arg)
{
    struct journal *j = arg;
    struct haul h;
    bool go_on = true;

    while (go_on) {
        int reopen;

        pthread_mutex_lock(&j->lock);
        while (!something_to_do(j)) {
            j->writer_idle = true;
            pthread_cond_wait(&j->wake, &j->lock);
        }
        j->writer_idle = false;
        reopen = j->reopen;
        if (!reopen)
            take(j, &h);
        pthread_mutex_unlock(&j->lock);
        if (reopen) {
            go_on = recover_sync(j, reopen);
            continue;
        }
        if (STAILQ_EMPTY(&h.appends) && STAILQ_EMPTY(&h.controls) && STAILQ_EMPTY(&h.dead))
            break; /* stopping, and nothing is left */
        build(j, &h);
        go_on = put_through(j, true);
        if (go_on) {
            metric_add(j->m_batches, 1);
            metric_add(j->m_batch_records, h.nappends);
            j->room_written += h.bytes;
            deliver(j, &h);
        } else { /* closing on a broken disk: what was superseded is found again at the next start */
            CHECK(STAILQ_EMPTY(&h.appends) && STAILQ_EMPTY(&h.controls));
        }
        forget_dead(&h);
    }
    return NULL;
}
