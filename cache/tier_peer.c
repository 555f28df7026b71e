/* cache/tier_peer.c - see tier_peer.h.
 *
 *   asked ──► all is here ──► answered
 *     └── late, or not all is here ──► the rest of the next tier ──► answered
 *
 * A read that is called off at the other edge is answered when the call has come back, too, which is a turn
 * of the link's loop: nothing is under way when the tier is freed. Lives on the VM's loop.
 */
#include "tier_peer.h"
#include "check.h"
#include "far_call.h"
#include "log.h"
#include "mem.h"
#include "metric.h"
#include "proto_pair.h"

#include <errno.h>
#include <string.h>

static const char part[] = "peer";

enum {
    ALL_MAX = 64,        /* questions under way: of all disks, */
    DISK_MAX = 32,       /* and of one */
    MARKS_MAX = 1 << 21, /* of a disk: 256 KiB */
    POOR = 4,            /* so many poor answers in a row, and the other edge is left alone */
    PAUSE_MIN = 4,       /* for so many requests */
    PAUSE_MAX = 1024,
    WORTH = 4 /* an answer is poor with less than one block in so many */
};

struct tier_peer {
    struct tier tier;
    struct tier_peer_conf conf;
    char *vm;
    LIST_HEAD(, peer_read) reads;
    unsigned nreads;
    uint64_t *marks; /* a bit for each 1 << shift blocks: something in them was written */
    unsigned shift;
    unsigned poor, pause, paused; /* answers in a row; for how many requests it rests then; and now still */
    bool closing;
    struct metric *asked, *hits, *late, *bytes;
};

struct rest {
    struct block_req req;
    struct peer_read *read;
    bool answered;
};

struct peer_read {
    LIST_ENTRY(peer_read) entry;
    struct tier_peer *tier;
    struct block_req *req;
    struct far_call far;
    struct timer timer;
    uint64_t wanted, here; /* a bit for each block */
    bool out;              /* the call is */
    bool below;            /* the next tier was asked, for */
    struct rest *rests;
    unsigned nrests, left;
    int status;
};

static struct tier_peer *tier_peer(struct tier *t)
{
    return container_of(t, struct tier_peer, tier);
}

/* --- what was written -----------------------------------------------------------------------------------*/

static uint64_t nmarks(const struct tier_peer *p)
{
    return (p->conf.nblocks + (UINT64_C(1) << p->shift) - 1) >> p->shift;
}

void tier_peer_written(struct tier *t, uint64_t lba, uint64_t nsectors)
{
    struct tier_peer *p = tier_peer(t);
    uint64_t at = lba / BLOCK_SECTORS >> p->shift;
    uint64_t end = ((lba + nsectors - 1) / BLOCK_SECTORS >> p->shift) + 1;

    if (end > nmarks(p))
        end = nmarks(p);
    while (at < end) {
        bool whole = at % 64 == 0 && end - at >= 64;

        p->marks[at / 64] |= whole ? UINT64_MAX : UINT64_C(1) << at % 64;
        at += whole ? 64 : 1;
    }
}

static uint64_t all_of(uint32_t count)
{
    return count < 64 ? (UINT64_C(1) << count) - 1 : UINT64_MAX;
}

/* Of these blocks those that are as they were when the VM came. */
static uint64_t unwritten(const struct tier_peer *p, uint64_t first, uint32_t count)
{
    uint64_t bits = 0;

    for (uint32_t i = 0; i < count && first + i < p->conf.nblocks; i++) {
        uint64_t mark = (first + i) >> p->shift;

        if (!(p->marks[mark / 64] >> mark % 64 & 1))
            bits |= UINT64_C(1) << i;
    }
    return bits;
}

/* --- how much it is asked -------------------------------------------------------------------------------*/

/* While it rests, what was asked before says no more than is known. */
static void note(struct tier_peer *p, bool worth)
{
    if (worth) {
        p->poor = p->pause = p->paused = 0;
        return;
    }
    if (p->paused || ++p->poor < POOR)
        return;
    p->pause = p->pause ? p->pause * 2 : PAUSE_MIN;
    if (p->pause > PAUSE_MAX)
        p->pause = PAUSE_MAX;
    p->paused = p->pause;
}

static bool may_ask(struct tier_peer *p)
{
    if (p->closing || !peer_up(p->conf.peer))
        return false;
    if (p->paused) {
        p->paused--;
        return false;
    }
    if (p->nreads >= DISK_MAX)
        return false;
    if (atomic_fetch_add(p->conf.under_way, 1) < ALL_MAX)
        return true;
    atomic_fetch_sub(p->conf.under_way, 1);
    return false;
}

/* --- a read ---------------------------------------------------------------------------------------------*/

static void look_finished(struct peer_read *r)
{
    struct block_req *req = r->req;

    if (r->left || r->out)
        return;
    LIST_REMOVE(r, entry);
    r->tier->nreads--;
    timer_free(&r->timer);
    req->status = r->status;
    free(r->rests);
    free(r);
    req->done(req);
}

static void rest_done(struct rest *rest)
{
    struct peer_read *r = rest->read;

    rest->answered = true;
    if (rest->req.status && !r->status)
        r->status = rest->req.status;
    r->left--;
}

static void on_rest(struct block_req *req)
{
    struct rest *rest = container_of(req, struct rest, req);

    rest_done(rest);
    look_finished(rest->read);
}

/* Each run of blocks that are not here. */
static void ask_next(struct peer_read *r)
{
    uint32_t i = 0, count = r->req->count;

    r->below = true;
    r->rests = xcalloc(count / 2 + 1, sizeof *r->rests);
    while (i < count) {
        uint32_t from = i;

        while (i < count && !(r->here >> i & 1))
            i++;
        if (i > from) {
            r->rests[r->nrests].read = r;
            r->rests[r->nrests++].req = (struct block_req){.first = r->req->first + from,
                                                           .count = i - from,
                                                           .class = r->req->class,
                                                           .blocks = r->req->blocks + from,
                                                           .done = on_rest};
        }
        while (i < count && r->here >> i & 1)
            i++;
    }
    r->left += r->nrests;
    for (unsigned k = 0; k < r->nrests; k++)
        if (tier_read(r->tier->tier.next, &r->rests[k].req))
            rest_done(&r->rests[k]);
}

/* What came into the pages of blocks that were written meanwhile is not looked at. */
static int take(struct peer_read *r)
{
    const struct block_req *req = r->req;
    const struct buf *reply = r->far.call.reply;
    uint8_t *pages[PAIR_REMAINS_BLOCKS];
    bool zero[PAIR_REMAINS_BLOCKS];
    uint64_t here;

    for (uint32_t i = 0; i < req->count; i++)
        pages[i] = req->blocks[i]->data;
    if (pair_get_remains_answer(reply->data, reply->len, req->count, &here, pages, zero)) {
        log_error(r->tier->vm, "%s sent damaged blocks %lu+%u of disk %u: not used",
                  peer_name(r->tier->conf.peer), req->first, req->count, r->tier->conf.disk);
        return -EBADMSG;
    }
    r->here = here & r->wanted & unwritten(r->tier, req->first, req->count);
    for (uint32_t i = 0; i < req->count; i++)
        if (r->here >> i & 1)
            req->blocks[i]->zero = zero[i];
    metric_add(r->tier->bytes, reply->len);
    metric_add(r->tier->hits, (uint64_t)__builtin_popcountll(r->here));
    return 0;
}

static void on_answer(struct far_call *far)
{
    struct peer_read *r = container_of(far, struct peer_read, far);
    struct tier_peer *p = r->tier;

    r->out = false;
    atomic_fetch_sub(p->conf.under_way, 1);
    buf_unref(&far->call.body);
    if (!r->below) {
        int status = far->call.status ? far->call.status : take(r);
        int given = __builtin_popcountll(r->here), wanted = __builtin_popcountll(r->wanted);

        timer_stop(&r->timer);
        if (!p->closing)
            note(p, !status && given * WORTH >= wanted);
        r->left--;
        if (p->closing && r->here != all_of(r->req->count))
            r->status = -ECANCELED;
        else
            ask_next(r);
    }
    if (far->call.status == 0)
        buf_unref(&far->call.reply);
    look_finished(r);
}

/* The other edge had its time. */
static void on_late(struct timer *t)
{
    struct peer_read *r = container_of(t, struct peer_read, timer);

    if (r->tier->closing)
        return; /* it has been called off */
    metric_add(r->tier->late, 1);
    note(r->tier, false);
    far_call_cancel(&r->far);
    r->left--;
    ask_next(r);
}

static void ask(struct tier_peer *p, struct block_req *req, uint64_t wanted)
{
    struct peer_read *r = xcalloc(1, sizeof *r);
    struct pair_remains ask = {.epoch = p->conf.epoch,
                               .seq = p->conf.seq,
                               .first = req->first,
                               .count = req->count,
                               .disk = p->conf.disk};

    memcpy(ask.vm, p->conf.id, sizeof ask.vm);
    r->tier = p;
    r->req = req;
    r->wanted = wanted;
    r->out = true;
    r->left = 1; /* the answer */
    r->far.home = p->conf.loop;
    r->far.away = p->conf.link_loop;
    r->far.peer = p->conf.peer;
    r->far.done = on_answer;
    r->far.call = (struct link_call){
        .type = PROTO_REMAINS_READ, .class = LINK_PREFETCH, .brief = true, .body = pair_put_remains(&ask)};
    LIST_INSERT_HEAD(&p->reads, r, entry);
    p->nreads++;
    metric_add(p->asked, (uint64_t)__builtin_popcountll(wanted));
    timer_init(&r->timer, p->conf.loop, on_late);
    timer_set_ms(&r->timer, p->conf.wait_ms);
    far_call(&r->far);
}

static bool peer_tier_read(struct tier *t, struct block_req *req)
{
    struct tier_peer *p = tier_peer(t);
    uint64_t wanted = 0;

    if (req->count <= PAIR_REMAINS_BLOCKS)
        wanted = unwritten(p, req->first, req->count);
    if (!wanted || !may_ask(p))
        return tier_read(t->next, req);
    ask(p, req, wanted);
    return false;
}

static void peer_tier_promote(struct tier *t, struct block_req *req)
{
    struct peer_read *r;

    LIST_FOREACH(r, &tier_peer(t)->reads, entry)
    if (r->req == req)
        break;
    if (!r) {
        tier_promote(t->next, req);
        return;
    }
    req->class = TIER_DEMAND; /* what is asked of the next tier later is of that class */
    for (unsigned i = 0; i < r->nrests; i++)
        if (!r->rests[i].answered)
            tier_promote(t->next, &r->rests[i].req);
}

static uint32_t peer_tier_alike(struct tier *t, uint64_t first, uint32_t count)
{
    return tier_alike(t->next, first, count);
}

/* --- life -----------------------------------------------------------------------------------------------*/

static void peer_tier_quiesce(struct tier *t)
{
    struct tier_peer *p = tier_peer(t);
    struct peer_read *r;

    p->closing = true;
    LIST_FOREACH(r, &p->reads, entry)
    if (!r->below)
        far_call_cancel(&r->far);
}

static void peer_tier_free(struct tier *t)
{
    struct tier_peer *p = tier_peer(t);

    CHECK(LIST_EMPTY(&p->reads));
    metric_free(&p->asked);
    metric_free(&p->hits);
    metric_free(&p->late);
    metric_free(&p->bytes);
    free(p->marks);
    free(p->vm);
    free(p);
}

static const struct tier_ops peer_tier_ops = {.name = "peer",
                                              .read = peer_tier_read,
                                              .promote = peer_tier_promote,
                                              .alike = peer_tier_alike,
                                              .quiesce = peer_tier_quiesce,
                                              .free = peer_tier_free};

struct tier *tier_peer_new(const struct tier_peer_conf *conf)
{
    struct tier_peer *p = xcalloc(1, sizeof *p);

    p->tier = (struct tier){.ops = &peer_tier_ops, .next = conf->next, .loop = conf->loop};
    p->conf = *conf;
    p->vm = xstrdup(conf->vm);
    p->conf.vm = p->vm;
    LIST_INIT(&p->reads);
    while (nmarks(p) > MARKS_MAX)
        p->shift++;
    p->marks = xcalloc(nmarks(p) / 64 + 1, sizeof *p->marks);
    p->asked = metric_new(METRIC_COUNTER, "isthmus_peer_cache_asked_total",
                          "Blocks asked of the other edge's memory", "vm=\"%s\"", p->vm);
    p->hits = metric_new(METRIC_COUNTER, "isthmus_peer_cache_hits_total",
                         "Blocks that came from the other edge's memory", "vm=\"%s\"", p->vm);
    p->late = metric_new(METRIC_COUNTER, "isthmus_peer_cache_late_total",
                         "Questions that the other edge did not answer in time", "vm=\"%s\"", p->vm);
    p->bytes = metric_new(METRIC_COUNTER, "isthmus_peer_cache_bytes_total",
                          "Bytes of answers from the other edge's memory", "vm=\"%s\"", p->vm);
    return &p->tier;
}
