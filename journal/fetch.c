/* journal/fetch.c - reading payload back from the journal, on a pool thread.
 *
 * A part is read and opened once for all neighbouring pieces of it; straight to its destination when it is
 * wanted whole. While the store is being opened again after an error of the disk, reads wait.
 */
#include "check.h"
#include "extents.h"
#include "impl.h"
#include "log.h"
#include "record.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char part[] = "journal";

struct part_read {
    struct journal *j;
    struct opener *opener;
    uint8_t key[RECORD_PART_KEY_BYTES];
    uint8_t *to; /* the opener's scratch, or where it is wanted whole */
    size_t room;
    int len;
};

static int open_value(void *arg, const void *value, size_t n)
{
    struct part_read *r = arg;

    r->len = keyring_open(r->j->keys, r->opener, r->key, sizeof r->key, value, n, r->to, r->room);
    return r->len < 0 ? r->len : 0;
}

static int fetch_piece(struct part_read *r, const struct vmlog *log, const struct vmlog_piece *p, uint8_t *to,
                       const struct vmlog_piece *before)
{
    size_t from = (size_t)p->part_sector * SECTOR, n = (size_t)p->nsectors * SECTOR;
    int err;

    CHECK(p->kind == PIECE_DATA && p->part_sector + p->nsectors <= PART_SECTORS);
    if (!before || before->seq != p->seq || before->part != p->part || r->to != r->opener->scratch) {
        bool whole = p->part_sector == 0 && p->nsectors == PART_SECTORS;

        record_part_key(r->key, log->id, p->seq, p->part);
        r->to = whole ? to : r->opener->scratch;
        r->room = PART_BYTES;
        err = r->j->kv->ops->get(r->j->kv, KV_DATA, r->key, sizeof r->key, open_value, r);
        if (err)
            return err;
    }
    if ((size_t)r->len < from + n)
        return -EBADMSG;
    if (r->to != to)
        memcpy(to, r->to + from, n);
    return 0;
}

int fetch_pieces(struct vmlog *log, const struct vmlog_piece *pieces, uint8_t *const *to, unsigned n,
                 unsigned *failed)
{
    struct journal *j = log->journal;
    struct part_read r = {.j = j, .opener = keyring_take(j->keys)};
    int err = 0;

    pthread_rwlock_rdlock(&j->db_lock);
    for (unsigned i = 0; i < n && err == 0; i++) {
        err = fetch_piece(&r, log, &pieces[i], to[i], i ? &pieces[i - 1] : NULL);
        *failed = i;
    }
    pthread_rwlock_unlock(&j->db_lock);
    keyring_give(j->keys, r.opener);
    return err;
}

static void fetch_run(struct work *w)
{
    struct vmlog_fetch *f = container_of(w, struct vmlog_fetch, in.work);

    f->status = fetch_pieces(f->in.log, f->pieces, f->to, f->n, &f->in.failed);
}

/* A key is removed only after the index has let go of it: missing while the index still points to it means
 * that the store lost it. */
static bool still_there(struct vmlog *log, const struct vmlog_piece *p)
{
    struct vmlog_piece now;
    uint32_t covered;

    for (int i = 0; i < VMLOG_DISKS; i++)
        if (log->disks[i] && extents_pieces(log->disks[i], p->lba, 1, &now, 1, &covered) == 1 &&
            now.kind == PIECE_DATA && now.seq == p->seq && now.part == p->part)
            return true;
    return false;
}

static void fetch_done(struct work *w)
{
    struct vmlog_fetch *f = container_of(w, struct vmlog_fetch, in.work);
    struct vmlog *log = f->in.log;
    const struct vmlog_piece *p = &f->pieces[f->in.failed];

    if (f->status == -ENOENT && still_there(log, p))
        f->status = -EBADMSG;
    if (f->status == -EBADMSG) {
        metric_add(log->journal->m_corrupt, 1);
        log_error(log->vm, "record %" PRIu64 " part %u in the journal at %s is altered or missing", p->seq,
                  p->part, log->journal->path);
    }
    log->out--;
    f->done(f);
}

void vmlog_fetch(struct vmlog *log, struct vmlog_fetch *f)
{
    CHECK(f->n > 0 && f->done);
    f->status = 0;
    f->in.log = log;
    f->in.failed = 0;
    f->in.work.run = fetch_run;
    f->in.work.done = fetch_done;
    log->out++;
    loop_work(log->loop, &f->in.work);
}
