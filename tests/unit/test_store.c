/* links: store */
/* What all object stores share: keys, the queue, deadlines, cancelling, delivery. */
#include "fake_loop.h"

#include "check.h"
#include "store_backend.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* A store that answers when it is told to. */
struct slow {
    struct store store;
    struct store_req *running[16];
    unsigned nrunning, cancels, freed;
    bool at_once;
};

static struct fake_loop loop;
static struct slow slow;
static struct store *store;

static void slow_start(struct store *s, struct store_req *r)
{
    (void)s;
    slow.running[slow.nrunning++] = r;
    if (slow.at_once)
        store_finish(r, 0);
}

static void slow_cancel(struct store *s, struct store_req *r)
{
    (void)s;
    slow.cancels++;
    if (!slow.at_once)
        store_finish(r, -ECANCELED);
}

static void slow_free(struct store *s)
{
    (void)s;
    slow.freed++;
}

static const struct store_ops slow_ops = {
    .name = "slow", .start = slow_start, .cancel = slow_cancel, .free = slow_free};

static int setup(void **state)
{
    (void)state;
    fake_loop_init(&loop, 1);
    memset(&slow, 0, sizeof(slow));
    store_init(&slow.store, &slow_ops, &loop.loop, "slow:", 2);
    store = &slow.store;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_free(&store);
    assert_int_equal(slow.freed, 1);
    return 0;
}

static unsigned answered;

static void on_done(struct store_req *r)
{
    (void)r;
    answered++;
}

static void head(struct store_req *r, uint32_t timeout_ms)
{
    memset(r, 0, sizeof(*r));
    r->op = STORE_HEAD;
    r->key = "vms/web/log/1";
    r->timeout_ms = timeout_ms;
    r->done = on_done;
    store_submit(store, r);
}

static void what_may_be_a_key(void **state)
{
    static const char *const good[] = {"a",   "a/b",    "pairs/p-1", "x:@!()'*~%+&=,;$[]{}^`|\"<>#?",
                                       "a.b", "0/1/2/3"};
    static const char *const bad[] = {"",       "/",    "/a",  "a/",   "a//b", ".",        "..",
                                      "a/../b", "a/.b", "a b", "a\\b", "\x7f", "\xc3\xa4", "a\n"};
    char segment[STORE_SEGMENT_MAX + 2], longest[STORE_KEY_MAX + 2];

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(store_key_ok(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(store_key_ok(bad[i]));
    memset(segment, 'x', sizeof(segment));
    segment[STORE_SEGMENT_MAX] = '\0';
    assert_true(store_key_ok(segment));
    segment[STORE_SEGMENT_MAX] = 'x';
    segment[STORE_SEGMENT_MAX + 1] = '\0';
    assert_false(store_key_ok(segment));
    for (size_t i = 0; i < sizeof(longest); i++)
        longest[i] = i % 2 ? '/' : 'k';
    longest[STORE_KEY_MAX - 1] = 'k';
    longest[STORE_KEY_MAX] = '\0';
    assert_true(store_key_ok(longest));
    longest[STORE_KEY_MAX] = 'k';
    longest[STORE_KEY_MAX + 1] = '\0';
    assert_false(store_key_ok(longest));
    assert_true(store_prefix_ok("") && store_prefix_ok("a/") && store_prefix_ok("/"));
    assert_false(store_prefix_ok("a b"));
}

static void only_so_many_run_and_the_others_wait_in_order(void **state)
{
    struct store_req r[4];

    (void)state;
    answered = 0;
    for (int i = 0; i < 4; i++)
        head(&r[i], 1000);
    assert_int_equal(slow.nrunning, 2);
    store_finish(&r[1], 0);
    assert_int_equal(answered, 0); /* from the loop only */
    fake_run_posted(&loop);
    assert_int_equal(answered, 1);
    assert_int_equal(slow.nrunning, 3);
    assert_ptr_equal(slow.running[2], &r[2]);
    store_finish(&r[0], 0);
    store_finish(&r[2], 0);
    fake_run_posted(&loop);
    assert_ptr_equal(slow.running[3], &r[3]);
    store_finish(&r[3], 0);
    fake_run_posted(&loop);
    assert_int_equal(answered, 4);
    assert_false(fake_run_timer(&loop)); /* no deadline is left behind */
}

static void an_answer_at_once_comes_from_the_loop(void **state)
{
    struct store_req r;

    (void)state;
    answered = 0;
    slow.at_once = true;
    head(&r, 1000);
    assert_int_equal(answered, 0);
    store_cancel(&r); /* too late: it has ended */
    fake_run_posted(&loop);
    assert_int_equal(answered, 1);
    assert_int_equal(r.status, 0);
    assert_int_equal(slow.cancels, 0);
}

static void deadlines_end_what_runs_and_what_waits(void **state)
{
    struct store_req r[3];

    (void)state;
    answered = 0;
    head(&r[0], 5000);
    head(&r[1], 300);
    head(&r[2], 200);
    while (answered < 3)
        assert_true(fake_run_timer(&loop));
    assert_int_equal(loop.now_ns, 5000000000);
    assert_int_equal(slow.nrunning, 2); /* the third never began */
    assert_int_equal(slow.cancels, 2);
    for (int i = 0; i < 3; i++)
        assert_int_equal(r[i].status, -ETIMEDOUT);
    assert_string_equal(r[2].why.text, "head of vms/web/log/1 at slow: took longer than 200 ms");
}

static void what_waits_can_be_cancelled(void **state)
{
    struct store_req r[3];

    (void)state;
    answered = 0;
    for (int i = 0; i < 3; i++)
        head(&r[i], 1000);
    store_cancel(&r[2]);
    store_cancel(&r[2]);
    store_cancel(&r[0]);
    assert_int_equal(answered, 0);
    fake_run_posted(&loop);
    assert_int_equal(answered, 2);
    assert_int_equal(r[2].status, -ECANCELED);
    assert_int_equal(r[0].status, -ECANCELED);
    assert_string_equal(r[0].why.text, "head of vms/web/log/1 at slow: was cancelled");
    store_finish(&r[1], 0);
    fake_run_posted(&loop);
    assert_int_equal(slow.nrunning, 2);
}

static void an_answer_that_beats_the_cancelling_counts(void **state)
{
    struct store_req r;

    (void)state;
    answered = 0;
    slow.at_once = false;
    head(&r, 1000);
    slow.at_once = true; /* now cancel does nothing: the work cannot be stopped any more */
    store_cancel(&r);
    assert_int_equal(slow.cancels, 1);
    store_finish(&r, 0);
    fake_run_posted(&loop);
    assert_int_equal(r.status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_may_be_a_key, setup, teardown),
        cmocka_unit_test_setup_teardown(only_so_many_run_and_the_others_wait_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_at_once_comes_from_the_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(deadlines_end_what_runs_and_what_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(what_waits_can_be_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_that_beats_the_cancelling_counts, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
