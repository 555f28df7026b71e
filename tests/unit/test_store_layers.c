/* links: store store_ram */
/* The layers that make a store slow, or fail, for tests and trials. */
#include "store_retry_fixture.h"
#include "store_wrap.h"

static void layer(const char *spec)
{
    struct why why = {""};

    if (store_wrap(&store, spec, &why) != 0)
        fail_msg("%s", why.text);
}

static void delayed_requests_overlap(void **state)
{
    struct client a, b;

    (void)state;
    layer("delay:50ms");
    start_put(&a, "x", 1, STORE_ALWAYS, NULL);
    start_put(&b, "y", 1, STORE_ALWAYS, NULL);
    store_cancel(&b.req);
    assert_int_equal(finish(&b), -ECANCELED);
    assert_int_equal(finish(&a), 0);
    assert_int_equal(loop.now_ns, 50000000);
    start_put(&a, "x", 1, STORE_ALWAYS, NULL);
    start_put(&b, "y", 1, STORE_ALWAYS, NULL);
    assert_int_equal(finish(&a), 0);
    assert_int_equal(finish(&b), 0);
    assert_int_equal(loop.now_ns, 100000000);
}

static void failures_are_as_told(void **state)
{
    char buf[8] = "";
    struct client c;

    (void)state;
    layer("fail:every=2,op=put,error=EACCES,key=log/");
    assert_int_equal(put(&c, "hello", STORE_ALWAYS, NULL), 0);
    assert_int_equal(put(&c, "hello", STORE_ALWAYS, NULL), -EACCES);
    assert_string_equal(c.req.why.text, "ram:: put of log/1 was told to fail");
    layer("fail:op=get,how=half");
    memset(&c, 0, sizeof(c));
    c.req.get.buf = buf;
    c.req.get.cap = 5;
    start(&c, STORE_GET, 1000);
    assert_int_equal(finish(&c), -EIO);
    assert_memory_equal(buf, "he\0\0\0", 5);
}

static void bits_flip_and_answers_come_late_or_never(void **state)
{
    char buf[8] = "";
    struct client c;

    (void)state;
    assert_int_equal(put(&c, "hello", STORE_ALWAYS, NULL), 0);
    layer("fail:how=flip");
    memset(&c, 0, sizeof(c));
    c.req.get.buf = buf;
    c.req.get.cap = 5;
    start(&c, STORE_GET, 1000);
    assert_int_equal(finish(&c), 0);
    assert_memory_not_equal(buf, "hello", 5);
    layer("fail:op=head,how=late,after=300ms");
    memset(&c, 0, sizeof(c));
    start(&c, STORE_HEAD, 1000);
    assert_int_equal(finish(&c), 0);
    assert_int_equal(loop.now_ns, 300000000);
    memset(&c, 0, sizeof(c));
    start(&c, STORE_HEAD, 100);
    assert_int_equal(finish(&c), -ETIMEDOUT);
    layer("fail:op=delete,how=lost");
    memset(&c, 0, sizeof(c));
    c.req.del.keys = &(const char *){"log/1"};
    c.req.del.nkeys = 1;
    start(&c, STORE_DELETE, 1000);
    assert_int_equal(finish(&c), -EIO);
    assert_int_equal(ram_bucket_count(bucket), 0);
}

static void a_seed_gives_the_same_failures(void **state)
{
    char first[101] = "", second[101] = "";
    struct client c;

    (void)state;
    for (int round = 0; round < 2; round++) {
        struct store *s = store_ram_new(&loop.loop, bucket, 1);
        struct store *kept = store;
        int failed = 0;

        store = s;
        layer("fail:p=0.3,seed=11");
        for (int i = 0; i < 100; i++) {
            int rc = put(&c, "x", STORE_ALWAYS, NULL);

            (round ? second : first)[i] = rc ? 'f' : '.';
            failed += rc != 0;
        }
        assert_in_range(failed, 15, 45);
        store_free(&store);
        store = kept;
    }
    assert_string_equal(first, second);
}

static void layers_that_make_no_sense_are_refused(void **state)
{
    static const char *const wrong[] = {"dlay:1s",   "delay:",        "delay:5",      "delay:601s",
                                        "fail:p=2",  "fail:p=",       "fail:x=1",     "fail:op=patch",
                                        "fail:how=", "fail:error=EX", "fail:every=0", "fail:seed=-1",
                                        "fail:key=", "fail:,",        "fail:after=1", "fail:key=a,key=b"};
    struct why why;

    (void)state;
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        why.text[0] = '\0';
        assert_int_equal(store_wrap_check(wrong[i], &why), -EINVAL);
        assert_non_null(strstr(why.text, "store layer '"));
    }
    assert_int_equal(store_wrap_check("  delay:1s fail:p=0.5,seed=3,how=late,after=5s\tdelay:1ms ", &why), 0);
    assert_int_equal(store_wrap_check("", &why), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(delayed_requests_overlap, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_are_as_told, setup, teardown),
        cmocka_unit_test_setup_teardown(bits_flip_and_answers_come_late_or_never, setup, teardown),
        cmocka_unit_test_setup_teardown(a_seed_gives_the_same_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(layers_that_make_no_sense_are_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
