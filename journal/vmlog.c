/* journal/vmlog.c - one VM's log on its loop: visibility, stability, opening and closing.
 *
 *   append ──► (waiting: delayed, or the journal is full) ──► writer ──► finished ──► visible ──► done
 *                                                                           └─ fua ──► unstable ──► done
 *
 * Everything here runs on the VM's loop, but for opening and deleting. Appending is in admit.c, reading back
 * in fetch.c.
 */
#include "check.h"
#include "extents.h"
#include "impl.h"
#include "log.h"
#include "mem.h"
#include "record.h"
#include "wire.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char part[] = "journal";

/* --- superseded -----------------------------------------------------------------------------------------*/

struct dead_keys *vmlog_dead_new(const struct vmlog *log)
{
    struct dead_keys *d = xmalloc(sizeof *d);

    memcpy(d->id, log->id, sizeof d->id);
    d->n = 0;
    d->through = 0;
    return d;
}

void vmlog_dead_submit(struct vmlog *log)
{
    if (!log->dead)
        return;
    if (log->frozen)
        STAILQ_INSERT_TAIL(&log->held, log->dead, entry);
    else
        journal_dead_push(log->journal, log->dead);
    log->dead = NULL;
}

static void on_dead(void *arg, uint64_t seq, uint32_t number)
{
    struct vmlog *log = arg;
    struct dead_keys *d;

    if (seq <= log->trimmed)
        return;
    if (!log->dead)
        log->dead = vmlog_dead_new(log);
    d = log->dead;
    d->keys[d->n].seq = seq;
    d->keys[d->n++].number = number;
    if (d->n == DEAD_MAX)
        vmlog_dead_submit(log);
}

static struct extents *disk_of(struct vmlog *log, uint8_t disk)
{
    if (!log->disks[disk])
        log->disks[disk] = extents_new(on_dead, log);
    return log->disks[disk];
}

static uint64_t records_of(const struct vmlog *log)
{
    uint64_t n = 0;

    for (int i = 0; i < VMLOG_DISKS; i++)
        if (log->disks[i])
            n += extents_records(log->disks[i]);
    return n;
}

/* --- visible and stable ---------------------------------------------------------------------------------*/

/* With lock: `complete` runs once the batch is stable. */
static void want_sync(struct vmlog *log, uint64_t batch)
{
    struct journal *j = log->journal;

    if (batch <= j->synced) {
        syncer_post(log);
        return;
    }
    if (log->sync_wanted < batch)
        log->sync_wanted = batch;
    if (!log->in_syncing) {
        log->in_syncing = true;
        TAILQ_INSERT_TAIL(&j->syncing, log, sync_entry);
    }
    if (j->sync_wanted < batch)
        j->sync_wanted = batch;
    pthread_cond_signal(&j->sync_wake);
}

static void make_visible(struct vmlog *log, struct vmlog_append *a, uint64_t now)
{
    struct extents *x = disk_of(log, a->disk);
    uint64_t before = extents_cost(x), after;

    CHECK(a->seq == log->last + 1);
    cut_save(log, a->disk, a->lba, a->nsectors);
    extents_apply(x, a->type, a->seq, a->lba, a->nsectors);
    after = extents_cost(x);
    CHECK(before + a->in.cost >= after);
    if (log->frozen)
        log->held_bytes += before + a->in.cost - after;
    else if (before + a->in.cost > after)
        space_give(log->journal, before + a->in.cost - after);
    if (!log->oldest_ns)
        log->oldest_ns = a->in.since_ns;
    log->last = a->seq;
    log->last_batch = a->in.batch;
    if (a->type == RECORD_WRITE)
        metric_add(log->m_written, (uint64_t)a->nsectors * SECTOR);
    metric_observe_ns(log->journal->m_append, now - a->in.since_ns);
    if (a->visible)
        a->visible(a);
}

static void finish_append(struct vmlog *log, struct vmlog_append *a)
{
    log->out--;
    a->done(a);
}

/* Does the follower, if there is one, have everything up to this record; and is it stable there? */
static bool follower_has(const struct vmlog *log, uint64_t seq)
{
    return !log->follower || seq <= log->follower->has;
}

static bool follower_stable(const struct vmlog *log, uint64_t seq)
{
    return !log->follower || seq <= log->follower->stable;
}

static void finish_unstable(struct vmlog *log, uint64_t synced, uint64_t now)
{
    struct vmlog_append *a;
    struct vmlog_flush *f;

    while ((a = STAILQ_FIRST(&log->unstable)) && a->in.batch <= synced && follower_stable(log, a->seq)) {
        STAILQ_REMOVE_HEAD(&log->unstable, in.entry);
        metric_observe_ns(log->journal->m_sync, now - a->in.since_ns);
        finish_append(log, a);
    }
    while ((f = STAILQ_FIRST(&log->flushes)) && f->in.batch <= synced && follower_stable(log, f->in.seq)) {
        STAILQ_REMOVE_HEAD(&log->flushes, in.entry);
        metric_observe_ns(log->journal->m_sync, now - f->in.since_ns);
        log->out--;
        f->done(f);
    }
}

/* What both journals have becomes visible. Returns the batch that has to be synced for it (0: none). */
static uint64_t show_written(struct vmlog *log, uint64_t now)
{
    struct vmlog_append *a;
    uint64_t wanted = 0, seq = 0;

    while ((a = STAILQ_FIRST(&log->written)) && follower_has(log, a->seq)) {
        STAILQ_REMOVE_HEAD(&log->written, in.entry);
        make_visible(log, a, now);
        if (!a->fua) {
            finish_append(log, a);
            continue;
        }
        wanted = a->in.batch;
        seq = a->seq;
        STAILQ_INSERT_TAIL(&log->unstable, a, in.entry);
    }
    if (seq && !follower_stable(log, seq))
        log->follower->sync(log->follower, seq);
    return wanted;
}

/* The writer, the syncer or the follower has news. */
static void on_complete(struct task *t)
{
    struct vmlog *log = container_of(t, struct vmlog, complete);
    struct journal *j = log->journal;
    uint64_t synced, wanted, now = loop_now_ns(log->loop);

    pthread_mutex_lock(&j->lock);
    log->posted = false;
    STAILQ_CONCAT(&log->written, &log->finished);
    synced = j->synced;
    pthread_mutex_unlock(&j->lock);

    log->running = true;
    wanted = show_written(log, now);
    finish_unstable(log, synced, now);
    log->running = false;
    vmlog_dead_submit(log);
    metric_set(log->m_records, records_of(log));
    if (wanted > synced) {
        pthread_mutex_lock(&j->lock);
        want_sync(log, wanted);
        pthread_mutex_unlock(&j->lock);
    }
    admit_waiting(log);
}

static void on_flushed(struct task *t)
{
    struct vmlog_flush *f = container_of(t, struct vmlog_flush, in.task);

    f->in.log->out--;
    f->done(f);
}

void vmlog_flush(struct vmlog *log, struct vmlog_flush *f)
{
    struct journal *j = log->journal;
    bool stable, there = follower_stable(log, log->last);

    f->in.log = log;
    f->in.batch = log->last_batch;
    f->in.seq = log->last;
    f->in.since_ns = loop_now_ns(log->loop);
    f->in.task.run = on_flushed;
    log->out++;
    pthread_mutex_lock(&j->lock);
    stable = f->in.batch <= j->synced;
    if (!stable)
        want_sync(log, f->in.batch);
    pthread_mutex_unlock(&j->lock);
    if (stable && there)
        loop_post(log->loop, &f->in.task);
    else
        STAILQ_INSERT_TAIL(&log->flushes, f, in.entry);
    if (!there)
        log->follower->sync(log->follower, f->in.seq);
}

/* --- followers ------------------------------------------------------------------------------------------*/

void vmlog_followed(struct vmlog *log)
{
    struct journal *j = log->journal;

    pthread_mutex_lock(&j->lock);
    syncer_post(log);
    pthread_mutex_unlock(&j->lock);
}

uint64_t vmlog_follow(struct vmlog *log, struct vmlog_follower *follower)
{
    CHECK(!log->running && !(log->follower && follower));
    log->follower = follower;
    if (follower)
        follower->has = follower->stable = log->numbered;
    else
        vmlog_followed(log);
    return log->numbered + 1;
}

void vmlog_keep_order(struct vmlog *log)
{
    log->in_order = true;
}

/* --- where things are -----------------------------------------------------------------------------------*/

uint64_t vmlog_last(const struct vmlog *log)
{
    return log->last;
}

unsigned vmlog_pieces(struct vmlog *log, uint8_t disk, uint64_t lba, uint32_t nsectors,
                      struct vmlog_piece *pieces, unsigned max, uint32_t *covered)
{
    CHECK(disk < VMLOG_DISKS);
    if (log->disks[disk])
        return extents_pieces(log->disks[disk], lba, nsectors, pieces, max, covered);
    *covered = 0;
    if (nsectors == 0 || max == 0)
        return 0;
    *covered = nsectors;
    pieces[0] = (struct vmlog_piece){.kind = PIECE_ABSENT, .lba = lba, .nsectors = nsectors};
    return 1;
}

void vmlog_discard(struct vmlog *log, uint8_t disk)
{
    struct extents *x = log->disks[disk];
    uint64_t before = x ? extents_cost(x) : 0;

    if (!before)
        return;
    extents_forget_through(x, UINT64_MAX);
    if (log->frozen)
        log->held_bytes += before - extents_cost(x);
    else
        space_give(log->journal, before - extents_cost(x));
    vmlog_dead_submit(log);
    metric_set(log->m_records, records_of(log));
}

/* --- opening, closing, deleting -------------------------------------------------------------------------*/

struct replay {
    struct vmlog *log;
    struct opener *opener;
    struct why *why;
};

static int replay_one(void *arg, const uint8_t *key, size_t key_len, const uint8_t *value, size_t n)
{
    struct replay *r = arg;
    struct vmlog *log = r->log;
    uint8_t header[RECORD_HEADER_BYTES];
    struct record_header h;
    uint64_t seq = key_len == RECORD_KEY_BYTES ? get64(key + VMLOG_ID_BYTES) : 0;
    int len = keyring_open(log->journal->keys, r->opener, key, key_len, value, n, header, sizeof header);

    if (seq == 0 || len < 0 || record_decode(&h, header, (size_t)len) < 0) {
        metric_add(log->journal->m_corrupt, 1);
        return why_set(r->why, -EBADMSG, "record %" PRIu64 " of VM %s in the journal at %s is altered", seq,
                       log->vm, log->journal->path);
    }
    extents_apply(disk_of(log, h.disk), h.type, seq, h.lba, h.nsectors);
    log->last = seq;
    return 0;
}

static int replay(struct vmlog *log, struct why *why)
{
    struct journal *j = log->journal;
    struct replay r = {log, keyring_take(j->keys), why};
    uint8_t from[RECORD_KEY_BYTES], to[RECORD_KEY_BYTES];
    int err;

    record_key(from, log->id, 0);
    record_key_end(to, log->id);
    pthread_rwlock_rdlock(&j->db_lock);
    err = j->kv->ops->each(j->kv, KV_LOG, from, sizeof from, to, sizeof to, replay_one, &r);
    pthread_rwlock_unlock(&j->db_lock);
    keyring_give(j->keys, r.opener);
    if (err && err != -EBADMSG)
        why_set(why, err, "cannot read the log of VM %s in the journal at %s: %s", log->vm, j->path,
                strerror(-err));
    return err;
}

/* With everything that was counted for it. */
static void vmlog_free(struct vmlog *log, bool counted)
{
    for (int i = 0; i < VMLOG_DISKS; i++) {
        if (log->disks[i] && counted)
            space_give(log->journal, extents_cost(log->disks[i]));
        extents_free(&log->disks[i]);
    }
    metric_free(&log->m_written);
    metric_free(&log->m_records);
    free(log->dead);
    free(log->vm);
    free(log);
}

int vmlog_open(struct vmlog **lp, struct journal *j, struct loop *loop, const uint8_t id[VMLOG_ID_BYTES],
               const char *vm, struct why *why)
{
    struct vmlog *log = xcalloc(1, sizeof *log);
    uint64_t began = journal_now_ns();
    int err;

    log->journal = j;
    log->loop = loop;
    memcpy(log->id, id, sizeof log->id);
    log->vm = xstrdup(vm);
    log->complete.run = on_complete;
    STAILQ_INIT(&log->waiting);
    STAILQ_INIT(&log->written);
    STAILQ_INIT(&log->unstable);
    STAILQ_INIT(&log->flushes);
    STAILQ_INIT(&log->finished);
    STAILQ_INIT(&log->held);
    log->m_written = metric_new(METRIC_COUNTER, "isthmus_journal_written_bytes_total",
                                "Payload written to the journal.", "vm=\"%s\"", vm);
    log->m_records =
        metric_new(METRIC_GAUGE, "isthmus_journal_records", "Live records in the journal.", "vm=\"%s\"", vm);
    err = replay(log, why);
    if (err) {
        vmlog_free(log, false);
        return err;
    }
    vmlog_dead_submit(log);
    log->numbered = log->last;
    if (records_of(log))
        log->oldest_ns = journal_now_ns();
    for (int i = 0; i < VMLOG_DISKS; i++)
        if (log->disks[i])
            space_add(j, extents_cost(log->disks[i]));
    metric_set(log->m_records, records_of(log));
    admit_init(log);
    log_info(vm, "log opened at record %" PRIu64 ": %" PRIu64 " live records, %.3f s", log->last,
             records_of(log), (double)(journal_now_ns() - began) / 1e9);
    *lp = log;
    return 0;
}

void vmlog_close(struct vmlog **lp)
{
    struct vmlog *log = *lp;
    struct journal *j;

    if (!log)
        return;
    *lp = NULL;
    j = log->journal;
    CHECK(log->out == 0 && !log->running);
    pthread_mutex_lock(&j->lock); /* who posted our last task has let go of us when we have this */
    CHECK(!log->posted && !log->in_syncing);
    pthread_mutex_unlock(&j->lock);
    timer_free(&log->pump);
    vmlog_free(log, true);
}

int vmlog_delete(struct journal *j, const uint8_t id[VMLOG_ID_BYTES], struct why *why)
{
    struct control c = {.what = CONTROL_PURGE, .id = id};
    uint8_t from[RECORD_KEY_BYTES], to[RECORD_KEY_BYTES];

    if (journal_failed(j))
        return why_set(why, -EIO,
                       "the disk of the journal at %s is full or fails: nothing can be deleted now", j->path);
    journal_control(j, &c);
    record_key(from, id, 0);
    record_key_end(to, id);
    pthread_rwlock_rdlock(&j->db_lock);
    j->kv->ops->trim(j->kv, KV_LOG, from, sizeof from, to, sizeof to);
    j->kv->ops->trim(j->kv, KV_DATA, from, sizeof from, to, sizeof to);
    pthread_rwlock_unlock(&j->db_lock);
    return 0;
}
