/* tests/sim/sim_kv.c - see sim_kv.h.
 */
#include "sim_kv.h"

#include "broken.h"
#include "sim.h"

#include "check.h"
#include "mem.h"

#include <errno.h>
#include <string.h>

struct sim_kv {
    struct kv kv; /* first */
    struct sim_disk *disk;
    bool open, broken;
};

struct kv_batch {
    struct sim_batch *changes;
};

void sim_disk_init(struct sim_disk *d)
{
    memset(d, 0, sizeof *d);
    d->table = sim_table_new();
    d->write_ns = sim_between(10, 400) * SIM_US;
    d->sync_ns = sim_between(50, 8000) * SIM_US;
    d->room_bytes = UINT64_C(100) << 30;
    d->total_bytes = UINT64_C(200) << 30;
}

void sim_disk_crash(struct sim_disk *d, const struct sim_node *node, bool machine)
{
    uint64_t unsynced = sim_table_unsynced(d->table), keep;

    sim_say(node, machine ? "loses power" : "is killed");
    if (!machine && broken != BROKEN_ACK_EARLY)
        return;
    keep = sim_below(unsynced + 1);
    sim_say(node, "%llu of %llu unsynced batches survive", (unsigned long long)keep,
            (unsigned long long)unsynced);
    sim_table_lose(d->table, keep);
}

static struct sim_kv *of(struct kv *kv)
{
    return (struct sim_kv *)kv;
}

static int sim_open(struct kv *kv, struct why *why)
{
    struct sim_kv *k = of(kv);

    CHECK(!k->open);
    fiber_sleep(sim_latency(SIM_MS));
    k->disk->opens++;
    if (k->disk->fails)
        return why_set(why, k->disk->fails, "the simulated disk refuses to be opened");
    k->open = true;
    k->broken = false;
    return 0;
}

static void sim_close(struct kv *kv)
{
    of(kv)->open = false;
}

static void sim_free(struct kv *kv)
{
    CHECK(!of(kv)->open);
    free(of(kv));
}

static struct kv_batch *sim_kv_batch_new(struct kv *kv)
{
    struct kv_batch *b = xmalloc(sizeof *b);

    (void)kv;
    b->changes = sim_batch_new();
    return b;
}

static void sim_kv_batch_free(struct kv *kv, struct kv_batch *b)
{
    (void)kv;
    sim_batch_free(b->changes);
    free(b);
}

static void sim_kv_batch_clear(struct kv *kv, struct kv_batch *b)
{
    (void)kv;
    sim_batch_clear(b->changes);
}

static void sim_kv_batch_put(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *key,
                             size_t key_len, const void *value, size_t len)
{
    (void)kv;
    sim_batch_put(b->changes, space, key, key_len, value, len);
}

static void *sim_kv_batch_value(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *key,
                                size_t key_len, size_t len)
{
    (void)kv;
    return sim_batch_put(b->changes, space, key, key_len, NULL, len);
}

static void sim_kv_batch_delete(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *key,
                                size_t key_len)
{
    (void)kv;
    sim_batch_delete(b->changes, space, key, key_len);
}

static void sim_kv_batch_delete_range(struct kv *kv, struct kv_batch *b, enum kv_space space,
                                      const void *from, size_t from_len, const void *to, size_t to_len)
{
    (void)kv;
    sim_batch_delete_range(b->changes, space, from, from_len, to, to_len);
}

/* Applied in the middle: a crash before it has written nothing, one after it has written what nobody was told
 * of. */
static int sim_write(struct kv *kv, struct kv_batch *b)
{
    struct sim_kv *k = of(kv);

    CHECK(k->open);
    fiber_sleep(sim_latency(k->disk->write_ns / 2));
    if (k->broken || k->disk->fails) {
        k->broken = true;
        return k->disk->fails ? k->disk->fails : -EIO;
    }
    sim_table_apply(k->disk->table, b->changes);
    fiber_sleep(sim_latency(k->disk->write_ns / 2));
    return 0;
}

static void sim_reclaim(struct kv *kv)
{
    (void)kv;
}

static int sim_sync(struct kv *kv)
{
    struct sim_kv *k = of(kv);
    uint64_t n = sim_table_applied(k->disk->table);

    CHECK(k->open);
    fiber_sleep(sim_latency(k->disk->sync_ns));
    if (k->broken || k->disk->fails) {
        k->broken = true;
        return k->disk->fails ? k->disk->fails : -EIO;
    }
    if (broken != BROKEN_NO_SYNC)
        sim_table_sync(k->disk->table, n);
    return 0;
}

static int sim_get(struct kv *kv, enum kv_space space, const void *key, size_t key_len,
                   int (*use)(void *arg, const void *value, size_t len), void *arg)
{
    struct sim_kv *k = of(kv);
    struct sim_pair p;
    int rc;

    if (sim_chance(50000))
        fiber_sleep(sim_latency(100 * SIM_US));
    CHECK(k->open);
    if (!sim_table_get(k->disk->table, space, key, key_len, &p))
        return -ENOENT;
    fiber_atomic++;
    rc = use(arg, p.value, p.len);
    fiber_atomic--;
    return rc;
}

struct one {
    int (*use)(void *arg, unsigned i, const void *value, size_t len);
    void *arg;
    unsigned i;
};

static int use_one(void *arg, const void *value, size_t len)
{
    const struct one *one = arg;

    return one->use(one->arg, one->i, value, len);
}

static int sim_get_many(struct kv *kv, const uint8_t *keys, size_t key_len, unsigned n,
                        int (*use)(void *arg, unsigned i, const void *value, size_t len), void *arg)
{
    struct one one = {.use = use, .arg = arg};
    int rc = 0;

    for (; one.i < n && rc == 0; one.i++)
        rc = sim_get(kv, KV_DATA, keys + one.i * key_len, key_len, use_one, &one);
    return rc;
}

static int
sim_each(struct kv *kv, enum kv_space space, const void *from, size_t from_len, const void *to, size_t to_len,
         int (*each)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len),
         void *arg)
{
    struct sim_kv *k = of(kv);
    struct sim_pair p;
    int rc = 0;

    CHECK(k->open);
    fiber_atomic++; /* it sees one moment */
    for (bool more = sim_table_next(k->disk->table, space, from, from_len, false, &p);
         more && rc == 0 && sim_key_compare(p.key, p.key_len, to, to_len) < 0;
         more = sim_table_next(k->disk->table, space, p.key, p.key_len, true, &p))
        rc = each(arg, p.key, p.key_len, p.value, p.len);
    fiber_atomic--;
    return rc;
}

static int sim_room(struct kv *kv, uint64_t *free_bytes, uint64_t *total_bytes)
{
    *free_bytes = of(kv)->disk->room_bytes;
    *total_bytes = of(kv)->disk->total_bytes;
    return 0;
}

static void sim_trim(struct kv *kv, enum kv_space space, const void *from, size_t from_len, const void *to,
                     size_t to_len)
{
    (void)kv, (void)space, (void)from, (void)from_len, (void)to, (void)to_len;
}

static const struct kv_ops sim_kv_ops = {
    .open = sim_open,
    .close = sim_close,
    .free = sim_free,
    .batch_new = sim_kv_batch_new,
    .batch_free = sim_kv_batch_free,
    .batch_clear = sim_kv_batch_clear,
    .batch_put = sim_kv_batch_put,
    .batch_value = sim_kv_batch_value,
    .batch_delete = sim_kv_batch_delete,
    .batch_delete_range = sim_kv_batch_delete_range,
    .write = sim_write,
    .reclaim = sim_reclaim,
    .sync = sim_sync,
    .get = sim_get,
    .get_many = sim_get_many,
    .each = sim_each,
    .room = sim_room,
    .trim = sim_trim,
};

struct kv *sim_kv_new(struct sim_disk *disk)
{
    struct sim_kv *k = xcalloc(1, sizeof *k);

    k->kv.ops = &sim_kv_ops;
    k->disk = disk;
    return &k->kv;
}

/* Real ones are not linked: the simulator has only simulated disks. */
struct kv *kv_rocks_new(const char *path)
{
    CHECK(!path);
    return NULL;
}
