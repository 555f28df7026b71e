/* cache/tier_journal.c - one read: look up -> base -> overlay -> answer.
 *
 *   An overlay (overlay.h) whose data comes back from RocksDB on a pool thread (vmlog_fetch).
 *
 * A record may be superseded and removed between look-up and overlay (-ENOENT): the read starts again. What
 * is written meanwhile is not seen here; the RAM tier above lays it over (ram.h, tier_ram_written).
 */
#include "tier_journal.h"
#include "check.h"
#include "log.h"
#include "mem.h"
#include "metric.h"
#include "overlay.h"
#include "vmlog.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

static const char part[] = "journal";

struct tier_journal {
    struct tier tier;
    struct vmlog *log;
    uint8_t disk;
    char *vm;
    struct metric *hits, *misses, *read_bytes, *read_seconds;
};

struct journal_read {
    struct overlay overlay;
    struct tier_journal *tier;
    struct task again;
    uint64_t since_ns;
    struct vmlog_piece *data; /* what to fetch, each within one block, */
    uint8_t **to;             /* and where it goes */
    unsigned ndata;
    struct vmlog_fetch fetch;
    bool starting; /* still in journal_tier_read: answer through true, not done() */
    bool answered;
};

static void start(struct journal_read *r);

static void forget(struct journal_read *r)
{
    overlay_end(&r->overlay);
    free(r->data);
    free(r->to);
    r->data = NULL;
    r->to = NULL;
    r->ndata = 0;
}

static void answer(struct journal_read *r, int status)
{
    struct block_req *req = r->overlay.req;

    metric_observe_ns(r->tier->read_seconds, loop_now_ns(r->tier->tier.loop) - r->since_ns);
    req->status = status;
    if (r->starting) {
        r->answered = true;
        return;
    }
    forget(r);
    free(r);
    req->done(req);
}

static void on_again(struct task *t)
{
    start(container_of(t, struct journal_read, again));
}

static void on_fetched(struct vmlog_fetch *f)
{
    struct journal_read *r = container_of(f, struct journal_read, fetch);
    const struct block_req *req = r->overlay.req;

    if (f->status == -ENOENT) {
        forget(r);
        r->again.run = on_again;
        loop_post(r->tier->tier.loop, &r->again);
        return;
    }
    if (f->status)
        log_error(r->tier->vm, "disk %u: blocks %lu+%u cannot be read back from the journal: %s",
                  r->tier->disk, req->first, req->count, strerror(-f->status));
    answer(r, f->status ? -EIO : 0);
}

static void on_based(struct overlay *o)
{
    struct journal_read *r = container_of(o, struct journal_read, overlay);

    if (o->status) {
        answer(r, o->status);
        return;
    }
    overlay_lay_zeros(o);
    if (!r->ndata) {
        answer(r, 0);
        return;
    }
    for (unsigned i = 0; i < r->ndata; i++)
        overlay_open_block(o, r->data[i].lba);
    metric_add(r->tier->read_bytes, (uint64_t)r->ndata * BLOCK_BYTES);
    r->fetch = (struct vmlog_fetch){.pieces = r->data, .to = r->to, .n = r->ndata, .done = on_fetched};
    vmlog_fetch(r->tier->log, &r->fetch);
}

/* Cuts a piece at block boundaries. */
static void keep_data(struct journal_read *r, struct vmlog_piece p)
{
    while (p.nsectors) {
        uint32_t n = overlay_cut(p.lba, p.nsectors);

        r->to[r->ndata] = overlay_place(&r->overlay, p.lba);
        r->data[r->ndata] = p;
        r->data[r->ndata++].nsectors = n;
        p.lba += n;
        p.part_sector += n;
        p.nsectors -= n;
    }
}

static void look_up(struct journal_read *r)
{
    struct vmlog_piece pieces[64];
    uint64_t lba = r->overlay.req->first * BLOCK_SECTORS;
    uint32_t left = r->overlay.req->count * BLOCK_SECTORS, covered;

    /* At most: every sector a piece of its own. */
    r->data = xcalloc(left, sizeof *r->data);
    r->to = xcalloc(left, sizeof *r->to);
    while (left) {
        unsigned n = vmlog_pieces(r->tier->log, r->tier->disk, lba, left, pieces,
                                  sizeof pieces / sizeof *pieces, &covered);

        CHECK(covered && covered <= left);
        for (unsigned i = 0; i < n; i++)
            if (pieces[i].kind == PIECE_ABSENT)
                overlay_absent(&r->overlay, pieces[i].lba, pieces[i].nsectors);
            else if (pieces[i].kind == PIECE_ZERO)
                overlay_zero(&r->overlay, pieces[i].lba, pieces[i].nsectors);
            else
                keep_data(r, pieces[i]);
        lba += covered;
        left -= covered;
    }
}

static void start(struct journal_read *r)
{
    struct block_req *req = r->overlay.req;

    req->status = 0;
    overlay_begin(&r->overlay, &r->tier->tier, req);
    look_up(r);
    metric_add(r->ndata || r->overlay.nzero ? r->tier->hits : r->tier->misses, req->count);
    overlay_read(&r->overlay, on_based);
}

static bool journal_tier_read(struct tier *t, struct block_req *req)
{
    struct journal_read *r = xcalloc(1, sizeof *r);
    bool answered;

    r->tier = container_of(t, struct tier_journal, tier);
    r->overlay.req = req;
    r->since_ns = loop_now_ns(t->loop);
    req->tier_private = r;
    r->starting = true;
    start(r);
    r->starting = false;
    answered = r->answered;
    if (answered) {
        forget(r);
        free(r);
    }
    return answered;
}

/* Whether the sectors [from, from + BLOCK_SECTORS) are all in the log. *i: the piece that holds `from`, moved
 * on. */
static bool whole_block(const struct vmlog_piece *pieces, unsigned n, unsigned *i, uint64_t from)
{
    bool whole = true;

    while (*i < n && pieces[*i].lba < from + BLOCK_SECTORS) {
        whole &= pieces[*i].kind != PIECE_ABSENT;
        if (pieces[*i].lba + pieces[*i].nsectors > from + BLOCK_SECTORS)
            break;
        ++*i;
    }
    return whole;
}

static uint32_t journal_tier_alike(struct tier *t, uint64_t first, uint32_t count)
{
    struct tier_journal *j = container_of(t, struct tier_journal, tier);
    struct vmlog_piece pieces[64];
    uint32_t covered, alike = 1;
    unsigned i = 0, n;
    bool here;

    n = vmlog_pieces(j->log, j->disk, first * BLOCK_SECTORS, count * BLOCK_SECTORS, pieces,
                     sizeof pieces / sizeof *pieces, &covered);
    here = whole_block(pieces, n, &i, first * BLOCK_SECTORS);
    while (alike < covered / BLOCK_SECTORS &&
           whole_block(pieces, n, &i, (first + alike) * BLOCK_SECTORS) == here)
        alike++;
    return here ? alike : tier_alike(t->next, first, alike);
}

static void journal_tier_promote(struct tier *t, struct block_req *req)
{
    struct journal_read *r = req->tier_private;

    (void)t;
    overlay_promote(&r->overlay);
}

static void journal_tier_free(struct tier *t)
{
    struct tier_journal *j = container_of(t, struct tier_journal, tier);

    metric_free(&j->hits);
    metric_free(&j->misses);
    metric_free(&j->read_bytes);
    metric_free(&j->read_seconds);
    free(j->vm);
    free(j);
}

static const struct tier_ops journal_tier_ops = {.name = "journal",
                                                 .read = journal_tier_read,
                                                 .promote = journal_tier_promote,
                                                 .alike = journal_tier_alike,
                                                 .free = journal_tier_free};

struct tier *tier_journal_new(struct loop *loop, struct tier *next, struct vmlog *log, uint8_t disk,
                              const char *vm)
{
    static const char blocks[] = "isthmus_tier_blocks_total", blocks_help[] = "Blocks asked of a tier";
    struct tier_journal *j = xcalloc(1, sizeof *j);

    j->tier = (struct tier){.ops = &journal_tier_ops, .next = next, .loop = loop};
    j->log = log;
    j->disk = disk;
    j->vm = xstrdup(vm);
    j->hits =
        metric_new(METRIC_COUNTER, blocks, blocks_help, "vm=\"%s\",tier=\"journal\",result=\"hit\"", vm);
    j->misses =
        metric_new(METRIC_COUNTER, blocks, blocks_help, "vm=\"%s\",tier=\"journal\",result=\"miss\"", vm);
    j->read_bytes = metric_new(METRIC_COUNTER, "isthmus_tier_bytes_total", "Bytes a tier has handed upwards",
                               "vm=\"%s\",tier=\"journal\",direction=\"read\"", vm);
    j->read_seconds = metric_new(METRIC_HISTOGRAM, "isthmus_tier_read_seconds",
                                 "How long a tier and those below it took to answer a read",
                                 "vm=\"%s\",tier=\"journal\"", vm);
    return &j->tier;
}
