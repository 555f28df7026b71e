/* journal/keep_log.c - a kept log on its loop: records are put together and appended, synced, forgotten.
 *
 * The other edge is ours, but what it sends is looked at like any input. What makes no sense ends the stream:
 * the owner sees that and goes on as if this edge were lost.
 */
#include "check.h"
#include "keep_impl.h"
#include "mem.h"
#include "record.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct kept_record {
    struct kept *kept;
    struct vmlog_append append;
    struct buf *data;
    uint32_t have; /* sectors */
};

static void look_quiet(struct kept *k)
{
    void (*quiet)(struct kept *) = k->quiet;

    if (!quiet || k->appends)
        return;
    k->quiet = NULL;
    if (k->partial) {
        buf_unref(&k->partial->data);
        free(k->partial);
        k->partial = NULL;
    }
    quiet(k);
}

static void answer_puts(struct kept *k)
{
    struct keep_request *q;

    while ((q = STAILQ_FIRST(&k->puts)) && q->last <= k->there) {
        STAILQ_REMOVE_HEAD(&k->puts, entry);
        keep_answer(q, 0, NULL);
    }
}

static void on_appended(struct vmlog_append *a)
{
    struct kept_record *r = container_of(a, struct kept_record, append);
    struct kept *k = r->kept;

    k->there = a->seq;
    k->appends--;
    buf_unref(&r->data);
    free(r);
    answer_puts(k);
    look_quiet(k);
}

static void append(struct kept *k, struct kept_record *r)
{
    k->appends++;
    k->next_seq++;
    r->append.data = r->data;
    r->append.done = on_appended;
    vmlog_append(k->log, &r->append);
}

/* Is it the next piece of the record that is being put together, or the first of the next one? */
static bool fits(const struct kept *k, const struct pair_piece *p)
{
    const struct kept_record *r = k->partial;

    if (!r)
        return p->seq == k->next_seq && p->from == 0;
    return p->seq == k->next_seq && p->from == r->have && p->type == r->append.type &&
           p->disk == r->append.disk && p->lba == r->append.lba && p->nsectors == r->append.nsectors;
}

static bool take_piece(struct kept *k, const struct pair_piece *p)
{
    struct kept_record *r = k->partial;

    if (!fits(k, p))
        return false;
    if (!r) {
        r = xcalloc(1, sizeof *r);
        r->kept = k;
        r->append = (struct vmlog_append){
            .type = (enum record_type)p->type, .disk = p->disk, .lba = p->lba, .nsectors = p->nsectors};
        r->data = p->type == RECORD_WRITE ? buf_new((size_t)p->nsectors * SECTOR) : NULL;
        k->partial = r;
    }
    if (p->sectors)
        memcpy(r->data->data + (size_t)r->have * SECTOR, p->data, (size_t)p->sectors * SECTOR);
    r->have += p->sectors;
    if (p->type == RECORD_ZERO || r->have == p->nsectors) {
        k->partial = NULL;
        append(k, r);
    }
    return true;
}

static int take_pieces(struct kept *k, struct pair_put *put, struct why *why)
{
    struct pair_piece piece;
    int rc;

    while ((rc = pair_next_piece(put, &piece)) > 0)
        if (!take_piece(k, &piece))
            return why_set(why, -EPROTO,
                           "record %" PRIu64 " from sector %u on, where record %" PRIu64
                           " from sector %u on was expected",
                           piece.seq, piece.from, k->next_seq, k->partial ? k->partial->have : 0);
    return rc ? why_set(why, rc, "a piece of a record cannot be read") : 0;
}

static void put(struct keep_request *q)
{
    struct kept *k = q->kept;
    struct pair_put body;
    struct why why = {"it cannot be read"};
    int rc = pair_get_put(q->request->body, q->request->len, &body);

    if (rc == 0 && body.number > k->next_number)
        rc =
            why_set(&why, -EPROTO, "call %" PRIu64 " came before call %" PRIu64, body.number, k->next_number);
    if (rc == 0 && body.number == k->next_number) {
        k->next_number++;
        rc = take_pieces(k, &body, &why);
    } /* else it is sent again, because its answer was lost */
    if (rc) {
        k->broken = true;
        keep_answer(q, rc, why.text);
        return;
    }
    q->last = k->next_seq - 1;
    STAILQ_INSERT_TAIL(&k->puts, q, entry);
    answer_puts(k);
}

static void on_flushed(struct vmlog_flush *f)
{
    keep_answer(container_of(f, struct keep_request, flush), 0, NULL);
}

static void join_run(struct work *w)
{
    struct keep_request *q = container_of(w, struct keep_request, work);
    const struct kept *k = q->kept;

    q->status = keep_note_joined(k->journal, k->id, k->begin.first - 1, &q->why);
}

static void join_done(struct work *w)
{
    struct keep_request *q = container_of(w, struct keep_request, work);
    struct kept *k = q->kept;
    struct why why = q->why;

    k->joined = k->joined || q->status == 0;
    k->broken = k->broken || q->status;
    keep_answer(q, q->status, why.text);
}

/* The store has everything up to `cut`. */
static void trim(struct keep_request *q, uint64_t cut)
{
    struct kept *k = q->kept;

    vmlog_forget(k->log, cut);
    if (k->joined || cut + 1 < k->begin.first) {
        keep_answer(q, 0, NULL);
        return;
    }
    q->work = (struct work){.run = join_run, .done = join_done};
    loop_work(k->loop, &q->work);
}

static void mark(struct keep_request *q)
{
    struct kept *k = q->kept;
    struct pair_mark m;
    int rc = pair_get_mark(q->request->body, q->request->len, &m);

    if (rc == 0 && m.seq > k->there)
        rc = -EPROTO; /* it was told of no such record */
    if (rc) {
        k->broken = true;
        keep_answer(q, rc, "a record is named that this edge was not given");
    } else if (q->request->type == PROTO_MIRROR_SYNC) {
        q->flush.done = on_flushed;
        vmlog_flush(k->log, &q->flush);
    } else {
        trim(q, m.seq);
    }
}

void keep_log_request(struct task *t)
{
    struct keep_request *q = container_of(t, struct keep_request, task);

    if (q->kept->broken)
        keep_answer(q, -ESTALE, "records before were missing");
    else if (q->request->type == PROTO_MIRROR_PUT)
        put(q);
    else if (q->request->type == PROTO_MIRROR_RESERVE)
        keep_reserve(q);
    else
        mark(q);
}

void keep_log_close(struct kept *k, void (*quiet)(struct kept *))
{
    k->quiet = quiet;
    look_quiet(k);
}
