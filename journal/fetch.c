/* journal/fetch.c - reading payload back from the journal, on a pool thread.
 *
 * Neighbouring pieces of one part are of one reading and opening of it; straight to its destination when it
 * is wanted whole. While the store is being opened again after an error of the disk, reads wait.
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

enum { PARTS_MAX = 64 }; /* got at once */

struct parts {
    struct vmlog *log;
    struct opener *opener;
    const struct vmlog_piece *pieces;
    uint8_t *const *to;
    unsigned n;
    uint8_t keys[PARTS_MAX][RECORD_PART_KEY_BYTES];
    unsigned first[PARTS_MAX + 1]; /* piece of each, and of what comes behind them */
    unsigned failed;               /* the piece, if one does */
};

static int copy_pieces(struct parts *r, unsigned at, unsigned end, const uint8_t *bytes, size_t len)
{
    for (; at < end; at++) {
        size_t from = (size_t)r->pieces[at].part_sector * SECTOR, n = (size_t)r->pieces[at].nsectors * SECTOR;

        r->failed = at;
        if (len < from + n)
            return -EBADMSG;
        if (r->to[at] != bytes)
            memcpy(r->to[at], bytes + from, n);
    }
    return 0;
}

static int on_part(void *arg, unsigned i, const void *value, size_t n)
{
    struct parts *r = arg;
    unsigned at = r->first[i], end = r->first[i + 1];
    const struct vmlog_piece *p = &r->pieces[at];
    bool whole = end == at + 1 && p->part_sector == 0 && p->nsectors == PART_SECTORS;
    uint8_t *to = whole ? r->to[at] : r->opener->scratch;
    int len = keyring_open(r->log->journal->keys, r->opener, r->keys[i], sizeof r->keys[i], value, n, to,
                           PART_BYTES);
    int err = len < 0 ? len : copy_pieces(r, at, end, to, (size_t)len);

    if (err == 0)
        r->failed = end; /* if it is not there */
    return err;
}

/* The next parts, from that piece on; returns how many. */
static unsigned name_parts(struct parts *r, unsigned at)
{
    unsigned n = 0;

    for (; at < r->n; at++) {
        const struct vmlog_piece *p = &r->pieces[at];

        CHECK(p->kind == PIECE_DATA && p->part_sector + p->nsectors <= PART_SECTORS);
        if (n && p[-1].seq == p->seq && p[-1].part == p->part)
            continue;
        if (n == PARTS_MAX)
            break;
        record_part_key(r->keys[n], r->log->id, p->seq, p->part);
        r->first[n++] = at;
    }
    r->first[n] = at;
    return n;
}

int fetch_pieces(struct vmlog *log, const struct vmlog_piece *pieces, uint8_t *const *to, unsigned n,
                 unsigned *failed)
{
    struct journal *j = log->journal;
    struct parts r = {.log = log, .opener = keyring_take(j->keys), .pieces = pieces, .to = to, .n = n};
    unsigned nparts;
    int err = 0;

    pthread_rwlock_rdlock(&j->db_lock);
    for (unsigned at = 0; at < n && err == 0; at = r.first[nparts]) {
        nparts = name_parts(&r, at);
        err = j->kv->ops->get_many(j->kv, r.keys[0], sizeof r.keys[0], nparts, on_part, &r);
    }
    pthread_rwlock_unlock(&j->db_lock);
    keyring_give(j->keys, r.opener);
    *failed = r.failed;
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
