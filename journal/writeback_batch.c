/* journal/writeback_batch.c - some pieces of one disk on their way to on-prem.
 *
 *   fetching (store) ─► opening (pool) ─► offering (link) ─► packing (pool) ─► sending (link) ─► free
 *      ▲ └► resting: the store is away
 *      └──────┘
 *
 * An object that is not there or does not open is looked at once more; then the stage fails.
 */
#include "check.h"
#include "mem.h"
#include "step.h"
#include "writeback_impl.h"

#include <errno.h>
#include <string.h>

enum { RETRY_MIN_MS = 200, RETRY_MAX_MS = 15000 };

static void fetch(struct wb_batch *b);

static const struct wb_piece *piece_of(const struct wb_batch *b, unsigned i)
{
    return &b->wb->sender.window.pieces[b->order[i]];
}

static bool is_whole(const struct wb_piece *p)
{
    return p->nsectors == WB_BLOCK_SECTORS;
}

static bool unwanted(const struct wb_batch *b)
{
    return b->wb->sender.status != 0;
}

/* Nothing of it is under way. */
static void batch_end(struct wb_batch *b)
{
    struct writeback *wb = b->wb;

    if (wb->sender.status == 0)
        wb->bytes_done += b->bytes;
    frames_end(&b->frames);
    free(b->frames.uses);
    b->frames.uses = NULL;
    free(b->data);
    free(b->wanted);
    b->data = NULL;
    b->wanted = NULL;
    for (unsigned i = 0; i < WB_BATCH_DATA; i++)
        buf_unref(&b->bodies[i]);
    timer_free(&b->retry);
    b->state = BATCH_FREE;
    wb->sender.nbusy--;
    wb_send_advance(wb);
}

/* Returns whether the answer is one to go on with; the body goes. */
static bool answered(struct wb_batch *b, struct far_call *f)
{
    struct why why = f->call.why;

    buf_unref(&f->call.body);
    if (f->call.status)
        wb_send_fail(b->wb, f->call.status, &why);
    return !unwanted(b);
}

/* --- sending --------------------------------------------------------------------------------------------*/

static void on_sent(struct far_call *f)
{
    struct wb_data_call *c = container_of(f, struct wb_data_call, call);
    struct wb_batch *b = c->batch;

    c->out = false;
    if (answered(b, f))
        STEP("wb.send", "some pieces of a stage are with the on-prem daemon");
    buf_unref(&f->call.reply);
    if (--b->out == 0)
        batch_end(b);
}

static void send_data(struct wb_batch *b)
{
    b->state = BATCH_SENDING;
    b->out = b->ncalls;
    for (unsigned i = 0; i < b->ncalls; i++) {
        struct wb_data_call *c = &b->calls[i];

        *c = (struct wb_data_call){.batch = b, .out = true};
        c->call = wb_send_call(b->wb, PROTO_WB_DATA, b->bodies[i], on_sent);
        b->bodies[i] = NULL;
        far_call(&c->call);
    }
    if (!b->ncalls)
        batch_end(b);
}

/* --- packing: what is wanted of it, 64 pieces a call
 * ------------------------------------------------------*/

static void pack_call(struct wb_batch *b, const unsigned *which, unsigned n)
{
    struct wb_head head = wb_head_of(b->wb);
    uint64_t lbas[WB_DATA_MAX];
    uint8_t nsectors[WB_DATA_MAX];
    CLEANUP_FREE uint8_t *data = xmalloc((size_t)n * PROTO_BLOCK);

    for (unsigned i = 0; i < n; i++) {
        const struct wb_piece *p = piece_of(b, which[i]);

        lbas[i] = p->lba;
        nsectors[i] = (uint8_t)p->nsectors;
        memcpy(data + (size_t)i * PROTO_BLOCK, b->data + (size_t)which[i] * PROTO_BLOCK, PROTO_BLOCK);
    }
    b->bodies[b->ncalls++] = wb_put_data(&head, b->disk, n, lbas, nsectors, data, true);
}

static void pack_run(struct work *w)
{
    struct wb_batch *b = container_of(w, struct wb_batch, work);
    unsigned which[WB_DATA_MAX], n = 0;

    for (unsigned i = 0; i < b->n; i++) {
        if (!b->wanted[i])
            continue;
        which[n++] = i;
        if (n == WB_DATA_MAX) {
            pack_call(b, which, n);
            n = 0;
        }
    }
    if (n)
        pack_call(b, which, n);
}

static void pack_done(struct work *w)
{
    struct wb_batch *b = container_of(w, struct wb_batch, work);

    free(b->data);
    b->data = NULL;
    if (unwanted(b))
        batch_end(b);
    else
        send_data(b);
}

static void pack(struct wb_batch *b)
{
    b->state = BATCH_PACKING;
    b->ncalls = 0;
    b->work = (struct work){.run = pack_run, .done = pack_done};
    loop_work(b->wb->conf.loop, &b->work);
}

/* --- offering -------------------------------------------------------------------------------------------*/

static int take_wanted(struct wb_batch *b, const struct buf *reply)
{
    CLEANUP_FREE bool *wanted = xcalloc(b->n, sizeof *wanted);
    unsigned n = 0, at = 0;

    for (unsigned i = 0; i < b->n; i++)
        n += is_whole(piece_of(b, i));
    if (wb_get_wanted(reply->data, reply->len, wanted, n) < 0)
        return -EBADMSG;
    for (unsigned i = 0; i < b->n; i++) {
        if (!is_whole(piece_of(b, i)))
            continue;
        b->wanted[i] = wanted[at++];
        if (!b->wanted[i])
            metric_add(b->wb->m.known_bytes, PROTO_BLOCK);
    }
    return 0;
}

static void on_offered(struct far_call *f)
{
    struct wb_batch *b = container_of(f, struct wb_batch, offer);
    struct buf *reply = f->call.reply;
    struct why why;

    if (answered(b, f) && take_wanted(b, reply) < 0) {
        why_set(&why, 0, "its answer to an offer is none");
        wb_send_fail(b->wb, -EBADMSG, &why);
    }
    buf_unref(&reply);
    if (unwanted(b))
        batch_end(b);
    else
        pack(b);
}

/* Whole blocks only; a part of one is sent as it is. */
static void offer(struct wb_batch *b)
{
    const struct wb_window *w = &b->wb->sender.window;
    struct wb_head head = wb_head_of(b->wb);
    CLEANUP_FREE uint64_t *blocks = xcalloc(b->n, sizeof *blocks);
    CLEANUP_FREE uint8_t(*hashes)[WB_HASH_BYTES] = xcalloc(b->n, sizeof *hashes);
    unsigned n = 0;

    b->wanted = xcalloc(b->n, sizeof *b->wanted);
    for (unsigned i = 0; i < b->n; i++) {
        const struct wb_piece *p = piece_of(b, i);

        b->wanted[i] = true;
        if (!is_whole(p))
            continue;
        blocks[n] = p->lba / WB_BLOCK_SECTORS;
        memcpy(hashes[n++], w->hashes[b->order[i]], WB_HASH_BYTES);
    }
    if (!n) {
        pack(b);
        return;
    }
    b->state = BATCH_OFFERING;
    b->offer = wb_send_call(b->wb, PROTO_WB_OFFER,
                            wb_put_offer(&head, b->disk, n, blocks, (const uint8_t(*)[WB_HASH_BYTES])hashes),
                            on_offered);
    far_call(&b->offer);
}

/* --- reading --------------------------------------------------------------------------------------------*/

static void on_retry(struct timer *t)
{
    struct wb_batch *b = container_of(t, struct wb_batch, retry);

    if (unwanted(b))
        batch_end(b);
    else
        fetch(b);
}

/* The store did not give what is needed. */
static void not_read(struct wb_batch *b)
{
    const struct frames *f = &b->frames;
    bool wrong = f->status == -ENOENT || f->status == -EBADMSG;

    if (!unwanted(b) && wrong && b->again++ == FRAMES_WRONG_MAX)
        wb_send_fail(b->wb, -EBADMSG, &f->why);
    if (unwanted(b)) {
        batch_end(b);
        return;
    }
    if (!wrong)
        b->wb->why = f->why;
    metric_add(b->wb->m.retries, 1);
    frames_end(&b->frames);
    b->state = BATCH_RESTING;
    timer_set_ms(&b->retry, b->retry_ms);
    b->retry_ms = b->retry_ms * 2 < RETRY_MAX_MS ? b->retry_ms * 2 : RETRY_MAX_MS;
}

static void open_run(struct work *w)
{
    struct wb_batch *b = container_of(w, struct wb_batch, work);
    struct wb_window *window = &b->wb->sender.window;

    if (frames_open(&b->frames))
        return;
    for (unsigned i = 0; i < b->n; i++)
        wb_hash(b->data + (size_t)i * PROTO_BLOCK, piece_of(b, i)->nsectors * 512,
                window->hashes[b->order[i]]);
}

static void open_done(struct work *w)
{
    struct wb_batch *b = container_of(w, struct wb_batch, work);

    if (b->frames.status || unwanted(b)) {
        not_read(b);
        return;
    }
    frames_end(&b->frames);
    metric_add(b->wb->m.data_bytes, b->bytes);
    offer(b);
}

static void on_fetched(struct frames *f)
{
    struct wb_batch *b = container_of(f, struct wb_batch, frames);

    if (f->status || unwanted(b)) {
        not_read(b);
        return;
    }
    b->state = BATCH_OPENING;
    b->work = (struct work){.run = open_run, .done = open_done};
    loop_work(b->wb->conf.loop, &b->work);
}

static void fetch(struct wb_batch *b)
{
    const struct writeback_conf *conf = &b->wb->conf;
    struct frame_use *uses = b->frames.uses ? b->frames.uses : xcalloc(b->n, sizeof *uses);

    b->state = BATCH_FETCHING;
    b->frames = (struct frames){.store = conf->store,
                                .map = conf->map,
                                .master = &conf->master,
                                .id = conf->id,
                                .uses = uses,
                                .nuses = b->n,
                                .fetched = on_fetched};
    for (unsigned i = 0; i < b->n; i++) {
        const struct wb_piece *p = piece_of(b, i);

        uses[i] = (struct frame_use){.object = p->object,
                                     .frame_at = p->frame_at,
                                     .frame_bytes = p->frame_bytes,
                                     .frame_sector = p->frame_sector,
                                     .nsectors = (uint32_t)p->nsectors,
                                     .to = b->data + (size_t)i * PROTO_BLOCK};
    }
    if (frames_plan(&b->frames))
        not_read(b);
    else
        frames_fetch(&b->frames);
}

/* --- the batch ------------------------------------------------------------------------------------------*/

unsigned wb_batch_take(const struct wb_window *w, unsigned from)
{
    const struct wb_piece *first = &w->pieces[w->order[from]], *before = NULL;
    uint64_t frames = 0;
    unsigned n = 0;

    for (unsigned i = from; i < w->ndata && n < WB_BATCH && frames < WB_BATCH_FRAMES; i++, n++) {
        const struct wb_piece *p = &w->pieces[w->order[i]];

        if (p->disk != first->disk)
            break;
        if (!before || before->object != p->object || before->frame_at != p->frame_at)
            frames += p->frame_bytes;
        before = p;
    }
    return n;
}

void wb_batch_begin(struct wb_batch *b, struct writeback *wb, const uint32_t *order, unsigned n)
{
    CHECK(b->state == BATCH_FREE && n);
    *b = (struct wb_batch){.wb = wb, .order = order, .n = n, .retry_ms = RETRY_MIN_MS};
    b->disk = piece_of(b, 0)->disk;
    b->data = xcalloc(n, PROTO_BLOCK);
    for (unsigned i = 0; i < n; i++)
        b->bytes += piece_of(b, i)->nsectors * 512;
    timer_init(&b->retry, wb->conf.loop, on_retry);
    wb->sender.nbusy++;
    fetch(b);
}

void wb_batch_cancel(struct wb_batch *b)
{
    switch (b->state) {
    case BATCH_FETCHING:
        frames_cancel(&b->frames);
        break;
    case BATCH_RESTING:
        timer_stop(&b->retry);
        timer_set_ms(&b->retry, 0); /* ends there */
        break;
    case BATCH_OFFERING:
        far_call_cancel(&b->offer);
        break;
    case BATCH_SENDING:
        for (unsigned i = 0; i < b->ncalls; i++)
            if (b->calls[i].out)
                far_call_cancel(&b->calls[i].call);
        break;
    case BATCH_FREE:
    case BATCH_OPENING:
    case BATCH_PACKING:
        break;
    }
}
