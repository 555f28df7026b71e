/* cache/tier_delay.c - a tier that lets every read wait before it goes on: a far datastore for tests and
 * demos.
 *
 * Each read waits by itself: reads overlap. One timer serves them, since they leave in the order they came.
 * Lives on the disk's loop.
 */
#include "check.h"
#include "mem.h"
#include "tier_wrap.h"

#include <errno.h>
#include <string.h>
#include <sys/queue.h>

enum { DELAY_MS_MAX = 600000 };

struct delayed {
    struct block_req *req;
    uint64_t due_ns;
    STAILQ_ENTRY(delayed) entry;
};

struct tier_delay {
    struct tier tier;
    uint64_t delay_ms;
    bool quiesced;
    struct timer timer;
    STAILQ_HEAD(, delayed) waiting;
};

static struct tier_delay *tier_delay(struct tier *t)
{
    return container_of(t, struct tier_delay, tier);
}

static struct block_req *take_first(struct tier_delay *d)
{
    struct delayed *w = STAILQ_FIRST(&d->waiting);
    struct block_req *r = w->req;

    STAILQ_REMOVE_HEAD(&d->waiting, entry);
    free(w);
    return r;
}

static void arm(struct tier_delay *d)
{
    const struct delayed *w = STAILQ_FIRST(&d->waiting);
    uint64_t now = loop_now_ns(d->tier.loop);

    if (w)
        timer_set_ms(&d->timer, w->due_ns > now && !d->quiesced ? (w->due_ns - now + 999999) / 1000000 : 0);
}

static void cancel_all(struct tier_delay *d)
{
    while (!STAILQ_EMPTY(&d->waiting)) {
        struct block_req *r = take_first(d);

        r->status = -ECANCELED;
        r->done(r);
    }
}

static void on_timer(struct timer *t)
{
    struct tier_delay *d = container_of(t, struct tier_delay, timer);
    uint64_t now = loop_now_ns(d->tier.loop);

    if (d->quiesced) {
        cancel_all(d);
        return;
    }
    while (!STAILQ_EMPTY(&d->waiting) && STAILQ_FIRST(&d->waiting)->due_ns <= now) {
        struct block_req *r = take_first(d);

        if (tier_read(d->tier.next, r))
            r->done(r);
    }
    arm(d);
}

static bool delay_read(struct tier *t, struct block_req *r)
{
    struct tier_delay *d = tier_delay(t);
    struct delayed *w = xmalloc(sizeof(*w));
    bool idle = STAILQ_EMPTY(&d->waiting);

    w->req = r;
    w->due_ns = loop_now_ns(t->loop) + d->delay_ms * 1000000;
    STAILQ_INSERT_TAIL(&d->waiting, w, entry);
    if (idle)
        arm(d);
    return false;
}

/* One that waits here goes down as a demand read by itself: its class was changed by who promoted it. */
static void delay_promote(struct tier *t, struct block_req *r)
{
    const struct delayed *w;

    STAILQ_FOREACH (w, &tier_delay(t)->waiting, entry)
        if (w->req == r)
            return;
    tier_promote(t->next, r);
}

/* What waits is cancelled from the loop. */
static void delay_quiesce(struct tier *t)
{
    struct tier_delay *d = tier_delay(t);

    d->quiesced = true;
    arm(d);
}

static void delay_free(struct tier *t)
{
    struct tier_delay *d = tier_delay(t);

    cancel_all(d);
    timer_free(&d->timer);
    free(d);
}

static const struct tier_ops delay_ops = {
    .name = "delay",
    .read = delay_read,
    .promote = delay_promote,
    .quiesce = delay_quiesce,
    .free = delay_free,
};

static int parse(const char *args, uint64_t *ms, struct why *why)
{
    unsigned long n;
    char *end;

    errno = 0;
    n = strtoul(args, &end, 10);
    if (args[0] >= '0' && args[0] <= '9' && errno == 0) {
        if (strcmp(end, "s") == 0 && n <= DELAY_MS_MAX / 1000) {
            *ms = n * 1000;
            return 0;
        }
        if (strcmp(end, "ms") == 0 && n <= DELAY_MS_MAX) {
            *ms = n;
            return 0;
        }
    }
    return why_set(why, -EINVAL, "tier 'delay:%s': say how long as in delay:50ms or delay:2s, at most 600s",
                   args);
}

int tier_delay_check(const char *args, struct why *why)
{
    uint64_t ms;

    return parse(args, &ms, why);
}

struct tier *tier_delay_new(struct loop *loop, struct tier *next, const char *args, struct why *why)
{
    struct tier_delay *d;
    uint64_t ms;

    if (parse(args, &ms, why) != 0)
        return NULL;
    d = xcalloc(1, sizeof(*d));
    d->tier.ops = &delay_ops;
    d->tier.next = next;
    d->tier.loop = loop;
    d->delay_ms = ms;
    STAILQ_INIT(&d->waiting);
    timer_init(&d->timer, loop, on_timer);
    return &d->tier;
}
