/* initiator/ds_iscsi.c - a source disk that is an iSCSI LUN: iscsi://[user[%secret]@]host[:port]/iqn/lun.
 *
 * Spreads I/O over a few sessions to the LUN, least loaded first, and keeps the reservation. How a session
 * lives is in iscsi_session.c, what sense data say in sense.c. Loop thread. Extra sessions are a gift: as
 * long as one is up, the loss of another is no trouble.
 */
#include "check.h"
#include "iscsi_lun.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "iscsi";

enum { SESSIONS_DEFAULT = 2, FENCE_MS = 30000, TOLD_S = 20 };

static struct lun *of(struct ds_base *b)
{
    return container_of(b, struct lun, b);
}

/* ---- I/O ---- */

static struct iscsi_session *least_loaded(const struct lun *l)
{
    struct iscsi_session *best = NULL;

    for (unsigned i = 0; i < l->nsessions; i++) {
        struct iscsi_session *s = l->sessions[i];
        if (iscsi_session_up(s) && iscsi_session_load(s) < l->window &&
            (!best || iscsi_session_load(s) < iscsi_session_load(best)))
            best = s;
    }
    return best;
}

static void lun_pump(struct ds_base *b)
{
    struct lun *l = of(b);
    struct datastore_io *io;
    struct iscsi_session *s;

    while (b->known && (s = least_loaded(l)) && (io = ds_take(b))) {
        if (io->op == DATASTORE_FLUSH && l->can.no_sync)
            ds_finish(b, io, 0);
        else if (io->op != DATASTORE_READ && io->op != DATASTORE_FLUSH && l->taken)
            iscsi_answer_taken(l, io);
        else
            iscsi_session_issue(s, io, &l->can, b->info.block_bytes);
    }
}

static void on_answer(void *arg, struct iscsi_session *s, struct datastore_io *io,
                      const struct scsi_task *task)
{
    struct lun *l = arg;

    if (task->status == SCSI_STATUS_GOOD &&
        (io->op != DATASTORE_READ || task->residual_status != SCSI_RESIDUAL_UNDERFLOW))
        iscsi_answer_good(l, io);
    else
        iscsi_answer_error(l, s, io, task);
    lun_pump(&l->b);
}

static void on_reset(void *arg)
{
    struct lun *l = arg;

    ds_may_have_lost(&l->b);
}

/* ---- the reservation ---- */

static void ask_hold(struct lun *l)
{
    for (unsigned i = 0; i < l->nsessions; i++)
        iscsi_session_ask_hold(l->sessions[i]);
}

static void unsettle(struct lun *l)
{
    l->held = false;
    for (unsigned i = 0; i < l->nsessions; i++)
        iscsi_session_hold_lost(l->sessions[i]);
}

static void taken(struct lun *l, const struct iscsi_hold *h)
{
    struct why why;
    char owner[60] = "by another host, without a key";

    if (h->other)
        snprintf(owner, sizeof owner, "under key %llxh, which is not ours", (unsigned long long)h->other);
    why_set(
        &why, 0,
        "disk %s: LUN %d of %s is reserved %s: somebody else uses it; nothing is written to it until that "
        "reservation is released there",
        l->b.name, l->target.lun, l->target.iqn, owner);
    unsettle(l);
    if (!l->taken || l->doubted)
        ds_taken(&l->b, &why);
    l->taken = true;
    l->doubted = false;
}

static void held(struct lun *l, const struct iscsi_hold *h)
{
    uint64_t now = loop_now_ns(l->b.loop);
    struct why why;

    if (h->outcome == HOLD_REGAINED && now - l->told_ns > TOLD_S * 1000000000ull) {
        l->told_ns = now; /* the other sessions find the same */
        why_set(
            &why, 0,
            "disk %s: the reservation of LUN %d of %s was removed by somebody else, who may have written; it "
            "is ours again",
            l->b.name, l->target.lun, l->target.iqn);
        ds_taken(&l->b, &why);
    }
    if (!l->held)
        log_info(l->b.name, "LUN %d of %s is reserved%s", l->target.lun, l->target.iqn,
                 h->no_aptpl ? ", until its target is restarted" : "");
    l->held = true;
    l->taken = l->doubted = false;
}

static void on_hold(void *arg, struct iscsi_session *s, const struct iscsi_hold *h)
{
    struct lun *l = arg;

    (void)s;
    if (h->outcome == HOLD_RELEASED) {
        log_info(l->b.name, "LUN %d of %s is not reserved any more", l->target.lun, l->target.iqn);
        unsettle(l);
        if (l->target.release == h->key)
            l->target.release = 0;
        ask_hold(l);
    } else if (h->outcome == HOLD_NONE) {
        if (!l->cannot_hold)
            log_warn(l->b.name, "LUN %d of %s cannot be reserved: its target has no persistent reservations",
                     l->target.lun, l->target.iqn);
        l->b.info.reserves = false;
        l->cannot_hold = true;
        l->held = l->doubted = false;
        l->target.release = 0;
    } else if (h->key == l->target.key && h->outcome == HOLD_TAKEN) {
        if (!l->doubted || h->asked == l->target.asked) /* or it was so before hold() asked */
            taken(l, h);
    } else if (h->key == l->target.key) {
        held(l, h);
    }
    lun_pump(&l->b);
}

static void lun_hold(struct datastore *ds, uint64_t key)
{
    struct lun *l = container_of(ds, struct lun, b.ds);

    if (key == l->target.key && !l->taken)
        return;
    l->doubted = key == l->target.key;
    if (!l->doubted) {
        if (l->target.key)
            l->target.release = l->target.key;
        if (l->target.release == key)
            l->target.release = 0;
        l->target.key = key;
        l->taken = false;
    }
    l->target.asked++;
    ask_hold(l);
}

static bool lun_held(const struct datastore *ds)
{
    return container_of(ds, const struct lun, b.ds)->held;
}

/* ---- sessions come and go ---- */

static unsigned number_of(const struct lun *l, const struct iscsi_session *s)
{
    unsigned i = 0;

    while (l->sessions[i] != s)
        i++;
    return i;
}

static void check_fences(struct lun *l)
{
    l->b.fenced = false;
    for (unsigned i = 0; i < l->nsessions; i++)
        l->b.fenced |= l->fences[i];
}

static void run_fence(struct timer *t)
{
    struct lun *l = container_of(t, struct lun, fence);

    memset(l->fences, 0, sizeof l->fences);
    check_fences(l);
    lun_pump(&l->b);
}

/* What one session was refused, the others are, too: it is not forgotten. */
static void learn(struct lun *l, const struct iscsi_abilities *can)
{
    bool no_write_same = l->can.no_write_same, no_sync16 = l->can.no_sync16, no_sync = l->can.no_sync;

    l->can = *can;
    l->can.no_write_same |= no_write_same;
    l->can.no_sync16 |= no_sync16;
    l->can.no_sync |= no_sync;
}

static void on_known(void *arg, struct iscsi_session *s, const struct datastore_info *info,
                     const struct iscsi_abilities *can)
{
    struct lun *l = arg;
    struct ds_base *b = &l->b;
    struct datastore_info now = *info;
    struct why why;

    if (now.identity[0] == '\0')
        snprintf(now.identity, sizeof now.identity, "%.100s lun %d", l->target.iqn, l->target.lun);
    if (b->known && strcmp(b->info.identity, now.identity) != 0) {
        why_set(&why, 0,
                "disk %s: LUN %d of %s is %s now, it was %s; restart isthmus-onprem if that is meant",
                b->name, l->target.lun, l->target.iqn, now.identity, b->info.identity);
        iscsi_session_drop(s, true, &why);
        return;
    }
    now.reserves &= !l->cannot_hold;
    if (now.read_only)
        why_set(&b->locked, 0, "LUN %d of %s is write-protected", l->target.lun, l->target.iqn);
    learn(l, can);
    l->fences[number_of(l, s)] = false;
    check_fences(l);
    if (!l->locked_out)
        ds_trouble_clear(b);
    ds_known(b, &now);
    lun_pump(b);
}

static void on_down(void *arg, struct iscsi_session *s, bool was_up, bool refused, const struct why *why,
                    struct datastore_ios *issued)
{
    struct lun *l = arg;
    struct ds_base *b = &l->b;
    struct datastore_io *io;
    bool any = false, writes = false;

    metric_add(b->numbers.reconnects, 1);
    if (was_up)
        ds_may_have_lost(b);
    TAILQ_FOREACH (io, issued, in.entry)
        writes |= io->op == DATASTORE_WRITE || io->op == DATASTORE_ZERO;
    if (writes) {
        l->fences[number_of(l, s)] = b->fenced = true;
        timer_set_ms(&l->fence, FENCE_MS);
    }
    ds_take_back(b, issued);
    for (unsigned i = 0; i < l->nsessions; i++)
        any |= iscsi_session_up(l->sessions[i]);
    if (any)
        log_info(b->name, "one session is down: %s", why->text);
    else
        ds_trouble_set(b, refused, why);
    lun_pump(b);
}

static void open_session(struct lun *l)
{
    struct iscsi_session_events events = {.known = on_known,
                                          .down = on_down,
                                          .answer = on_answer,
                                          .hold = on_hold,
                                          .reset = on_reset,
                                          .arg = l};

    l->sessions[l->nsessions] = iscsi_session_new(l->b.loop, &l->target, l->nsessions, &events);
    l->nsessions++;
}

static void lun_destroy(struct ds_base *b)
{
    struct lun *l = of(b);

    timer_free(&l->fence);
    iscsi_target_clear(&l->target);
    free(l);
}

static int lun_open(struct datastore **d, struct loop *loop, const struct datastore_conf *conf,
                    const struct datastore_events *events, struct why *why)
{
    struct lun *l = xcalloc(1, sizeof *l);
    unsigned sessions = conf->sessions ? conf->sessions : SESSIONS_DEFAULT;
    int err = iscsi_target_set(&l->target, conf->url, why);

    if (err) {
        iscsi_target_clear(&l->target);
        free(l);
        return err;
    }
    ds_init(&l->b, &datastore_iscsi, loop, conf, events);
    l->b.pump = lun_pump;
    l->b.destroy = lun_destroy;
    l->target.disk = l->b.name;
    l->window = WINDOW_MAX;
    timer_init(&l->fence, loop, run_fence);
    while (l->nsessions < sessions && l->nsessions < SESSIONS_MAX)
        open_session(l);
    log_info(l->b.name, "connecting to %s as %s", l->b.shown, l->target.initiator);
    *d = &l->b.ds;
    return 0;
}

static void lun_close(struct datastore *ds)
{
    struct lun *l = container_of(ds, struct lun, b.ds);
    struct datastore_ios issued = TAILQ_HEAD_INITIALIZER(issued);

    for (unsigned i = 0; i < l->nsessions; i++)
        iscsi_session_free(&l->sessions[i], &issued);
    l->nsessions = 0;
    timer_stop(&l->fence);
    ds_take_back(&l->b, &issued);
    ds_close(&l->b);
}

const struct datastore_ops datastore_iscsi = {
    .scheme = "iscsi",
    .open = lun_open,
    .submit = ds_submit,
    .generation = ds_generation,
    .hold = lun_hold,
    .held = lun_held,
    .info = ds_info,
    .trouble = ds_trouble,
    .close = lun_close,
};
