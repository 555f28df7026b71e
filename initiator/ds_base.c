/* initiator/ds_base.c - the bookkeeping that all datastores share; see ds_base.h.
 *
 * Loop thread. It knows nothing of SCSI, NBD or files: a back end issues from the queue when pump() is called
 * and hands each I/O back by exactly one of ds_finish, ds_requeue and ds_delay.
 */
#include "ds_base.h"

#include "check.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "datastore";

enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 5000 };

static void run_task(struct task *);
static void run_retry(struct timer *);

void ds_init(struct ds_base *b, const struct datastore_ops *ops, struct loop *loop,
             const struct datastore_conf *conf, const struct datastore_events *events)
{
    b->ds.ops = ops;
    b->loop = loop;
    b->name = xstrdup(conf->name);
    b->shown = datastore_url_redact(conf->url);
    b->events = *events;
    b->task.run = run_task;
    TAILQ_INIT(&b->reads);
    TAILQ_INIT(&b->changes);
    TAILQ_INIT(&b->delayed);
    TAILQ_INIT(&b->finished);
    timer_init(&b->retry, loop, run_retry);
    ds_numbers_init(&b->numbers, b->name);
    why_set(&b->trouble, 0, "disk %s: still connecting to %s", b->name, b->shown);
}

static void post(struct ds_base *b)
{
    if (!b->posted) {
        b->posted = true;
        loop_post(b->loop, &b->task);
    }
}

static void destroy(struct ds_base *b)
{
    timer_free(&b->retry);
    ds_numbers_free(&b->numbers);
    free(b->name);
    free(b->shown);
    b->destroy(b);
}

static void tell_events(struct ds_base *b)
{
    bool opened = b->tell_opened, refused = b->tell_refused, resized = b->tell_resized;

    b->tell_opened = b->tell_refused = b->tell_resized = false;
    if (refused && !opened && !b->known && !b->closing)
        b->events.opened(b->events.arg, -ENODEV, &b->trouble);
    if (opened && !b->closing)
        b->events.opened(b->events.arg, 0, NULL);
    if (resized && !b->closing)
        b->events.resized(b->events.arg, &b->info);
}

static void run_task(struct task *t)
{
    struct ds_base *b = container_of(t, struct ds_base, task);
    struct datastore_io *io;

    /* posted stays set meanwhile: a done() that closes us must not free us under our feet */
    tell_events(b);
    while ((io = TAILQ_FIRST(&b->finished))) {
        TAILQ_REMOVE(&b->finished, io, in.entry);
        io->done(io);
    }
    b->posted = false;
    if (b->tell_opened || b->tell_refused || b->tell_resized)
        post(b);
    else if (b->closing && b->busy == 0)
        destroy(b);
}

void ds_hold(struct ds_base *b)
{
    b->busy++;
}

void ds_release(struct ds_base *b)
{
    CHECK(b->busy > 0);
    b->busy--;
    if (b->closing)
        post(b);
}

static bool is_sized(const struct datastore_io *io)
{
    return io->op == DATASTORE_READ || io->op == DATASTORE_WRITE || io->op == DATASTORE_ZERO;
}

static bool is_write(const struct datastore_io *io)
{
    return io->op == DATASTORE_WRITE || io->op == DATASTORE_ZERO;
}

static struct datastore_ios *queue_of(struct ds_base *b, const struct datastore_io *io)
{
    return io->op == DATASTORE_READ ? &b->reads : &b->changes;
}

const char *ds_io_words(const struct datastore_io *io, char *out, size_t size)
{
    static const char *const verbs[] = {"read", "write", "zero", "flush", "look at"};

    if (is_sized(io))
        snprintf(out, size, "%s %u bytes at %llu", verbs[io->op], io->len, (unsigned long long)io->offset);
    else
        snprintf(out, size, "%s", verbs[io->op]);
    return out;
}

/* What an I/O can be told without asking the datastore: true if it has ended. It may have been queued before
 * the size was known, or before it shrank. */
static bool ends_here(struct ds_base *b, struct datastore_io *io)
{
    char words[80];

    if (is_sized(io) && (io->offset > b->info.bytes || io->len > b->info.bytes - io->offset)) {
        why_set(&io->why, 0, "disk %s ends at byte %llu: cannot %s", b->name,
                (unsigned long long)b->info.bytes, ds_io_words(io, words, sizeof words));
        ds_finish(b, io, -EINVAL);
    } else if (is_write(io) && b->info.read_only) {
        why_set(&io->why, 0, "disk %s cannot be written: %s", b->name, b->locked.text);
        ds_finish(b, io, -EROFS);
    } else if (io->op == DATASTORE_MARK && !b->marks) {
        ds_finish(b, io, 0);
    } else {
        return false;
    }
    return true;
}

void ds_submit(struct datastore *ds, struct datastore_io *io)
{
    struct ds_base *b = container_of(ds, struct ds_base, ds);

    CHECK(!b->closing);
    memset(&io->in, 0, sizeof io->in);
    io->in.started_ns = loop_now_ns(b->loop);
    io->why.text[0] = '\0';
    io->mark_len = 0;
    if (b->known && is_sized(io)) {
        CHECK(io->len > 0 &&
              io->len <= (io->op == DATASTORE_ZERO ? b->info.max_zero_bytes : b->info.max_io_bytes));
        CHECK(io->offset % b->info.block_bytes == 0 && io->len % b->info.block_bytes == 0);
    }
    if (b->known && ends_here(b, io))
        return;
    TAILQ_INSERT_TAIL(queue_of(b, io), io, in.entry);
    b->pump(b);
}

/* The first change, if one may be issued now. A flush waits for the one before it: an error of writing back
 * is told to one of them only, and must have counted before the other ends. */
static struct datastore_io *first_change(struct ds_base *b)
{
    struct datastore_io *io = TAILQ_FIRST(&b->changes);

    if (b->changing >= DS_CHANGES_MAX || (io && io->op == DATASTORE_FLUSH && b->flushing))
        return NULL;
    return io;
}

struct datastore_io *ds_take(struct ds_base *b)
{
    for (;;) {
        struct datastore_io *read = TAILQ_FIRST(&b->reads), *change = first_change(b);
        struct datastore_io *io = read && (b->changing || !change) ? read : change;

        if (!io)
            return NULL;
        TAILQ_REMOVE(queue_of(b, io), io, in.entry);
        if (ends_here(b, io))
            continue;
        if (io->op != DATASTORE_READ) {
            io->in.changing = true;
            io->in.written = b->written;
            b->changing++;
            b->flushing |= io->op == DATASTORE_FLUSH;
        }
        return io;
    }
}

/* io is not issued any more. */
static void taken_back(struct ds_base *b, struct datastore_io *io)
{
    if (!io->in.changing)
        return;
    io->in.changing = false;
    b->changing--;
    if (io->op == DATASTORE_FLUSH)
        b->flushing = false;
}

void ds_may_have_lost(struct ds_base *b)
{
    if (b->written == b->flushed)
        return;
    b->generation++;
    metric_add(b->numbers.losses, 1);
    log_warn(b->name, "%llu writes since the last flush may be lost: whoever wrote them writes again",
             (unsigned long long)(b->written - b->flushed));
    b->flushed = b->written;
}

uint64_t ds_generation(const struct datastore *ds)
{
    return container_of(ds, const struct ds_base, ds)->generation;
}

void ds_hold_nothing(struct datastore *ds, uint64_t key)
{
    (void)ds;
    (void)key;
}

bool ds_holds_nothing(const struct datastore *ds)
{
    (void)ds;
    return false;
}

const struct datastore_info *ds_info(const struct datastore *ds)
{
    const struct ds_base *b = container_of(ds, const struct ds_base, ds);

    return b->known ? &b->info : NULL;
}

const struct why *ds_trouble(const struct datastore *ds)
{
    const struct ds_base *b = container_of(ds, const struct ds_base, ds);

    return b->trouble.text[0] ? &b->trouble : NULL;
}

void ds_finish(struct ds_base *b, struct datastore_io *io, int status)
{
    char words[80];

    taken_back(b, io);
    io->status = status;
    if (status != -ECANCELED)
        ds_count(&b->numbers, io, loop_now_ns(b->loop) - io->in.started_ns);
    if (status == 0 && is_write(io))
        b->written++;
    else if (status == 0 && io->op == DATASTORE_FLUSH && io->in.written > b->flushed)
        b->flushed = io->in.written;
    else if (status != 0 && status != -ECANCELED)
        log_warn(b->name, "cannot %s: %s", ds_io_words(io, words, sizeof words), io->why.text);
    TAILQ_INSERT_TAIL(&b->finished, io, in.entry);
    post(b);
}

static void cancel(struct ds_base *b, struct datastore_io *io)
{
    why_set(&io->why, 0, "disk %s was closed", b->name);
    ds_finish(b, io, -ECANCELED);
}

void ds_requeue(struct ds_base *b, struct datastore_io *io)
{
    taken_back(b, io);
    if (b->closing) {
        cancel(b, io);
        return;
    }
    TAILQ_INSERT_HEAD(queue_of(b, io), io, in.entry);
}

/* Delayed I/O is kept in the order of its time, so that the timer needs to know the first only. */
void ds_delay(struct ds_base *b, struct datastore_io *io, uint64_t ms)
{
    struct datastore_io *at;

    taken_back(b, io);
    if (b->closing) {
        cancel(b, io);
        return;
    }
    io->in.retry_ns = loop_now_ns(b->loop) + ms * 1000000;
    TAILQ_FOREACH (at, &b->delayed, in.entry) {
        if (at->in.retry_ns > io->in.retry_ns)
            break;
    }
    if (at)
        TAILQ_INSERT_BEFORE(at, io, in.entry);
    else
        TAILQ_INSERT_TAIL(&b->delayed, io, in.entry);
    if (TAILQ_FIRST(&b->delayed) == io)
        timer_set_ms(&b->retry, ms);
}

static void run_retry(struct timer *t)
{
    struct ds_base *b = container_of(t, struct ds_base, retry);
    uint64_t now = loop_now_ns(b->loop);
    struct datastore_io *io;

    while ((io = TAILQ_FIRST(&b->delayed)) && io->in.retry_ns <= now) {
        TAILQ_REMOVE(&b->delayed, io, in.entry);
        TAILQ_INSERT_TAIL(queue_of(b, io), io, in.entry);
    }
    if (io)
        timer_set_ms(&b->retry, (io->in.retry_ns - now) / 1000000 + 1);
    b->pump(b);
}

void ds_close(struct ds_base *b)
{
    struct datastore_ios *lists[] = {&b->reads, &b->changes, &b->delayed};
    struct datastore_io *io;

    b->closing = true;
    timer_stop(&b->retry);
    for (size_t i = 0; i < 3; i++) {
        while ((io = TAILQ_FIRST(lists[i]))) {
            TAILQ_REMOVE(lists[i], io, in.entry);
            cancel(b, io);
        }
    }
    post(b);
}

void ds_known(struct ds_base *b, const struct datastore_info *info)
{
    bool news = b->known && (info->bytes != b->info.bytes || info->block_bytes != b->info.block_bytes);

    if (!b->known)
        log_info(b->name, "open: %s, %llu bytes, blocks of %u, %s", b->shown, (unsigned long long)info->bytes,
                 info->block_bytes, info->identity);
    if (news)
        log_info(b->name, "resized from %llu to %llu bytes", (unsigned long long)b->info.bytes,
                 (unsigned long long)info->bytes);
    b->tell_opened |= !b->known;
    b->tell_resized |= news;
    b->info = *info;
    b->known = true;
    if (b->tell_opened || b->tell_resized)
        post(b);
}

void ds_trouble_set(struct ds_base *b, bool final, const struct why *why)
{
    if (strcmp(b->trouble.text, why->text) != 0)
        log_warn(b->name, "%s", why->text);
    b->trouble = *why;
    metric_set(b->numbers.up, 0);
    if (final && !b->known) {
        b->tell_refused = true;
        post(b);
    }
}

void ds_trouble_clear(struct ds_base *b)
{
    if (b->trouble.text[0])
        log_info(b->name, "the datastore answers: %s", b->shown);
    b->trouble.text[0] = '\0';
    metric_set(b->numbers.up, 1);
}

uint64_t ds_backoff_ms(struct loop *loop, unsigned tries)
{
    uint64_t ms = tries > 6 ? BACKOFF_MAX_MS : (uint64_t)BACKOFF_MIN_MS << tries;
    uint32_t random;

    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    loop_random(loop, &random, sizeof random);
    return ms / 2 + random % (ms / 2 + 1);
}
