/* journal/mirror.c - see mirror.h. The stream: its beginning and end, and records.
 */
#include "check.h"
#include "log.h"
#include "mem.h"
#include "mirror_impl.h"
#include "proto_pair.h"
#include "record.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char part[] = "mirror";

/* --- life and death -------------------------------------------------------------------------------------*/

static void free_mirror(struct mirror *m)
{
    void (*done)(void *arg) = m->done;
    void *arg = m->done_arg;

    mirror_say_end(m);
    metric_free(&m->m_seconds);
    free(m->vm);
    free(m);
    done(arg);
}

void mirror_leave(struct mirror *m)
{
    if (--m->out == 0 && m->stopping)
        free_mirror(m);
}

void mirror_fail(struct mirror *m, int err, const struct why *why)
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

void mirror_call(struct mirror *m, struct far_call *f, uint8_t type, struct buf *body,
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

int mirror_answer(struct far_call *f, struct why *why)
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
    int err = mirror_answer(f, &why);

    p->answered = true;
    if (err)
        mirror_fail(m, err, &why);
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
    mirror_leave(m);
}

static void send_open(struct mirror *m)
{
    struct parcel *p = m->open;

    m->open = NULL;
    p->last = m->last;
    p->sent_ns = loop_now_ns(m->conf.loop);
    STAILQ_INSERT_TAIL(&m->sent, p, entry);
    mirror_call(m, &p->call, PROTO_MIRROR_PUT, p->call.call.body, on_put);
}

static void on_turn(struct task *t)
{
    struct mirror *m = container_of(t, struct mirror, turn);

    m->turn_posted = false;
    if (m->open)
        send_open(m);
    mirror_leave(m);
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

/* --- begin, end -----------------------------------------------------------------------------------------*/

static void on_begun(struct far_call *f)
{
    struct mirror *m = container_of(f, struct mirror, begin);
    struct why why;
    int err = mirror_answer(f, &why);

    if (err)
        mirror_fail(m, err, &why);
    m->begun = err == 0;
    mirror_look_kept(m);
    mirror_leave(m);
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
    m->follower.sync = mirror_sync_wanted;
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
    mirror_call(m, &m->begin, PROTO_MIRROR_BEGIN, pair_put_begin(&begin), on_begun);
    return m;
}

static void on_told(struct task *t)
{
    mirror_leave(container_of(t, struct mirror, end));
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
    struct parcel *p;

    mirror_say_cancel(m);
    STAILQ_FOREACH (p, &m->sent, entry)
        if (!p->answered)
            far_call_cancel(&p->call);
}

static void on_stop(struct task *t)
{
    mirror_leave(container_of(t, struct mirror, turn));
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
