/* links: link pki common */
/* Calls and notices between two daemons, over connections that are slow, mute or cut.
 */
#include "link_fixture.h"

static void calls_are_answered(void **state)
{
    struct tcall *t;

    (void)state;
    start_pair(NULL, 3);
    for (unsigned i = 0; i < 2000; i++) /* far more than the windows hold */
        call(T_BYTES, i % LINK_CLASSES, i * 13 % 70000, (uint8_t)i);
    assert_int_equal(ndone, 0); /* nothing before the calls returned */
    assert_true(until(all_done, NULL, 30));
    for (unsigned i = 0; i < 2000; i++)
        expect_bytes(&calls[i], i * 13 % 70000, (uint8_t)i);
    forget_calls();
    t = call(T_FAIL, LINK_DEMAND, 0, 0);
    call(77, LINK_DEMAND, 0, 0);
    call(T_BYTES, LINK_CONTROL, 256 * 1024, 5);
    assert_true(until(all_done, NULL, 30));
    assert_int_equal(t->call.status, -EIO);
    assert_string_equal(t->call.why.text, "the disk said: medium error");
    assert_int_equal(calls[1].call.status, -ENOSYS);
    expect_bytes(&calls[2], 256 * 1024, 5);
    forget_calls();
    assert_true(peer_rtt_ns(dc1()) > 0);
    assert_int_equal(metric_sum("isthmus_link_calls_in_flight", "dc1"), 0);
    assert_int_equal(metric_sum("isthmus_link_up", "dc1"), 1);
    stop_pair(NULL);
}

static bool got_notice(void *arg)
{
    (void)arg;
    return onprem.notices == 1;
}

static void notices_arrive(void **state)
{
    (void)state;
    start_pair(NULL, 1);
    link_notice(dc1(), 9, "hi", 2);
    assert_true(until(got_notice, NULL, 30));
    stop_pair(NULL);
}

static void a_demand_overtakes_queued_background(void **state)
{
    struct proxy p;
    struct tcall *demand;
    unsigned before;

    (void)state;
    start_pair(&p, 1);
    atomic_store(&p.bytes_per_ms, 10000);
    for (unsigned i = 0; i < 100; i++)
        call(T_BYTES, LINK_MIGRATION, 200 * 1024, 'm');
    assert_true(until(one_done, &calls[1], 30));
    demand = call(T_BYTES, LINK_DEMAND, 4096, 'd');
    before = ndone;
    assert_true(until(one_done, demand, 30));
    expect_bytes(demand, 4096, 'd');
    assert_in_range(demand->order - before, 1, 12); /* what was in sockets, not the 98 that waited */
    atomic_store(&p.bytes_per_ms, 0);
    assert_true(until(all_done, NULL, 30));
    forget_calls();
    stop_pair(&p);
}

static void a_promoted_call_overtakes(void **state)
{
    struct proxy p;
    unsigned before;

    (void)state;
    start_pair(&p, 1);
    atomic_store(&p.bytes_per_ms, 10000);
    for (unsigned i = 0; i < 100; i++)
        call(T_BYTES, LINK_PREFETCH, 200 * 1024, 'p');
    assert_true(until(one_done, &calls[1], 30));
    link_call_promote(&calls[99].call, LINK_DEMAND);
    before = ndone;
    assert_true(until(one_done, &calls[99], 30));
    assert_in_range(calls[99].order - before, 1, 12);
    atomic_store(&p.bytes_per_ms, 0);
    assert_true(until(all_done, NULL, 30));
    forget_calls();
    stop_pair(&p);
}

static void cancelled_calls_end_and_free_their_slots(void **state)
{
    unsigned want = 10;

    (void)state;
    start_pair(NULL, 1);
    for (unsigned i = 0; i < 10; i++)
        call(T_HOLD, LINK_DEMAND, i, 0);
    assert_true(until(some_held, &want, 30));
    for (unsigned i = 0; i < 10; i++)
        link_call_cancel(&calls[i].call);
    link_call_cancel(&call(T_ECHO, LINK_DEMAND, 0, 0)->call); /* not even sent */
    assert_int_equal(ndone, 0);
    assert_true(until(all_done, NULL, 30));
    for (unsigned i = 0; i < 11; i++)
        assert_int_equal(calls[i].call.status, -ECANCELED);
    forget_calls();
    for (unsigned i = 0; i < 10; i++)
        link_reply(&onprem.held[i], 0, NULL, &(struct iovec){dir, 3}, 1);
    for (unsigned i = 0; i < 1500; i++) /* all slots are free again */
        call(T_ECHO, LINK_DEMAND, i, 0);
    assert_true(until(all_done, NULL, 30));
    forget_calls();
    stop_pair(NULL);
}

static void a_cut_connection_resends_its_calls(void **state)
{
    unsigned want = 20;
    struct proxy p;

    (void)state;
    start_pair(&p, 2);
    for (unsigned i = 0; i < 20; i++)
        call(T_HOLD, LINK_DEMAND, i, 0);
    assert_true(until(some_held, &want, 30));
    atomic_store(&p.cut, true);
    assert_true(until(both_down, NULL, 30));
    for (unsigned i = 0; i < 20; i++) /* answers into the void */
        link_reply(&onprem.held[i], 0, NULL, NULL, 0);
    assert_int_equal(ndone, 0);
    want = 40;
    assert_true(until(some_held, &want, 30)); /* asked again */
    for (unsigned i = 20; i < 40; i++)
        link_reply(&onprem.held[i], 0, NULL, &(struct iovec){dir, 1}, 1);
    assert_true(until(all_done, NULL, 30));
    for (unsigned i = 0; i < 20; i++)
        expect_bytes(&calls[i], 1, (uint8_t)dir[0]);
    forget_calls();
    assert_true(metric_sum("isthmus_link_resent_calls_total", "dc1") >= 20);
    assert_true(metric_sum("isthmus_link_reconnects_total", "dc1") >= 1);
    stop_pair(&p);
}

static struct tcall *brief_call(uint8_t type)
{
    struct tcall *t = &calls[next_call++];

    t->call = (struct link_call){
        .type = type, .class = LINK_PREFETCH, .brief = true, .body = buf_new(5), .done = on_done};
    t->done = t->order = 0;
    memset(t->call.body->data, 0, 5);
    link_call(dc1(), &t->call);
    return t;
}

/* With nobody to be sent to, and when they are sent: the owner has them back. */
static void brief_calls_end_with_their_connection(void **state)
{
    unsigned want = 20;
    struct proxy p;

    (void)state;
    must_open(&edge, "edge", true);
    brief_call(T_ECHO);
    assert_true(until(all_done, NULL, 30));
    assert_int_equal(calls[0].call.status, -ENOTCONN);
    forget_calls();
    link_free(&edge.link);
    start_pair(&p, 1);
    for (unsigned i = 0; i < 20; i++)
        brief_call(T_HOLD);
    assert_true(until(some_held, &want, 30));
    atomic_store(&p.cut, true);
    assert_true(until(all_done, NULL, 30));
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(calls[i].call.status, -ENOTCONN);
        link_reply(&onprem.held[i], 0, NULL, NULL, 0);
    }
    forget_calls();
    assert_true(until(both_up, NULL, 30));
    brief_call(T_ECHO);
    assert_true(until(all_done, NULL, 30));
    assert_int_equal(calls[0].call.status, 0);
    forget_calls();
    stop_pair(&p);
}

static void cuts_under_load_lose_nothing(void **state)
{
    struct proxy p;

    (void)state;
    start_pair(&p, 2);
    for (unsigned i = 0; i < 2000; i++)
        call(T_BYTES, i % LINK_CLASSES, 20000 + i, (uint8_t)i);
    for (unsigned round = 1; round <= 4; round++) {
        assert_true(until(one_done, &calls[round * 200], 30));
        atomic_store(&p.cut, true);
    }
    assert_true(until(all_done, NULL, 30));
    for (unsigned i = 0; i < 2000; i++)
        expect_bytes(&calls[i], 20000 + i, (uint8_t)i);
    forget_calls();
    stop_pair(&p);
}

/* After how many milliseconds both notice that nothing comes any more. */
static uint64_t mute(void)
{
    uint64_t began, took;
    struct proxy p;

    start_pair(&p, 1);
    atomic_store(&p.mute, true);
    began = loop_now_ns(loop);
    call(T_ECHO, LINK_DEMAND, 1, 0);
    assert_true(until(both_down, NULL, 60));
    took = (loop_now_ns(loop) - began) / 1000000;
    assert_int_equal(ndone, 0); /* it waits; it does not fail */
    atomic_store(&p.mute, false);
    assert_true(until(all_done, NULL, 30));
    assert_int_equal(calls[0].call.status, 0);
    forget_calls();
    stop_pair(&p);
    return took;
}

/* A machine that does not run us for a second or two makes it late, or early, once. */
static void a_mute_peer_is_noticed_within_10_s(void **state)
{
    uint64_t ms = mute();

    (void)state;
    for (unsigned again = 0; again < 2 && (ms < 5000 || ms > 10000); again++)
        ms = mute();
    assert_in_range(ms, 5000, 10000);
}

static void calls_wait_for_the_first_connection(void **state)
{
    (void)state;
    must_open(&edge, "edge", true);
    call(T_ECHO, LINK_DEMAND, 1, 0);
    must_open(&onprem, "onprem", false);
    dial(link_port(edge.link), 1);
    assert_true(until(all_done, NULL, 30));
    assert_int_equal(calls[0].call.status, 0);
    forget_calls();
    stop_pair(NULL);
}

static void link_free_cancels_what_is_out(void **state)
{
    unsigned want = 3;

    (void)state;
    start_pair(NULL, 1);
    for (unsigned i = 0; i < 3; i++)
        call(T_HOLD, LINK_DEMAND, i, 0);
    assert_true(until(some_held, &want, 30));
    for (unsigned i = 0; i < 1200; i++)
        call(T_BYTES, LINK_PREFETCH, 4096, 0);
    link_free(&edge.link);
    assert_int_equal(ndone, 0);
    assert_true(until(all_done, NULL, 30));
    for (unsigned i = 0; i < next_call; i++)
        assert_int_equal(calls[i].call.status, -ECANCELED);
    forget_calls();
    link_free(&onprem.link);
    for (unsigned i = 0; i < 3; i++)
        link_reply(&onprem.held[i], 0, NULL, NULL, 0);
    stop_pair(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_answered),
        cmocka_unit_test(notices_arrive),
        cmocka_unit_test(a_demand_overtakes_queued_background),
        cmocka_unit_test(a_promoted_call_overtakes),
        cmocka_unit_test(cancelled_calls_end_and_free_their_slots),
        cmocka_unit_test(a_cut_connection_resends_its_calls),
        cmocka_unit_test(brief_calls_end_with_their_connection),
        cmocka_unit_test(cuts_under_load_lose_nothing),
        cmocka_unit_test(a_mute_peer_is_noticed_within_10_s),
        cmocka_unit_test(calls_wait_for_the_first_connection),
        cmocka_unit_test(link_free_cancels_what_is_out),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
