/* journal/journal.c - opening and closing a journal, its format marker and keys, and its named values.
 *
 * The writer and the syncer are threads of their own (writer.c, syncer.c). Everything here blocks: it runs
 * at start-up, at the end, or on a pool thread.
 */
#include "check.h"
#include "impl.h"
#include "log.h"
#include "mem.h"
#include "record.h"
#include "wire.h"

#include <errno.h>
#include <openssl/rand.h>
#include <string.h>
#include <time.h>

static const char part[] = "journal";

static const char format_key[] = "format", keys_prefix[] = "key/", meta_prefix[] = "meta/";

uint64_t journal_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* --- format and keys ------------------------------------------------------------------------------------*/

struct text {
    uint8_t bytes[16];
    size_t n;
};

static int copy_text(void *arg, const void *value, size_t n)
{
    struct text *t = arg;

    t->n = n;
    memcpy(t->bytes, value, n < sizeof t->bytes ? n : sizeof t->bytes);
    return 0;
}

static int seen_one(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t n)
{
    (void)arg, (void)key, (void)key_len, (void)value, (void)n;
    return 1;
}

static bool is_empty(struct kv *kv)
{
    uint8_t end[RECORD_PART_KEY_BYTES + 1];

    memset(end, 0xff, sizeof end);
    for (int s = 0; s < KV_SPACES; s++)
        if (kv->ops->each(kv, (enum kv_space)s, "", 0, end, sizeof end, seen_one, NULL) != 0)
            return false;
    return true;
}

/* Sets *fresh if the journal holds nothing at all yet. */
static int check_format(struct journal *j, bool *fresh, struct why *why)
{
    struct text t;
    int err = j->kv->ops->get(j->kv, KV_META, format_key, strlen(format_key), copy_text, &t);
    uint32_t format;

    *fresh = err == -ENOENT && is_empty(j->kv);
    if (*fresh)
        return 0;
    if (err == -ENOENT || (err == 0 && t.n != 4))
        return why_set(why, -EINVAL, "%s holds a database that is not a journal of Isthmus", j->path);
    if (err)
        return why_set(why, err, "cannot read the journal at %s: %s", j->path, strerror(-err));
    format = get32(t.bytes);
    if (format > JOURNAL_FORMAT)
        return why_set(why, -EPROTONOSUPPORT,
                       "the journal at %s has format %u, this isthmus-edge knows up to %u", j->path, format,
                       (unsigned)JOURNAL_FORMAT);
    return 0;
}

struct generations {
    struct journal *j;
    unsigned good, bad;
};

static int add_generation(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t n)
{
    struct generations *g = arg;

    if (key_len == strlen(keys_prefix) + 4 &&
        keyring_add(g->j->keys, get32(key + strlen(keys_prefix)), value, n) == 0)
        g->good++;
    else
        g->bad++;
    return 0;
}

static int load_generations(struct journal *j, struct why *why)
{
    struct generations g = {.j = j};
    int err;

    err = j->kv->ops->each(j->kv, KV_META, keys_prefix, strlen(keys_prefix), "key0", 4, add_generation, &g);
    if (err)
        return why_set(why, err, "cannot read the journal at %s: %s", j->path, strerror(-err));
    if (g.bad && !g.good)
        return why_set(why, -EKEYREJECTED, "the key does not open this journal (%s)", j->path);
    if (g.bad)
        return why_set(why, -EBADMSG, "%u of %u key entries of the journal at %s are altered", g.bad,
                       g.bad + g.good, j->path);
    return 0;
}

/* The key of this run, stable before anything is sealed with it; and the format of a fresh journal. */
static int start_generation(struct journal *j, bool fresh, struct why *why)
{
    uint8_t salt[AEAD_SALT_BYTES], entry[KEYRING_ENTRY_BYTES], key[8], format[4];
    int err;

    CHECK(RAND_bytes(salt, sizeof salt) == 1);
    memcpy(key, keys_prefix, 4);
    put32(key + 4, keyring_grow(j->keys, salt, entry));
    j->kv->ops->batch_put(j->kv, j->batch, KV_META, key, sizeof key, entry, sizeof entry);
    if (fresh) {
        put32(format, JOURNAL_FORMAT);
        j->kv->ops->batch_put(j->kv, j->batch, KV_META, format_key, strlen(format_key), format,
                              sizeof format);
    }
    err = j->kv->ops->write(j->kv, j->batch);
    if (err == 0)
        err = j->kv->ops->sync(j->kv);
    if (err)
        return why_set(why, err, "cannot write to the journal at %s: %s", j->path, strerror(-err));
    return 0;
}

/* --- opening and closing --------------------------------------------------------------------------------*/

static void make_metrics(struct journal *j)
{
    j->m_append = metric_new(METRIC_HISTOGRAM, "isthmus_journal_append_seconds",
                             "Time from a write's append until it is in the journal.", "%s", "");
    j->m_sync = metric_new(METRIC_HISTOGRAM, "isthmus_journal_sync_seconds",
                           "Time that a flush or a FUA write waits for stable storage.", "%s", "");
    j->m_batch_records = metric_new(METRIC_COUNTER, "isthmus_journal_batch_records_total",
                                    "Records written, in all batches.", "%s", "");
    j->m_batches = metric_new(METRIC_COUNTER, "isthmus_journal_batches_total", "Batches written.", "%s", "");
    j->m_bytes = metric_new(METRIC_GAUGE, "isthmus_journal_bytes",
                            "Live payload and index, as counted against the bound.", "%s", "");
    j->m_max = metric_new(METRIC_GAUGE, "isthmus_journal_max_bytes", "The journal's bound.", "%s", "");
    j->m_corrupt = metric_new(METRIC_COUNTER, "isthmus_journal_corrupt_total",
                              "Values found altered on disk.", "%s", "");
    j->m_failed = metric_new(METRIC_GAUGE, "isthmus_journal_failed",
                             "1 while the journal's disk is full or fails and writes wait.", "%s", "");
    j->m_stalled = metric_new(METRIC_GAUGE, "isthmus_journal_stalled",
                              "VMs whose writes wait because the journal is at its bound.", "%s", "");
    j->m_throttled = metric_new(METRIC_COUNTER, "isthmus_journal_throttled_seconds_total",
                                "Time that writes were held back because the journal fills.", "%s", "");
    metric_scale(j->m_throttled, 1e9);
    metric_set(j->m_max, j->max_bytes);
}

static void make_locks(struct journal *j)
{
    pthread_rwlockattr_t rw;
    pthread_condattr_t monotonic;

    pthread_rwlockattr_init(&rw);
    pthread_rwlockattr_setkind_np(&rw, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&j->db_lock, &rw);
    pthread_rwlockattr_destroy(&rw);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->wake, &monotonic);
    pthread_cond_init(&j->sync_wake, &monotonic);
    pthread_cond_init(&j->stable, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static struct journal *journal_new(const struct journal_conf *conf, struct kv *kv)
{
    struct journal *j = xcalloc(1, sizeof *j);
    uint64_t largest = (uint64_t)VMLOG_WRITE_SECTORS * SECTOR + (64u << 10);

    j->path = xstrdup(conf->path);
    j->kv = kv;
    j->keys = keyring_new(&conf->key, "isthmus journal");
    j->max_bytes = conf->max_bytes;
    j->reserve_bytes = conf->max_bytes / 64 > largest ? conf->max_bytes / 64 : largest;
    STAILQ_INIT(&j->appends);
    STAILQ_INIT(&j->dead);
    STAILQ_INIT(&j->controls);
    TAILQ_INIT(&j->syncing);
    make_locks(j);
    make_metrics(j);
    return j;
}

static void journal_free(struct journal *j)
{
    struct metric **metrics[] = {&j->m_append,  &j->m_sync,     &j->m_batch_records, &j->m_batches,
                                 &j->m_bytes,   &j->m_max,      &j->m_corrupt,       &j->m_failed,
                                 &j->m_stalled, &j->m_throttled};

    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++)
        metric_free(metrics[i]);
    if (j->batch)
        j->kv->ops->batch_free(j->kv, j->batch);
    j->kv->ops->close(j->kv);
    j->kv->ops->free(j->kv);
    keyring_free(&j->keys);
    pthread_rwlock_destroy(&j->db_lock);
    pthread_mutex_destroy(&j->lock);
    pthread_cond_destroy(&j->wake);
    pthread_cond_destroy(&j->sync_wake);
    pthread_cond_destroy(&j->stable);
    free(j->path);
    free(j);
}

int journal_open_on(struct journal **jp, const struct journal_conf *conf, struct kv *kv, struct why *why)
{
    struct journal *j = journal_new(conf, kv);
    bool fresh;
    int err = 0;

    if (conf->max_bytes < (32u << 20))
        err = why_set(why, -EINVAL, "the journal's bound is %llu bytes; it must be at least 32M",
                      (unsigned long long)conf->max_bytes);
    if (!err)
        err = kv->ops->open(kv, why);
    if (!err) {
        j->batch = kv->ops->batch_new(kv);
        err = check_format(j, &fresh, why);
    }
    if (!err)
        err = load_generations(j, why);
    if (!err)
        err = start_generation(j, fresh, why);
    if (err) {
        journal_free(j);
        return err;
    }
    CHECK(pthread_create(&j->writer, NULL, writer_main, j) == 0);
    CHECK(pthread_create(&j->syncer, NULL, syncer_main, j) == 0);
    pthread_setname_np(j->writer, "journal-write");
    pthread_setname_np(j->syncer, "journal-sync");
    *jp = j;
    return 0;
}

int journal_open(struct journal **jp, const struct journal_conf *conf, struct why *why)
{
    return journal_open_on(jp, conf, kv_rocks_new(conf->path), why);
}

void journal_close(struct journal **jp)
{
    struct journal *j = *jp;
    struct dead_keys *d;

    if (!j)
        return;
    *jp = NULL;
    pthread_mutex_lock(&j->lock);
    j->stopping = true;
    pthread_cond_signal(&j->wake);
    pthread_cond_signal(&j->sync_wake);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->writer, NULL);
    pthread_join(j->syncer, NULL);
    if (!atomic_load(&j->failed) && j->kv->ops->sync(j->kv) < 0)
        log_error(NULL, "the journal at %s could not be made stable at its end", j->path);
    while ((d = STAILQ_FIRST(&j->dead))) {
        STAILQ_REMOVE_HEAD(&j->dead, entry);
        free(d);
    }
    journal_free(j);
}

bool journal_failed(const struct journal *j)
{
    return atomic_load(&j->failed);
}

void journal_dead_push(struct journal *j, struct dead_keys *d)
{
    pthread_mutex_lock(&j->lock);
    STAILQ_INSERT_TAIL(&j->dead, d, entry);
    j->ndead++;
    if (j->writer_idle && j->ndead >= DEAD_EAGER)
        pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
}

void journal_control(struct journal *j, struct control *c)
{
    pthread_mutex_lock(&j->lock);
    STAILQ_INSERT_TAIL(&j->controls, c, entry);
    pthread_cond_signal(&j->wake);
    while (c->batch == 0 || (!c->unstable && j->synced < c->batch))
        pthread_cond_wait(&j->stable, &j->lock);
    pthread_mutex_unlock(&j->lock);
}

/* --- named values ---------------------------------------------------------------------------------------*/

static int meta_change(struct journal *j, struct control *c, const char *key, struct why *why)
{
    CLEANUP_FREE char *full = xasprintf("%s%s", meta_prefix, key);

    CHECK(strlen(key) > 0 && strlen(key) <= JOURNAL_META_KEY_MAX);
    if (journal_failed(j))
        return why_set(why, -EIO,
                       "the disk of the journal at %s is full or fails: nothing can be changed now", j->path);
    c->key = full;
    journal_control(j, c);
    return 0;
}

int journal_meta_put(struct journal *j, const char *key, const void *value, size_t n, struct why *why)
{
    struct control c = {.what = CONTROL_META_PUT, .value = value, .n = n};

    CHECK(n <= JOURNAL_META_VALUE_MAX);
    return meta_change(j, &c, key, why);
}

int journal_meta_delete(struct journal *j, const char *key, struct why *why)
{
    struct control c = {.what = CONTROL_META_DELETE};

    return meta_change(j, &c, key, why);
}

/* The values of a prefix, opened. each() is called with no lock held, so that it may use the journal. */
struct metas {
    struct journal *j;
    struct opener *opener;
    struct why *why;
    struct meta {
        char *key;
        uint8_t *value;
        size_t n;
    } * list;
    size_t n, room;
};

static int meta_collect(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t n)
{
    struct metas *m = arg;
    size_t skip = strlen(meta_prefix);
    struct meta one = {.key = xstrndup((const char *)key + skip, key_len - skip), .value = xmalloc(n + 1)};
    int len = keyring_open(m->j->keys, m->opener, key, key_len, value, n, one.value, n), err;

    if (len < 0) {
        metric_add(m->j->m_corrupt, 1);
        err = why_set(m->why, -EBADMSG, "the value %s in the journal at %s is altered", one.key, m->j->path);
        free(one.key);
        free(one.value);
        return err;
    }
    if (m->n == m->room) {
        m->room = m->room ? m->room * 2 : 16;
        m->list = xrealloc(m->list, m->room * sizeof *m->list);
    }
    one.n = (size_t)len;
    m->list[m->n++] = one;
    return 0;
}

int journal_meta_each(struct journal *j, const char *prefix,
                      int (*each)(void *arg, const char *key, const void *value, size_t n), void *arg,
                      struct why *why)
{
    struct metas m = {.j = j, .opener = keyring_take(j->keys), .why = why};
    CLEANUP_FREE char *from = xasprintf("%s%s", meta_prefix, prefix);
    CLEANUP_FREE char *to = xstrdup(from);
    size_t n = strlen(from);
    int err;

    to[n - 1]++; /* the prefix is text: its last byte is below 0xff */
    pthread_rwlock_rdlock(&j->db_lock);
    err = j->kv->ops->each(j->kv, KV_META, from, n, to, n, meta_collect, &m);
    pthread_rwlock_unlock(&j->db_lock);
    keyring_give(j->keys, m.opener);
    if (err && err != -EBADMSG)
        why_set(why, err, "cannot read the journal at %s: %s", j->path, strerror(-err));
    for (size_t i = 0; i < m.n; i++) {
        if (err == 0)
            err = each(arg, m.list[i].key, m.list[i].value, m.list[i].n);
        free(m.list[i].key);
        explicit_bzero(m.list[i].value, m.list[i].n);
        free(m.list[i].value);
    }
    free(m.list);
    return err;
}
