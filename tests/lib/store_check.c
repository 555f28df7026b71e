/* tests/lib/store_check.c - the same questions to any object store: store-check FILE TEST...
 *
 * FILE is a configuration with a store section. Each TEST prints one line and must hold; "all" is every one
 * that a store has to pass, "plain" those for a store that has no conditions. "say" only prints how a list
 * ends, for stories that want a certain refusal. Uses keys below "check/" and removes them.
 */
#include "store_call.h"

#include "mem.h"
#include "store_conf.h"
#include "store_probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct loop *loop;
static struct store_conf conf;
static struct store *store;
static const char *doing;

#define WANT(x)                                                                                              \
    do {                                                                                                     \
        if (!(x))                                                                                            \
            wrong(#x, __LINE__);                                                                             \
    } while (0)

static _Noreturn void wrong(const char *what, int line)
{
    printf("%s: line %d: not so: %s\n", doing, line, what);
    exit(1);
}

/* The status must be this one. */
static void want_status(const struct call *c, int status, int line)
{
    if (c->req.status == status && (status == 0 || c->req.why.text[0]))
        return;
    printf("%s: line %d: %s%s%s ended with %d (%s), not %d\n", doing, line, store_op_name(c->req.op),
           c->req.key ? " of " : "", c->req.key ? c->req.key : "", c->req.status, c->req.why.text, status);
    exit(1);
}

#define STATUS(call, wanted) want_status(call, wanted, __LINE__)

static struct store *open_another(void)
{
    struct why why;
    struct store *s = store_open(loop, &conf, &why);

    if (!s) {
        fprintf(stderr, "store-check: %s\n", why.text);
        exit(2);
    }
    return s;
}

/* Bytes that depend on where they are. */
static uint8_t *pattern(size_t n, unsigned seed)
{
    uint8_t *p = xmalloc(n + 1);
    uint32_t x = seed * 2654435761u + 1;

    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = (uint8_t)(x >> 24);
    }
    return p;
}

static void clean(void)
{
    struct call c;

    for (;;) {
        const char *keys[STORE_DELETE_MAX];
        struct store_page *page;
        struct call d;

        call_list(store, &c, "check/", NULL, NULL, STORE_LIST_MAX);
        STATUS(&c, 0);
        page = c.req.page;
        for (size_t i = 0; i < page->count; i++)
            keys[i] = page->entries[i].key;
        if (page->count > 0) {
            call_delete_many(store, &d, keys, page->count);
            STATUS(&d, 0);
            WANT(d.req.ndeleted == page->count);
        }
        if (page->count == 0 && !page->next) {
            store_page_free(&page);
            return;
        }
        store_page_free(&page);
    }
}

/* --- the tests --- */

static void round_trips(void)
{
    static const size_t sizes[] = {0, 1, 4096, 65536, 65537, 3000000};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        CLEANUP_FREE uint8_t *data = pattern(sizes[i], (unsigned)i), *back = xmalloc(sizes[i] + 1);
        char etag[STORE_ETAG_MAX + 1];
        struct call c;

        call_put(store, &c, "check/object", data, sizes[i], STORE_ALWAYS, NULL);
        STATUS(&c, 0);
        WANT(c.req.etag[0]);
        strcpy(etag, c.req.etag);
        call_head(store, &c, "check/object");
        STATUS(&c, 0);
        WANT(c.req.size == sizes[i] && strcmp(c.req.etag, etag) == 0);
        call_get(store, &c, "check/object", back, sizes[i], 0, true);
        STATUS(&c, 0);
        WANT(c.req.len == sizes[i] && c.req.size == sizes[i] && memcmp(data, back, sizes[i]) == 0);
        WANT(strcmp(c.req.etag, etag) == 0);
    }
}

static void vectors(void)
{
    struct iovec iov[] = {{"one", 3}, {"", 0}, {"and", 3}, {"two", 3}};
    struct call c;
    char back[10];

    call_put_set(&c, "check/vector", NULL, 0, STORE_ALWAYS, NULL);
    c.req.put.iov = iov;
    c.req.put.niov = 4;
    call_all(store, &c, 1);
    STATUS(&c, 0);
    call_get(store, &c, "check/vector", back, sizeof(back), 0, true);
    STATUS(&c, 0);
    WANT(c.req.len == 9 && memcmp(back, "oneandtwo", 9) == 0);
}

static void absent(void)
{
    struct call c;
    char back[4];

    call_head(store, &c, "check/nothing");
    STATUS(&c, -ENOENT);
    call_get(store, &c, "check/nothing", back, 4, 0, true);
    STATUS(&c, -ENOENT);
    call_get(store, &c, "check/nothing", back, 4, 2, false);
    STATUS(&c, -ENOENT);
    call_delete(store, &c, "check/nothing");
    STATUS(&c, 0);
    WANT(c.req.ndeleted == 1);
}

static void ranges(void)
{
    enum { N = 100000 };
    static const struct {
        uint64_t offset;
        size_t cap, len;
    } asked[] = {{0, 10, 10},       {1, 1, 1},  {5000, 60000, 60000}, {N - 1, 1, 1},
                 {N - 10, 100, 10}, {N, 10, 0}, {N + 1000, 10, 0},    {0, N, N},
                 {0, N + 5, N},     {99, 0, 0}};
    CLEANUP_FREE uint8_t *data = pattern(N, 7), *back = xmalloc(N + 10);
    struct call c;

    call_put(store, &c, "check/ranges", data, N, STORE_ALWAYS, NULL);
    STATUS(&c, 0);
    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        memset(back, 0xee, N + 10);
        call_get(store, &c, "check/ranges", back, asked[i].cap, asked[i].offset, false);
        STATUS(&c, 0);
        WANT(c.req.len == asked[i].len);
        WANT(memcmp(back, data + (asked[i].offset < N ? asked[i].offset : 0), c.req.len) == 0);
        WANT(back[c.req.len] == 0xee);
        WANT(c.req.len == 0 || c.req.size == N);
    }
    call_get(store, &c, "check/ranges", back, N - 1, 0, true);
    STATUS(&c, -EFBIG);
    WANT(c.req.size == N);
    call_put(store, &c, "check/ranges", "", 0, STORE_ALWAYS, NULL);
    STATUS(&c, 0);
    call_get(store, &c, "check/ranges", back, 10, 0, false);
    STATUS(&c, 0);
    WANT(c.req.len == 0);
    call_get(store, &c, "check/ranges", NULL, 0, 0, true);
    STATUS(&c, 0);
}

static void conditions(void)
{
    char etag[STORE_ETAG_MAX + 1], back[8];
    struct call c;

    call_put(store, &c, "check/once", "1", 1, STORE_IF_MATCH, "0123456789abcdef0123456789abcdef");
    STATUS(&c, -ESTALE);
    call_put(store, &c, "check/once", "first", 5, STORE_IF_ABSENT, NULL);
    STATUS(&c, 0);
    strcpy(etag, c.req.etag);
    call_put(store, &c, "check/once", "other", 5, STORE_IF_ABSENT, NULL);
    STATUS(&c, -EEXIST);
    call_get(store, &c, "check/once", back, sizeof(back), 0, true);
    WANT(c.req.len == 5 && memcmp(back, "first", 5) == 0);
    call_put(store, &c, "check/once", "2", 1, STORE_IF_MATCH, "0123456789abcdef0123456789abcdef");
    STATUS(&c, -ESTALE);
    call_put(store, &c, "check/once", "second", 6, STORE_IF_MATCH, etag);
    STATUS(&c, 0);
    WANT(strcmp(c.req.etag, etag) != 0);
    call_put(store, &c, "check/once", "third", 5, STORE_IF_MATCH, etag);
    STATUS(&c, -ESTALE);
    call_get(store, &c, "check/once", back, sizeof(back), 0, true);
    WANT(c.req.len == 6 && memcmp(back, "second", 6) == 0);
}

/* Puts of two clients at once: exactly one wins, and the others are told. */
static void race(const char *key, enum store_condition condition, const char *match, struct store *clients[2])
{
    enum { EACH = 4 };
    static const int lost[] = {[STORE_IF_ABSENT] = -EEXIST, [STORE_IF_MATCH] = -ESTALE};
    struct call c[2 * EACH], g;
    char text[2 * EACH][16], back[16];
    unsigned left = 2 * EACH;
    int winner = -1;

    for (int i = 0; i < 2 * EACH; i++) {
        /* Never the same bytes twice: an etag may be a hash of them. */
        snprintf(text[i], sizeof(text[i]), "%s by %d", match ? "swap" : "first", i);
        call_put_set(&c[i], key, text[i], strlen(text[i]), condition, match);
        c[i].req.done = call_done;
        c[i].req.timeout_ms = 60000;
        c[i].left = &left;
        store_submit(clients[i % 2], &c[i].req);
    }
    loop_run(loop);
    for (int i = 0; i < 2 * EACH; i++) {
        WANT(c[i].done == 1);
        if (c[i].req.status != 0)
            STATUS(&c[i], lost[condition]);
        if (c[i].req.status == 0) {
            WANT(winner < 0);
            winner = i;
        }
    }
    WANT(winner >= 0);
    call_get(store, &g, key, back, sizeof(back), 0, true);
    STATUS(&g, 0);
    WANT(g.req.len == strlen(text[winner]) && memcmp(back, text[winner], g.req.len) == 0);
}

static void races(void)
{
    struct store *clients[2] = {open_another(), open_another()};

    for (int round = 0; round < 15; round++) {
        struct call c;
        char key[40];

        snprintf(key, sizeof(key), "check/race/%d", round);
        race(key, STORE_IF_ABSENT, NULL, clients);
        call_head(store, &c, key);
        STATUS(&c, 0);
        race(key, STORE_IF_MATCH, c.req.etag, clients);
    }
    store_free(&clients[0]);
    store_free(&clients[1]);
}

static void no_conditions(void)
{
    struct call c;

    call_put(store, &c, "check/once", "1", 1, STORE_IF_ABSENT, NULL);
    STATUS(&c, -EOPNOTSUPP);
    WANT(strstr(c.req.why.text, "501"));
    call_head(store, &c, "check/once");
    STATUS(&c, -ENOENT);
}

static void list_key(char key[40], size_t i)
{
    snprintf(key, 40, "check/list/%04zu%s", i, i % 3 ? "" : "/x");
}

static void list_whole(size_t n, size_t limit)
{
    char *token = NULL, key[40];
    struct call c;
    size_t i = 0;

    do {
        call_list(store, &c, "check/list/", NULL, token, limit);
        STATUS(&c, 0);
        free(token);
        token = c.req.page->next ? xstrdup(c.req.page->next) : NULL;
        WANT(c.req.page->count <= limit);
        for (size_t k = 0; k < c.req.page->count; k++, i++) {
            list_key(key, i);
            WANT(strcmp(c.req.page->entries[k].key, key) == 0);
            WANT(c.req.page->entries[k].size == i % 7);
        }
        store_page_free(&c.req.page);
    } while (token);
    WANT(i == n);
}

/* n objects, listed by pages of limit and of less, deleted limit at a time. */
static void list_many(size_t n, size_t limit)
{
    struct call *puts = xcalloc(n, sizeof(*puts)), c;
    char(*keys)[40] = xcalloc(n, sizeof(*keys));
    const char **gone = xcalloc(n, sizeof(*gone));

    for (size_t i = 0; i < n; i++) {
        list_key(keys[i], i);
        gone[i] = keys[i];
        call_put_set(&puts[i], keys[i], "123456", i % 7, STORE_ALWAYS, NULL);
    }
    call_all(store, puts, n);
    for (size_t i = 0; i < n; i++)
        STATUS(&puts[i], 0);
    list_whole(n, limit);
    list_whole(n, limit / 3);
    call_list(store, &c, "check/list/001", "check/list/0014", NULL, 3);
    STATUS(&c, 0);
    WANT(c.req.page->count == 3 && c.req.page->next);
    WANT(strcmp(c.req.page->entries[0].key, "check/list/0015/x") == 0);
    store_page_free(&c.req.page);
    call_list(store, &c, "check/list/none", NULL, NULL, 3);
    STATUS(&c, 0);
    WANT(c.req.page->count == 0 && !c.req.page->next);
    store_page_free(&c.req.page);
    call_delete_many(store, &c, gone, limit);
    STATUS(&c, 0);
    WANT(c.req.ndeleted == limit);
    call_list(store, &c, "check/list/", NULL, NULL, STORE_LIST_MAX);
    STATUS(&c, 0);
    WANT(c.req.page->count == n - limit && !c.req.page->next);
    store_page_free(&c.req.page);
    call_delete_many(store, &c, gone + limit, n - limit);
    STATUS(&c, 0);
    free(puts);
    free(keys);
    free(gone);
}

static void lists(void)
{
    list_many(STORE_LIST_MAX + 100, STORE_LIST_MAX);
}

static void short_lists(void)
{
    list_many(40, 30);
}

static void odd_keys(void)
{
    static const char *const keys[] = {"check/odd/!\"#$%&'()*+,-.:;<=>?@[]^_`{|}~",
                                       "check/odd/%2F%41",
                                       "check/odd/a+b=c&d",
                                       "check/odd/a.b..c",
                                       "check/odd/&amp;<x>",
                                       "check/odd/q?x=1#f"};
    enum { N = sizeof(keys) / sizeof(keys[0]) };
    char longest[STORE_KEY_MAX + 1] = "check/long/", back[STORE_KEY_MAX];
    struct call c;

    for (size_t n = strlen(longest); n < STORE_KEY_MAX; n++)
        longest[n] = n % 150 == 0 ? '/' : 'k';
    longest[STORE_KEY_MAX] = '\0';
    for (size_t i = 0; i <= N; i++) {
        const char *key = i < N ? keys[i] : longest;

        call_put(store, &c, key, key, strlen(key), STORE_ALWAYS, NULL);
        STATUS(&c, 0);
        call_get(store, &c, key, back, sizeof(back), 0, true);
        STATUS(&c, 0);
        WANT(c.req.len == strlen(key) && memcmp(back, key, c.req.len) == 0);
    }
    for (size_t i = 0; i < N; i++) {
        call_list(store, &c, keys[i], NULL, NULL, 10);
        STATUS(&c, 0);
        WANT(c.req.page->count == 1 && strcmp(c.req.page->entries[0].key, keys[i]) == 0);
        store_page_free(&c.req.page);
    }
    call_delete_many(store, &c, keys, N);
    STATUS(&c, 0);
    WANT(c.req.ndeleted == N);
    for (size_t i = 0; i < N; i++) {
        call_head(store, &c, keys[i]);
        STATUS(&c, -ENOENT);
    }
}

/* Larger than a part (5 MiB in the stories' configuration). */
static void big(void)
{
    const size_t n = (23u << 20) + 12345;
    CLEANUP_FREE uint8_t *data = pattern(n, 3), *back = xmalloc(n);
    struct call c;

    call_put(store, &c, "check/big", data, n, STORE_ALWAYS, NULL);
    STATUS(&c, 0);
    call_head(store, &c, "check/big");
    STATUS(&c, 0);
    WANT(c.req.size == n);
    call_get(store, &c, "check/big", back, n, 0, true);
    STATUS(&c, 0);
    WANT(c.req.len == n && memcmp(data, back, n) == 0);
    call_get(store, &c, "check/big", back, 1000000, (5u << 20) - 500000, false);
    STATUS(&c, 0);
    WANT(memcmp(data + (5u << 20) - 500000, back, 1000000) == 0);
}

static void deadlines(void)
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
static void cancelling(void)
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
    round_trips();
}

static void on_probed(struct store_probe *p)
{
    (void)p;
    loop_stop(loop);
}

static int probe(struct store_probe *p)
{
    *p = (struct store_probe){
        .needs = STORE_NEED_IF_ABSENT | STORE_NEED_IF_MATCH, .timeout_ms = 4000, .done = on_probed};
    store_probe(store, p);
    loop_run(loop);
    return p->status;
}

static void probes(void)
{
    struct store_probe p;

    if (probe(&p) != 0)
        wrong(p.why.text, __LINE__);
}

static void say(void)
{
    struct store_probe p;

    probe(&p);
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
    w->call.req.timeout_ms = 60000;
    w->call.req.done = on_written;
    if (written == 50)
        printf("outage may begin\n");
    store_submit(store, &w->call.req);
}

/* Every put succeeds in the end, whatever happens to the store meanwhile, and is there. */
static void outage(void)
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
static void verify(void)
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

static const struct test {
    const char *name;
    void (*run)(void);
    const char *in;
} tests[] = {
    {"round_trips", round_trips, "all plain"},
    {"vectors", vectors, "all plain"},
    {"absent", absent, "all plain"},
    {"ranges", ranges, "all plain"},
    {"conditions", conditions, "all"},
    {"races", races, "all"},
    {"no_conditions", no_conditions, "plain"},
    {"odd_keys", odd_keys, "all plain"},
    {"big", big, "all plain"},
    {"deadlines", deadlines, "all plain"},
    {"cancelling", cancelling, "all plain"},
    {"lists", lists, "all"},
    {"short_lists", short_lists, "plain"},
    {"probes", probes, "all"},
    {"say", say, ""},
    {"outage", outage, ""},
    {"verify", verify, ""},
};

static bool run(const char *name)
{
    bool found = false;

    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        const struct test *t = &tests[i];
        uint64_t start = loop_now_ns(loop);

        if (strcmp(name, t->name) != 0 && !strstr(t->in, name))
            continue;
        found = true;
        doing = t->name;
        t->run();
        if (t->run != say) {
            clean();
            printf("%s ok (%llu ms)\n", t->name, (unsigned long long)(loop_now_ns(loop) - start) / 1000000);
        }
    }
    return found;
}

int main(int argc, char **argv)
{
    cfg_opt_t section[] = {STORE_CONF_OPTIONS, CFG_END()};
    cfg_opt_t options[] = {CFG_SEC("store", section, CFGF_NONE), CFG_END()};
    struct why why;
    cfg_t *cfg;
    int status = 0;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc < 3) {
        fprintf(stderr, "usage: store-check FILE TEST...\n");
        return 2;
    }
    if (conf_load(&cfg, argv[1], options, &why) != 0 ||
        store_conf_read(cfg_getsec(cfg, "store"), &conf, &why) != 0) {
        fprintf(stderr, "store-check: %s\n", why.text);
        return 2;
    }
    pool_start(4);
    loop = loop_new("check");
    store = open_another();
    for (int i = 2; i < argc; i++)
        if (!run(argv[i])) {
            fprintf(stderr, "store-check: there is no test '%s'\n", argv[i]);
            status = 2;
        }
    store_free(&store);
    loop_free(&loop);
    pool_stop();
    conf_free(&cfg);
    return status;
}
