/* initiator/source.c - coalesces the edges' reads into large ones of the datastore; see source.h.
 *
 * A read waits in its class's line (first come, first served) and in a tree by offset. A fetch starts with
 * the first in line and takes in its neighbours from the tree as far as they touch. A read that a fetch in
 * flight covers already joins that fetch. Loop thread. Not a cache: nothing is kept once it is answered.
 */
#include "source_impl.h"

#include "check.h"
#include "mem.h"
#include "proto.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum {
    DEMAND_TAIL_MAX = 256 << 10, /* how far a demand fetch grows for background reads */
    FETCHES_MAX = 16,            /* in flight per disk */
    BACKGROUND_MAX = 8,          /* of which background */
    WAITING_MAX = 4096,          /* reads in line per disk */
};

/* One large read of the datastore, in as many pieces as its longest I/O asks for. */
struct fetch {
    TAILQ_ENTRY(fetch) entry;
    struct source *source;
    enum line line;
    uint64_t start, end; /* end may lie beyond the disk's: padding */
    struct reads reads;
    uint8_t *data;
    unsigned pending; /* pieces not read yet */
    bool alone;
    int status;
    struct why why;
    struct piece {
        struct datastore_io io;
        struct fetch *fetch;
    } piece[];
};

static int compare(const struct source_read *a, const struct source_read *b)
{
    if (a->offset != b->offset)
        return a->offset < b->offset ? -1 : 1;
    return a->in.number < b->in.number ? -1 : a->in.number > b->in.number;
}

/* libbsd's _STATIC variants need its __unused. */
RB_PROTOTYPE_INTERNAL(read_tree, source_read, in.node, compare, static __attribute__((unused)))
RB_GENERATE_INTERNAL(read_tree, source_read, in.node, compare, static __attribute__((unused)))

static void post(struct source *s)
{
    if (!s->posted) {
        s->posted = true;
        loop_post(s->loop, &s->task);
    }
}

/* ---- waiting ---- */

static enum line line_of(const struct source_read *r)
{
    return r->class == LINK_DEMAND || r->class == LINK_CONTROL ? DEMAND : BACKGROUND;
}

static void wait_in_line(struct source *s, struct source_read *r, bool first)
{
    struct reads *line = &s->lines[line_of(r)];

    if (first)
        TAILQ_INSERT_HEAD(line, r, in.entry);
    else
        TAILQ_INSERT_TAIL(line, r, in.entry);
    RB_INSERT(read_tree, &s->tree, r);
    s->nwaiting++;
}

static void leave_line(struct source *s, struct source_read *r)
{
    TAILQ_REMOVE(&s->lines[line_of(r)], r, in.entry);
    RB_REMOVE(read_tree, &s->tree, r);
    s->nwaiting--;
}

static void refuse(struct source *s, struct source_read *r, int status)
{
    r->in.number = (uint64_t)-status;
    TAILQ_INSERT_TAIL(&s->refused, r, in.entry);
    post(s);
}

static void answer_refused(struct source *s, struct source_read *r)
{
    int status = -(int)r->in.number;
    const struct datastore_info *info = s->ds ? s->ds->ops->info(s->ds) : NULL;
    struct why why;

    if (status == -ECANCELED)
        why_set(&why, 0, "disk %s is no longer served", s->name);
    else if (status == -EAGAIN)
        why_set(&why, 0, "disk %s: %u reads are waiting already", s->name, (unsigned)WAITING_MAX);
    else
        why_set(&why, 0, "disk %s has %llu bytes: there are no %u bytes at %llu", s->name,
                info ? (unsigned long long)info->bytes : 0, r->bytes, (unsigned long long)r->offset);
    r->done(r, status, &why, NULL);
}

static uint64_t padded(uint64_t bytes)
{
    return (bytes + PROTO_BLOCK - 1) / PROTO_BLOCK * PROTO_BLOCK;
}

static bool fits(const struct source *s, const struct source_read *r)
{
    uint64_t end = padded(s->ds->ops->info(s->ds)->bytes);

    return r->offset <= end && r->bytes <= end - r->offset;
}

/* ---- fetching ---- */

static void take(struct fetch *f, struct source_read *r)
{
    leave_line(f->source, r);
    TAILQ_INSERT_TAIL(&f->reads, r, in.entry);
    if (r->offset < f->start)
        f->start = r->offset;
    if (r->offset + r->bytes > f->end)
        f->end = r->offset + r->bytes;
}

/* May the fetch grow so as to cover r too? */
static bool takes(const struct fetch *f, const struct source_read *r)
{
    uint64_t start = r->offset < f->start ? r->offset : f->start;
    uint64_t end = r->offset + r->bytes > f->end ? r->offset + r->bytes : f->end;
    uint64_t most = f->line == DEMAND && line_of(r) == BACKGROUND ? DEMAND_TAIL_MAX : FETCH_MAX;
    bool touches = r->offset <= f->end && r->offset + r->bytes >= f->start;

    return touches && !r->in.alone && fits(f->source, r) &&
           (end - start <= most || end - start == f->end - f->start);
}

/* From the tree by offset: upwards from the first read, then downwards. */
static void grow(struct fetch *f, struct source_read *first)
{
    struct source_read *up = RB_NEXT(read_tree, &f->source->tree, first);
    struct source_read *down = RB_PREV(read_tree, &f->source->tree, first), *next;

    take(f, first);
    if (first->in.alone)
        return;
    for (; up && up->offset <= f->end; up = next) {
        next = RB_NEXT(read_tree, &f->source->tree, up);
        if (takes(f, up))
            take(f, up);
    }
    for (; down; down = next) {
        next = RB_PREV(read_tree, &f->source->tree, down);
        if (!takes(f, down))
            break;
        take(f, down);
    }
}

static void on_piece(struct datastore_io *io);

static void start_pieces(struct fetch *f)
{
    struct source *s = f->source;
    const struct datastore_info *info = s->ds->ops->info(s->ds);
    uint64_t end = f->end < info->bytes ? f->end : info->bytes;
    unsigned n = 0;

    memset(f->data + (end - f->start), 0, f->end - end);
    for (uint64_t at = f->start; at < end; at += info->max_io_bytes, n++) {
        uint64_t bytes = end - at < info->max_io_bytes ? end - at : info->max_io_bytes;
        f->piece[n].fetch = f;
        f->piece[n].io = (struct datastore_io){
            .offset = at, .len = (uint32_t)bytes, .data = f->data + (at - f->start), .done = on_piece};
    }
    f->pending = n;
    for (unsigned i = 0; i < n; i++) /* no piece ends before the last is asked for */
        s->ds->ops->submit(s->ds, &f->piece[i].io);
}

static bool start_fetch(struct source *s, enum line line)
{
    struct source_read *first = TAILQ_FIRST(&s->lines[line]);
    uint32_t piece = s->ds->ops->info(s->ds)->max_io_bytes;
    struct fetch *f;

    if (!fits(s, first)) {
        leave_line(s, first);
        refuse(s, first, -EINVAL);
        return true;
    }
    if (!source_budget_take(s, FETCH_MAX))
        return false;
    f = xcalloc(1, sizeof *f + (FETCH_MAX / piece + 1) * sizeof f->piece[0]);
    f->source = s;
    f->line = line;
    f->start = first->offset;
    f->end = first->offset + first->bytes;
    f->alone = first->in.alone;
    TAILQ_INIT(&f->reads);
    grow(f, first);
    f->data = xmalloc(f->end - f->start);
    s->budget->used -= FETCH_MAX - (f->end - f->start);
    TAILQ_INSERT_TAIL(&s->fetches, f, entry);
    s->nfetches[line]++;
    start_pieces(f);
    return true;
}

/* Demand first; background only below its own bound, so that demand always finds a place. */
void source_pump(struct source *s)
{
    bool going = !s->closing && s->ds->ops->info(s->ds);

    while (going && s->nfetches[DEMAND] + s->nfetches[BACKGROUND] < FETCHES_MAX) {
        if (!TAILQ_EMPTY(&s->lines[DEMAND]))
            going = start_fetch(s, DEMAND);
        else if (!TAILQ_EMPTY(&s->lines[BACKGROUND]) && s->nfetches[BACKGROUND] < BACKGROUND_MAX)
            going = start_fetch(s, BACKGROUND);
        else
            going = false;
    }
}

static void answer(struct fetch *f, struct source_read *r)
{
    struct source *s = f->source;

    if (f->status == 0) {
        metric_add(s->reply_bytes, r->bytes);
        r->done(r, 0, NULL, f->data + (r->offset - f->start));
    } else {
        r->done(r, f->status, &f->why, NULL);
    }
}

static void end_fetch(struct fetch *f)
{
    struct source *s = f->source;
    struct source_budget *budget = s->budget;
    uint64_t bytes = f->end - f->start;
    bool shared = TAILQ_FIRST(&f->reads) != TAILQ_LAST(&f->reads, reads);
    struct source_read *r;

    TAILQ_REMOVE(&s->fetches, f, entry);
    s->nfetches[f->line]--;
    if (f->status == 0)
        metric_add(s->raw_bytes, bytes);
    while ((r = TAILQ_LAST(&f->reads, reads))) {
        if (!f->status || f->status == -ECANCELED || !shared || s->closing)
            break;
        TAILQ_REMOVE(&f->reads, r, in.entry); /* the one that is at fault must not take others with it */
        r->in.alone = true;
        wait_in_line(s, r, true);
    }
    while ((r = TAILQ_FIRST(&f->reads))) {
        TAILQ_REMOVE(&f->reads, r, in.entry);
        answer(f, r);
    }
    free(f->data);
    free(f);
    source_pump(s);
    if (s->closing)
        post(s);
    source_budget_give(budget, bytes);
}

static void on_piece(struct datastore_io *io)
{
    struct fetch *f = container_of(io, struct piece, io)->fetch;

    if (io->status && f->status == 0) {
        f->status = io->status;
        f->why = io->why;
    }
    if (--f->pending == 0)
        end_fetch(f);
}

/* A fetch in flight that covers r already: r is answered with it. */
static bool join(struct source *s, struct source_read *r)
{
    struct fetch *f;

    TAILQ_FOREACH (f, &s->fetches, entry) {
        if (!f->alone && r->offset >= f->start && r->offset + r->bytes <= f->end) {
            TAILQ_INSERT_TAIL(&f->reads, r, in.entry);
            return true;
        }
    }
    return false;
}

void source_read(struct source *s, struct source_read *r)
{
    CHECK(r->bytes > 0 && r->bytes <= FETCH_MAX && r->offset % PROTO_BLOCK == 0 &&
          r->bytes % PROTO_BLOCK == 0);
    metric_add(s->requests[line_of(r)], 1);
    memset(&r->in, 0, sizeof r->in);
    r->in.number = s->numbers++;
    if (s->closing)
        refuse(s, r, -ECANCELED);
    else if (r->offset > UINT64_MAX - r->bytes - FETCH_MAX)
        refuse(s, r, -EINVAL);
    else if (join(s, r))
        return;
    else if (s->nwaiting >= WAITING_MAX)
        refuse(s, r, -EAGAIN);
    else
        wait_in_line(s, r, false);
    post(s); /* from the task: what is asked for in one turn of the loop is fetched together */
}

static void source_free(struct source *s)
{
    struct source_events events = s->events;

    events.gone(events.arg, s);
    for (int i = 0; i < LINES; i++)
        metric_free(&s->requests[i]);
    metric_free(&s->reply_bytes);
    metric_free(&s->raw_bytes);
    free(s->name);
    free(s);
}

static void run_task(struct task *t)
{
    struct source *s = container_of(t, struct source, task);
    struct source_read *r;

    while ((r = TAILQ_FIRST(&s->refused))) {
        TAILQ_REMOVE(&s->refused, r, in.entry);
        answer_refused(s, r);
    }
    s->posted = false;
    source_pump(s);
    if (!TAILQ_EMPTY(&s->refused))
        post(s);
    else if (s->closing && !s->posted && TAILQ_EMPTY(&s->fetches))
        source_free(s);
}

static void on_opened(void *arg, int status, const struct why *why)
{
    struct source *s = arg;

    s->events.opened(s->events.arg, s, status, why);
    source_pump(s);
}

static void on_resized(void *arg, const struct datastore_info *info)
{
    struct source *s = arg;

    (void)info;
    s->events.resized(s->events.arg, s);
}

static void on_taken(void *arg, const struct why *why)
{
    struct source *s = arg;

    if (s->events.taken)
        s->events.taken(s->events.arg, s, why);
}

static void make_metrics(struct source *s)
{
    static const char *const classes[] = {"demand", "background"};

    for (int i = 0; i < LINES; i++)
        s->requests[i] =
            metric_new(METRIC_COUNTER, "isthmus_source_requests_total", "Reads that edges asked for.",
                       "disk=\"%s\",class=\"%s\"", s->name, classes[i]);
    s->reply_bytes =
        metric_new(METRIC_COUNTER, "isthmus_source_reply_bytes_total",
                   "Bytes of disk that were answered to edges, before encoding.", "disk=\"%s\"", s->name);
    s->raw_bytes = metric_new(METRIC_COUNTER, "isthmus_source_raw_bytes_total",
                              "Bytes of disk that were fetched to answer edges.", "disk=\"%s\"", s->name);
}

int source_open(struct source **source, struct loop *loop, struct source_budget *budget,
                const struct datastore_conf *conf, const struct source_events *events, struct why *why)
{
    struct source *s = xcalloc(1, sizeof *s);
    struct datastore_events ds_events = {
        .opened = on_opened, .resized = on_resized, .taken = on_taken, .arg = s};
    int err = datastore_open(&s->ds, loop, conf, &ds_events, why);

    if (err) {
        free(s);
        return err;
    }
    s->loop = loop;
    s->name = xstrdup(conf->name);
    s->budget = budget;
    s->events = *events;
    for (int i = 0; i < LINES; i++)
        TAILQ_INIT(&s->lines[i]);
    RB_INIT(&s->tree);
    TAILQ_INIT(&s->fetches);
    TAILQ_INIT(&s->refused);
    s->task.run = run_task;
    make_metrics(s);
    *source = s;
    return 0;
}

void source_close(struct source **source)
{
    struct source *s = *source;
    struct source_read *r;

    *source = NULL;
    s->closing = true;
    source_budget_leave(s);
    for (int i = 0; i < LINES; i++) {
        while ((r = TAILQ_FIRST(&s->lines[i]))) {
            leave_line(s, r);
            refuse(s, r, -ECANCELED);
        }
    }
    datastore_close(&s->ds);
    post(s);
}

struct datastore *source_datastore(const struct source *s)
{
    return s->ds;
}

const char *source_name(const struct source *s)
{
    return s->name;
}

const struct datastore_info *source_info(const struct source *s)
{
    return s->ds ? s->ds->ops->info(s->ds) : NULL;
}

const struct why *source_trouble(const struct source *s)
{
    return s->ds ? s->ds->ops->trouble(s->ds) : NULL;
}
