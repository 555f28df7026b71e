/* tests/lib/store_check.c - the same questions to any object store: store-check FILE TEST...
 *
 * FILE is a configuration with a store section. Each TEST prints one line and must hold; "all" is every one
 * that a store has to pass, "plain" those for a store that has no conditions. "say" only prints how a list
 * ends, for stories that want a certain refusal. Uses keys below "check/" and removes them.
 */
#include "store_check.h"

#include "mem.h"
#include "store_conf.h"

#include <stdio.h>
#include <stdlib.h>

struct loop *loop;
struct store *store;
static struct store_conf conf;
static const char *doing;

_Noreturn void wrong(const char *what, int line)
{
    printf("%s: line %d: not so: %s\n", doing, line, what);
    exit(1);
}

void want_status(const struct call *c, int status, int line)
{
    if (c->req.status == status && (status == 0 || c->req.why.text[0]))
        return;
    printf("%s: line %d: %s%s%s ended with %d (%s), not %d\n", doing, line, store_op_name(c->req.op),
           c->req.key ? " of " : "", c->req.key ? c->req.key : "", c->req.status, c->req.why.text, status);
    exit(1);
}

struct store *open_another(void)
{
    struct why why;
    struct store *s = store_open(loop, &conf, &why);

    if (!s) {
        fprintf(stderr, "store-check: %s\n", why.text);
        exit(2);
    }
    return s;
}

uint8_t *pattern(size_t n, unsigned seed)
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

static const struct test {
    const char *name;
    void (*run)(void);
    const char *in;
} tests[] = {
    {"round_trips", check_round_trips, "all plain"},
    {"vectors", check_vectors, "all plain"},
    {"absent", check_absent, "all plain"},
    {"ranges", check_ranges, "all plain"},
    {"conditions", check_conditions, "all"},
    {"races", check_races, "all"},
    {"no_conditions", check_no_conditions, "plain"},
    {"odd_keys", check_odd_keys, "all plain"},
    {"big", check_big, "all plain"},
    {"deadlines", check_deadlines, "all plain"},
    {"cancelling", check_cancelling, "all plain"},
    {"lists", check_lists, "all"},
    {"short_lists", check_short_lists, "plain"},
    {"probes", check_probes, "all"},
    {"say", check_say, ""},
    {"outage", check_outage, ""},
    {"verify", check_verify, ""},
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
        if (t->run != check_say) {
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
