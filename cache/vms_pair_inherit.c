/* cache/vms_pair_inherit.c - this edge is alone: the VMs of the other are taken over. Main loop.
 *
 *   nothing is kept any more ► what is here of VMs that are the other's goes ► recovered (vms_recover.c)
 *   ► what was kept and is nobody's goes
 */
#include "check.h"
#include "log.h"
#include "vms_pair_impl.h"

#include <errno.h>
#include <string.h>

static const char part[] = "pair";

enum { REST_MIN_MS = 500, SOON_MS = 100, REST_MAX_MS = 15000 };

/* Of VMs that were deleted while this edge did not hear of it. */
static void rest_purged(struct work *w)
{
    struct vms_pair *p = container_of(w, struct vms_pair, purge);

    if (p->purge_status)
        log_warn(NULL, "what was kept of VMs that are no more is left behind: %s", p->purge_why.text);
    vms_far_end(p->vms); /* what was not taken over is no more */
    if (!p->stopping)
        pair_inherited(p->pair);
    vms_pair_idle(p);
}

static void on_inherited(void *arg, int status, unsigned recovered, const struct why *why)
{
    struct vms_pair *p = arg;

    if (p->stopping)
        return;
    p->tried = p->tried || status != -EBUSY; /* something else was under way */
    if (status) {
        log_error(NULL, "not every VM of the other edge could be taken over: %s", why->text);
        timer_set_ms(&p->timer, p->rest_ms);
        p->rest_ms = p->rest_ms * 2 < REST_MAX_MS ? p->rest_ms * 2 : REST_MAX_MS;
        return;
    }
    log_info(NULL, "%u VM(s) of the other edge taken over", recovered);
    vms_pair_purge(p, rest_purged);
}

static void inherit(struct vms_pair *p)
{
    if (vms_pair_gives(p) || vms_pair_clears(p))
        timer_set_ms(&p->timer, SOON_MS);
    else
        vms_inherit(p->vms, p->fallen, on_inherited, p);
}

static void on_timer(struct timer *t)
{
    inherit(container_of(t, struct vms_pair, timer));
}

static void on_kept_closed(void *arg)
{
    struct vms_pair *p = arg;

    vms_pair_idle(p);
    if (!p->stopping)
        inherit(p);
}

void vms_pair_inherit(void *arg, const uint8_t writer[ARBITER_WRITER_BYTES])
{
    struct vms_pair *p = arg;

    memcpy(p->fallen, writer, sizeof p->fallen);
    p->rest_ms = REST_MIN_MS;
    timer_stop(&p->purge_again); /* rest_purged() comes to it */
    p->purging = false;
    vms_pair_close_keep(p, on_kept_closed);
}

void vms_pair_inherit_init(struct vms_pair *p)
{
    timer_init(&p->timer, p->vms->conf.main, on_timer);
}

bool vms_pair_is_to_inherit(const struct vms_pair *p)
{
    struct pair_status s;

    if (p->stopping)
        return true; /* it never comes to it */
    pair_status(p->pair, &s);
    return s.inheriting && !p->tried;
}
