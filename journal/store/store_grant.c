/* journal/store/store_grant.c - see store_grant.h.
 */
#include "store_grant.h"

#include "check.h"
#include "log.h"

#include <errno.h>

static const char part[] = "store";

/* A new one is wanted so long before the old one expires; whoever gives them is not asked more often. */
enum { EARLY_S = 300, AGAIN_S = 10 };
#define SECOND_NS  1000000000ull
#define FOREVER_NS UINT64_MAX

void store_grant_init(struct store_grant *g, struct loop *loop, void (*fetch)(struct store_grant *),
                      void (*stop)(struct store_grant *))
{
    *g = (struct store_grant){.loop = loop, .fetch = fetch, .stop = stop};
    TAILQ_INIT(&g->waiting);
}

static bool good(const struct store_grant *g, uint64_t margin_s)
{
    return g->there &&
           (g->until_ns == FOREVER_NS || loop_now_ns(g->loop) + margin_s * SECOND_NS < g->until_ns);
}

static bool lately(const struct store_grant *g)
{
    return g->fetched_ever && loop_now_ns(g->loop) < g->fetched_ns + AGAIN_S * SECOND_NS;
}

void store_grant_set(struct store_grant *g, int64_t left_s)
{
    g->there = true;
    g->until_ns = left_s < 0 ? FOREVER_NS : loop_now_ns(g->loop) + (uint64_t)left_s * SECOND_NS;
}

static void on_told(struct task *t)
{
    struct store_grant_wait *w = container_of(t, struct store_grant_wait, task);

    w->done(w);
}

/* From the loop: what one does when it is told may be to cancel another. */
static void tell(struct store_grant *g, struct store_grant_wait *w)
{
    TAILQ_REMOVE(&g->waiting, w, entry);
    w->told = true;
    w->task.run = on_told;
    loop_post(g->loop, &w->task);
}

void store_grant_end(struct store_grant *g, int status, const struct why *why)
{
    struct store_grant_wait *w;

    g->fetching = false;
    g->fetched_ever = true;
    g->fetched_ns = loop_now_ns(g->loop);
    if (status != 0 && status != -ECANCELED)
        log_warn(NULL, "%s", why->text);
    while ((w = TAILQ_FIRST(&g->waiting))) {
        w->status = status != 0 && good(g, 0) ? 0 : status;
        if (status != 0)
            w->why = *why;
        tell(g, w);
    }
}

bool store_grant_ready(struct store_grant *g, struct store_grant_wait *w)
{
    if (good(g, EARLY_S) || (good(g, 0) && lately(g)))
        return true;
    w->told = false;
    TAILQ_INSERT_TAIL(&g->waiting, w, entry);
    if (!g->fetching) {
        g->fetching = true;
        g->fetch(g);
    }
    return false;
}

/* The last one that waits ends with the fetch, so that nothing is under way when nobody waits. */
void store_grant_cancel(struct store_grant *g, struct store_grant_wait *w)
{
    if (w->told)
        return;
    if (TAILQ_FIRST(&g->waiting) == w && !TAILQ_NEXT(w, entry)) {
        g->stop(g);
        return;
    }
    w->status = why_set(&w->why, -ECANCELED, "cancelled");
    tell(g, w);
}

bool store_grant_renew(struct store_grant *g)
{
    if (lately(g))
        return false;
    g->until_ns = 0;
    return true;
}
