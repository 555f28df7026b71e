/* links: journal store link pki common */
/* When write-back sends, what a change of its policy takes back, and how it ends.
 */
#include "site_fixture.h"

static void cloud_persist_sends_nothing_unless_asked(void **state)
{
    struct site *s = site_new(WB_CLOUD_PERSIST);

    (void)state;
    edge_down(s);
    s->conf.interval_ms = 1;
    edge_up(s);
    random_puts(s->w, 50, 0);
    assert_int_equal(commit_and_wait(s->w), 0);
    UNTIL_STATUS(s, st->attached);
    edge_restart(s);
    UNTIL(s, s->o->calls[PROTO_WB_STATE] >= 2);
    assert_int_equal(s->o->policy, WB_CLOUD_PERSIST);
    assert_int_equal(s->o->calls[PROTO_WB_BEGIN], 0);
    assert_int_equal(write_back(s), 0);
    expect_home(s);
    UNTIL(s, s->o->policy == WB_CLOUD_PERSIST);
    site_free(s);
}

/* As when a source disk cannot be opened just then: on-prem has not heard of the new policy. */
static void a_policy_that_was_refused_is_told_again(void **state)
{
    struct site *s = site_new(WB_CLOUD_PERSIST);

    (void)state;
    random_puts(s->w, 50, 0);
    UNTIL_STATUS(s, st->attached);
    ONPREM_SET(s->o, s->o->fail[PROTO_VM_ATTACH] = -EIO);
    assert_int_equal(write_back(s), 0);
    assert_int_equal(s->o->fail[PROTO_VM_ATTACH], 0);
    expect_home(s);
    ONPREM_SET(s->o, s->o->fail[PROTO_VM_ATTACH] = -EIO);
    edge_restart(s);
    UNTIL_STATUS(s, st->settled);
    assert_int_equal(s->o->policy, WB_CLOUD_PERSIST);
    site_free(s);
}

static void set_policy(struct fixture *f, void *arg)
{
    struct site *s = arg;

    (void)f;
    writeback_set_policy(s->wb, s->conf.policy, s->conf.paused);
}

static void early_enough(void **state)
{
    const uint64_t second = 1000000000;

    (void)state;
    assert_int_equal(wb_begin_age_ns(320000, 0), 280 * second);
    assert_int_equal(wb_begin_age_ns(320000, 20 * second), 250 * second);
    assert_int_equal(wb_begin_age_ns(320000, 3000 * second), 160 * second);
    assert_int_equal(wb_takes_ns(0, 8 * second), 8 * second);
    assert_int_equal(wb_takes_ns(8 * second, 2 * second), 6 * second); /* one that was short by chance */
    assert_int_equal(wb_takes_ns(8 * second, 9 * second), 9 * second);
}

static void when_it_is_time(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    edge_down(s);
    s->conf.interval_ms = 300;
    edge_up(s);
    random_puts(s->w, 50, 0);
    UNTIL_STATUS(s, st->applied == 50);
    edge_down(s);
    s->conf.interval_ms = 3600000;
    s->conf.bytes = 1 << 20;
    edge_up(s);
    put(s->w->f, 0, 1000, 1);
    assert_int_equal(commit_and_wait(s->w), 0);
    put(s->w->f, 1000, 1200, 2);
    assert_int_equal(status(s)->applied, 50);
    assert_int_equal(commit_and_wait(s->w), 0);
    UNTIL_STATUS(s, st->applied == 52);
    s->conf.paused = true;
    on_loop(s->w->f, set_policy, s);
    put(s->w->f, 4000, 3000, 3);
    assert_int_equal(commit_and_wait(s->w), 0);
    edge_restart(s);
    UNTIL_STATUS(s, st->attached);
    assert_int_equal(status(s)->applied, 52);
    assert_true(status(s)->unapplied_bytes >= 3000 * 512);
    s->conf.paused = false;
    on_loop(s->w->f, set_policy, s);
    UNTIL_STATUS(s, st->applied == 53);
    expect_home(s);
    site_free(s);
}

static void cancel_now(struct fixture *f, void *arg)
{
    struct site *s = arg;

    (void)f;
    writeback_cancel(s->wb, &s->wait);
}

static void a_change_of_mind(void **state)
{
    struct site *s = site_new(WB_CLOUD_PERSIST);

    (void)state;
    random_puts(s->w, 300, 0);
    ONPREM_SET(s->o, s->o->mute = PROTO_WB_DATA);
    now_begin(s);
    UNTIL(s, s->o->nmuted > 0);
    on_loop(s->w->f, cancel_now, s);
    assert_int_equal(now_end(s), -ECANCELED);
    UNTIL(s, s->o->policy == WB_CLOUD_PERSIST && s->o->state.stage == WB_STAGE_NONE);
    UNTIL_STATUS(s, st->step == WRITEBACK_IDLE);
    for (unsigned i = 0; i < AREA * 512; i++)
        assert_int_equal(s->o->image[0][i], 0);
    onprem_do(s->o, onprem_unmute_run);
    assert_int_equal(write_back(s), 0);
    expect_home(s);
    site_free(s);
}

/* What on-prem has whole it applies, whatever the policy has become; then it learns of that. */
static void cloud_persist_from_now_on(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 100, 0);
    ONPREM_SET(s->o, s->o->hold_apply = true);
    now_begin(s);
    UNTIL_STATUS(s, st->step == WRITEBACK_APPLYING);
    s->conf.policy = WB_CLOUD_PERSIST;
    on_loop(s->w->f, set_policy, s);
    edge_restart(s);
    assert_int_equal(now_end(s), -ECANCELED);
    UNTIL_STATUS(s, st->step == WRITEBACK_APPLYING);
    assert_int_equal(s->o->policy, WB_WRITE_BACK);
    onprem_do(s->o, onprem_apply_run);
    UNTIL(s, s->o->policy == WB_CLOUD_PERSIST);
    expect_home(s);
    site_free(s);
}

/* The edge knows which cut the source disks are at. */
static void on_prem_lost_its_directory(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 100, 0);
    assert_int_equal(write_back(s), 0);
    ONPREM_SET(s->o, s->o->known = false; s->o->state = (struct wb_state){0});
    random_puts(s->w, 100, 1000);
    assert_int_equal(write_back(s), 0);
    expect_home(s);
    ONPREM_SET(s->o, s->o->state.applied = 100); /* as in a backup of it */
    edge_restart(s);
    UNTIL_STATUS(s, st->alarm && strstr(st->why.text, "not the one it had"));
    site_free(s);
}

static void ask_detach(struct fixture *f, void *arg)
{
    struct site *s = arg;

    (void)f;
    s->leave.done = on_leave_done;
    writeback_detach(s->wb, &s->leave);
}

static void attach_again(struct fixture *f, void *arg)
{
    (void)f;
    writeback_attach(((struct site *)arg)->wb);
}

static int detach(struct site *s)
{
    on_loop(s->w->f, ask_detach, s);
    wait_for(&s->left);
    return s->leave.status;
}

static void detached_when_nothing_is_left_to_do(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    random_puts(s->w, 50, 0);
    ONPREM_SET(s->o, s->o->hold_apply = true);
    now_begin(s);
    UNTIL_STATUS(s, st->step == WRITEBACK_APPLYING);
    assert_int_equal(detach(s), -EBUSY);
    assert_int_equal(now_end(s), -ECANCELED);
    onprem_do(s->o, onprem_apply_run);
    UNTIL_STATUS(s, st->applied == 50);
    assert_int_equal(detach(s), 0);
    assert_false(s->o->known);
    assert_false(status(s)->attached);
    assert_int_equal(write_back(s), -ECANCELED);
    on_loop(s->w->f, attach_again, s);
    UNTIL(s, s->o->known);
    site_free(s);
}

static void look_around(struct onprem *o)
{
    (void)o;
}

/* An edge has several connections to on-prem: a DETACH that is sent while an ATTACH is under way may come
 * first, and then on-prem holds the disks for ever. */
static void detached_when_the_attach_was_answered(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    edge_down(s);
    ONPREM_SET(s->o, s->o->known = false; s->o->mute = PROTO_VM_ATTACH);
    edge_up(s);
    UNTIL(s, s->o->nmuted == 1);
    on_loop(s->w->f, ask_detach, s);
    for (unsigned i = 0; i < 200; i++) { /* all threads have done what they had */
        status(s);
        onprem_do(s->o, look_around);
    }
    assert_int_equal(s->o->calls[PROTO_VM_DETACH], 0);
    onprem_do(s->o, onprem_unmute_run);
    wait_for(&s->left);
    assert_int_equal(s->leave.status, 0);
    assert_int_equal(s->o->calls[PROTO_VM_DETACH], 1);
    assert_false(s->o->known);
    site_free(s);
}

/* On-prem does not answer: who waits is told when the edge ends. */
static void the_end_waits_for_no_attach(void **state)
{
    struct site *s = site_new(WB_WRITE_BACK);

    (void)state;
    edge_down(s);
    ONPREM_SET(s->o, s->o->known = false; s->o->mute = PROTO_VM_ATTACH);
    edge_up(s);
    UNTIL(s, s->o->nmuted == 1);
    on_loop(s->w->f, ask_detach, s);
    edge_restart(s);
    wait_for(&s->left);
    assert_int_equal(s->leave.status, -ECANCELED);
    onprem_do(s->o, onprem_unmute_run);
    UNTIL_STATUS(s, st->attached);
    site_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cloud_persist_sends_nothing_unless_asked),
        cmocka_unit_test(a_policy_that_was_refused_is_told_again),
        cmocka_unit_test(early_enough),
        cmocka_unit_test(when_it_is_time),
        cmocka_unit_test(a_change_of_mind),
        cmocka_unit_test(cloud_persist_from_now_on),
        cmocka_unit_test(on_prem_lost_its_directory),
        cmocka_unit_test(detached_when_nothing_is_left_to_do),
        cmocka_unit_test(detached_when_the_attach_was_answered),
        cmocka_unit_test(the_end_waits_for_no_attach),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
