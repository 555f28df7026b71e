/* tests/lib/store_check_trouble.c - deadlines, calling off, a store that is not set up well, one that goes
 * away.
 */
#include "store_check.h"

#include "mem.h"
#include "store_probe.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

void check_deadlines(void)
{
    const size_t n = 40u << 20;
    CLEANUP_FREE uint8_t *data = pattern(n, 4);
    struct call c;

    call_put_set(&c, "check/late", data, n, STORE_ALWAYS, NULL);
    c.req.timeout_ms = 5;
    call_all(store, &c, 1);
    STATUS(&c, -ETIMEDOUT);
    WANT(c.done == 1);
}

struct stopper {
    struct timer timer;
    struct call *calls;
    size_t n;
};

static void on_stop(struct timer *t)
{
    struct stopper *s = container_of(t, struct stopper, timer);

    for (size_t i = 0; i < s->n; i++)
        if (!s->calls[i].done)
            store_cancel(&s->calls[i].req);
}

/* At ever later moments everything is called off: each answer comes once, and the store works on. */
void check_cancelling(void)
{
    enum { N = 12 };
    const size_t n = 6u << 20;
    CLEANUP_FREE uint8_t *data = pattern(n, 5), *back = xmalloc(n);
    struct stopper s = {.n = N};
    struct call c[N];

    timer_init(&s.timer, loop, on_stop);
    for (unsigned ms = 0; ms < 60; ms = ms * 3 / 2 + 1) {
        for (int i = 0; i < N; i++) {
            call_put_set(&c[i], i % 2 ? "check/cancel/1" : "check/cancel/2", data, i < 3 ? n : 1000,
                         STORE_ALWAYS, NULL);
            if (i % 4 == 1) {
                c[i].req.op = STORE_GET;
                memset(&c[i].req.put, 0, sizeof(c[i].req.put));
                c[i].req.get.buf = back;
                c[i].req.get.cap = n;
            }
            if (i % 4 == 3) {
                c[i].req.op = STORE_LIST;
                memset(&c[i].req.put, 0, sizeof(c[i].req.put));
                c[i].req.list.prefix = "check/";
                c[i].req.list.limit = 10;
            }
        }
        s.calls = c;
        timer_set_ms(&s.timer, ms);
        call_all(store, c, N);
        timer_stop(&s.timer);
        for (int i = 0; i < N; i++) {
            WANT(c[i].done == 1);
            WANT(c[i].req.status == 0 || c[i].req.status == -ECANCELED || c[i].req.status == -ENOENT);
            store_page_free(&c[i].req.page);
        }
    }
    timer_free(&s.timer);
    check_round_trips();
}

static void on_probed(struct store_probe *p)
{
    (void)p;
    loop_stop(loop);
}

static int probe(struct store_probe *p, unsigned timeout_ms)
{
    *p = (struct store_probe){
        .needs = STORE_NEED_IF_ABSENT | STORE_NEED_IF_MATCH, .timeout_ms = timeout_ms, .done = on_probed};
    store_probe(store, p);
    loop_run(loop);
    return p->status;
}

void check_probes(void)
{
    struct store_probe p;

    if (probe(&p, 60000) != 0)
        wrong(p.why.text, __LINE__);
}

void check_say(void)
{
    struct store_probe p;

    probe(&p, 4000);
    printf("%d %s\n", p.status, p.why.text);
}

/* --- outage --- */

enum { OUTAGE_FLIGHT = 8 };

struct writer {
    struct call call; /* first */
    char key[40], text[40];
};

static unsigned writers, written;
static uint64_t slowest_ns;

static void write_next(struct writer *);

static void on_written(struct store_req *r)
{
    struct writer *w = container_of(r, struct writer, call.req);
    uint64_t took = loop_now_ns(loop) - (r->deadline_ns - (uint64_t)r->timeout_ms * 1000000);

    STATUS(&w->call, 0);
    slowest_ns = took > slowest_ns ? took : slowest_ns;
    if (access("enough", F_OK) == 0) {
        if (--writers == 0)
            loop_stop(loop);
        return;
    }
    write_next(w);
}

static void write_next(struct writer *w)
{
    snprintf(w->key, sizeof(w->key), "check/outage/%06u", written);
    snprintf(w->text, sizeof(w->text), "write %u", written++);
    call_put_set(&w->call, w->key, w->text, strlen(w->text), STORE_IF_ABSENT, NULL);
    w->call.req.timeout_ms = 180000; /* a gateway starts as slowly as it likes */
    w->call.req.done = on_written;
    if (written == 50)
        printf("outage may begin\n");
    store_submit(store, &w->call.req);
}

/* Every put succeeds in the end, whatever happens to the store meanwhile, and is there. */
void check_outage(void)
{
    struct writer w[OUTAGE_FLIGHT];
    char key[40], text[40], back[40];
    struct call c;

    for (writers = 0; writers < OUTAGE_FLIGHT; writers++)
        write_next(&w[writers]);
    loop_run(loop);
    for (unsigned i = 0; i < written; i++) {
        snprintf(key, sizeof(key), "check/outage/%06u", i);
        snprintf(text, sizeof(text), "write %u", i);
        call_get(store, &c, key, back, sizeof(back), 0, true);
        STATUS(&c, 0);
        WANT(c.req.len == strlen(text) && memcmp(back, text, c.req.len) == 0);
    }
    printf("puts %u slowest_ms %llu\n", written, (unsigned long long)slowest_ns / 1000000);
}

/* Everything that is there can be read whole: nobody who died has left half an object. */
void check_verify(void)
{
    struct store_page *page;
    char back[64];
    struct call c;

    call_list(store, &c, "check/", NULL, NULL, STORE_LIST_MAX);
    STATUS(&c, 0);
    page = c.req.page;
    WANT(page->count > 0);
    for (size_t i = 0; i < page->count; i++) {
        call_get(store, &c, page->entries[i].key, back, sizeof(back), 0, true);
        STATUS(&c, 0);
        WANT(c.req.len > 6 && memcmp(back, "write ", 6) == 0);
    }
    printf("objects %zu\n", page->count);
    store_page_free(&page);
}
