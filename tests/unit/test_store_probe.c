/* links: store store_ram */
/* Asking a store what it can do: each thing that one may lack is one sentence. */
#include "fake_loop.h"

#include "check.h"
#include "mem.h"
#include "store_backend.h"
#include "store_probe.h"
#include "store_ram.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

enum lack {
    NOTHING,
    KEEPING,    /* what is put is not there */
    BYTES,      /* other bytes come back */
    RANGES,     /* the beginning comes always */
    LISTING,    /* lists are empty */
    ABSENT,     /* if-absent overwrites */
    ABSENT_501, /* if-absent is not known */
    MATCH,      /* if-match overwrites */
    MATCH_EVER, /* if-match is refused always */
    DELETING,   /* nothing goes */
    ALL,        /* nothing is allowed */
};

/* The store in memory, but for one thing. */
struct poor {
    struct store store; /* first */
    struct store *inner;
    enum lack lack;
};

struct asked {
    struct store_req *req, inner;
};

static struct fake_loop loop;
static struct ram_bucket *bucket;
static struct poor *poor;
static struct store *store;
static const char *elsewhere = "elsewhere";

static void on_answer(struct store_req *inner)
{
    struct asked *a = container_of(inner, struct asked, inner);
    struct store_req *r = a->req;
    int status = inner->status;

    store_answer_move(r, inner);
    free(a);
    r->clock_s = time(NULL) + 500;
    if (poor->lack == BYTES && r->op == STORE_GET && r->len)
        ((char *)r->get.buf)[0] ^= 1;
    if (poor->lack == LISTING && r->op == STORE_LIST) {
        store_page_free(&r->page);
        r->page = store_page_new(1);
    }
    store_finish(r, status);
}

static bool refuse(struct store_req *r)
{
    if (poor->lack == ALL)
        store_refuse(r, -EACCES, "ram: not allowed");
    else if (poor->lack == ABSENT_501 && r->op == STORE_PUT && r->put.condition == STORE_IF_ABSENT)
        store_refuse(r, -EOPNOTSUPP, "ram: it answered 501");
    else if (poor->lack == MATCH_EVER && r->op == STORE_PUT && r->put.condition == STORE_IF_MATCH)
        store_refuse(r, -ESTALE, "ram: another");
    else
        return false;
    return true;
}

static void poor_start(struct store *s, struct store_req *r)
{
    struct asked *a;

    (void)s;
    if (refuse(r))
        return;
    a = xcalloc(1, sizeof(*a));
    a->req = r;
    store_ask_copy(&a->inner, r, on_answer);
    a->inner.timeout_ms = 1000;
    if (poor->lack == KEEPING && r->op == STORE_PUT)
        a->inner.key = "elsewhere";
    if (poor->lack == RANGES && r->op == STORE_GET)
        a->inner.get.offset = 0;
    if (r->op == STORE_PUT && ((poor->lack == ABSENT && r->put.condition == STORE_IF_ABSENT) ||
                               (poor->lack == MATCH && r->put.condition == STORE_IF_MATCH)))
        a->inner.put.condition = STORE_ALWAYS;
    if (poor->lack == DELETING && r->op == STORE_DELETE)
        a->inner.del.keys = &elsewhere;
    store_submit(poor->inner, &a->inner);
}

static void poor_cancel(struct store *s, struct store_req *r)
{
    (void)s;
    (void)r;
}

static void poor_free(struct store *s)
{
    (void)s;
    store_free(&poor->inner);
    free(poor);
}

static const struct store_ops poor_ops = {
    .name = "poor", .start = poor_start, .cancel = poor_cancel, .free = poor_free};

static unsigned answered;

static void on_done(struct store_probe *p)
{
    (void)p;
    answered++;
}

static void probe(struct store_probe *p, enum lack lack, unsigned needs)
{
    fake_loop_init(&loop, 3);
    bucket = ram_bucket_new();
    poor = xcalloc(1, sizeof(*poor));
    store_init(&poor->store, &poor_ops, &loop.loop, "ram:", 4);
    poor->inner = store_ram_new(&loop.loop, bucket, 4);
    poor->lack = lack;
    store = &poor->store;
    answered = 0;
    *p = (struct store_probe){.needs = needs, .timeout_ms = 1000, .done = on_done};
    store_probe(store, p);
    assert_int_equal(answered, 0);
    fake_run_posted(&loop);
    assert_int_equal(answered, 1);
    if (lack != KEEPING && lack != DELETING)
        assert_int_equal(ram_bucket_count(bucket), 0); /* nothing is left behind */
    store_free(&store);
    ram_bucket_free(&bucket);
}

static void a_good_store_passes(void **state)
{
    struct store_probe p;

    (void)state;
    probe(&p, NOTHING, STORE_NEED_IF_ABSENT | STORE_NEED_IF_MATCH);
    assert_int_equal(p.status, 0);
    assert_in_range(p.skew_s, 499, 501);
}

static void what_is_lacking_is_said(void **state)
{
    static const struct {
        enum lack lack;
        int status;
        const char *sentence;
    } table[] = {
        {KEEPING, -EOPNOTSUPP, "what was put there is not there afterwards"},
        {BYTES, -EOPNOTSUPP, "what is read is not what was put there"},
        {RANGES, -EOPNOTSUPP, "it does not serve ranges of objects"},
        {LISTING, -EOPNOTSUPP, "what was put there is not listed"},
        {ABSENT, -EOPNOTSUPP, "it overwrites an object that must not be (If-None-Match: * is passed over)"},
        {ABSENT_501, -EOPNOTSUPP, "it cannot refuse to overwrite an object (ram: it answered 501)"},
        {MATCH, -EOPNOTSUPP, "it swaps an object that is another one by now"},
        {MATCH_EVER, -EOPNOTSUPP, "it does not swap an object though its etag is the one it gave"},
        {DELETING, -EOPNOTSUPP, "what was deleted is still there"},
        {ALL, -EACCES, "the object store cannot be used: ram: not allowed"},
    };
    struct store_probe p;

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        probe(&p, table[i].lack, STORE_NEED_IF_ABSENT | STORE_NEED_IF_MATCH);
        assert_int_equal(p.status, table[i].status);
        if (!strstr(p.why.text, table[i].sentence))
            fail_msg("%d: %s", table[i].lack, p.why.text);
    }
}

static void what_is_not_needed_may_be_lacking(void **state)
{
    struct store_probe p;

    (void)state;
    probe(&p, ABSENT_501, 0);
    assert_int_equal(p.status, 0);
    probe(&p, MATCH_EVER, STORE_NEED_IF_ABSENT);
    assert_int_equal(p.status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_store_passes),
        cmocka_unit_test(what_is_lacking_is_said),
        cmocka_unit_test(what_is_not_needed_may_be_lacking),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
