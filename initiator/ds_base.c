/* initiator/ds_base.c - the life of a datastore, its events and its trouble; see ds_base.h. The way of an I/O
 * is in ds_queue.c.
 *
 * Loop thread. It knows nothing of SCSI, NBD or files.
 */
#include "ds_base.h"

#include "check.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const char part[] = "datastore";

static void run_task(struct task *);

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
    timer_init(&b->retry, loop, ds_run_retry);
    ds_numbers_init(&b->numbers, b->name);
    why_set(&b->trouble, 0, "disk %s: still connecting to %s", b->name, b->shown);
}

void ds_post(struct ds_base *b)
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
    bool taken = b->tell_taken;

    b->tell_opened = b->tell_refused = b->tell_resized = b->tell_taken = false;
    if (refused && !opened && !b->known && !b->closing)
        b->events.opened(b->events.arg, -ENODEV, &b->trouble);
    if (opened && !b->closing)
        b->events.opened(b->events.arg, 0, NULL);
    if (resized && !b->closing)
        b->events.resized(b->events.arg, &b->info);
    if (taken && b->events.taken && !b->closing)
        b->events.taken(b->events.arg, &b->taken);
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
    if (b->tell_opened || b->tell_refused || b->tell_resized || b->tell_taken)
        ds_post(b);
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
        ds_post(b);
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

void ds_close(struct ds_base *b)
{
    struct datastore_ios *lists[] = {&b->reads, &b->changes, &b->delayed};
    struct datastore_io *io;

    b->closing = true;
    timer_stop(&b->retry);
    for (size_t i = 0; i < 3; i++) {
        while ((io = TAILQ_FIRST(lists[i]))) {
            TAILQ_REMOVE(lists[i], io, in.entry);
            ds_cancel(b, io);
        }
    }
    ds_post(b);
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
        ds_post(b);
}

void ds_taken(struct ds_base *b, const struct why *why)
{
    log_warn(b->name, "%s", why->text);
    b->taken = *why;
    b->tell_taken = true;
    ds_post(b);
}

void ds_trouble_set(struct ds_base *b, bool final, const struct why *why)
{
    if (strcmp(b->trouble.text, why->text) != 0)
        log_warn(b->name, "%s", why->text);
    b->trouble = *why;
    metric_set(b->numbers.up, 0);
    if (final && !b->known) {
        b->tell_refused = true;
        ds_post(b);
    }
}

void ds_trouble_clear(struct ds_base *b)
{
    if (b->trouble.text[0])
        log_info(b->name, "the datastore answers: %s", b->shown);
    b->trouble.text[0] = '\0';
    metric_set(b->numbers.up, 1);
}
