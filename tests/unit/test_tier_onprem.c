/* links: cache */
/* The tier that asks on-prem, on two loops: its VM's, and the link's. */
#include "fake_loop.h"
#include "no_link_fixture.h"

#include "mem.h"
#include "onprem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static struct fake_loop vm, link_;
static struct link_call *asked;
static struct tier *tier;
static unsigned done;

void link_call(struct peer *p, struct link_call *c)
{
    (void)p;
    asked = c;
}

void link_call_cancel(struct link_call *c)
{
    (void)c;
    fail_msg("it is answered already");
}

void link_notice(struct peer *p, uint8_t type, const void *body, uint32_t len)
{
    (void)p, (void)type, (void)body, (void)len;
}

void link_reply(struct link_request **r, int status, const char *why, const struct iovec *iov, int niov)
{
    (void)r, (void)status, (void)why, (void)iov, (void)niov;
}

static void on_done(struct block_req *r)
{
    assert_int_equal(r->status, -EIO);
    done++;
    tier_stack_free(&tier);
}

/* Its disk goes while a read is answered: who is to hurry that up comes when the tier is no more. */
static void hurried_up_when_it_is_answered(void **state)
{
    struct block b = {.zero = false}, *blocks[] = {&b};
    struct block_req r = {.count = 1, .class = TIER_PREFETCH, .blocks = blocks, .done = on_done};

    (void)state;
    fake_loop_init(&vm, 1);
    fake_loop_init(&link_, 2);
    tier = tier_onprem_new(&vm.loop, &link_.loop, NULL, "disk", "vm", NULL);
    assert_false(tier_read(tier, &r));
    fake_run_posted(&link_);
    assert_non_null(asked);
    tier_stack_quiesce(tier);
    asked->status = -EIO;
    asked->done(asked);
    fake_run_posted(&vm);
    assert_int_equal(done, 1);
    assert_null(tier);
    fake_run_posted(&link_);
    fake_run_posted(&vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hurried_up_when_it_is_answered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
