/* links: cache */
/* The tiers that make trouble, and stacks of them from a line of the configuration. */
#include "fake_loop.h"

#include "check.h"
#include "mem.h"
#include "tier_wrap.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static struct fake_loop loop;
static unsigned reads, promoted, freed;

static bool base_read(struct tier *t, struct block_req *r)
{
    (void)t;
    reads++;
    r->status = 0;
    return true;
}

static void base_promote(struct tier *t, struct block_req *r)
{
    (void)t;
    (void)r;
    promoted++;
}

static void base_free(struct tier *t)
{
    (void)t;
    freed++;
}

static const struct tier_ops base_ops = {
    .name = "base",
    .read = base_read,
    .promote = base_promote,
    .free = base_free,
};
static struct tier base = {.ops = &base_ops, .loop = &loop.loop};

static int setup(void **state)
{
    (void)state;
    fake_loop_init(&loop, 1);
    reads = promoted = freed = 0;
    return 0;
}

struct reader {
    struct block_req req;
    unsigned done;
    uint64_t at_ns;
};

static void on_done(struct block_req *r)
{
    struct reader *d = container_of(r, struct reader, req);

    d->done++;
    d->at_ns = loop.now_ns;
}

static bool start(struct tier *t, struct reader *d)
{
    memset(d, 0, sizeof(*d));
    d->req.count = 1;
    d->req.done = on_done;
    d->req.status = 1;
    return tier_read(t, &d->req);
}

static void delayed_reads_overlap(void **state)
{
    struct tier *t = tier_wrap("delay:50ms", &loop.loop, &base, NULL);
    struct reader a, b;

    (void)state;
    assert_false(start(t, &a));
    loop.now_ns += 20000000;
    assert_false(start(t, &b));
    tier_promote(t, &a.req);
    assert_int_equal(promoted, 0); /* it has not gone down */
    while (fake_run_timer(&loop))
        ;
    assert_int_equal(a.done, 1);
    assert_int_equal(b.done, 1);
    assert_int_equal(a.at_ns, 50000000);
    assert_int_equal(b.at_ns, 70000000);
    assert_int_equal(a.req.status, 0);
    tier_promote(t, &a.req);
    assert_int_equal(promoted, 1);
    tier_stack_free(&t);
    assert_null(t);
    assert_int_equal(freed, 1);
}

static void a_disk_that_goes_cancels_what_is_delayed(void **state)
{
    struct tier *t = tier_wrap("delay:600s", &loop.loop, &base, NULL);
    struct reader a;

    (void)state;
    assert_false(start(t, &a));
    tier_stack_quiesce(t);
    assert_int_equal(a.done, 0);
    assert_true(fake_run_timer(&loop));
    assert_int_equal(a.done, 1);
    assert_int_equal(a.req.status, -ECANCELED);
    assert_int_equal(loop.now_ns, 0);
    assert_int_equal(reads, 0);
    tier_stack_free(&t);
}

static void every_third_read_fails(void **state)
{
    struct tier *t = tier_wrap("fail:every=3,errno=ENOENT", &loop.loop, &base, NULL);
    struct reader d;

    (void)state;
    for (int i = 1; i <= 9; i++) {
        assert_true(start(t, &d));
        assert_int_equal(d.req.status, i % 3 == 0 ? -ENOENT : 0);
    }
    assert_int_equal(reads, 6);
    tier_stack_free(&t);
}

static void reads_fail_while_the_file_exists(void **state)
{
    char path[] = "/tmp/isthmus-fail-XXXXXX", spec[80];
    int fd = mkstemp(path);
    struct reader d;
    struct tier *t;

    (void)state;
    assert_true(fd >= 0);
    snprintf(spec, sizeof(spec), "fail:file=%s", path);
    t = tier_wrap(spec, &loop.loop, &base, NULL);
    assert_true(start(t, &d));
    assert_int_equal(d.req.status, -EIO);
    close(fd);
    unlink(path);
    assert_true(start(t, &d));
    assert_int_equal(d.req.status, 0);
    tier_stack_free(&t);
}

static void a_line_makes_a_stack(void **state)
{
    struct tier *t = tier_wrap("  delay:1s fail:every=2\tdelay:3ms ", &loop.loop, &base, NULL);
    const char *names[] = {"delay", "fail", "delay", "base"};
    struct tier *at = t;

    (void)state;
    for (unsigned i = 0; i < 4; i++, at = at->next)
        assert_string_equal(at->ops->name, names[i]);
    assert_null(at);
    tier_stack_free(&t);
    assert_ptr_equal(tier_wrap(" ", &loop.loop, &base, NULL), &base);
}

static void a_wrong_line_is_refused_with_a_sentence(void **state)
{
    static const char *const wrong[] = {
        "delay:",     "delay:50",     "delay:-1ms",      "delay:601s",    "delay:99999999999999999999s",
        "slow:3",     "fail:every=0", "fail:errno=E",    "fail:every=3x", "fail:",
        "fail:file=", "delay:1ms x",  "delay:1ms fail:,"};

    (void)state;
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct why why = {.text = ""};

        assert_int_equal(tier_wrap_check(wrong[i], &why), -EINVAL);
        assert_int_not_equal(why.text[0], '\0');
        assert_null(tier_wrap(wrong[i], &loop.loop, &base, NULL));
    }
    assert_int_equal(tier_wrap_check("delay:50ms fail:every=100,errno=EIO", NULL), 0);
    assert_int_equal(freed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(delayed_reads_overlap, setup),
        cmocka_unit_test_setup(a_disk_that_goes_cancels_what_is_delayed, setup),
        cmocka_unit_test_setup(every_third_read_fails, setup),
        cmocka_unit_test_setup(reads_fail_while_the_file_exists, setup),
        cmocka_unit_test_setup(a_line_makes_a_stack, setup),
        cmocka_unit_test_setup(a_wrong_line_is_refused_with_a_sentence, setup),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
