/* links: store store_ram */
/* Trying again, and the layers that make it necessary, on simulated time. */
#include "fake_loop.h"

#include "check.h"
#include "mem.h"
#include "metric.h"
#include "store_backend.h"
#include "store_ram.h"
#include "store_retry.h"
#include "store_wrap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

/* A store that answers what the test wrote down, after doing it or not, and then as the one in memory. */
struct told {
    int status;
    bool done; /* it happens, but this is the answer */
    uint32_t retry_after_ms;
    bool hangs; /* no answer until it is cancelled */
};

struct liar {
    struct store store; /* first */
    struct store *inner;
    struct told told[32];
    size_t ntold, asked;
    uint64_t asked_ns[4096];
    bool outage; /* everything is -EIO */
};

struct lie {
    struct store_req *req, inner;
    struct told told;
};

static struct fake_loop loop;
static struct ram_bucket *bucket;
static struct liar *liar;
static struct store *store;

static void on_lied(struct store_req *inner)
{
    struct lie *l = container_of(inner, struct lie, inner);
    struct store_req *r = l->req;
    struct told told = l->told;
    int status = inner->status;

    store_answer_move(r, inner);
    free(l);
    if (told.status == 0) {
        store_finish(r, status);
        return;
    }
    r->etag[0] = '\0';
    r->retry_after_ms = told.retry_after_ms;
    store_refuse(r, told.status, "told to say %d", told.status);
}

static void liar_start(struct store *s, struct store_req *r)
{
    struct liar *f = container_of(s, struct liar, store);
    struct told told = f->asked < f->ntold ? f->told[f->asked] : (struct told){.done = true};
    struct lie *l;

    f->asked_ns[f->asked++] = loop.now_ns;
    CHECK(f->asked < 4096);
    if (told.hangs)
        return;
    if (f->outage)
        told = (struct told){.status = -EIO};
    if (told.status && !told.done) {
        r->retry_after_ms = told.retry_after_ms;
        store_refuse(r, told.status, "told to say %d", told.status);
        return;
    }
    l = xcalloc(1, sizeof(*l));
    l->req = r;
    l->told = told;
    store_ask_copy(&l->inner, r, on_lied);
    l->inner.timeout_ms = 1000;
    store_submit(f->inner, &l->inner);
}

static void liar_cancel(struct store *s, struct store_req *r)
{
    (void)s;
    store_finish(r, -ECANCELED);
}

static void liar_free(struct store *s)
{
    struct liar *f = container_of(s, struct liar, store);

    store_free(&f->inner);
    free(f);
}

static const struct store_ops liar_ops = {
    .name = "liar", .start = liar_start, .cancel = liar_cancel, .free = liar_free};

static int setup(void **state)
{
    (void)state;
    fake_loop_init(&loop, 7);
    bucket = ram_bucket_new();
    liar = xcalloc(1, sizeof(*liar));
    store_init(&liar->store, &liar_ops, &loop.loop, "ram:", 16);
    liar->inner = store_ram_new(&loop.loop, bucket, 16);
    store = store_retry_new(&liar->store, NULL);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_free(&store);
    ram_bucket_free(&bucket);
    return 0;
}

static void tell(struct told t)
{
    liar->told[liar->ntold++] = t;
}

struct client {
    struct store_req req;
    struct iovec iov;
    unsigned done;
};

static void on_done(struct store_req *r)
{
    container_of(r, struct client, req)->done++;
}

static void start(struct client *c, enum store_op op, uint32_t timeout_ms)
{
    c->req.op = op;
    c->req.key = "log/1";
    c->req.done = on_done;
    c->req.timeout_ms = timeout_ms;
    store_submit(store, &c->req);
    assert_int_equal(c->done, 0);
}

static void start_put(struct client *c, const void *bytes, size_t n, enum store_condition condition,
                      const char *match)
{
    memset(c, 0, sizeof(*c));
    c->iov = (struct iovec){.iov_base = (void *)bytes, .iov_len = n};
    c->req.put.iov = &c->iov;
    c->req.put.niov = 1;
    c->req.put.condition = condition;
    c->req.put.match = match;
    start(c, STORE_PUT, 60000);
}

static int finish(struct client *c)
{
    fake_run_posted(&loop);
    while (!c->done)
        assert_true(fake_run_timer(&loop));
    assert_int_equal(c->done, 1);
    return c->req.status;
}

static int put(struct client *c, const char *text, enum store_condition condition, const char *match)
{
    start_put(c, text, strlen(text), condition, match);
    return finish(c);
}

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

/* --- layers --- */

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
        cmocka_unit_test_setup_teardown(delayed_requests_overlap, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_are_as_told, setup, teardown),
        cmocka_unit_test_setup_teardown(bits_flip_and_answers_come_late_or_never, setup, teardown),
        cmocka_unit_test_setup_teardown(a_seed_gives_the_same_failures, setup, teardown),
        cmocka_unit_test_setup_teardown(layers_that_make_no_sense_are_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
