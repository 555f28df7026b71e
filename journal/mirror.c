/* journal/mirror.c - see mirror.h.
 */
#include "mirror.h"
#include "check.h"
#include "far_call.h"
#include "log.h"
#include "mem.h"
#include "metric.h"
#include "proto_pair.h"
#include "record.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char part[] = "mirror";

/* Pieces of records on their way. */
struct parcel {
    STAILQ_ENTRY(parcel) entry;
    struct mirror *mirror;
    struct far_call call;
    uint64_t last; /* the newest record that is whole with it */
    uint64_t sent_ns;
    bool answered;
};
STAILQ_HEAD(parcels, parcel);

/* A call of which one is out at a time. */
struct mark {
    struct mirror *mirror;
    struct far_call call;
    uint64_t wanted, asked; /* up to which record */
    bool out;
};

/* A disk's reservations, until the other edge has them. */
struct reservations {
    TAILQ_ENTRY(reservations) entry;
    struct mirror *mirror;
    struct far_call call;
    bool out;
    void (*done)(void *arg, bool has);
    void *arg;
};

struct mirror {
    struct mirror_conf conf;
    char *vm;
    struct vmlog_follower follower;
    uint64_t first, stream, next_number, last; /* last: the newest record that is whole in a parcel */
    struct parcel *open;                       /* being filled; sent at the end of the turn */
    struct parcels sent;
    struct task turn;
    bool turn_posted;
    TAILQ_HEAD(, reservations) reservations;
    uint64_t next_reserve;
    struct far_call begin;
    bool begun, kept; /* BEGIN is answered; state() was told so */
    struct mark sync, trim;
    TAILQ_HEAD(, mirror_join) joins;
    struct task end;
    unsigned out; /* calls and tasks under way */
    bool failed, stopping;
    void (*done)(void *arg);
    void *done_arg;
    struct metric *m_seconds;
};

/* --- life and death -------------------------------------------------------------------------------------*/

static void end_reservations(struct reservations *, bool has);

static void free_mirror(struct mirror *m)
{
    void (*done)(void *arg) = m->done;
    void *arg = m->done_arg;

    while (!TAILQ_EMPTY(&m->reservations))
        end_reservations(TAILQ_FIRST(&m->reservations), false);
    metric_free(&m->m_seconds);
    free(m->vm);
    free(m);
    done(arg);
}

static void leave(struct mirror *m)
{
    if (--m->out == 0 && m->stopping)
        free_mirror(m);
}

static void fail(struct mirror *m, int err, const struct why *why)
{
    struct why sentence;

    if (m->failed || m->stopping)
        return;
    m->failed = true;
    why_set(&sentence, err, "the other edge does not keep this VM's log: %s",
            *why->text ? why->text : strerror(-err));
    log_warn(m->vm, "%s", sentence.text);
    m->conf.state(m->conf.arg, false, &sentence);
}

static void call(struct mirror *m, struct far_call *f, uint8_t type, struct buf *body,
                 void (*done)(struct far_call *))
{
    f->call = (struct link_call){.type = type, .class = LINK_CONTROL, .body = body};
    f->home = m->conf.loop;
    f->away = m->conf.link_loop;
    f->peer = m->conf.peer;
    f->done = done;
    m->out++;
    far_call(f);
}

/* The answer to any of the calls: what was lent goes. */
static int answer(struct far_call *f, struct why *why)
{
    buf_unref(&f->call.body);
    if (f->call.status == 0)
        buf_unref(&f->call.reply);
    *why = f->call.why;
    return f->call.status;
}

/* --- records --------------------------------------------------------------------------------------------*/

static void on_put(struct far_call *f)
{
    struct parcel *p = container_of(f, struct parcel, call);
    struct mirror *m = p->mirror;
    struct why why;
    int err = answer(f, &why);

    p->answered = true;
    if (err)
        fail(m, err, &why);
    else
        metric_observe_ns(m->m_seconds, loop_now_ns(m->conf.loop) - p->sent_ns);
    while ((p = STAILQ_FIRST(&m->sent)) && p->answered) {
        STAILQ_REMOVE_HEAD(&m->sent, entry);
        if (!m->failed && !m->stopping && p->last > m->follower.has) {
            m->follower.has = p->last;
            vmlog_followed(m->conf.log);
        }
        free(p);
    }
    leave(m);
}

static void send_open(struct mirror *m)
{
    struct parcel *p = m->open;

    m->open = NULL;
    p->last = m->last;
    p->sent_ns = loop_now_ns(m->conf.loop);
    STAILQ_INSERT_TAIL(&m->sent, p, entry);
    call(m, &p->call, PROTO_MIRROR_PUT, p->call.call.body, on_put);
}

static void on_turn(struct task *t)
{
    struct mirror *m = container_of(t, struct mirror, turn);

    m->turn_posted = false;
    if (m->open)
        send_open(m);
    leave(m);
}

/* Room for the head of a piece and at least one sector; where it goes. */
static uint8_t *room(struct mirror *m)
{
    enum { LEAST = PAIR_PIECE_BYTES + SECTOR };
    struct buf *b;

    if (m->open && m->open->call.call.body->len + LEAST > PAIR_PUT_MAX)
        send_open(m);
    if (!m->open) {
        m->open = xcalloc(1, sizeof *m->open);
        m->open->mirror = m;
        b = m->open->call.call.body = buf_new(PAIR_PUT_MAX);
        pair_put_head(b->data, m->conf.id, m->stream, m->next_number++);
        b->len = PAIR_PUT_HEAD_BYTES;
    }
    return m->open->call.call.body->data + m->open->call.call.body->len;
}

static void put_piece(struct mirror *m, const struct vmlog_append *a, struct pair_piece *piece)
{
    uint8_t *p = room(m);
    struct buf *b = m->open->call.call.body;
    uint32_t left = (PAIR_PUT_MAX - b->len - PAIR_PIECE_BYTES) / SECTOR;

    piece->sectors = 0;
    if (a->type == RECORD_WRITE) {
        piece->sectors = a->nsectors - piece->from < left ? a->nsectors - piece->from : left;
        memcpy(p + PAIR_PIECE_BYTES, a->data->data + a->data_offset + (size_t)piece->from * SECTOR,
               (size_t)piece->sectors * SECTOR);
    }
    pair_put_piece(p, piece);
    b->len += PAIR_PIECE_BYTES + piece->sectors * SECTOR;
    piece->from += piece->sectors;
}

static void on_record(struct vmlog_follower *follower, const struct vmlog_append *a)
{
    struct mirror *m = container_of(follower, struct mirror, follower);
    struct pair_piece piece = {
        .seq = a->seq, .lba = a->lba, .nsectors = a->nsectors, .type = (uint8_t)a->type, .disk = a->disk};

    if (m->failed)
        return;
    do
        put_piece(m, a, &piece);
    while (a->type == RECORD_WRITE && piece.from < a->nsectors);
    m->last = a->seq;
    if (m->turn_posted)
        return;
    m->turn_posted = true;
    m->turn.run = on_turn;
    m->out++;
    loop_post(m->conf.loop, &m->turn);
}

/* --- sync, trim, join
 * -----------------------------------------------------------------------------------------*/

static void ask(struct mark *k, uint8_t type, void (*done)(struct far_call *))
{
    struct mirror *m = k->mirror;
    struct pair_mark mark = {.stream = m->stream, .seq = k->wanted};

    if (k->out || k->wanted <= k->asked || m->failed || m->stopping)
        return;
    memcpy(mark.vm, m->conf.id, sizeof mark.vm);
    k->out = true;
    k->asked = k->wanted;
    call(m, &k->call, type, pair_put_mark(&mark), done);
}

static void on_synced(struct far_call *f)
{
    struct mark *k = container_of(f, struct mark, call);
    struct mirror *m = k->mirror;
    struct why why;
    int err = answer(f, &why);

    k->out = false;
    if (err) {
        fail(m, err, &why);
    } else if (!m->failed && !m->stopping) {
        m->follower.stable = k->asked;
        vmlog_followed(m->conf.log);
        ask(k, PROTO_MIRROR_SYNC, on_synced);
    }
    leave(m);
}

static void on_sync_wanted(struct vmlog_follower *follower, uint64_t seq)
{
    struct mirror *m = container_of(follower, struct mirror, follower);

    if (seq > m->sync.wanted)
        m->sync.wanted = seq;
    ask(&m->sync, PROTO_MIRROR_SYNC, on_synced);
}

static void on_trimmed(struct far_call *f)
{
    struct mark *k = container_of(f, struct mark, call);
    struct mirror *m = k->mirror;
    struct why why;
    int err = answer(f, &why);

    k->out = false;
    if (err)
        fail(m, err, &why);
    else
        ask(k, PROTO_MIRROR_TRIM, on_trimmed);
    leave(m);
}

void mirror_trim(struct mirror *m, uint64_t cut)
{
    if (cut > m->trim.wanted)
        m->trim.wanted = cut;
    ask(&m->trim, PROTO_MIRROR_TRIM, on_trimmed);
}

static void on_joined(struct far_call *f)
{
    struct mirror_join *j = container_of(f, struct mirror_join, in.call);
    struct mirror *m = j->in.mirror;
    struct why why;
    int err = answer(f, &why);

    TAILQ_REMOVE(&m->joins, j, in.entry);
    if (err)
        fail(m, err, &why);
    j->done(j);
    leave(m);
}

void mirror_join(struct mirror *m, struct mirror_join *j, uint64_t through)
{
    struct pair_mark mark = {.stream = m->stream, .seq = m->first - 1};

    if (m->failed || m->stopping || mark.seq == 0 || through < mark.seq) {
        j->done(j);
        return;
    }
    memcpy(mark.vm, m->conf.id, sizeof mark.vm);
    j->in.mirror = m;
    TAILQ_INSERT_TAIL(&m->joins, j, in.entry);
    call(m, &j->in.call, PROTO_MIRROR_TRIM, pair_put_mark(&mark), on_joined);
}

/* --- reservations ---------------------------------------------------------------------------------------*/

static void end_reservations(struct reservations *r, bool has)
{
    TAILQ_REMOVE(&r->mirror->reservations, r, entry);
    if (r->done)
        r->done(r->arg, has);
    free(r);
}

/* The other edge has everything that it has to have from the beginning. */
static void look_kept(struct mirror *m)
{
    struct why why = {""};

    if (!m->begun || !TAILQ_EMPTY(&m->reservations) || m->kept || m->failed || m->stopping)
        return;
    m->kept = true;
    m->conf.state(m->conf.arg, true, &why);
}

/* One that was refused waits until nobody waits for the other edge. */
static void on_reserved(struct far_call *f)
{
    struct reservations *r = container_of(f, struct reservations, call);
    struct mirror *m = r->mirror;
    struct why why;
    int err = answer(f, &why);

    r->out = false;
    if (err)
        fail(m, err, &why);
    else
        end_reservations(r, true);
    look_kept(m);
    leave(m);
}

void mirror_reserve(struct mirror *m, uint8_t disk, const uint8_t *state, uint32_t n,
                    void (*done)(void *arg, bool has), void *arg)
{
    struct pair_reserve body = {
        .stream = m->stream, .number = m->next_reserve++, .disk = disk, .state = state, .len = n};
    struct reservations *r = xcalloc(1, sizeof *r);

    CHECK(!m->stopping);
    memcpy(body.vm, m->conf.id, sizeof body.vm);
    r->mirror = m;
    r->done = done;
    r->arg = arg;
    TAILQ_INSERT_TAIL(&m->reservations, r, entry);
    if (m->failed)
        return;
    r->out = true;
    call(m, &r->call, PROTO_MIRROR_RESERVE, pair_put_reserve(&body), on_reserved);
}

/* --- begin, end -----------------------------------------------------------------------------------------*/

static void on_begun(struct far_call *f)
{
    struct mirror *m = container_of(f, struct mirror, begin);
    struct why why;
    int err = answer(f, &why);

    if (err)
        fail(m, err, &why);
    m->begun = err == 0;
    look_kept(m);
    leave(m);
}

struct mirror *mirror_new(const struct mirror_conf *conf, uint64_t *first)
{
    struct mirror *m = xcalloc(1, sizeof *m);
    struct pair_begin begin = {0};

    m->conf = *conf;
    m->vm = xstrdup(conf->vm);
    m->conf.vm = m->vm;
    STAILQ_INIT(&m->sent);
    TAILQ_INIT(&m->reservations);
    m->follower.append = on_record;
    m->follower.sync = on_sync_wanted;
    TAILQ_INIT(&m->joins);
    m->sync.mirror = m->trim.mirror = m;
    m->m_seconds = metric_new(METRIC_HISTOGRAM, "isthmus_mirror_seconds",
                              "From sending records to the other edge to its answer that it has them.",
                              "vm=\"%s\"", m->vm);
    loop_random(conf->loop, &m->stream, sizeof m->stream);
    begin.first = m->first = *first = vmlog_follow(conf->log, &m->follower);
    begin.stream = m->stream;
    m->last = m->trim.asked = begin.first - 1;
    m->sync.asked = begin.first - 1;
    memcpy(begin.vm, conf->id, sizeof begin.vm);
    memcpy(begin.writer, conf->writer, sizeof begin.writer);
    strcpy(begin.name, m->vm);
    call(m, &m->begin, PROTO_MIRROR_BEGIN, pair_put_begin(&begin), on_begun);
    return m;
}

static void on_told(struct task *t)
{
    leave(container_of(t, struct mirror, end));
}

/* The link's loop. One word, for which nobody waits: what the other edge keeps in vain it drops at the latest
 * when it is taken in again. */
static void on_tell(struct task *t)
{
    struct mirror *m = container_of(t, struct mirror, end);
    struct pair_mark mark = {.stream = m->stream};
    struct buf *b;

    memcpy(mark.vm, m->conf.id, sizeof mark.vm);
    b = pair_put_mark(&mark);
    link_notice(m->conf.peer, PROTO_MIRROR_END, b->data, b->len);
    buf_unref(&b);
    m->end.run = on_told;
    loop_post(m->conf.loop, &m->end);
}

/* Calls that nobody needs any more. Those that were answered meanwhile take no notice. */
static void cancel_all(struct mirror *m)
{
    struct reservations *r;
    struct mirror_join *j;
    struct parcel *p;

    TAILQ_FOREACH (r, &m->reservations, entry)
        if (r->out)
            far_call_cancel(&r->call);
    STAILQ_FOREACH (p, &m->sent, entry)
        if (!p->answered)
            far_call_cancel(&p->call);
    if (m->sync.out)
        far_call_cancel(&m->sync.call);
    if (m->trim.out)
        far_call_cancel(&m->trim.call);
    TAILQ_FOREACH (j, &m->joins, in.entry)
        far_call_cancel(&j->in.call);
}

static void on_stop(struct task *t)
{
    leave(container_of(t, struct mirror, turn));
}

void mirror_stop(struct mirror *m, bool forget, void (*done)(void *arg), void *arg)
{
    struct why why = {""};

    CHECK(!m->stopping);
    if (forget && !m->kept && !m->failed) /* who waits for that waits for nothing */
        m->conf.state(m->conf.arg, true, &why);
    vmlog_follow(m->conf.log, NULL);
    if (m->open) {
        buf_unref(&m->open->call.call.body);
        free(m->open);
        m->open = NULL;
    }
    m->stopping = true;
    m->done = done;
    m->done_arg = arg;
    cancel_all(m);
    if (!m->begin.in.answered)
        far_call_cancel(&m->begin);
    if (forget && !m->failed) {
        m->end.run = on_tell;
        m->out++;
        loop_post(m->conf.link_loop, &m->end);
    }
    if (m->turn_posted)
        return; /* it leaves */
    m->turn.run = on_stop;
    m->out++;
    loop_post(m->conf.loop, &m->turn);
}
