/* initiator/serve.c - the link's requests and the sources' answers; see serve.h.
 *
 * Every request is a small struct until link_reply() takes it. What an edge can make wait is bounded: reads
 * by source.h, DISK_STAT by STATS_MAX. What is written is writeback.h's.
 */
#include "serve.h"

#include "check.h"
#include "log.h"
#include "mem.h"
#include "proto.h"
#include "source.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "serve";

enum { STAT_WAIT_MS = 10000, STATS_MAX = 1024, PEERS_MAX = 64 };

struct disk {
    TAILQ_ENTRY(disk) entry;
    struct serve *serve;
    struct source *source;
    char *name;
    bool refused; /* the datastore has said no, definitely; cleared when it opens */
    TAILQ_HEAD(, stat_wait) stats;
};

/* A DISK_STAT that waits for the datastore to open. */
struct stat_wait {
    TAILQ_ENTRY(stat_wait) entry;
    struct disk *disk;
    struct link_request *request;
    struct timer timer;
};

struct disk_read {
    struct source_read read;
    struct serve *serve;
    struct link_request *request;
};

struct serve {
    struct loop *loop;
    struct source_budget budget;
    bool thorough; /* compression */
    struct writeback *writeback;
    TAILQ_HEAD(, disk) disks;
    unsigned nstats, nclosing;
    struct peer *peers[PEERS_MAX]; /* that are up */
    unsigned npeers;
    void (*done)(void *arg);
    void *arg;
    struct task task;
};

static void refuse(struct link_request *r, int status, const char *why)
{
    link_reply(&r, status, why, NULL, 0);
}

static void reply_buf(struct link_request *r, struct buf *b)
{
    struct iovec iov = {.iov_base = b->data, .iov_len = b->len};

    link_reply(&r, 0, NULL, &iov, 1);
    buf_unref(&b);
}

static struct disk *find_disk(const struct serve *s, const char *name)
{
    struct disk *d;

    TAILQ_FOREACH (d, &s->disks, entry) {
        if (strcmp(d->name, name) == 0)
            return d;
    }
    return NULL;
}

static void refuse_unknown(struct link_request *r, const char *name)
{
    struct why why;

    why_set(&why, 0, "no disk '%s' in the configuration of isthmus-onprem", name);
    log_warn(peer_name(r->peer), "%s", why.text);
    refuse(r, -ENOENT, why.text);
}

/* ---- DISK_STAT ---- */

static struct buf *stat_of(const struct disk *d)
{
    const struct datastore_info *info = source_info(d->source);
    struct proto_stat stat = {
        .bytes = info->bytes, .block_bytes = info->block_bytes, .read_only = info->read_only};

    snprintf(stat.name, sizeof stat.name, "%s", d->name);
    memcpy(stat.identity, info->identity, sizeof stat.identity);
    return proto_put_stat(&stat);
}

static void refuse_trouble(struct link_request *r, const struct disk *d)
{
    const struct why *trouble = source_trouble(d->source);

    refuse(r, -EAGAIN, trouble ? trouble->text : "the datastore is still connecting");
}

static void end_wait(struct stat_wait *w)
{
    TAILQ_REMOVE(&w->disk->stats, w, entry);
    w->disk->serve->nstats--;
    timer_free(&w->timer);
    free(w);
}

static void on_stat_late(struct timer *t)
{
    struct stat_wait *w = container_of(t, struct stat_wait, timer);

    refuse_trouble(w->request, w->disk);
    end_wait(w);
}

static void wait_stat(struct disk *d, struct link_request *r)
{
    struct stat_wait *w = xcalloc(1, sizeof *w);

    w->disk = d;
    w->request = r;
    timer_init(&w->timer, d->serve->loop, on_stat_late);
    timer_set_ms(&w->timer, STAT_WAIT_MS);
    TAILQ_INSERT_TAIL(&d->stats, w, entry);
    d->serve->nstats++;
}

static void on_stat(struct serve *s, struct link_request *r)
{
    char name[PROTO_NAME_MAX + 1];
    struct disk *d;

    if (proto_get_stat_call(r->body, r->len, name) != 0) {
        refuse(r, -EBADMSG, "a DISK_STAT that does not follow the protocol");
        return;
    }
    d = find_disk(s, name);
    if (!d)
        refuse_unknown(r, name);
    else if (source_info(d->source))
        reply_buf(r, stat_of(d));
    else if (d->refused || s->nstats >= STATS_MAX)
        refuse_trouble(r, d);
    else
        wait_stat(d, r);
}

/* ---- DISK_READ ---- */

static void on_read_done(struct source_read *read, int status, const struct why *why, const uint8_t *data)
{
    struct disk_read *dr = container_of(read, struct disk_read, read);

    if (status == 0)
        reply_buf(dr->request, runs_encode(data, read->bytes, dr->serve->thorough));
    else
        refuse(dr->request, status == -ECANCELED ? -ENOENT : status, why->text);
    free(dr);
}

static void on_read(struct serve *s, struct link_request *r)
{
    struct proto_read call;
    struct disk_read *dr;
    struct disk *d;

    if (proto_get_read(r->body, r->len, &call) != 0 || call.offset % PROTO_BLOCK ||
        call.bytes % PROTO_BLOCK || call.bytes == 0 || call.bytes > PROTO_READ_MAX) {
        refuse(r, -EBADMSG, "a DISK_READ that does not follow the protocol");
        return;
    }
    d = find_disk(s, call.name);
    if (!d) {
        refuse_unknown(r, call.name);
        return;
    }
    dr = xcalloc(1, sizeof *dr);
    dr->serve = s;
    dr->request = r;
    dr->read = (struct source_read){
        .offset = call.offset, .bytes = call.bytes, .class = r->class, .done = on_read_done};
    source_read(d->source, &dr->read);
}

/* ---- the link ---- */

static void on_request(void *arg, struct link_request *r)
{
    struct serve *s = arg;

    switch (r->type) {
    case PROTO_DISK_STAT:
        on_stat(s, r);
        break;
    case PROTO_DISK_READ:
        on_read(s, r);
        break;
    default:
        if (s->writeback && writeback_request(s->writeback, r))
            break;
        refuse(r, -ENOSYS, "isthmus-onprem does not know this request; it may be older than the edge");
    }
}

static void on_notice(void *arg, struct peer *p, uint8_t type, const uint8_t *body, uint32_t len)
{
    (void)arg;
    (void)body;
    log_debug(peer_name(p), "notice of type %u and %u bytes means nothing here", type, len);
}

static void on_peer_state(void *arg, struct peer *p, bool up)
{
    struct serve *s = arg;
    unsigned i = 0;

    log_info(peer_name(p), "edge %s", up ? "connected" : "disconnected");
    while (i < s->npeers && s->peers[i] != p)
        i++;
    if (up && i == s->npeers && i < PEERS_MAX)
        s->peers[s->npeers++] = p;
    if (!up && i < s->npeers)
        s->peers[i] = s->peers[--s->npeers];
}

struct link_handlers serve_handlers(struct serve *s)
{
    return (struct link_handlers){
        .request = on_request, .notice = on_notice, .peer_state = on_peer_state, .arg = s};
}

/* ---- disks ---- */

static void on_opened(void *arg, struct source *source, int status, const struct why *why)
{
    struct disk *d = arg;
    struct stat_wait *w;

    (void)source;
    d->refused = status != 0;
    while ((w = TAILQ_FIRST(&d->stats))) {
        if (status == 0)
            reply_buf(w->request, stat_of(d));
        else
            refuse(w->request, -EAGAIN, why->text);
        end_wait(w);
    }
    if (status == 0 && d->serve->writeback)
        writeback_disk_up(d->serve->writeback, d->name);
}

static void on_taken(void *arg, struct source *source, const struct why *why)
{
    struct disk *d = arg;

    (void)source;
    if (d->serve->writeback)
        writeback_disk_taken(d->serve->writeback, d->name, why);
}

static void on_resized(void *arg, struct source *source)
{
    struct disk *d = arg;
    struct serve *s = d->serve;
    struct buf *b = stat_of(d);

    (void)source;
    for (unsigned i = 0; i < s->npeers; i++)
        link_notice(s->peers[i], PROTO_DISK_CHANGED, b->data, b->len);
    buf_unref(&b);
    if (s->writeback)
        writeback_disk_up(s->writeback, d->name);
}

static void end(struct task *t)
{
    struct serve *s = container_of(t, struct serve, task);

    s->done(s->arg);
    free(s);
}

static void on_gone(void *arg, struct source *source)
{
    struct disk *d = arg;
    struct serve *s = d->serve;

    (void)source;
    free(d->name);
    free(d);
    if (--s->nclosing == 0 && s->done)
        loop_post(s->loop, &s->task);
}

int serve_add(struct serve *s, const struct datastore_conf *conf, struct why *why)
{
    struct disk *d;
    int err;

    if (!proto_name_ok(conf->name))
        return why_set(why, -EINVAL, "'%s' cannot be a disk's name: letters, digits, '.', '_' and '-'",
                       conf->name);
    if (find_disk(s, conf->name))
        return why_set(why, -EEXIST, "there are two disks called '%s'", conf->name);
    d = xcalloc(1, sizeof *d);
    d->serve = s;
    d->name = xstrdup(conf->name);
    TAILQ_INIT(&d->stats);
    err = source_open(
        &d->source, s->loop, &s->budget, conf,
        &(struct source_events){
            .opened = on_opened, .resized = on_resized, .taken = on_taken, .gone = on_gone, .arg = d},
        why);
    if (err) {
        free(d->name);
        free(d);
        return err;
    }
    TAILQ_INSERT_TAIL(&s->disks, d, entry);
    return 0;
}

static void close_disk(struct serve *s, struct disk *d)
{
    struct stat_wait *w;

    while ((w = TAILQ_FIRST(&d->stats))) {
        refuse(w->request, -ENOENT, "the disk is no longer served");
        end_wait(w);
    }
    TAILQ_REMOVE(&s->disks, d, entry);
    if (s->writeback)
        writeback_disk_gone(s->writeback, d->name);
    s->nclosing++;
    source_close(&d->source);
}

int serve_remove(struct serve *s, const char *name)
{
    struct disk *d = find_disk(s, name);

    if (!d)
        return -ENOENT;
    log_info(name, "no longer served");
    close_disk(s, d);
    return 0;
}

bool serve_has(const struct serve *s, const char *name)
{
    return find_disk(s, name);
}

void serve_each(struct serve *s, void (*each)(void *arg, const char *name), void *arg)
{
    struct disk *d = TAILQ_FIRST(&s->disks), *next;

    for (; d; d = next) {
        next = TAILQ_NEXT(d, entry);
        each(arg, d->name);
    }
}

struct serve *serve_new(struct loop *loop, uint64_t budget_bytes, bool thorough)
{
    struct serve *s = xcalloc(1, sizeof *s);

    s->loop = loop;
    s->thorough = thorough;
    source_budget_init(&s->budget, budget_bytes);
    TAILQ_INIT(&s->disks);
    s->task.run = end;
    return s;
}

static struct source *find_source(void *arg, const char *name)
{
    struct disk *d = find_disk(arg, name);

    return d ? d->source : NULL;
}

struct wb_disks serve_disks(struct serve *s)
{
    return (struct wb_disks){.find = find_source, .arg = s};
}

void serve_writeback(struct serve *s, struct writeback *wb)
{
    s->writeback = wb;
}

void serve_close(struct serve **serve, void (*done)(void *arg), void *arg)
{
    struct serve *s = *serve;
    struct disk *d;

    *serve = NULL;
    s->npeers = 0;
    s->writeback = NULL;
    s->nclosing++; /* our own hold: disks removed before may still be going */
    s->done = done;
    s->arg = arg;
    while ((d = TAILQ_FIRST(&s->disks)))
        close_disk(s, d);
    if (--s->nclosing == 0)
        loop_post(s->loop, &s->task);
}
