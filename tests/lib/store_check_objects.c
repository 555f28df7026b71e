/* tests/lib/store_check_objects.c - objects, conditions, names, lists.
 */
#include "store_check.h"

#include "mem.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

void check_round_trips(void)
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

void check_vectors(void)
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

void check_absent(void)
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

void check_ranges(void)
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

void check_conditions(void)
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

void check_races(void)
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

void check_no_conditions(void)
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

void check_lists(void)
{
    list_many(STORE_LIST_MAX + 100, STORE_LIST_MAX);
}

void check_short_lists(void)
{
    list_many(40, 30);
}

void check_odd_keys(void)
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
void check_big(void)
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
