/* links: store */
/* Credentials that are given for a while: when they are fetched, who is told, and what calling off does. */
#include "fake_loop.h"

#include "store_grant.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct fake_loop f;
static struct store_grant grant;
static unsigned fetches, stops;

static void on_fetch(struct store_grant *g)
{
    assert_ptr_equal(g, &grant);
    fetches++;
}

static void on_stop(struct store_grant *g)
{
    assert_ptr_equal(g, &grant);
    stops++;
}

static int setup(void **state)
{
    (void)state;
    fake_loop_init(&f, 1);
    f.now_ns = 1000;
    store_grant_init(&grant, &f.loop, on_fetch, on_stop);
    fetches = stops = 0;
    return 0;
}

static void later(unsigned s)
{
    f.now_ns += s * 1000000000ull;
}

struct waiter {
    struct store_grant_wait wait;
    struct store_grant_wait *cancels; /* in its done() */
    unsigned told;
};

static void on_done(struct store_grant_wait *w)
{
    struct waiter *x = (struct waiter *)w;

    x->told++;
    if (x->cancels)
        store_grant_cancel(&grant, x->cancels);
}

static bool ready(struct waiter *w)
{
    *w = (struct waiter){.wait.done = on_done};
    return store_grant_ready(&grant, &w->wait);
}

static void ends(int status)
{
    struct why why;

    why_set(&why, 0, "no such luck");
    store_grant_end(&grant, status, &why);
    fake_run_posted(&f);
}

static void one_fetch_serves_all_who_wait(void **state)
{
    struct waiter w[3];

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_false(ready(&w[i]));
    assert_int_equal(fetches, 1);
    store_grant_set(&grant, 1000);
    ends(0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(w[i].told, 1);
        assert_int_equal(w[i].wait.status, 0);
    }
    assert_true(ready(&w[0]));
}

static void a_new_one_comes_five_minutes_before_the_old_one_ends(void **state)
{
    struct waiter w;

    (void)state;
    store_grant_set(&grant, 1000);
    later(699);
    assert_true(ready(&w));
    later(2);
    assert_false(ready(&w));
    assert_int_equal(fetches, 1);
    /* It could not be had: the old one does, and nobody is asked again for a while. */
    ends(-EIO);
    assert_int_equal(w.told, 1);
    assert_int_equal(w.wait.status, 0);
    assert_true(ready(&w));
    later(11);
    assert_false(ready(&w));
    assert_int_equal(fetches, 2);
    later(300);
    ends(-EIO);
    assert_int_equal(w.wait.status, -EIO);
    assert_string_equal(w.wait.why.text, "no such luck");
}

static void a_short_one_is_used_until_it_ends(void **state)
{
    struct waiter w;

    (void)state;
    assert_false(ready(&w));
    store_grant_set(&grant, 5);
    ends(0);
    assert_true(ready(&w));
    later(6);
    assert_false(ready(&w));
    assert_int_equal(fetches, 2);
    store_grant_set(&grant, STORE_GRANT_FOREVER);
    ends(0);
    later(1000000);
    assert_true(ready(&w));
}

static void a_refused_one_is_fetched_again_but_not_at_once(void **state)
{
    struct waiter w;

    (void)state;
    store_grant_set(&grant, STORE_GRANT_FOREVER);
    assert_true(store_grant_renew(&grant));
    assert_false(ready(&w));
    store_grant_set(&grant, STORE_GRANT_FOREVER);
    ends(0);
    assert_false(store_grant_renew(&grant));
    assert_true(ready(&w));
    later(11);
    assert_true(store_grant_renew(&grant));
    assert_false(ready(&w));
    ends(-EACCES);
}

/* The last one that waits ends with the fetch; the others at once, but from the loop. */
static void who_waits_can_be_called_off(void **state)
{
    struct waiter a, b;

    (void)state;
    assert_false(ready(&a));
    assert_false(ready(&b));
    store_grant_cancel(&grant, &a.wait);
    assert_int_equal(a.told, 0);
    store_grant_cancel(&grant, &a.wait);
    fake_run_posted(&f);
    assert_int_equal(a.told, 1);
    assert_int_equal(a.wait.status, -ECANCELED);
    assert_int_equal(stops, 0);
    store_grant_cancel(&grant, &b.wait);
    fake_run_posted(&f);
    assert_int_equal(b.told, 0);
    assert_int_equal(stops, 1);
    ends(-ECANCELED);
    assert_int_equal(b.told, 1);
    assert_int_equal(b.wait.status, -ECANCELED);
}

/* As the parts of one upload do when the first of them fails. */
static void who_is_told_may_call_off_the_others(void **state)
{
    struct waiter w[4];

    (void)state;
    for (int i = 0; i < 4; i++)
        assert_false(ready(&w[i]));
    w[0].cancels = &w[3].wait;
    w[1].cancels = &w[2].wait;
    ends(-EIO);
    for (int i = 0; i < 4; i++)
        assert_int_equal(w[i].told, 1);
    assert_int_equal(stops, 0);
    assert_false(ready(&w[0]));
    assert_int_equal(fetches, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_fetch_serves_all_who_wait, setup),
        cmocka_unit_test_setup(a_new_one_comes_five_minutes_before_the_old_one_ends, setup),
        cmocka_unit_test_setup(a_short_one_is_used_until_it_ends, setup),
        cmocka_unit_test_setup(a_refused_one_is_fetched_again_but_not_at_once, setup),
        cmocka_unit_test_setup(who_waits_can_be_called_off, setup),
        cmocka_unit_test_setup(who_is_told_may_call_off_the_others, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
