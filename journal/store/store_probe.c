/* journal/store/store_probe.c - see store_probe.h: a list of steps, each a request and what its answer must
 * be.
 *
 * Loop thread. Whatever happens, the object is deleted in the end.
 */
#include "store_probe.h"

#include "check.h"
#include "log.h"
#include "mem.h"

#include <errno.h>
#include <semaphore.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char part[] = "store";

enum { SKEW_WARN_S = 60 };

/* A step sets up the request, and looks at the answer: 0 goes on. */
struct step {
    unsigned need;
    void (*ask)(struct store_probe *);
    int (*judge)(struct store_probe *);
};

static void next(struct store_probe *);

static void ask(struct store_probe *p, enum store_op op)
{
    memset(&p->req, 0, sizeof(p->req));
    p->req.op = op;
    p->req.key = p->key;
}

static int cannot(struct store_probe *p, const char *what)
{
    return why_set(&p->why, -EOPNOTSUPP, "the object store %s cannot be used: %s", p->store->name, what);
}

static int failed(struct store_probe *p)
{
    return why_set(&p->why, p->req.status, "the object store cannot be used: %s", p->req.why.text);
}

/* --- steps --- */

static void ask_put(struct store_probe *p, int text, enum store_condition condition, const char *match)
{
    ask(p, STORE_PUT);
    p->iov = (struct iovec){.iov_base = p->text[text], .iov_len = strlen(p->text[text])};
    p->req.put.iov = &p->iov;
    p->req.put.niov = 1;
    p->req.put.condition = condition;
    p->req.put.match = match;
}

static void ask_first(struct store_probe *p)
{
    ask_put(p, 0, STORE_ALWAYS, NULL);
}

static int judge_first(struct store_probe *p)
{
    if (p->req.status != 0)
        return failed(p);
    strcpy(p->etag, p->req.etag);
    if (p->req.clock_s)
        p->skew_s = p->req.clock_s - time(NULL);
    if (p->skew_s > SKEW_WARN_S || p->skew_s < -SKEW_WARN_S)
        log_warn(NULL, "our clock is %lld s %s that of the object store %s", (long long)llabs(p->skew_s),
                 p->skew_s < 0 ? "ahead of" : "behind", p->store->name);
    return 0;
}

static void ask_get(struct store_probe *p)
{
    ask(p, STORE_GET);
    p->req.get.buf = p->buf;
    p->req.get.cap = sizeof(p->buf);
    p->req.get.whole = true;
}

static int judge_get(struct store_probe *p)
{
    if (p->req.status == -ENOENT)
        return cannot(p, "what was put there is not there afterwards");
    if (p->req.status != 0)
        return failed(p);
    if (p->req.len != strlen(p->text[0]) || memcmp(p->buf, p->text[0], p->req.len) != 0)
        return cannot(p, "what is read is not what was put there");
    return 0;
}

static void ask_range(struct store_probe *p)
{
    ask(p, STORE_GET);
    p->req.get.buf = p->buf;
    p->req.get.cap = 3;
    p->req.get.offset = 2;
}

static int judge_range(struct store_probe *p)
{
    if (p->req.status != 0)
        return failed(p);
    if (p->req.len != 3 || memcmp(p->buf, p->text[0] + 2, 3) != 0)
        return cannot(p, "it does not serve ranges of objects");
    return 0;
}

static void ask_list(struct store_probe *p)
{
    ask(p, STORE_LIST);
    p->req.key = NULL;
    p->req.list.prefix = p->key;
    p->req.list.limit = 10;
}

static int judge_list(struct store_probe *p)
{
    bool there;

    if (p->req.status != 0)
        return failed(p);
    there = p->req.page->count == 1 && strcmp(p->req.page->entries[0].key, p->key) == 0;
    store_page_free(&p->req.page);
    return there ? 0 : cannot(p, "what was put there is not listed");
}

static void ask_absent(struct store_probe *p)
{
    ask_put(p, 1, STORE_IF_ABSENT, NULL);
}

static int judge_absent(struct store_probe *p)
{
    if (p->req.status == -EEXIST)
        return 0;
    if (p->req.status == 0)
        return cannot(p, "it overwrites an object that must not be (If-None-Match: * is passed over)");
    if (p->req.status == -EOPNOTSUPP)
        return why_set(&p->why, -EOPNOTSUPP,
                       "the object store %s cannot be used: it cannot refuse to overwrite an "
                       "object (%s)",
                       p->store->name, p->req.why.text);
    return failed(p);
}

static void ask_wrong_match(struct store_probe *p)
{
    ask_put(p, 1, STORE_IF_MATCH, "0123456789abcdef0123456789abcdef");
}

static int judge_wrong_match(struct store_probe *p)
{
    if (p->req.status == -ESTALE)
        return 0;
    if (p->req.status == 0)
        return cannot(
            p, "it swaps an object that is another one by now (If-Match is passed over); a pair needs that");
    if (p->req.status == -EOPNOTSUPP)
        return why_set(&p->why, -EOPNOTSUPP,
                       "the object store %s cannot be used: it cannot compare and swap, which a "
                       "pair needs (%s)",
                       p->store->name, p->req.why.text);
    return failed(p);
}

static void ask_match(struct store_probe *p)
{
    ask_put(p, 1, STORE_IF_MATCH, p->etag);
}

static int judge_match(struct store_probe *p)
{
    if (p->req.status == -ESTALE)
        return cannot(
            p, "it does not swap an object though its etag is the one it gave (If-Match); a pair needs that");
    return p->req.status == 0 ? 0 : failed(p);
}

static void ask_delete(struct store_probe *p)
{
    ask(p, STORE_DELETE);
    p->req.key = NULL;
    p->keys[0] = p->key;
    p->req.del.keys = p->keys;
    p->req.del.nkeys = 1;
}

static int judge_delete(struct store_probe *p)
{
    return p->req.status == 0 ? 0 : failed(p);
}

static void ask_gone(struct store_probe *p)
{
    ask(p, STORE_HEAD);
}

static int judge_gone(struct store_probe *p)
{
    if (p->req.status == -ENOENT)
        return 0;
    return p->req.status == 0 ? cannot(p, "what was deleted is still there") : failed(p);
}

static const struct step steps[] = {
    {0, ask_first, judge_first},
    {0, ask_get, judge_get},
    {0, ask_range, judge_range},
    {0, ask_list, judge_list},
    {STORE_NEED_IF_ABSENT, ask_absent, judge_absent},
    {STORE_NEED_IF_MATCH, ask_wrong_match, judge_wrong_match},
    {STORE_NEED_IF_MATCH, ask_match, judge_match},
    {0, ask_delete, judge_delete},
    {0, ask_gone, judge_gone},
};
enum { STEPS = sizeof(steps) / sizeof(steps[0]), DELETE_STEP = STEPS - 2 };

/* --- the walk --- */

static void submit(struct store_probe *p, void (*done)(struct store_req *))
{
    p->req.timeout_ms = p->timeout_ms;
    p->req.done = done;
    store_submit(p->store, &p->req);
}

static void on_cleaned(struct store_req *r)
{
    struct store_probe *p = container_of(r, struct store_probe, req);

    p->done(p);
}

static void on_answer(struct store_req *r)
{
    struct store_probe *p = container_of(r, struct store_probe, req);

    p->status = steps[p->step].judge(p);
    if (p->status == 0) {
        p->step++;
        next(p);
    } else if (p->step == 0 || p->step >= DELETE_STEP) {
        p->done(p);
    } else {
        ask_delete(p);
        submit(p, on_cleaned);
    }
}

static void next(struct store_probe *p)
{
    while (p->step < STEPS && (steps[p->step].need & ~p->needs))
        p->step++;
    if (p->step == STEPS) {
        p->done(p);
        return;
    }
    steps[p->step].ask(p);
    submit(p, on_answer);
}

void store_probe(struct store *s, struct store_probe *p)
{
    uint64_t random[2];

    loop_random(s->loop, random, sizeof(random));
    p->store = s;
    p->step = 0;
    p->status = 0;
    p->skew_s = 0;
    snprintf(p->key, sizeof(p->key), "probe/%016llx", (unsigned long long)random[0]);
    snprintf(p->text[0], sizeof(p->text[0]), "first %016llx", (unsigned long long)random[1]);
    snprintf(p->text[1], sizeof(p->text[1]), "other %016llx", (unsigned long long)random[1]);
    next(p);
}

/* --- waited for --- */

struct waiting {
    struct store_probe *probe;
    struct store *store;
    struct task task;
    sem_t done;
};

static void on_waited(struct store_probe *p)
{
    sem_post(&((struct waiting *)p->waiting)->done);
}

static void on_start(struct task *t)
{
    struct waiting *w = container_of(t, struct waiting, task);

    store_probe(w->store, w->probe);
}

int store_probe_wait(struct store *s, struct store_probe *p)
{
    struct waiting w = {.probe = p, .store = s, .task = {.run = on_start}};

    CHECK(!loop_is_current(s->loop));
    sem_init(&w.done, 0, 0);
    p->done = on_waited;
    p->waiting = &w; /* cppcheck-suppress autoVariables ; it is waited for */
    loop_post(s->loop, &w.task);
    while (sem_wait(&w.done) < 0)
        ;
    sem_destroy(&w.done);
    return p->status;
}
