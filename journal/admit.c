/* journal/admit.c - appending to a VM's log: what may go to the writer now, and what waits.
 *
 * A write waits while the journal fills (space.c), while its log is paced (vmlog_pace), and at the journal's
 * bound. Numbers are given when it goes.
 */
#include "check.h"
#include "extents.h"
#include "impl.h"
#include "log.h"
#include "record.h"

#include <inttypes.h>

static const char part[] = "journal";

enum { STALL_POLL_MS = 20, PACE_BURST_NS = 10000000 };

/* It takes no more than what it replaces will give back; a zero record hardly takes anything. */
static bool overwrites(struct vmlog *log, const struct vmlog_append *a)
{
    struct extents *x = log->disks[a->disk];

    return a->type == RECORD_ZERO || (x && extents_covered(x, a->lba, a->nsectors));
}

static void set_stalled(struct vmlog *log, bool stalled)
{
    if (stalled == log->stalled)
        return;
    log->stalled = stalled;
    if (stalled) {
        metric_add(log->journal->m_stalled, 1);
        log_warn(log->vm, "the journal is full (%" PRIu64 " of %" PRIu64 " bytes): writes wait",
                 journal_bytes(log->journal), log->journal->max_bytes);
    } else {
        metric_sub(log->journal->m_stalled, 1);
        log_info(log->vm, "the journal has room again: writes go on");
    }
}

/* Takes space for a write. `behind`: one before it waits for space and must not be overtaken by what takes
 * more of it; what replaces data may overtake, for it is what makes space (nobody was promised an order of
 * writes that are in flight together). */
static bool admit(struct vmlog *log, struct vmlog_append *a, bool behind)
{
    struct journal *j = log->journal;

    if (behind && log->in_order)
        return false;
    return (!behind && space_take(j, a->in.cost, false)) ||
           (overwrites(log, a) && space_take(j, a->in.cost, true));
}

/* How long the pace lets nothing more through. */
static uint64_t pace_ns(const struct vmlog *log, uint64_t now)
{
    return log->pace && log->paced_ns > now ? log->paced_ns - now : 0;
}

static void number(struct vmlog *log, struct vmlog_append *a, struct append_list *go, uint64_t now)
{
    uint64_t from = log->paced_ns > now - PACE_BURST_NS ? log->paced_ns : now - PACE_BURST_NS;

    if (log->pace)
        log->paced_ns = from + a->in.cost * 1000000000 / log->pace;
    a->seq = ++log->numbered;
    STAILQ_INSERT_TAIL(go, a, in.entry);
}

static void hand_over(struct vmlog *log, struct append_list *list)
{
    struct journal *j = log->journal;
    struct vmlog_append *a;

    if (log->follower)
        STAILQ_FOREACH (a, list, in.entry)
            log->follower->append(log->follower, a);
    pthread_mutex_lock(&j->lock);
    STAILQ_CONCAT(&j->appends, list);
    if (j->writer_idle)
        pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
}

/* Admits what may go by now. */
void admit_waiting(struct vmlog *log)
{
    struct append_list go = STAILQ_HEAD_INITIALIZER(go), rest = STAILQ_HEAD_INITIALIZER(rest);
    struct vmlog_append *a;
    uint64_t now, delay, wait, again_ms = STALL_POLL_MS;
    bool blocked = false;

    if (STAILQ_EMPTY(&log->waiting))
        return;
    now = loop_now_ns(log->loop);
    while ((a = STAILQ_FIRST(&log->waiting))) {
        delay = space_delay_ns(log->journal);
        wait = now - a->in.since_ns < delay ? delay - (now - a->in.since_ns) : 0;
        if (pace_ns(log, now) > wait)
            wait = pace_ns(log, now);
        if (wait) { /* all behind it came later */
            again_ms = wait / 1000000 + 1;
            break;
        }
        STAILQ_REMOVE_HEAD(&log->waiting, in.entry);
        if (admit(log, a, blocked)) {
            metric_add(log->journal->m_throttled, now - a->in.since_ns);
            number(log, a, &go, now);
        } else {
            blocked = true;
            STAILQ_INSERT_TAIL(&rest, a, in.entry);
        }
    }
    STAILQ_CONCAT(&rest, &log->waiting);
    STAILQ_CONCAT(&log->waiting, &rest);
    set_stalled(log, blocked);
    if (!STAILQ_EMPTY(&log->waiting))
        timer_set_ms(&log->pump, again_ms < STALL_POLL_MS || !blocked ? again_ms : STALL_POLL_MS);
    if (!STAILQ_EMPTY(&go))
        hand_over(log, &go);
}

static void on_pump(struct timer *t)
{
    admit_waiting(container_of(t, struct vmlog, pump));
}

void admit_init(struct vmlog *log)
{
    timer_init(&log->pump, log->loop, on_pump);
}

void vmlog_pace(struct vmlog *log, uint64_t bytes_per_second)
{
    uint64_t now = loop_now_ns(log->loop), ahead = pace_ns(log, now) / 1000 * log->pace / 1000000;

    /* What has gone ahead of the old pace, in bytes, is ahead of the new one. */
    log->paced_ns = bytes_per_second ? now + ahead * 1000000000 / bytes_per_second : 0;
    log->pace = bytes_per_second;
    admit_waiting(log);
}

static void check_append(const struct vmlog *log, const struct vmlog_append *a)
{
    CHECK(loop_is_current(log->loop));
    CHECK(a->type == RECORD_WRITE || a->type == RECORD_ZERO);
    CHECK(a->disk < VMLOG_DISKS && a->nsectors > 0 && a->done);
    CHECK(a->lba <= UINT64_MAX / SECTOR - a->nsectors);
    if (a->type == RECORD_WRITE) {
        CHECK(a->nsectors <= VMLOG_WRITE_SECTORS);
        CHECK((uint64_t)a->data_offset + (uint64_t)a->nsectors * SECTOR <= a->data->len);
    }
}

void vmlog_append(struct vmlog *log, struct vmlog_append *a)
{
    struct append_list go = STAILQ_HEAD_INITIALIZER(go);

    check_append(log, a);
    a->in.log = log;
    a->in.since_ns = loop_now_ns(log->loop);
    a->in.cost = extents_cost_of(a->type, a->nsectors);
    log->out++;
    if (STAILQ_EMPTY(&log->waiting) && space_delay_ns(log->journal) == 0 &&
        pace_ns(log, a->in.since_ns) == 0 && admit(log, a, false)) {
        number(log, a, &go, a->in.since_ns);
        hand_over(log, &go);
        return;
    }
    if (STAILQ_EMPTY(&log->waiting))
        timer_set_ms(&log->pump, 1);
    STAILQ_INSERT_TAIL(&log->waiting, a, in.entry);
}
