/* cache/tier_journal.c - one read: look up -> base -> overlay -> answer.
 *
 *   look up   which sectors are in the log (vmlog_pieces)
 *   base      runs of blocks of which the log lacks sectors are read from the next tier
 *   overlay   zeros are laid in at once; data comes back from RocksDB on a pool thread (vmlog_fetch)
 *
 * A record may be superseded and removed between look-up and overlay (-ENOENT): the read starts again. What
 * is written meanwhile is not seen here; the RAM tier above lays it over (ram.h, tier_ram_written).
 */
#include "tier_journal.h"
#include "check.h"
#include "log.h"
#include "mem.h"
#include "metric.h"
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

struct base_read {
    struct block_req req;
    struct journal_read *read;
    bool answered;
};

struct journal_read {
    struct tier_journal *tier;
    struct block_req *req; /* who asked */
    struct task again;
    uint64_t since_ns;
    struct base_read *base; /* runs to read below */
    unsigned nbase, base_left;
    struct vmlog_piece *data; /* what to fetch, each within one block, */
    uint8_t **to;             /* and where it goes */
    unsigned ndata;
    struct vmlog_piece *zero;
    unsigned nzero;
    struct vmlog_fetch fetch;
    bool starting; /* still in journal_tier_read: answer through true, not done() */
    bool answered;
};

static void start(struct journal_read *r);

static void forget(struct journal_read *r)
{
    free(r->base);
    free(r->data);
    free(r->to);
    free(r->zero);
    r->base = NULL;
    r->data = r->zero = NULL;
    r->to = NULL;
    r->nbase = r->base_left = r->ndata = r->nzero = 0;
}

static void answer(struct journal_read *r, int status)
{
    struct block_req *req = r->req;

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

/* A page that a lower tier left untouched because it is zero gets real zeros, to be written over in part. */
static void materialize(struct block *b)
{
    if (b->zero)
        memset(b->data, 0, BLOCK_BYTES);
    b->zero = false;
}

static struct block *block_of(const struct journal_read *r, uint64_t lba)
{
    return r->req->blocks[lba / BLOCK_SECTORS - r->req->first];
}

static void lay_zeros(struct journal_read *r)
{
    for (unsigned i = 0; i < r->nzero; i++) {
        struct block *b = block_of(r, r->zero[i].lba);

        if (r->zero[i].nsectors == BLOCK_SECTORS) {
            b->zero = true;
            continue;
        }
        materialize(b);
        memset(b->data + r->zero[i].lba % BLOCK_SECTORS * SECTOR_BYTES, 0,
               r->zero[i].nsectors * SECTOR_BYTES);
    }
}

static void on_again(struct task *t)
{
    start(container_of(t, struct journal_read, again));
}

static void on_fetched(struct vmlog_fetch *f)
{
    struct journal_read *r = container_of(f, struct journal_read, fetch);

    if (f->status == -ENOENT) {
        forget(r);
        r->again.run = on_again;
        loop_post(r->tier->tier.loop, &r->again);
        return;
    }
    if (f->status)
        log_error(r->tier->vm, "disk %u: blocks %lu+%u cannot be read back from the journal: %s",
                  r->tier->disk, r->req->first, r->req->count, strerror(-f->status));
    answer(r, f->status ? -EIO : 0);
}

static void overlay(struct journal_read *r)
{
    lay_zeros(r);
    if (!r->ndata) {
        answer(r, 0);
        return;
    }
    for (unsigned i = 0; i < r->ndata; i++)
        materialize(block_of(r, r->data[i].lba));
    metric_add(r->tier->read_bytes, (uint64_t)r->ndata * BLOCK_BYTES);
    r->fetch = (struct vmlog_fetch){.pieces = r->data, .to = r->to, .n = r->ndata, .done = on_fetched};
    vmlog_fetch(r->tier->log, &r->fetch);
}

static void base_done(struct journal_read *r, int status)
{
    if (status && !r->req->status)
        r->req->status = status;
    if (--r->base_left)
        return;
    if (r->req->status)
        answer(r, r->req->status);
    else
        overlay(r);
}

static void on_base(struct block_req *req)
{
    struct base_read *b = container_of(req, struct base_read, req);

    b->answered = true;
    base_done(b->read, req->status);
}

static void read_base(struct journal_read *r)
{
    r->base_left = r->nbase + 1; /* one for this function: answers that come at once must not end it early */
    for (unsigned i = 0; i < r->nbase; i++)
        if ((r->base[i].answered = tier_read(r->tier->tier.next, &r->base[i].req)))
            base_done(r, r->base[i].req.status);
    base_done(r, 0);
}

/* Cuts a piece at block boundaries and keeps it with its kind. */
static void keep_piece(struct journal_read *r, struct vmlog_piece p)
{
    while (p.nsectors) {
        uint32_t in_block = (uint32_t)(p.lba % BLOCK_SECTORS);
        uint32_t n = p.nsectors < BLOCK_SECTORS - in_block ? p.nsectors : BLOCK_SECTORS - in_block;
        struct vmlog_piece cut = p;

        cut.nsectors = n;
        if (p.kind == PIECE_ZERO) {
            r->zero[r->nzero++] = cut;
        } else {
            r->to[r->ndata] = block_of(r, p.lba)->data + in_block * SECTOR_BYTES;
            r->data[r->ndata++] = cut;
        }
        p.lba += n;
        p.part_sector += n;
        p.nsectors -= n;
    }
}

/* Adds the blocks that an absent piece touches to the runs to be read below. */
static void keep_base(struct journal_read *r, const struct vmlog_piece *p)
{
    uint64_t first = p->lba / BLOCK_SECTORS, end = (p->lba + p->nsectors - 1) / BLOCK_SECTORS + 1;
    struct block_req *last = r->nbase ? &r->base[r->nbase - 1].req : NULL;

    if (last && first < last->first + last->count)
        first = last->first + last->count; /* the block is in the run already */
    if (first >= end)
        return;
    if (last && first == last->first + last->count) {
        last->count += (uint32_t)(end - first);
        return;
    }
    r->base[r->nbase] = (struct base_read){.read = r};
    r->base[r->nbase++].req = (struct block_req){.first = first,
                                                 .count = (uint32_t)(end - first),
                                                 .class = r->req->class,
                                                 .blocks = &r->req->blocks[first - r->req->first],
                                                 .done = on_base};
}

static void look_up(struct journal_read *r)
{
    struct vmlog_piece pieces[64];
    uint64_t lba = r->req->first * BLOCK_SECTORS;
    uint32_t left = r->req->count * BLOCK_SECTORS, covered;
    size_t most = left; /* every sector a piece of its own */

    r->base = xcalloc(r->req->count, sizeof *r->base);
    r->data = xcalloc(most, sizeof *r->data);
    r->to = xcalloc(most, sizeof *r->to);
    r->zero = xcalloc(most, sizeof *r->zero);
    while (left) {
        unsigned n = vmlog_pieces(r->tier->log, r->tier->disk, lba, left, pieces,
                                  sizeof pieces / sizeof *pieces, &covered);

        CHECK(covered && covered <= left);
        for (unsigned i = 0; i < n; i++)
            if (pieces[i].kind == PIECE_ABSENT)
                keep_base(r, &pieces[i]);
            else
                keep_piece(r, pieces[i]);
        lba += covered;
        left -= covered;
    }
}

static void start(struct journal_read *r)
{
    r->req->status = 0;
    for (uint32_t i = 0; i < r->req->count; i++)
        r->req->blocks[i]->zero = false;
    look_up(r);
    metric_add(r->ndata || r->nzero ? r->tier->hits : r->tier->misses, r->req->count);
    read_base(r);
}

static bool journal_tier_read(struct tier *t, struct block_req *req)
{
    struct journal_read *r = xcalloc(1, sizeof *r);
    bool answered;

    r->tier = container_of(t, struct tier_journal, tier);
    r->req = req;
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
    return alike;
}

static void journal_tier_promote(struct tier *t, struct block_req *req)
{
    struct journal_read *r = req->tier_private;

    req->class = TIER_DEMAND;
    for (unsigned i = 0; i < r->nbase; i++)
        if (!r->base[i].answered)
            tier_promote(t->next, &r->base[i].req);
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
