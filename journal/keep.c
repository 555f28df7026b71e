/* journal/keep.c - see keep.h. The main loop's half: which VMs are kept, their opening and closing.
 *
 *   BEGIN ──► room made (whoever served it here) ──► log emptied, opened (pool) ──► open ──► closing
 *
 * A BEGIN of a VM that is kept already is a newer stream: it waits until the older one is closed.
 */
#include "keep.h"
#include "check.h"
#include "cut.h"
#include "impl.h"
#include "keep_impl.h"
#include "log.h"
#include "mem.h"
#include "wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char part[] = "keep";

struct keep {
    struct keep_conf conf;
    TAILQ_HEAD(, kept) list;
    bool closed;
    unsigned next_loop, left;
    void (*done)(void *arg);
    void *done_arg;
    struct task task;
};

static void open_kept(struct kept *);

/* --- answers --------------------------------------------------------------------------------------------*/

static void refuse(struct link_request *r, int status, const char *why)
{
    link_reply(&r, status, why, NULL, 0);
}

static void look_idle(struct kept *k);

static void on_answered(struct task *t)
{
    struct keep_request *q = container_of(t, struct keep_request, task);
    struct kept *k = q->kept;

    link_reply(&q->request, q->status, q->status ? q->why.text : NULL, NULL, 0);
    free(q);
    k->out--;
    look_idle(k);
}

void keep_answer(struct keep_request *q, int status, const char *why)
{
    q->status = status;
    if (status)
        why_set(&q->why, 0, "%s", why);
    q->task.run = on_answered;
    loop_post(q->kept->keep->conf.main, &q->task);
}

static struct keep_request *request_new(struct kept *k, struct link_request *r)
{
    struct keep_request *q = xcalloc(1, sizeof *q);

    q->kept = k;
    q->request = r;
    return q;
}

static void give(struct kept *k, struct keep_request *q)
{
    k->out++;
    q->task.run = keep_log_request;
    loop_post(k->loop, &q->task);
}

static void wait_for_log(struct kept *k, struct link_request *r)
{
    struct keep_request *q = request_new(k, r);

    STAILQ_INSERT_TAIL(&k->early, q, entry);
}

static void refuse_early(struct kept *k, int status, const char *why)
{
    struct keep_request *q;

    while ((q = STAILQ_FIRST(&k->early))) {
        STAILQ_REMOVE_HEAD(&k->early, entry);
        refuse(q->request, status, why);
        free(q);
    }
}

/* --- closing --------------------------------------------------------------------------------------------*/

static void end_kept(struct kept *k);

static void free_kept(struct kept *k)
{
    struct keep *keep = k->keep;
    void (*closed)(struct kept *) = k->closed;
    void (*ended)(void *arg) = k->ended;
    void *ended_arg = k->ended_arg;
    struct kept *heir = k->heir;

    TAILQ_REMOVE(&keep->list, k, entry);
    refuse_early(k, -ESTALE, "this edge keeps the VM's log no more");
    if (closed)
        closed(k);
    free(k);
    if (ended)
        ended(ended_arg);
    if (!heir)
        return;
    if (heir->state == KEPT_CLOSING)
        end_kept(heir);
    else
        open_kept(heir);
}

static void erase_run(struct work *w)
{
    struct kept *k = container_of(w, struct kept, work);
    struct journal *j = k->keep->conf.journal;

    k->status = keep_clear(j, k->id, &k->why);
    if (k->status == 0)
        k->status = keep_forget(j, k->id, &k->why);
}

static void erase_done(struct work *w)
{
    struct kept *k = container_of(w, struct kept, work);

    if (k->status)
        log_error(k->begin.name, "what was kept of its log is left behind: %s", k->why.text);
    free_kept(k);
}

/* Its log is closed, or never was open. */
static void end_kept(struct kept *k)
{
    if (k->forget) {
        k->work = (struct work){.run = erase_run, .done = erase_done};
        loop_work(k->keep->conf.main, &k->work);
        return;
    }
    free_kept(k);
}

static void on_log_closed(struct task *t)
{
    end_kept(container_of(t, struct kept, task));
}

static void on_quiet(struct kept *k)
{
    vmlog_close(&k->log);
    k->task.run = on_log_closed;
    loop_post(k->keep->conf.main, &k->task);
}

/* A turn later: what called back has left the log by then. */
static void on_close_log(struct task *t)
{
    struct kept *k = container_of(t, struct kept, task);

    keep_log_close(k, on_quiet);
}

static void look_idle(struct kept *k)
{
    if (k->state != KEPT_CLOSING || k->out)
        return;
    k->task.run = on_close_log;
    loop_post(k->loop, &k->task);
}

/* closed(): when it is gone from the list; NULL: nobody waits. */
static void close_kept(struct kept *k, bool forget, void (*closed)(struct kept *))
{
    k->forget = k->forget || forget;
    if (closed)
        k->closed = closed;
    if (k->state == KEPT_CLOSING)
        return;
    if (k->state == KEPT_OPENING) {
        k->state = KEPT_CLOSING; /* open_done() goes on */
        return;
    }
    k->state = KEPT_CLOSING;
    look_idle(k);
}

static void all_closed(struct keep *keep)
{
    void (*done)(void *arg) = keep->done;

    if (!done || !TAILQ_EMPTY(&keep->list))
        return;
    keep->done = NULL;
    done(keep->done_arg);
}

static void on_one_closed(struct kept *k)
{
    all_closed(k->keep);
}

static void on_none(struct task *t)
{
    all_closed(container_of(t, struct keep, task));
}

void keep_close(struct keep *keep, void (*done)(void *arg), void *arg)
{
    struct kept *k, *next;

    keep->closed = true;
    keep->done = done;
    keep->done_arg = arg;
    for (k = TAILQ_FIRST(&keep->list); k; k = next) {
        next = TAILQ_NEXT(k, entry);
        close_kept(k, false, on_one_closed);
    }
    keep->task.run = on_none;
    if (TAILQ_EMPTY(&keep->list))
        loop_post(keep->conf.main, &keep->task);
}

void keep_reopen(struct keep *keep)
{
    keep->closed = false;
}

void keep_free(struct keep **keep)
{
    CHECK(TAILQ_EMPTY(&(*keep)->list));
    free(*keep);
    *keep = NULL;
}

/* --- opening --------------------------------------------------------------------------------------------*/

static void open_run(struct work *w)
{
    struct kept *k = container_of(w, struct kept, work);
    struct journal *j = k->keep->conf.journal;

    k->status = vmlog_delete(j, k->id, &k->why); /* of reservations the owner says all anew */
    if (k->status == 0)
        k->status = keep_note(j, k->id, k->begin.writer, k->begin.first - 1, &k->why);
    if (k->status == 0)
        k->status = vmlog_open(&k->log, j, k->loop, k->id, k->begin.name, &k->why);
    if (k->status)
        return;
    vmlog_keep_order(k->log);
    cut_resume(k->log, k->begin.first - 1);
    k->next_seq = k->begin.first;
    k->there = k->begin.first - 1;
}

static void open_done(struct work *w)
{
    struct kept *k = container_of(w, struct kept, work);
    bool closing = k->state == KEPT_CLOSING;
    struct keep_request *q;

    if (k->status) {
        log_error(k->begin.name, "its log cannot be kept here: %s", k->why.text);
        refuse_early(k, k->status, k->why.text);
        free_kept(k);
        return;
    }
    if (closing) {
        look_idle(k);
        return;
    }
    log_info(k->begin.name, "its log is kept here, from record %" PRIu64 " on", k->begin.first);
    k->state = KEPT_OPEN;
    while ((q = STAILQ_FIRST(&k->early))) {
        STAILQ_REMOVE_HEAD(&k->early, entry);
        if (q->request->type == PROTO_MIRROR_BEGIN) {
            link_reply(&q->request, 0, NULL, NULL, 0);
            free(q);
        } else {
            give(k, q);
        }
    }
}

static void on_room(void *arg, int status, const struct why *why)
{
    struct kept *k = arg;

    k->status = status;
    if (status) {
        k->why = *why;
        open_done(&k->work);
        return;
    }
    k->work = (struct work){.run = open_run, .done = open_done};
    loop_work(k->keep->conf.main, &k->work);
}

static void open_kept(struct kept *k)
{
    struct keep *keep = k->keep;

    keep->conf.make_room(keep->conf.arg, k->id, on_room, k);
}

static struct kept *kept_new(struct keep *keep, const struct pair_begin *b)
{
    struct kept *k = xcalloc(1, sizeof *k);

    k->keep = keep;
    k->journal = keep->conf.journal;
    memcpy(k->id, b->vm, sizeof k->id);
    k->begin = *b;
    k->loop = keep->conf.loops[keep->next_loop++ % keep->conf.nloops];
    STAILQ_INIT(&k->early);
    STAILQ_INIT(&k->puts);
    STAILQ_INIT(&k->syncs);
    STAILQ_INIT(&k->reserves);
    TAILQ_INSERT_TAIL(&keep->list, k, entry);
    return k;
}

/* --- requests -------------------------------------------------------------------------------------------*/

/* The newest of that VM. */
static struct kept *find(struct keep *keep, const uint8_t *id)
{
    struct kept *k;

    TAILQ_FOREACH (k, &keep->list, entry)
        if (!k->heir && memcmp(k->id, id, VMLOG_ID_BYTES) == 0)
            return k;
    return NULL;
}

bool keep_end(struct keep *keep, const uint8_t id[VMLOG_ID_BYTES], void (*done)(void *arg), void *arg)
{
    struct kept *k = find(keep, id);

    if (!k || k->ended)
        return false;
    k->ended = done;
    k->ended_arg = arg;
    close_kept(k, false, NULL);
    return true;
}

bool keep_has(const struct keep *keep, const char *vm)
{
    const struct kept *k;

    TAILQ_FOREACH (k, &keep->list, entry)
        if (strcmp(k->begin.name, vm) == 0)
            return true;
    return false;
}

void keep_each(const struct keep *keep, void (*each)(void *arg, const uint8_t id[VMLOG_ID_BYTES]), void *arg)
{
    const struct kept *k;

    TAILQ_FOREACH (k, &keep->list, entry)
        each(arg, k->id);
}

static void begin(struct keep *keep, struct link_request *r)
{
    struct kept *k, *old = NULL;
    struct pair_begin b;

    if (pair_get_begin(r->body, r->len, &b) < 0) {
        refuse(r, -EBADMSG, "it cannot be read");
        return;
    }
    k = find(keep, b.vm);
    if (k && k->begin.stream != b.stream) {
        old = k;
        k = NULL;
    } else if (k && k->state == KEPT_CLOSING) {
        refuse(r, -ESTALE, "this stream is over");
        return;
    }
    if (k && k->state == KEPT_OPEN) {
        link_reply(&r, 0, NULL, NULL, 0);
        return;
    }
    if (!k) {
        k = kept_new(keep, &b);
        wait_for_log(k, r);
        if (old) {
            old->heir = k;
            close_kept(old, false, NULL);
        } else {
            open_kept(k);
        }
        return;
    }
    wait_for_log(k, r);
}

void keep_request(struct keep *keep, struct link_request *r)
{
    struct kept *k;

    if (keep->closed) {
        refuse(r, -ESTALE, "this edge keeps nothing for the other now");
        return;
    }
    if (r->type == PROTO_MIRROR_BEGIN) {
        begin(keep, r);
        return;
    }
    /* The head of each is the same: VM, stream. */
    k = r->len >= PAIR_ID_BYTES + 8 ? find(keep, r->body) : NULL;
    if (!k || k->begin.stream != get64(r->body + PAIR_ID_BYTES) || k->state == KEPT_CLOSING) {
        refuse(r, -ESTALE, "this edge does not keep that VM's log");
    } else if (k->state == KEPT_OPENING) {
        wait_for_log(k, r);
    } else {
        give(k, request_new(k, r));
    }
}

void keep_notice(struct keep *keep, uint8_t type, const uint8_t *body, uint32_t len)
{
    struct pair_mark m;
    struct kept *k;

    if (type != PROTO_MIRROR_END || pair_get_mark(body, len, &m) < 0 || keep->closed)
        return;
    k = find(keep, m.vm);
    if (!k || (k->begin.stream != m.stream && m.stream != PAIR_ANY_STREAM))
        return;
    close_kept(k, true, NULL);
}

struct keep *keep_new(const struct keep_conf *conf)
{
    struct keep *keep = xcalloc(1, sizeof *keep);

    keep->conf = *conf;
    keep->closed = true;
    TAILQ_INIT(&keep->list);
    return keep;
}
