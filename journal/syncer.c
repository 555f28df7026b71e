/* journal/syncer.c - the thread that makes the log stable when somebody asked.
 *
 * One fsync serves all who asked before it began, and runs beside the writer's next batches. When it fails
 * nobody is told anything: the writer opens the store again (which reads the last segments back and writes
 * them anew), and the fsync is repeated.
 */
#include "impl.h"

void syncer_post(struct vmlog *log)
{
    if (log->posted)
        return;
    log->posted = true;
    loop_post(log->loop, &log->complete);
}

static void tell(struct journal *j)
{
    struct vmlog *log, *next;

    for (log = TAILQ_FIRST(&j->syncing); log; log = next) {
        next = TAILQ_NEXT(log, sync_entry);
        if (log->sync_wanted <= j->synced) {
            TAILQ_REMOVE(&j->syncing, log, sync_entry);
            log->in_syncing = false;
        }
        syncer_post(log);
    }
    pthread_cond_broadcast(&j->stable);
}

void *syncer_main(void *arg)
{
    struct journal *j = arg;

    pthread_mutex_lock(&j->lock);
    for (;;) {
        uint64_t target;
        int err;

        while (!j->stopping && (j->sync_wanted <= j->synced || j->reopen || j->broken))
            pthread_cond_wait(&j->sync_wake, &j->lock);
        if (j->stopping)
            break;
        target = j->written;
        pthread_mutex_unlock(&j->lock);
        pthread_rwlock_rdlock(&j->db_lock);
        err = j->kv->ops->sync(j->kv);
        pthread_rwlock_unlock(&j->db_lock);
        pthread_mutex_lock(&j->lock);
        if (err) {
            j->reopen = err;
            pthread_cond_signal(&j->wake);
            continue;
        }
        j->synced = target;
        tell(j);
    }
    pthread_mutex_unlock(&j->lock);
    return NULL;
}
