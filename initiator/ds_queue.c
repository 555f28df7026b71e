/* initiator/ds_queue.c - the way of an I/O from submit() to done(), and what is written and not flushed; see
 * ds_base.h.
 *
 * Loop thread. A back end issues what ds_take() gives and hands each I/O back by exactly one of ds_done,
 * ds_finish, ds_requeue and ds_delay.
 */
#include "ds_base.h"

#include "check.h"
#include "log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "datastore";

enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 5000 };

const uint8_t ds_zeros[DS_ZEROS_BYTES];

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

    if (b->fenced || b->changing >= DS_CHANGES_MAX || (io && io->op == DATASTORE_FLUSH && b->flushing))
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
            io->in.zeros = 0;
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
    ds_post(b);
}

void ds_cancel(struct ds_base *b, struct datastore_io *io)
{
    why_set(&io->why, 0, "disk %s was closed", b->name);
    ds_finish(b, io, -ECANCELED);
}

void ds_requeue(struct ds_base *b, struct datastore_io *io)
{
    taken_back(b, io);
    if (b->closing) {
        ds_cancel(b, io);
        return;
    }
    TAILQ_INSERT_HEAD(queue_of(b, io), io, in.entry);
}

void ds_take_back(struct ds_base *b, struct datastore_ios *issued)
{
    struct datastore_io *io;

    while ((io = TAILQ_LAST(issued, datastore_ios))) {
        TAILQ_REMOVE(issued, io, in.entry);
        ds_requeue(b, io);
    }
}

uint32_t ds_next_zeros(struct datastore_io *io)
{
    uint32_t left = io->len - io->in.part;

    io->in.zeros = left < DS_ZEROS_BYTES ? left : DS_ZEROS_BYTES;
    return io->in.zeros;
}

void ds_done(struct ds_base *b, struct datastore_io *io)
{
    io->in.part += io->in.zeros;
    if (io->in.zeros == 0 || io->in.part == io->len) {
        ds_finish(b, io, 0);
        return;
    }
    b->written++; /* it can be lost, as a whole write can */
    ds_requeue(b, io);
}

/* Delayed I/O is kept in the order of its time, so that the timer needs to know the first only. */
void ds_delay(struct ds_base *b, struct datastore_io *io, uint64_t ms)
{
    struct datastore_io *at;

    taken_back(b, io);
    if (b->closing) {
        ds_cancel(b, io);
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

void ds_run_retry(struct timer *t)
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

uint64_t ds_backoff_ms(struct loop *loop, unsigned tries)
{
    uint64_t ms = tries > 6 ? BACKOFF_MAX_MS : (uint64_t)BACKOFF_MIN_MS << tries;
    uint32_t random;

    if (ms > BACKOFF_MAX_MS)
        ms = BACKOFF_MAX_MS;
    loop_random(loop, &random, sizeof random);
    return ms / 2 + random % (ms / 2 + 1);
}
