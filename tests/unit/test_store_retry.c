/* links: store store_ram */
/* What a store refuses, loses, damages or does not answer is tried again, and when it is not. */
#include "metric.h"
#include "store_retry_fixture.h"

static void what_fails_is_tried_again_later_and_later(void **state)
{
    struct client c;

    (void)state;
    for (int i = 0; i < 5; i++)
        tell((struct told){.status = i % 2 ? -ENOTCONN : -EIO});
    assert_int_equal(put(&c, "x", STORE_ALWAYS, NULL), 0);
    assert_int_equal(liar->asked, 6);
    for (int i = 1; i < 5; i++) {
        uint64_t ms = (liar->asked_ns[i] - liar->asked_ns[i - 1]) / 1000000;

        assert_in_range(ms, 50u << (i - 1), 100u << (i - 1));
    }
    assert_int_equal(metric_sum("isthmus_store_retries_total", "op=\"put\""), 5);
    assert_int_equal(metric_sum("isthmus_store_requests_total", "op=\"put\""), 1);
    assert_int_equal(metric_sum("isthmus_store_bytes_total", "op=\"put\""), 1);
}

static void what_will_not_change_is_not_tried_again(void **state)
{
    static const int final[] = {-EACCES, -EINVAL, -EOPNOTSUPP, -ENOSPC, -ENOENT};
    struct client c;

    (void)state;
    for (size_t i = 0; i < sizeof(final) / sizeof(final[0]); i++) {
        tell((struct told){.status = final[i]});
        assert_int_equal(put(&c, "x", STORE_ALWAYS, NULL), final[i]);
        assert_int_equal(liar->asked, i + 1);
    }
}

static void it_ends_before_the_deadline_with_what_was_wrong(void **state)
{
    struct client c;

    (void)state;
    liar->outage = true;
    memset(&c, 0, sizeof(c));
    start(&c, STORE_HEAD, 3000);
    assert_int_equal(finish(&c), -EIO);
    assert_true(loop.now_ns <= 3000000000);
    assert_string_equal(c.req.why.text, "told to say -5");
    assert_int_equal(metric_sum("isthmus_store_failures_total", "op=\"head\""), 1);
}

static void a_try_that_hangs_is_given_up_for_another(void **state)
{
    struct client c;

    (void)state;
    tell((struct told){.hangs = true});
    assert_int_equal(put(&c, "x", STORE_ALWAYS, NULL), 0);
    assert_int_equal(liar->asked, 2);
    assert_in_range(liar->asked_ns[1] / 1000000, 10000, 10200);
    tell((struct told){.done = true});
    tell((struct told){.hangs = true});
    memset(&c, 0, sizeof(c));
    liar->asked = 1;
    liar->told[1] = (struct told){.hangs = true};
    start(&c, STORE_HEAD, 2000);
    assert_int_equal(finish(&c), -ETIMEDOUT);
    assert_non_null(strstr(c.req.why.text, "took longer than 2000 ms"));
}

/* Late in the midst of a try: what the tries before it met is the reason that is told. */
static void a_try_that_is_given_up_hides_no_reason(void **state)
{
    struct client c = {0};

    (void)state;
    tell((struct told){.status = -EIO});
    tell((struct told){.hangs = true});
    start(&c, STORE_HEAD, 2000);
    assert_int_equal(finish(&c), -ETIMEDOUT);
    assert_int_equal(liar->asked, 2);
    assert_non_null(strstr(c.req.why.text, "took longer than 2000 ms: told to say -5"));
}

static void a_store_that_says_slow_down_gets_quiet_from_all(void **state)
{
    struct client a, b;

    (void)state;
    tell((struct told){.status = -EAGAIN, .retry_after_ms = 4000});
    start_put(&a, "x", 1, STORE_ALWAYS, NULL);
    fake_run_posted(&loop);
    assert_int_equal(liar->asked, 1);
    start_put(&b, "y", 1, STORE_ALWAYS, NULL);
    assert_int_equal(finish(&a), 0);
    assert_int_equal(finish(&b), 0);
    assert_int_equal(liar->asked, 3);
    assert_true(liar->asked_ns[1] >= 4000000000 && liar->asked_ns[2] >= 4000000000);
    assert_int_equal(metric_sum("isthmus_store_throttled_total", ""), 1);
}

static void an_outage_is_not_made_worse(void **state)
{
    enum { CLIENTS = 16, SECONDS = 120 };
    struct client c[CLIENTS];
    size_t tries;

    (void)state;
    liar->outage = true;
    memset(c, 0, sizeof(c));
    for (int i = 0; i < CLIENTS; i++)
        start(&c[i], STORE_HEAD, SECONDS * 1000);
    fake_run_posted(&loop);
    while (loop.now_ns < (SECONDS - 15) * 1000000000ull && fake_run_timer(&loop))
        ;
    tries = liar->asked;
    assert_in_range(tries, CLIENTS + 50, CLIENTS + 50 + SECONDS / 2 + 1);
    liar->outage = false;
    for (int i = 0; i < CLIENTS; i++)
        assert_int_not_equal(finish(&c[i]), 0); /* -ENOENT, or out of time */
}

static void a_lost_answer_to_our_own_put_is_success(void **state)
{
    struct client c;

    (void)state;
    tell((struct told){.status = -EIO, .done = true});
    assert_int_equal(put(&c, "mine", STORE_IF_ABSENT, NULL), 0);
    assert_string_equal(c.req.etag, "e1");
    assert_int_equal(liar->asked, 3); /* put, put, get */
    assert_int_equal(put(&c, "yours", STORE_IF_ABSENT, NULL), -EEXIST);
    assert_string_equal(c.req.why.text, "ram: log/1 is there already");
    assert_int_equal(put(&c, "mind", STORE_IF_ABSENT, NULL), -EEXIST);
    liar->asked = 0;
    assert_int_equal(put(&c, "swapped", STORE_IF_MATCH, "e1"), 0);
    assert_string_equal(c.req.etag, "e2");
    assert_int_equal(put(&c, "other", STORE_IF_MATCH, "e1"), -ESTALE);
    assert_int_equal(ram_bucket_count(bucket), 1);
}

static void comparing_is_tried_again_too(void **state)
{
    struct client c;

    (void)state;
    tell((struct told){.status = -EIO, .done = true});
    tell((struct told){.done = true});
    tell((struct told){.status = -EIO});
    tell((struct told){.status = -EAGAIN});
    assert_int_equal(put(&c, "mine", STORE_IF_ABSENT, NULL), 0);
    assert_int_equal(liar->asked, 5);
}

static void large_objects_are_compared_to_the_last_byte(void **state)
{
    static uint8_t bytes[(2 << 20) + 5];
    struct client c;

    (void)state;
    tell((struct told){.status = -EIO, .done = true});
    start_put(&c, bytes, sizeof(bytes), STORE_IF_ABSENT, NULL);
    assert_int_equal(finish(&c), 0);
    assert_int_equal(liar->asked, 5);
    bytes[sizeof(bytes) - 1] = 1;
    start_put(&c, bytes, sizeof(bytes), STORE_IF_ABSENT, NULL);
    assert_int_equal(finish(&c), -EEXIST);
    start_put(&c, bytes, 0, STORE_IF_ABSENT, NULL);
    assert_int_equal(finish(&c), -EEXIST);
}

static void what_may_have_happened_is_not_called_unsent(void **state)
{
    struct client c;

    (void)state;
    tell((struct told){.status = -EIO, .done = true});
    for (int i = 0; i < 31; i++)
        tell((struct told){.status = -ENOTCONN});
    assert_int_equal(put(&c, "x", STORE_ALWAYS, NULL), -EIO);
}

static void damage_is_reported_after_three_tries(void **state)
{
    struct client c = {0};

    (void)state;
    for (int i = 0; i < 3; i++)
        tell((struct told){.status = -EBADMSG});
    start(&c, STORE_HEAD, 60000);
    assert_int_equal(finish(&c), -EBADMSG);
    assert_int_equal(liar->asked, 3);
}

static void each_moment_is_good_for_cancelling(void **state)
{
    struct client c;

    (void)state;
    /* while it pauses */
    tell((struct told){.status = -EIO});
    start_put(&c, "x", 1, STORE_IF_ABSENT, NULL);
    fake_run_posted(&loop);
    store_cancel(&c.req);
    assert_int_equal(c.done, 0);
    assert_int_equal(finish(&c), -ECANCELED);
    /* while it is tried */
    liar->told[1] = (struct told){.hangs = true};
    liar->ntold = 2;
    start_put(&c, "x", 1, STORE_IF_ABSENT, NULL);
    fake_run_posted(&loop);
    store_cancel(&c.req);
    assert_int_equal(finish(&c), -ECANCELED);
    /* while it is compared */
    liar->told[2] = (struct told){.status = -EEXIST};
    liar->told[3] = (struct told){.hangs = true};
    liar->ntold = 4;
    start_put(&c, "x", 1, STORE_IF_ABSENT, NULL);
    fake_run_posted(&loop);
    assert_int_equal(liar->asked, 4);
    store_cancel(&c.req);
    assert_int_equal(finish(&c), -ECANCELED);
    while (fake_run_timer(&loop))
        ;
    assert_int_equal(c.done, 1);
}

static void lists_and_deletes_are_passed_on(void **state)
{
    const char *keys[] = {"log/1", "log/2"};
    struct client c, d = {0};

    (void)state;
    assert_int_equal(put(&c, "x", STORE_ALWAYS, NULL), 0);
    liar->asked = 0;
    tell((struct told){.status = -EIO, .done = true});
    d.req.list.prefix = "log/";
    d.req.list.limit = 5;
    start(&d, STORE_LIST, 1000);
    assert_int_equal(finish(&d), 0);
    assert_int_equal(d.req.page->count, 1);
    store_page_free(&d.req.page);
    liar->asked = 0;
    memset(&d, 0, sizeof(d));
    d.req.del.keys = keys;
    d.req.del.nkeys = 2;
    start(&d, STORE_DELETE, 1000);
    assert_int_equal(finish(&d), 0);
    assert_int_equal(d.req.ndeleted, 2);
    assert_int_equal(ram_bucket_count(bucket), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_fails_is_tried_again_later_and_later, setup, teardown),
        cmocka_unit_test_setup_teardown(what_will_not_change_is_not_tried_again, setup, teardown),
        cmocka_unit_test_setup_teardown(it_ends_before_the_deadline_with_what_was_wrong, setup, teardown),
        cmocka_unit_test_setup_teardown(a_try_that_hangs_is_given_up_for_another, setup, teardown),
        cmocka_unit_test_setup_teardown(a_try_that_is_given_up_hides_no_reason, setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_that_says_slow_down_gets_quiet_from_all, setup, teardown),
        cmocka_unit_test_setup_teardown(an_outage_is_not_made_worse, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_answer_to_our_own_put_is_success, setup, teardown),
        cmocka_unit_test_setup_teardown(comparing_is_tried_again_too, setup, teardown),
        cmocka_unit_test_setup_teardown(large_objects_are_compared_to_the_last_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(what_may_have_happened_is_not_called_unsent, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_is_reported_after_three_tries, setup, teardown),
        cmocka_unit_test_setup_teardown(each_moment_is_good_for_cancelling, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_and_deletes_are_passed_on, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
