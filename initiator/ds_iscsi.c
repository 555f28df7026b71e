/* initiator/ds_iscsi.c - a source disk that is an iSCSI LUN: iscsi://[user[%secret]@]host[:port]/iqn/lun.
 *
 * Spreads I/O over a few sessions to the LUN, least loaded first, and decides what an answer means for the
 * I/O: done, again, later, never. How a session lives is in iscsi_session.c, what sense data say in sense.c.
 * Loop thread. Extra sessions are a gift: as long as one is up, the loss of another is no trouble.
 */
#include "check.h"
#include "ds_base.h"
#include "iscsi_session.h"
#include "log.h"
#include "mem.h"
#include "sense.h"

#include <errno.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char part[] = "iscsi";

enum { SESSIONS_DEFAULT = 2, SESSIONS_MAX = 8, WINDOW_MAX = 16, TRIES_MAX = 4 };

struct lun {
    struct ds_base b; /* first */
    struct iscsi_target target;
    struct iscsi_session *sessions[SESSIONS_MAX];
    unsigned nsessions;
    unsigned window; /* I/O per session: halved by TASK SET FULL, grows back */
    unsigned waits;  /* in a row, for the back-off */
};

static struct lun *of(struct ds_base *b)
{
    return container_of(b, struct lun, b);
}

/* ---- the URL ---- */

/* libiscsi's parser, whose own error text may hold the secret and is not shown. */
static struct iscsi_url *parse(const char *url, struct iscsi_context **context, struct why *why)
{
    CLEANUP_FREE char *shown = datastore_url_redact(url);
    struct iscsi_url *u;

    *context = iscsi_create_context("iqn.2026-11.org.isthmus:parse");
    CHECK(*context);
    u = iscsi_parse_full_url(*context, url);
    if (u && u->portal[0] && u->target[0] && u->lun >= 0)
        return u;
    why_set(why, -EINVAL, "'%s' is no iSCSI URL: use iscsi://[user%%secret@]HOST[:PORT]/IQN/LUN", shown);
    if (u)
        iscsi_destroy_url(u);
    iscsi_destroy_context(*context);
    return NULL;
}

/* "host", "host:port", "[address]" or "[address]:port". */
static int split_portal(const char *portal, char **host, unsigned *port)
{
    const char *end, *p = portal;
    char *stop;

    *port = 3260;
    if (*p == '[') {
        end = strchr(++p, ']');
        if (!end)
            return -EINVAL;
        *host = xstrndup(p, (size_t)(end - p));
        end++;
    } else {
        end = p + strcspn(p, ":,");
        *host = xstrndup(p, (size_t)(end - p));
    }
    if (*end != ':')
        return **host ? 0 : -EINVAL;
    *port = (unsigned)strtoul(end + 1, &stop, 10);
    return **host && *stop == '\0' && *port >= 1 && *port <= 65535 ? 0 : -EINVAL;
}

int ds_iscsi_url_check(const char *url, struct why *why)
{
    struct iscsi_context *context;
    struct iscsi_url *u = parse(url, &context, why);
    CLEANUP_FREE char *host = NULL;
    unsigned port;
    int err;

    if (!u)
        return -EINVAL;
    err = split_portal(u->portal, &host, &port);
    if (err)
        why_set(why, err, "'%s' is no host or host:port to reach an iSCSI target at", u->portal);
    iscsi_destroy_url(u);
    iscsi_destroy_context(context);
    return err;
}

static char *initiator_name(void)
{
    char host[65] = "onprem";

    gethostname(host, sizeof host - 1);
    for (char *p = host; *p; p++) {
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
        else if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789.-", *p))
            *p = '-';
    }
    return xasprintf("iqn.2026-11.org.isthmus:%s", host);
}

static int set_target(struct iscsi_target *t, const char *url, struct why *why)
{
    struct iscsi_context *context;
    struct iscsi_url *u = parse(url, &context, why);
    int err;

    if (!u)
        return -EINVAL;
    err = split_portal(u->portal, &t->host, &t->port);
    t->initiator = initiator_name();
    t->iqn = xstrdup(u->target);
    t->lun = u->lun;
    t->user = xstrdup(u->user);
    t->secret = xstrdup(u->passwd);
    t->target_user = xstrdup(u->target_user);
    t->target_secret = xstrdup(u->target_passwd);
    explicit_bzero(u->passwd, sizeof u->passwd);
    explicit_bzero(u->target_passwd, sizeof u->target_passwd);
    iscsi_destroy_url(u);
    iscsi_destroy_context(context);
    return err;
}

static void clear_target(struct iscsi_target *t)
{
    secret_free(&t->secret);
    secret_free(&t->target_secret);
    free(t->initiator);
    free(t->host);
    free(t->iqn);
    free(t->user);
    free(t->target_user);
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

    while (b->known && (s = least_loaded(l)) && (io = ds_take(b)))
        iscsi_session_read(s, io, b->info.block_bytes);
}

static void answer_wait(struct lun *l, struct datastore_io *io, const struct scsi_task *task)
{
    struct ds_base *b = &l->b;
    char words[200];

    if (task->status == SCSI_STATUS_TASK_SET_FULL)
        l->window = l->window > 1 ? l->window / 2 : 1;
    if (l->waits++ % 64 == 0) {
        sense_words(task, words, sizeof words);
        log_warn(b->name, "LUN %d of %s lets reads wait: %s; %s", l->target.lun, l->target.iqn, words,
                 sense_advice(task));
    }
    ds_delay(b, io, ds_backoff_ms(b->loop, l->waits / 16));
}

static void answer_few(struct lun *l, struct datastore_io *io, const struct scsi_task *task)
{
    struct ds_base *b = &l->b;
    char words[200];

    if (++io->in.tries < TRIES_MAX) {
        ds_delay(b, io, ds_backoff_ms(b->loop, io->in.tries - 1));
        return;
    }
    sense_words(task, words, sizeof words);
    why_set(&io->why, 0, "disk %s: LUN %d of %s cannot read block %llu: %s; %s", b->name, l->target.lun,
            l->target.iqn, (unsigned long long)(io->offset / b->info.block_bytes), words, sense_advice(task));
    ds_finish(b, io, -EIO);
}

static void on_answer(void *arg, struct iscsi_session *s, struct datastore_io *io,
                      const struct scsi_task *task)
{
    struct lun *l = arg;
    struct ds_base *b = &l->b;
    struct why why;
    char words[200];

    if (task->status == SCSI_STATUS_GOOD && task->residual_status != SCSI_RESIDUAL_UNDERFLOW) {
        l->waits = 0;
        if (l->window < WINDOW_MAX)
            l->window++;
        ds_finish(b, io, 0);
        lun_pump(b);
        return;
    }
    metric_add(b->numbers.errors, 1);
    if (sense_says_changed(task))
        iscsi_session_ask(s);
    if (task->status == SCSI_STATUS_CHECK_CONDITION && task->sense.ascq == SCSI_SENSE_ASCQ_LBA_OUT_OF_RANGE)
        iscsi_session_ask(s);
    switch (task->status == SCSI_STATUS_GOOD ? SENSE_FEW : sense_judge(task)) {
    case SENSE_AGAIN:
        if (++io->in.tries % 16 == 0)
            ds_delay(b, io, 1000);
        else
            ds_requeue(b, io);
        break;
    case SENSE_WAIT:
        answer_wait(l, io, task);
        break;
    case SENSE_FEW:
        answer_few(l, io, task);
        break;
    case SENSE_SESSION:
        sense_words(task, words, sizeof words);
        why_set(&why, 0, "disk %s: LUN %d of %s: %s; %s", b->name, l->target.lun, l->target.iqn, words,
                sense_advice(task));
        iscsi_session_drop(s, true, &why);
        ds_requeue(b, io);
    }
    lun_pump(b);
}

/* ---- sessions come and go ---- */

static void on_known(void *arg, struct iscsi_session *s, const struct datastore_info *info)
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
    now.max_zero_bytes = now.max_io_bytes;
    now.read_only = true;
    why_set(&b->locked, 0, "LUNs are not written yet");
    ds_trouble_clear(b);
    ds_known(b, &now);
    lun_pump(b);
}

static void on_down(void *arg, struct iscsi_session *s, bool refused, const struct why *why,
                    struct datastore_ios *issued)
{
    struct lun *l = arg;
    struct ds_base *b = &l->b;
    bool any = false;

    (void)s;
    metric_add(b->numbers.reconnects, 1);
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
    struct iscsi_session_events events = {.known = on_known, .down = on_down, .answer = on_answer, .arg = l};

    l->sessions[l->nsessions] = iscsi_session_new(l->b.loop, &l->target, l->nsessions, &events);
    l->nsessions++;
}

static void lun_destroy(struct ds_base *b)
{
    struct lun *l = of(b);

    clear_target(&l->target);
    free(l);
}

static int lun_open(struct datastore **d, struct loop *loop, const struct datastore_conf *conf,
                    const struct datastore_events *events, struct why *why)
{
    struct lun *l = xcalloc(1, sizeof *l);
    unsigned sessions = conf->sessions ? conf->sessions : SESSIONS_DEFAULT;
    int err = set_target(&l->target, conf->url, why);

    if (err) {
        clear_target(&l->target);
        free(l);
        return err;
    }
    ds_init(&l->b, &datastore_iscsi, loop, conf, events);
    l->b.pump = lun_pump;
    l->b.destroy = lun_destroy;
    l->target.disk = l->b.name;
    l->window = WINDOW_MAX;
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
    ds_take_back(&l->b, &issued);
    ds_close(&l->b);
}

const struct datastore_ops datastore_iscsi = {
    .scheme = "iscsi",
    .open = lun_open,
    .submit = ds_submit,
    .generation = ds_generation,
    .hold = ds_hold_nothing,
    .held = ds_holds_nothing,
    .info = ds_info,
    .trouble = ds_trouble,
    .close = lun_close,
};
