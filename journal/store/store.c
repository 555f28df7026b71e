/* journal/store/store.c - what all stores share: checks, the queue, deadlines, cancelling, delivery.
 *
 * A request waits in its store's queue, runs in its backend, ends, and is delivered from the loop:
 *
 *      WAITING ──► RUNNING ──► ENDED ──► (done)
 *         └──────────────────────▲
 *
 * Loop thread. Deliberately not here: trying again (store_retry.c) and everything about a particular store.
 */
#include "store.h"

#include "check.h"
#include "mem.h"
#include "store_backend.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum state { IDLE, WAITING, RUNNING, ENDED };

static const char *const op_names[STORE_OPS] = {"put", "get", "head", "list", "delete"};

const char *store_op_name(enum store_op op)
{
    CHECK(op < STORE_OPS);
    return op_names[op];
}

static bool key_char(char c)
{
    return c > ' ' && c < 0x7f && c != '\\';
}

bool store_key_ok(const char *key)
{
    size_t len = 0, segment = 0;

    for (; key[len]; len++) {
        if (!key_char(key[len]) || len == STORE_KEY_MAX)
            return false;
        if (key[len] == '/' && segment == 0)
            return false;
        if (key[len] == '.' && segment == 0)
            return false;
        segment = key[len] == '/' ? 0 : segment + 1;
        if (segment > STORE_SEGMENT_MAX)
            return false;
    }
    return segment > 0;
}

bool store_prefix_ok(const char *prefix)
{
    size_t len = 0;

    while (key_char(prefix[len]))
        len++;
    return len <= STORE_KEY_MAX && prefix[len] == '\0';
}

uint64_t store_put_bytes(const struct store_req *r)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < r->put.niov; i++)
        bytes += r->put.iov[i].iov_len;
    return bytes;
}

/* --- pages --- */

struct store_page *store_page_new(size_t limit)
{
    return xcalloc(1, sizeof(struct store_page) + limit * sizeof(struct store_entry));
}

void store_page_add(struct store_page **p, const char *key, uint64_t size)
{
    (*p)->entries[(*p)->count++] = (struct store_entry){.key = xstrdup(key), .size = size};
}

void store_page_free(struct store_page **p)
{
    if (!*p)
        return;
    for (size_t i = 0; i < (*p)->count; i++)
        free((char *)(*p)->entries[i].key);
    free((*p)->next);
    free(*p);
    *p = NULL;
}

/* --- a request's life --- */

void store_init(struct store *s, const struct store_ops *ops, struct loop *loop, const char *name,
                unsigned inflight_max)
{
    CHECK(inflight_max > 0);
    s->ops = ops;
    s->loop = loop;
    s->name = xstrdup(name);
    s->inflight_max = inflight_max;
    s->inflight = 0;
    TAILQ_INIT(&s->waiting);
    TAILQ_INIT(&s->running);
}

static void pump(struct store *s)
{
    while (s->inflight < s->inflight_max && !TAILQ_EMPTY(&s->waiting)) {
        struct store_req *r = TAILQ_FIRST(&s->waiting);

        TAILQ_REMOVE(&s->waiting, r, entry);
        TAILQ_INSERT_TAIL(&s->running, r, entry);
        r->state = RUNNING;
        s->inflight++;
        s->ops->start(s, r);
    }
}

/* done() may free the request, and with the last one the store. */
static void deliver(struct task *t)
{
    struct store_req *r = container_of(t, struct store_req, task);
    struct store *s = r->store;

    CHECK(r->state == ENDED);
    r->state = IDLE;
    TAILQ_REMOVE(&s->running, r, entry);
    s->inflight--;
    pump(s);
    r->done(r);
}

static void end(struct store_req *r, int status)
{
    timer_free(&r->timer);
    r->state = ENDED;
    r->status = status;
    if (status == 0)
        r->why.text[0] = '\0';
    else
        store_page_free(&r->page);
    loop_post(r->store->loop, &r->task);
}

/* What had gone wrong before, if anything, is the better half of the sentence. */
static void say_ending(struct store_req *r)
{
    const char *op = store_op_name(r->op), *key = r->key ? r->key : "", *of = r->key ? " of " : "";
    const struct why before = r->why;
    const char *colon = before.text[0] ? ": " : "";

    if (r->ending == -ETIMEDOUT)
        why_set(&r->why, 0, "%s%s%s at %s took longer than %u ms%s%s", op, of, key, r->store->name,
                r->timeout_ms, colon, before.text);
    else
        why_set(&r->why, 0, "%s%s%s at %s was cancelled", op, of, key, r->store->name);
}

/* What the caller asked for while it ran is told unless it ended by itself. */
void store_finish(struct store_req *r, int status)
{
    CHECK(r->state == RUNNING && status <= 0);
    if (status == -ECANCELED && r->ending) {
        status = r->ending;
        say_ending(r);
    }
    CHECK(status == 0 || r->why.text[0]);
    end(r, status);
}

void store_refuse(struct store_req *r, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(r->why.text, sizeof(r->why.text), format, args);
    va_end(args);
    store_finish(r, status);
}

/* Cancelled or too late. One that waits has not begun: it counts as running until it is delivered. */
static void give_up(struct store_req *r, int ending)
{
    struct store *s = r->store;

    if (r->ending || r->state == ENDED)
        return;
    r->ending = ending;
    if (r->state == RUNNING) {
        s->ops->cancel(s, r);
        return;
    }
    TAILQ_REMOVE(&s->waiting, r, entry);
    TAILQ_INSERT_TAIL(&s->running, r, entry);
    s->inflight++;
    r->state = RUNNING;
    store_finish(r, -ECANCELED);
}

static void on_deadline(struct timer *t)
{
    give_up(container_of(t, struct store_req, timer), -ETIMEDOUT);
}

void store_cancel(struct store_req *r)
{
    CHECK(r->state != IDLE);
    give_up(r, -ECANCELED);
}

static void check_request(const struct store_req *r)
{
    CHECK(r->done && r->timeout_ms > 0 && r->state == IDLE);
    switch (r->op) {
    case STORE_PUT:
        CHECK(r->put.condition != STORE_IF_MATCH || r->put.match);
        CHECK(store_put_bytes(r) <= STORE_OBJECT_MAX);
        break;
    case STORE_GET:
        CHECK(r->get.buf || r->get.cap == 0);
        CHECK(!r->get.whole || r->get.offset == 0);
        break;
    case STORE_HEAD:
        break;
    case STORE_LIST:
        CHECK(store_prefix_ok(r->list.prefix));
        CHECK(r->list.limit > 0 && r->list.limit <= STORE_LIST_MAX);
        return;
    case STORE_DELETE:
        CHECK(r->del.nkeys > 0 && r->del.nkeys <= STORE_DELETE_MAX);
        for (size_t i = 0; i < r->del.nkeys; i++)
            CHECK(store_key_ok(r->del.keys[i]));
        return;
    case STORE_OPS:
    default:
        CHECK(false);
    }
    CHECK(store_key_ok(r->key));
}

void store_submit(struct store *s, struct store_req *r)
{
    check_request(r);
    r->store = s;
    r->task.run = deliver;
    r->ending = 0;
    r->backend = NULL;
    r->status = 0;
    r->why.text[0] = r->etag[0] = '\0';
    r->size = r->len = r->ndeleted = 0;
    r->page = NULL;
    r->retry_after_ms = 0;
    r->clock_s = r->put_s = 0;
    r->state = WAITING;
    timer_init(&r->timer, s->loop, on_deadline);
    timer_set_ms(&r->timer, r->timeout_ms);
    r->deadline_ns = loop_now_ns(s->loop) + (uint64_t)r->timeout_ms * 1000000;
    TAILQ_INSERT_TAIL(&s->waiting, r, entry);
    pump(s);
}

uint32_t store_left_ms(const struct store_req *r)
{
    uint64_t now = loop_now_ns(r->store->loop);

    return r->deadline_ns > now + 1000000 ? (uint32_t)((r->deadline_ns - now) / 1000000) : 1;
}

void store_ask_copy(struct store_req *to, const struct store_req *from, void (*done)(struct store_req *))
{
    memset(to, 0, sizeof(*to));
    to->op = from->op;
    to->key = from->key;
    to->done = done;
    switch (from->op) {
    case STORE_PUT:
        to->put = from->put;
        break;
    case STORE_GET:
        to->get = from->get;
        break;
    case STORE_LIST:
        to->list = from->list;
        break;
    case STORE_DELETE:
        to->del = from->del;
        break;
    case STORE_HEAD:
    case STORE_OPS:
        break;
    }
}

void store_answer_move(struct store_req *to, struct store_req *from)
{
    to->why = from->why;
    memcpy(to->etag, from->etag, sizeof(to->etag));
    to->size = from->size;
    to->len = from->len;
    store_page_free(&to->page);
    to->page = from->page;
    from->page = NULL;
    to->ndeleted = from->ndeleted;
    to->retry_after_ms = from->retry_after_ms;
    to->clock_s = from->clock_s;
    to->put_s = from->put_s;
}

void store_free(struct store **s)
{
    if (!*s)
        return;
    CHECK((*s)->inflight == 0 && TAILQ_EMPTY(&(*s)->waiting));
    free((*s)->name);
    (*s)->ops->free(*s);
    *s = NULL;
}
