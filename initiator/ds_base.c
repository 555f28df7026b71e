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
#include <string.h>

static const char part[] = "datastore";

enum { BACKOFF_MIN_MS = 100, BACKOFF_MAX_MS = 5000 };

static void run_task(struct task *);
static void run_retry(struct timer *);

static void make_metrics(struct ds_base *b)
{
    b->read_seconds = metric_new(METRIC_HISTOGRAM, "isthmus_datastore_read_seconds",
                                 "Time a read of the datastore took, waits for reconnecting included.",
                                 "disk=\"%s\"", b->name);
    b->bytes = metric_new(METRIC_COUNTER, "isthmus_datastore_bytes_total", "Bytes moved from the datastore.",
                          "disk=\"%s\",direction=\"read\"", b->name);
    b->reads = metric_new(METRIC_COUNTER, "isthmus_datastore_reads_total",
                          "Reads of the datastore that ended.", "disk=\"%s\"", b->name);
    b->reconnects = metric_new(METRIC_COUNTER, "isthmus_datastore_reconnects_total",
                               "Sessions or connections to the datastore that were lost or failed.",
                               "disk=\"%s\"", b->name);
    b->errors =
        metric_new(METRIC_COUNTER, "isthmus_datastore_errors_total",
                   "Errors the datastore answered to an I/O, retried ones included.", "disk=\"%s\"", b->name);
    b->up = metric_new(METRIC_GAUGE, "isthmus_datastore_up", "1 while the datastore answers, else 0.",
                       "disk=\"%s\"", b->name);
}

void ds_init(struct ds_base *b, const struct datastore_ops *ops, struct loop *loop,
             const struct datastore_conf *conf, const struct datastore_events *events)
{
    b->ds.ops = ops;
    b->loop = loop;
    b->name = xstrdup(conf->name);
    b->shown = datastore_url_redact(conf->url);
    b->events = *events;
    b->task.run = run_task;
    TAILQ_INIT(&b->queue);
    TAILQ_INIT(&b->delayed);
    TAILQ_INIT(&b->finished);
    timer_init(&b->retry, loop, run_retry);
    make_metrics(b);
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
    struct metric **metrics[] = {&b->read_seconds, &b->bytes, &b->reads, &b->reconnects, &b->errors, &b->up};

    timer_free(&b->retry);
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++)
        metric_free(metrics[i]);
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

void ds_submit(struct datastore *ds, struct datastore_io *io)
{
    struct ds_base *b = container_of(ds, struct ds_base, ds);

    CHECK(!b->closing);
    memset(&io->in, 0, sizeof io->in);
    io->in.started_ns = loop_now_ns(b->loop);
    io->why.text[0] = '\0';
    if (b->known) {
        CHECK(io->len > 0 && io->len <= b->info.max_io_bytes);
        CHECK(io->offset % b->info.block_bytes == 0 && io->len % b->info.block_bytes == 0);
        if (io->offset > b->info.bytes || io->len > b->info.bytes - io->offset) {
            why_set(&io->why, 0, "disk %s ends at byte %llu: cannot read %u bytes at %llu", b->name,
                    (unsigned long long)b->info.bytes, io->len, (unsigned long long)io->offset);
            ds_finish(b, io, -EINVAL);
            return;
        }
    }
    TAILQ_INSERT_TAIL(&b->queue, io, in.entry);
    b->pump(b);
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
    io->status = status;
    if (status != -ECANCELED) {
        metric_observe_ns(b->read_seconds, loop_now_ns(b->loop) - io->in.started_ns);
        metric_add(b->reads, 1);
    }
    if (status == 0)
        metric_add(b->bytes, io->len);
    else if (status != -ECANCELED)
        log_warn(b->name, "read of %u bytes at %llu failed: %s", io->len, (unsigned long long)io->offset,
                 io->why.text);
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
    if (b->closing) {
        cancel(b, io);
        return;
    }
    TAILQ_INSERT_HEAD(&b->queue, io, in.entry);
}

/* Delayed I/O is kept in the order of its time, so that the timer needs to know the first only. */
void ds_delay(struct ds_base *b, struct datastore_io *io, uint64_t ms)
{
    struct datastore_io *at;

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
        TAILQ_INSERT_TAIL(&b->queue, io, in.entry);
    }
    if (io)
        timer_set_ms(&b->retry, (io->in.retry_ns - now) / 1000000 + 1);
    b->pump(b);
}

void ds_close(struct ds_base *b)
{
    struct datastore_ios *lists[] = {&b->queue, &b->delayed};
    struct datastore_io *io;

    b->closing = true;
    timer_stop(&b->retry);
    for (size_t i = 0; i < 2; i++) {
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
    metric_set(b->up, 0);
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
    metric_set(b->up, 1);
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
