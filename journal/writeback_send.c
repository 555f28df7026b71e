/* journal/writeback_send.c - a stage's pieces, window by window.
 *
 *   load (pool) ─► batches, side by side ─► sum (pool) ─► zeros ─► the next window, or the end
 */
#include "check.h"
#include "mem.h"
#include "writeback_impl.h"

#include <errno.h>
#include <string.h>

struct far_call wb_send_call(struct writeback *wb, enum proto_type type, struct buf *body,
                             void (*done)(struct far_call *))
{
    metric_add(wb->m.sent_bytes, body->len);
    return (struct far_call){.call = {.type = (uint8_t)type, .class = LINK_WRITEBACK, .body = body},
                             .home = wb->conf.loop,
                             .away = wb->conf.link_loop,
                             .peer = wb->conf.peer,
                             .done = done};
}

/* --- the window, on the pool
 * ------------------------------------------------------------------------------*/

static void on_worked(struct work *w)
{
    struct writeback *wb = container_of(w, struct writeback, sender.work);
    struct wb_sender *s = &wb->sender;

    s->working = false;
    if (s->work_status)
        wb_send_fail(wb, s->work_status, &s->work_why);
    wb_send_advance(wb);
}

static void work(struct writeback *wb, void (*run)(struct work *))
{
    wb->sender.working = true;
    wb->sender.work_status = 0;
    wb->sender.work = (struct work){.run = run, .done = on_worked};
    loop_work(wb->conf.loop, &wb->sender.work);
}

static void load_run(struct work *w)
{
    struct writeback *wb = container_of(w, struct writeback, sender.work);
    struct wb_sender *s = &wb->sender;

    s->work_status = wb_window_load(&s->window, &wb->plan, s->left, &s->work_why);
}

static void load(struct writeback *wb)
{
    struct wb_sender *s = &wb->sender;

    s->next = s->next_zero = 0;
    s->summed = false;
    work(wb, load_run);
}

static void sum_run(struct work *w)
{
    struct writeback *wb = container_of(w, struct writeback, sender.work);

    wb_window_sum(&wb->sender.window, wb->sender.digest);
}

/* --- zeros ----------------------------------------------------------------------------------------------*/

static void on_zeroed(struct far_call *f)
{
    struct writeback *wb = container_of(f, struct writeback, sender.zero);
    struct why why = f->call.why;

    wb->sender.zero_out = false;
    buf_unref(&f->call.body);
    buf_unref(&f->call.reply);
    if (f->call.status)
        wb_send_fail(wb, f->call.status, &why);
    wb_send_advance(wb);
}

/* The next zeros of the window, of one disk; false if there are none. */
static bool send_zeros(struct writeback *wb)
{
    struct wb_sender *s = &wb->sender;
    const struct wb_window *w = &s->window;
    struct wb_head head = wb_head_of(wb);
    CLEANUP_FREE uint64_t *lbas = xcalloc(WB_ZERO_MAX, sizeof *lbas);
    CLEANUP_FREE uint64_t *nsectors = xcalloc(WB_ZERO_MAX, sizeof *nsectors);
    uint8_t disk = 0;
    unsigned n = 0;

    for (; s->next_zero < w->n && n < WB_ZERO_MAX; s->next_zero++) {
        const struct wb_piece *p = &w->pieces[s->next_zero];

        if (p->object)
            continue;
        if (n && p->disk != disk)
            break;
        disk = p->disk;
        lbas[n] = p->lba;
        nsectors[n++] = p->nsectors;
    }
    if (!n)
        return false;
    s->zero_out = true;
    s->zero = wb_send_call(wb, PROTO_WB_ZERO, wb_put_zero(&head, disk, n, lbas, nsectors), on_zeroed);
    far_call(&s->zero);
    return true;
}

/* --- all of it ------------------------------------------------------------------------------------------*/

static void send_batches(struct writeback *wb)
{
    struct wb_sender *s = &wb->sender;

    for (unsigned i = 0; i < WB_BATCHES && s->next < s->window.ndata; i++) {
        unsigned n;

        if (s->batches[i].state != BATCH_FREE)
            continue;
        n = wb_batch_take(&s->window, s->next);
        s->next += n;
        wb_batch_begin(&s->batches[i], wb, s->window.order + s->next - n, n);
    }
}

static void done(struct writeback *wb)
{
    wb->sender.running = false;
    wb_stage_sent(wb);
}

/* Something ended: what can go on does. */
void wb_send_advance(struct writeback *wb)
{
    struct wb_sender *s = &wb->sender;

    if (!s->running || s->working || s->zero_out)
        return;
    if (s->status) {
        if (!s->nbusy)
            done(wb);
        return;
    }
    send_batches(wb);
    if (s->nbusy)
        return;
    if (!s->summed) {
        s->summed = true;
        work(wb, sum_run);
        return;
    }
    if (send_zeros(wb))
        return;
    s->left -= s->window.n;
    if (s->left)
        load(wb);
    else
        done(wb);
}

void wb_send_begin(struct writeback *wb)
{
    struct wb_sender *s = &wb->sender;

    CHECK(!s->running);
    s->running = true;
    s->status = 0;
    s->left = wb->plan.pieces;
    s->digest = wb_digest_new();
    wb->bytes_done = 0;
    load(wb);
}

void wb_send_fail(struct writeback *wb, int status, const struct why *why)
{
    struct wb_sender *s = &wb->sender;

    if (!s->running || s->status)
        return;
    s->status = status;
    s->why = *why;
    for (unsigned i = 0; i < WB_BATCHES; i++)
        wb_batch_cancel(&s->batches[i]);
    if (s->zero_out)
        far_call_cancel(&s->zero);
}

void wb_send_cancel(struct writeback *wb)
{
    struct why why;

    why_set(&why, 0, "given up");
    wb_send_fail(wb, -ECANCELED, &why);
}

void wb_send_end(struct writeback *wb)
{
    struct wb_sender *s = &wb->sender;
    uint8_t digest[WB_HASH_BYTES];

    CHECK(!s->running && !s->nbusy);
    if (s->digest)
        wb_digest_end(&s->digest, digest);
    wb_window_free(&s->window);
}
