/* journal/kv_fail.c - a store that fails on demand: passes every call on, or answers an error instead.
 *
 * For tests, and for demonstrations of what a failing disk does. The faults are set from any thread.
 */
#include "check.h"
#include "kv.h"
#include "mem.h"

#include <errno.h>
#include <stdatomic.h>

struct kv_fail {
    struct kv kv;
    struct kv *inner;
    atomic_uint faults;
    atomic_int err;
    _Atomic uint64_t room, opened;
};

static struct kv_fail *fail_of(struct kv *kv)
{
    return container_of(kv, struct kv_fail, kv);
}

/* The error that this kind of call shall answer now, or 0. */
static int fault(struct kv_fail *f, unsigned kind)
{
    return atomic_load(&f->faults) & kind ? atomic_load(&f->err) : 0;
}

static int fail_open(struct kv *kv, struct why *why)
{
    struct kv_fail *f = fail_of(kv);
    int err = fault(f, KV_FAULT_OPEN);

    if (err)
        return why_set(why, err, "told to fail");
    atomic_fetch_add(&f->opened, 1);
    return f->inner->ops->open(f->inner, why);
}

static void fail_close(struct kv *kv)
{
    struct kv *inner = fail_of(kv)->inner;
    inner->ops->close(inner);
}

static void fail_free(struct kv *kv)
{
    struct kv_fail *f = fail_of(kv);

    f->inner->ops->free(f->inner);
    free(f);
}

static struct kv_batch *fail_batch_new(struct kv *kv)
{
    struct kv *inner = fail_of(kv)->inner;
    return inner->ops->batch_new(inner);
}

static void fail_batch_free(struct kv *kv, struct kv_batch *b)
{
    struct kv *inner = fail_of(kv)->inner;
    inner->ops->batch_free(inner, b);
}

static void fail_batch_clear(struct kv *kv, struct kv_batch *b)
{
    struct kv *inner = fail_of(kv)->inner;
    inner->ops->batch_clear(inner, b);
}

static void fail_batch_put(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *key,
                           size_t key_len, const void *value, size_t len)
{
    struct kv *inner = fail_of(kv)->inner;
    inner->ops->batch_put(inner, b, space, key, key_len, value, len);
}

static void *fail_batch_value(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *key,
                              size_t key_len, size_t len)
{
    struct kv *inner = fail_of(kv)->inner;
    return inner->ops->batch_value(inner, b, space, key, key_len, len);
}

static void fail_batch_delete(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *key,
                              size_t key_len)
{
    struct kv *inner = fail_of(kv)->inner;
    inner->ops->batch_delete(inner, b, space, key, key_len);
}

static void fail_batch_delete_range(struct kv *kv, struct kv_batch *b, enum kv_space space, const void *from,
                                    size_t from_len, const void *to, size_t to_len)
{
    struct kv *inner = fail_of(kv)->inner;
    inner->ops->batch_delete_range(inner, b, space, from, from_len, to, to_len);
}

static int fail_write(struct kv *kv, struct kv_batch *b)
{
    struct kv_fail *f = fail_of(kv);
    int err = fault(f, KV_FAULT_WRITE);

    return err ? err : f->inner->ops->write(f->inner, b);
}

static void fail_reclaim(struct kv *kv)
{
    struct kv_fail *f = fail_of(kv);

    if (!fault(f, KV_FAULT_WRITE))
        f->inner->ops->reclaim(f->inner);
}

static int fail_sync(struct kv *kv)
{
    struct kv_fail *f = fail_of(kv);
    int err = fault(f, KV_FAULT_SYNC);

    return err ? err : f->inner->ops->sync(f->inner);
}

static int fail_get(struct kv *kv, enum kv_space space, const void *key, size_t key_len,
                    int (*use)(void *arg, const void *value, size_t len), void *arg)
{
    struct kv_fail *f = fail_of(kv);
    int err = fault(f, KV_FAULT_GET);

    return err ? err : f->inner->ops->get(f->inner, space, key, key_len, use, arg);
}

static int fail_get_many(struct kv *kv, const uint8_t *keys, size_t key_len, unsigned n,
                         int (*use)(void *arg, unsigned i, const void *value, size_t len), void *arg)
{
    struct kv_fail *f = fail_of(kv);
    int err = fault(f, KV_FAULT_GET);

    return err ? err : f->inner->ops->get_many(f->inner, keys, key_len, n, use, arg);
}

static int fail_each(
    struct kv *kv, enum kv_space space, const void *from, size_t from_len, const void *to, size_t to_len,
    int (*each)(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len), void *arg)
{
    struct kv *inner = fail_of(kv)->inner;
    return inner->ops->each(inner, space, from, from_len, to, to_len, each, arg);
}

static int fail_room(struct kv *kv, uint64_t *free_bytes, uint64_t *total_bytes)
{
    struct kv_fail *f = fail_of(kv);
    int err = f->inner->ops->room(f->inner, free_bytes, total_bytes);
    uint64_t room = atomic_load(&f->room);

    if (err == 0 && room != UINT64_MAX)
        *free_bytes = room;
    return err;
}

static void fail_trim(struct kv *kv, enum kv_space space, const void *from, size_t from_len, const void *to,
                      size_t to_len)
{
    struct kv *inner = fail_of(kv)->inner;
    inner->ops->trim(inner, space, from, from_len, to, to_len);
}

static const struct kv_ops fail_ops = {
    .open = fail_open,
    .close = fail_close,
    .free = fail_free,
    .batch_new = fail_batch_new,
    .batch_free = fail_batch_free,
    .batch_clear = fail_batch_clear,
    .batch_put = fail_batch_put,
    .batch_value = fail_batch_value,
    .batch_delete = fail_batch_delete,
    .batch_delete_range = fail_batch_delete_range,
    .write = fail_write,
    .reclaim = fail_reclaim,
    .sync = fail_sync,
    .get = fail_get,
    .get_many = fail_get_many,
    .each = fail_each,
    .room = fail_room,
    .trim = fail_trim,
};

struct kv *kv_fail_new(struct kv *inner)
{
    struct kv_fail *f = xcalloc(1, sizeof *f);

    f->kv.ops = &fail_ops;
    f->inner = inner;
    atomic_init(&f->room, UINT64_MAX);
    return &f->kv;
}

void kv_fail_set(struct kv *kv, unsigned faults, int err)
{
    struct kv_fail *f = fail_of(kv);

    atomic_store(&f->err, err);
    atomic_store(&f->faults, err ? faults : 0);
}

void kv_fail_room(struct kv *kv, uint64_t free_bytes)
{
    atomic_store(&fail_of(kv)->room, free_bytes);
}

uint64_t kv_fail_opened(struct kv *kv)
{
    return atomic_load(&fail_of(kv)->opened);
}
