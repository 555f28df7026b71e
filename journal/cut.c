/* journal/cut.c - see cut.h.
 */
#include "cut.h"
#include "check.h"
#include "extents.h"
#include "impl.h"
#include "log.h"
#include "mem.h"
#include "record.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

static const char part[] = "journal";

/* Extents in one turn of the loop: noted for a cut, or taken out of the index. */
enum { OPEN_SLICE = 1024, CLOSE_SLICE = 2048 };

uint64_t cut_pending_since_ns(const struct vmlog *log)
{
    return log->oldest_ns;
}

static uint64_t cost_of(const struct vmlog *log)
{
    uint64_t cost = 0;

    for (int i = 0; i < VMLOG_DISKS; i++)
        if (log->disks[i])
            cost += extents_cost(log->disks[i]);
    return cost;
}

uint64_t cut_pending_bytes(const struct vmlog *log)
{
    return cost_of(log);
}

/* --- opening --------------------------------------------------------------------------------------------*/

struct gathering {
    struct cut *cut;
    uint8_t disk;
};

static void gather(void *arg, const struct extents_one *e)
{
    struct gathering *g = arg;
    struct cut *c = g->cut;

    if (e->seq > c->seq)
        return;
    if (c->n == c->in.room) {
        c->in.room = c->in.room * 2 + 256;
        c->extents = xrealloc(c->extents, c->in.room * sizeof *c->extents);
    }
    c->extents[c->n++] = (struct cut_extent){.seq = e->seq,
                                             .lba = e->lba,
                                             .nsectors = e->nsectors,
                                             .offset = e->offset,
                                             .disk = g->disk,
                                             .zero = e->type == RECORD_ZERO};
}

/* What the cut has not gathered there yet it takes now. */
void cut_save(struct vmlog *log, uint8_t disk, uint64_t lba, uint32_t nsectors)
{
    struct cut *c = log->gathering;
    struct gathering g = {c, disk};

    if (!c || !log->disks[disk] || disk < c->in.disk || (disk == c->in.disk && lba + nsectors <= c->in.lba))
        return;
    if (disk == c->in.disk && lba < c->in.lba) {
        nsectors -= (uint32_t)(c->in.lba - lba);
        lba = c->in.lba;
    }
    extents_each(log->disks[disk], lba, lba + nsectors, UINT_MAX, gather, &g);
}

static void on_gather(struct task *t)
{
    struct cut *c = container_of(t, struct cut, in.task);
    struct vmlog *log = c->in.log;
    struct gathering g = {.cut = c};

    while (c->in.disk < VMLOG_DISKS && !log->disks[c->in.disk])
        c->in.disk++;
    if (c->in.disk == VMLOG_DISKS) {
        log->gathering = NULL;
        c->in.opened(c);
        return;
    }
    g.disk = (uint8_t)c->in.disk;
    c->in.lba = extents_each(log->disks[g.disk], c->in.lba, UINT64_MAX, OPEN_SLICE, gather, &g);
    if (c->in.lba == UINT64_MAX) {
        c->in.lba = 0;
        c->in.disk++;
    }
    loop_post(log->loop, t);
}

void cut_open(struct cut *c, struct vmlog *log, void (*opened)(struct cut *))
{
    CHECK(loop_is_current(log->loop) && !log->frozen && log->last > 0);
    vmlog_dead_submit(log);
    *c = (struct cut){.seq = log->last, .oldest_ns = log->oldest_ns};
    c->in.log = log;
    c->in.opened = opened;
    log->gathering = c;
    log->frozen = log->last;
    log->oldest_ns = 0;
    log->out++;
    c->in.task.run = on_gather;
    loop_post(log->loop, &c->in.task);
}

static int extent_order(const void *a, const void *b)
{
    const struct cut_extent *x = a, *y = b;

    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    return x->lba < y->lba ? -1 : x->lba > y->lba;
}

void cut_sort(struct cut *c)
{
    if (c->n)
        qsort(c->extents, c->n, sizeof *c->extents, extent_order);
}

/* An extent begins and ends in the midst of a part, perhaps. */
enum { READ_PIECES = CUT_READ_SECTORS / PART_SECTORS + 2 * CUT_READ_EXTENTS };

static unsigned pieces_of(const struct cut_extent *e, struct vmlog_piece *pieces, uint8_t **to, uint8_t *out)
{
    unsigned n = 0;

    for (uint32_t at = 0; at < e->nsectors; n++) {
        uint32_t from = e->offset + at, room = PART_SECTORS - from % PART_SECTORS;
        uint32_t take = e->nsectors - at < room ? e->nsectors - at : room;

        pieces[n] = (struct vmlog_piece){.kind = PIECE_DATA,
                                         .lba = e->lba + at,
                                         .nsectors = take,
                                         .seq = e->seq,
                                         .part = from / PART_SECTORS,
                                         .part_sector = from % PART_SECTORS};
        to[n] = out + (size_t)at * SECTOR;
        at += take;
    }
    return n;
}

int cut_read(const struct cut *c, const struct cut_extent *e, unsigned n, uint8_t *out)
{
    struct vmlog_piece pieces[READ_PIECES];
    uint8_t *to[READ_PIECES];
    struct vmlog *log = c->in.log;
    unsigned npieces = 0, failed = 0;
    uint32_t sectors = 0;
    int err;

    CHECK(n <= CUT_READ_EXTENTS);
    for (unsigned i = 0; i < n; i++) {
        CHECK(!e[i].zero && e[i].nsectors <= CUT_READ_SECTORS - sectors);
        npieces += pieces_of(&e[i], pieces + npieces, to + npieces, out + (size_t)sectors * SECTOR);
        sectors += e[i].nsectors;
    }
    err = fetch_pieces(log, pieces, to, npieces, &failed);
    if (err == -ENOENT) /* it is held: it must be there */
        err = -EBADMSG;
    if (err == -EBADMSG) {
        metric_add(log->journal->m_corrupt, 1);
        log_error(log->vm, "record %" PRIu64 " part %u in the journal at %s is altered or missing",
                  pieces[failed].seq, pieces[failed].part, log->journal->path);
    }
    return err;
}

/* --- closing --------------------------------------------------------------------------------------------*/

static void push_range(struct vmlog *log, uint64_t through)
{
    struct dead_keys *d = vmlog_dead_new(log);

    d->through = through;
    journal_dead_push(log->journal, d);
}

/* What was held goes now; of a committed cut the range says it all, but for what is newer than the cut. */
static void release_held(struct vmlog *log)
{
    struct dead_keys *d;

    vmlog_dead_submit(log);
    log->frozen = 0;
    while ((d = STAILQ_FIRST(&log->held))) {
        STAILQ_REMOVE_HEAD(&log->held, entry);
        journal_dead_push(log->journal, d);
    }
    if (log->held_bytes)
        space_give(log->journal, log->held_bytes);
    log->held_bytes = 0;
}

static void finish(struct cut *c)
{
    struct vmlog *log = c->in.log;

    free(c->extents);
    c->extents = NULL;
    c->n = 0;
    log->out--;
    c->in.closed(c);
}

static void on_abandoned(struct task *t)
{
    finish(container_of(t, struct cut, in.task));
}

static void on_slice(struct task *t)
{
    struct cut *c = container_of(t, struct cut, in.task);
    struct vmlog *log = c->in.log;
    uint64_t before = cost_of(log), after;

    for (unsigned i = 0; i < CLOSE_SLICE && c->in.at < c->n; i++, c->in.at++) {
        const struct cut_extent *e = &c->extents[c->in.at];

        extents_forget(log->disks[e->disk], e->seq, e->lba, e->nsectors);
    }
    after = cost_of(log);
    if (before > after)
        space_give(log->journal, before - after);
    if (c->in.at < c->n) {
        loop_post(log->loop, &c->in.task);
        return;
    }
    release_held(log);
    push_range(log, c->seq);
    finish(c);
}

void cut_close(struct cut *c, bool committed, void (*closed)(struct cut *))
{
    struct vmlog *log = c->in.log;

    c->in.closed = closed;
    c->in.at = 0;
    if (committed) {
        /* From here on what dies of these records is covered by the range that is deleted at the end. */
        log->trimmed = c->seq;
        c->in.task.run = on_slice;
    } else {
        release_held(log);
        if (!log->oldest_ns || c->oldest_ns < log->oldest_ns)
            log->oldest_ns = c->oldest_ns;
        c->in.task.run = on_abandoned;
    }
    loop_post(log->loop, &c->in.task);
}

void cut_resume(struct vmlog *log, uint64_t seq)
{
    uint64_t before = cost_of(log), left = 0;

    CHECK(log->out == 0);
    if (seq == 0)
        return;
    log->trimmed = seq;
    for (int i = 0; i < VMLOG_DISKS; i++)
        if (log->disks[i]) {
            extents_forget_through(log->disks[i], seq);
            left += extents_records(log->disks[i]);
        }
    space_give(log->journal, before - cost_of(log));
    push_range(log, seq);
    if (log->last < seq)
        log->last = log->numbered = seq;
    if (left == 0)
        log->oldest_ns = 0;
}

void vmlog_forget(struct vmlog *log, uint64_t through)
{
    uint64_t before = cost_of(log);

    CHECK(!log->frozen && through <= log->last);
    if (through <= log->trimmed)
        return;
    log->trimmed = through;
    for (int i = 0; i < VMLOG_DISKS; i++)
        if (log->disks[i])
            extents_forget_through(log->disks[i], through);
    space_give(log->journal, before - cost_of(log));
    push_range(log, through);
}

void cut_reclaim(struct vmlog *log)
{
    struct journal *j = log->journal;
    uint8_t from[RECORD_KEY_BYTES], to[RECORD_KEY_BYTES];

    record_key(from, log->id, 0);
    record_key(to, log->id, log->trimmed + 1);
    pthread_rwlock_rdlock(&j->db_lock);
    j->kv->ops->trim(j->kv, KV_DATA, from, sizeof from, to, sizeof to);
    pthread_rwlock_unlock(&j->db_lock);
}
