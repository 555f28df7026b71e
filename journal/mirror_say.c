/* journal/mirror_say.c - what is said beside the records: that they are to be stable, are needed no more,
 * join what the store has; and reservations.
 */
#include "check.h"
#include "mem.h"
#include "mirror_impl.h"
#include "proto_pair.h"

#include <errno.h>
#include <string.h>

/* --- sync, trim, join -----------------------------------------------------------------------------------*/

static void ask(struct mark *k, uint8_t type, void (*done)(struct far_call *))
{
    struct mirror *m = k->mirror;
    struct pair_mark mark = {.stream = m->stream, .seq = k->wanted};

    if (k->out || k->wanted <= k->asked || m->failed || m->stopping)
        return;
    memcpy(mark.vm, m->conf.id, sizeof mark.vm);
    k->out = true;
    k->asked = k->wanted;
    mirror_call(m, &k->call, type, pair_put_mark(&mark), done);
}

static void on_synced(struct far_call *f)
{
    struct mark *k = container_of(f, struct mark, call);
    struct mirror *m = k->mirror;
    struct why why;
    int err = mirror_answer(f, &why);

    k->out = false;
    if (err) {
        mirror_fail(m, err, &why);
    } else if (!m->failed && !m->stopping) {
        m->follower.stable = k->asked;
        vmlog_followed(m->conf.log);
        ask(k, PROTO_MIRROR_SYNC, on_synced);
    }
    mirror_leave(m);
}

void mirror_sync_wanted(struct vmlog_follower *follower, uint64_t seq)
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
    int err = mirror_answer(f, &why);

    k->out = false;
    if (err)
        mirror_fail(m, err, &why);
    else
        ask(k, PROTO_MIRROR_TRIM, on_trimmed);
    mirror_leave(m);
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
    int err = mirror_answer(f, &why);

    TAILQ_REMOVE(&m->joins, j, in.entry);
    if (err && err != -ECANCELED)
        mirror_fail(m, err, &why);
    j->done(j);
    mirror_leave(m);
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
    mirror_call(m, &j->in.call, PROTO_MIRROR_TRIM, pair_put_mark(&mark), on_joined);
}

void mirror_join_cancel(struct mirror_join *j)
{
    far_call_cancel(&j->in.call);
}

/* --- reservations ---------------------------------------------------------------------------------------*/

static void end_reservations(struct reservations *r, bool has)
{
    TAILQ_REMOVE(&r->mirror->reservations, r, entry);
    if (r->done)
        r->done(r->arg, has);
    free(r);
}

void mirror_look_kept(struct mirror *m)
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
    int err = mirror_answer(f, &why);

    r->out = false;
    if (err)
        mirror_fail(m, err, &why);
    else
        end_reservations(r, true);
    mirror_look_kept(m);
    mirror_leave(m);
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
    mirror_call(m, &r->call, PROTO_MIRROR_RESERVE, pair_put_reserve(&body), on_reserved);
}

/* --- the end --------------------------------------------------------------------------------------------*/

void mirror_say_cancel(struct mirror *m)
{
    struct reservations *r;
    struct mirror_join *j;

    TAILQ_FOREACH (r, &m->reservations, entry)
        if (r->out)
            far_call_cancel(&r->call);
    TAILQ_FOREACH (j, &m->joins, in.entry)
        far_call_cancel(&j->in.call);
    if (m->sync.out)
        far_call_cancel(&m->sync.call);
    if (m->trim.out)
        far_call_cancel(&m->trim.call);
}

void mirror_say_end(struct mirror *m)
{
    while (!TAILQ_EMPTY(&m->reservations))
        end_reservations(TAILQ_FIRST(&m->reservations), false);
}
