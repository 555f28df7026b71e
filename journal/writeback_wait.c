/* journal/writeback_wait.c - who waits for something of write-back: each is told once, later.
 */
#include "check.h"
#include "writeback_impl.h"

static void on_wait_over(struct task *t)
{
    struct writeback_wait *w = container_of(t, struct writeback_wait, in.task);

    w->done(w);
}

void wb_end_wait(struct writeback *wb, struct wb_waits *list, struct writeback_wait *w, int status,
                 const struct why *why)
{
    TAILQ_REMOVE(list, w, in.entry);
    w->in.ended = true;
    w->status = status;
    w->why = why ? *why : (struct why){""};
    w->in.task.run = on_wait_over;
    loop_post(wb->conf.loop, &w->in.task);
}

void wb_end_waits(struct writeback *wb, struct wb_waits *list, uint64_t through, int status,
                  const struct why *why)
{
    struct writeback_wait *w, *next;

    for (w = TAILQ_FIRST(list); w; w = next) {
        next = TAILQ_NEXT(w, in.entry);
        if (w->in.seq <= through)
            wb_end_wait(wb, list, w, status, why);
    }
}

void wb_add_wait(struct wb_waits *list, struct writeback_wait *w, uint64_t seq)
{
    w->in.list = list;
    w->in.seq = seq;
    w->in.ended = false;
    TAILQ_INSERT_TAIL(list, w, in.entry);
}
