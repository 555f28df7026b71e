/* links: target */
/* Persistent reservations as rules: who may do what, who holds, who is told. */
#include "reserve.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct reserve r;
static struct reserve_notices told;

static struct reserve_port port(unsigned i)
{
    struct reserve_port p = {.isid = {0x80, 1, 2, 3, 4, (uint8_t)i}};

    snprintf(p.name, sizeof p.name, "iqn.2026-11.test:initiator-%u", i);
    return p;
}

/* Initiator 2 is 2 at our first target port and 1002 at the second. */
enum { FIRST = 1, SECOND = 2, AT_SECOND = 1000 };
static struct reserve_nexus nexus(unsigned who)
{
    return (struct reserve_nexus){.initiator = port(who % AT_SECOND),
                                  .target = who < AT_SECOND ? FIRST : SECOND};
}

static bool same(const struct reserve_nexus *a, const struct reserve_nexus *b)
{
    return a->target == b->target && !strcmp(a->initiator.name, b->initiator.name);
}

static int find(unsigned who)
{
    struct reserve_nexus n = nexus(who);

    return reserve_find(&r, n.initiator.name, n.initiator.isid, n.target);
}

static int start(void **state)
{
    (void)state;
    reserve_init(&r);
    return 0;
}

static enum reserve_result out(unsigned who, enum reserve_action action, uint8_t type, uint64_t key,
                               uint64_t service_key)
{
    struct reserve_request q = {
        .action = action, .type = type, .key = key, .service_key = service_key, .from = nexus(who)};

    return reserve_out(&r, &q, &told);
}

/* Registers initiators 1 to n with their numbers for keys. */
static void join(unsigned n)
{
    for (unsigned i = 1; i <= n; i++)
        assert_int_equal(out(i, RESERVE_REGISTER, 0, 0, i), RESERVE_GOOD);
}

static uint8_t told_to(unsigned who)
{
    struct reserve_nexus n = nexus(who);
    uint8_t what = 0;

    for (unsigned i = 0; i < told.n; i++)
        if (same(&told.each[i].nexus, &n))
            what |= told.each[i].what;
    return what;
}

static bool conflicts(unsigned who, enum reserve_class class)
{
    struct reserve_nexus n = nexus(who);

    return reserve_conflicts(&r, class, n.initiator.name, n.initiator.isid, n.target);
}

static bool holds(unsigned who)
{
    return reserve_holds(&r, find(who));
}

static const uint8_t types[] = {1, 3, 5, 6, 7, 8};

static void registering(void **state)
{
    (void)state;
    assert_int_equal(out(1, RESERVE_REGISTER, 0, 5, 1), RESERVE_CONFLICT); /* not registered: key 0 */
    assert_int_equal(out(1, RESERVE_REGISTER, 0, 0, 0), RESERVE_GOOD);     /* nothing to do */
    assert_int_equal(r.n, 0);
    assert_int_equal(r.generation, 0);
    assert_int_equal(out(1, RESERVE_REGISTER, 0, 0, 1), RESERVE_GOOD);
    assert_int_equal(out(1, RESERVE_REGISTER, 0, 0, 2), RESERVE_CONFLICT);
    assert_int_equal(out(1, RESERVE_REGISTER, 0, 1, 2), RESERVE_GOOD);
    assert_int_equal(r.registrants[0].key, 2);
    assert_int_equal(out(1, RESERVE_REGISTER_IGNORE, 0, 77, 3), RESERVE_GOOD);
    assert_int_equal(out(2, RESERVE_REGISTER_IGNORE, 0, 77, 3), RESERVE_GOOD);
    assert_int_equal(r.n, 2);
    assert_int_equal(r.generation, 4);
    assert_int_equal(out(1, RESERVE_REGISTER, 0, 3, 0), RESERVE_GOOD);
    assert_int_equal(out(2, RESERVE_REGISTER_IGNORE, 0, 0, 0), RESERVE_GOOD);
    assert_int_equal(r.n, 0);
}

static void only_so_many_register(void **state)
{
    struct reserve_request q = {.action = RESERVE_REGISTER, .service_key = 1, .nports = 1};

    (void)state;
    join(RESERVE_REGISTRANTS_MAX - 1);
    q.from = nexus(500);
    q.ports[0] = port(501);
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_FULL);
    assert_int_equal(out(500, RESERVE_REGISTER, 0, 0, 1), RESERVE_GOOD);
    assert_int_equal(out(501, RESERVE_REGISTER, 0, 0, 1), RESERVE_FULL);
    assert_int_equal(r.n, RESERVE_REGISTRANTS_MAX);
    assert_int_equal(out(500, RESERVE_CLEAR, 0, 1, 0), RESERVE_GOOD);
    assert_int_equal(told.n, RESERVE_REGISTRANTS_MAX - 1);
}

static void ports_named_by_another(void **state)
{
    struct reserve_request q = {.action = RESERVE_REGISTER, .service_key = 9, .from = nexus(1), .nports = 2};

    (void)state;
    q.ports[0] = port(2);
    q.ports[1] = port(2);
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_BAD_PORTS);
    q.ports[1] = port(1);
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_BAD_PORTS);
    q.ports[1] = port(3);
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_GOOD);
    assert_int_equal(r.n, 3);
    q.key = 9;
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_BAD_PORTS); /* it is registered */
    assert_int_equal(r.n, 3);
}

/* 1 holds, 2 is registered, 3 is not: the standard's table, row by row. */
static void what_conflicts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof types; i++) {
        bool excludes = types[i] == 3 || types[i] == 6 || types[i] == 8, shared = types[i] >= 5;

        reserve_init(&r);
        join(2);
        assert_int_equal(out(1, RESERVE_RESERVE, types[i], 1, 0), RESERVE_GOOD);
        for (int k = RESERVE_FREE; k < RESERVE_CLASSES; k++) {
            enum reserve_class class = (enum reserve_class)k;
            bool never = class != RESERVE_READS && class != RESERVE_WRITES,
                 alone = !never && (class == RESERVE_WRITES || excludes);

            assert_false(conflicts(1, class));
            assert_int_equal(conflicts(2, class), alone && !shared);
            assert_int_equal(conflicts(3, class), alone);
        }
    }
    assert_true(reserve_conflicts_old(RESERVE_STATUS));
    assert_true(reserve_conflicts_old(RESERVE_READS));
    assert_true(reserve_conflicts_old(RESERVE_PERSISTENT));
    assert_false(reserve_conflicts_old(RESERVE_FREE));
}

static void reserving_and_releasing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof types; i++) {
        bool all = types[i] >= 7, quiet = types[i] < 5;
        uint8_t other = types[i] == 1 ? 3 : 1;

        reserve_init(&r);
        join(3);
        assert_int_equal(out(1, RESERVE_RESERVE, types[i], 9, 0), RESERVE_CONFLICT);
        assert_int_equal(out(4, RESERVE_RESERVE, types[i], 0, 0), RESERVE_CONFLICT);
        assert_int_equal(out(1, RESERVE_RESERVE, types[i], 1, 0), RESERVE_GOOD);
        assert_int_equal(out(1, RESERVE_RESERVE, types[i], 1, 0), RESERVE_GOOD);
        assert_int_equal(out(1, RESERVE_RESERVE, other, 1, 0), RESERVE_CONFLICT);
        assert_int_equal(out(2, RESERVE_RESERVE, types[i], 2, 0), all ? RESERVE_GOOD : RESERVE_CONFLICT);
        assert_int_equal(holds(2), all);
        if (!all) {
            assert_int_equal(out(2, RESERVE_RELEASE, types[i], 2, 0), RESERVE_GOOD);
            assert_int_equal(r.type, types[i]); /* not its own: nothing happens */
        }
        assert_int_equal(out(1, RESERVE_RELEASE, other, 1, 0), RESERVE_BAD_RELEASE);
        assert_int_equal(out(1, RESERVE_RELEASE, types[i], 1, 0), RESERVE_GOOD);
        assert_int_equal(r.type, 0);
        assert_int_equal(told_to(1), 0);
        assert_int_equal(told_to(2), quiet ? 0 : RESERVE_TELL_RELEASED);
        assert_int_equal(out(1, RESERVE_RELEASE, types[i], 1, 0), RESERVE_GOOD);
        assert_int_equal(r.generation, 3);
    }
}

static void the_holder_leaves(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof types; i++) {
        bool all = types[i] >= 7;

        reserve_init(&r);
        join(2);
        out(2, RESERVE_RESERVE, types[i], 2, 0);
        assert_int_equal(out(2, RESERVE_REGISTER, 0, 2, 0), RESERVE_GOOD);
        assert_int_equal(r.type, all ? types[i] : 0);
        assert_int_equal(told_to(1), types[i] == 5 || types[i] == 6 ? RESERVE_TELL_RELEASED : 0);
        assert_int_equal(out(1, RESERVE_REGISTER, 0, 1, 0), RESERVE_GOOD);
        assert_int_equal(r.type, 0);
    }
}

static void preempting_the_holder(void **state)
{
    (void)state;
    join(4);
    out(4, RESERVE_REGISTER, 0, 4, 1); /* 4 shares the key of 1 */
    out(1, RESERVE_RESERVE, 5, 1, 0);
    assert_int_equal(out(2, RESERVE_PREEMPT, 5, 9, 1), RESERVE_CONFLICT);
    assert_int_equal(out(2, RESERVE_PREEMPT, 5, 2, 77), RESERVE_CONFLICT);
    assert_int_equal(out(2, RESERVE_PREEMPT, 5, 2, 0), RESERVE_BAD_KEY);
    assert_int_equal(out(2, RESERVE_PREEMPT_ABORT, 6, 2, 1), RESERVE_GOOD);
    assert_true(holds(2));
    assert_int_equal(r.type, 6);
    assert_int_equal(r.n, 2);
    assert_int_equal(told_to(1), RESERVE_TELL_UNREGISTERED | RESERVE_TELL_ABORT);
    assert_int_equal(told_to(4), RESERVE_TELL_UNREGISTERED | RESERVE_TELL_ABORT);
    assert_int_equal(told_to(3), RESERVE_TELL_RELEASED); /* it is of another type now */
    assert_int_equal(told_to(2), 0);
    assert_int_equal(out(2, RESERVE_PREEMPT, 1, 2, 2), RESERVE_GOOD); /* itself: only the type changes */
    assert_true(holds(2));
    assert_int_equal(r.type, 1);
    assert_int_equal(r.n, 2);
}

static void preempting_registrations(void **state)
{
    (void)state;
    join(4);
    out(3, RESERVE_RESERVE, 1, 3, 0);
    assert_int_equal(out(4, RESERVE_PREEMPT, 1, 4, 1), RESERVE_GOOD);
    assert_true(holds(3));
    assert_int_equal(r.n, 3);
    assert_int_equal(told_to(1), RESERVE_TELL_UNREGISTERED);
    assert_int_equal(told.n, 1);
    assert_int_equal(out(4, RESERVE_PREEMPT, 1, 4, 4), RESERVE_GOOD); /* its own registration */
    assert_int_equal(r.n, 2);
    assert_int_equal(told.n, 0);
}

static void preempting_all(void **state)
{
    (void)state;
    join(4);
    out(1, RESERVE_RESERVE, 8, 1, 0);
    assert_int_equal(out(2, RESERVE_PREEMPT, 8, 2, 3), RESERVE_GOOD);
    assert_int_equal(r.type, 8);
    assert_int_equal(r.n, 3);
    assert_int_equal(out(2, RESERVE_PREEMPT, 3, 2, 0), RESERVE_GOOD);
    assert_int_equal(r.n, 1);
    assert_true(holds(2));
    assert_int_equal(r.type, 3);
    assert_int_equal(told_to(1), RESERVE_TELL_UNREGISTERED);
    assert_int_equal(told_to(4), RESERVE_TELL_UNREGISTERED);
}

static void clearing(void **state)
{
    (void)state;
    join(3);
    out(1, RESERVE_RESERVE, 3, 1, 0);
    assert_int_equal(out(2, RESERVE_CLEAR, 0, 1, 0), RESERVE_CONFLICT);
    assert_int_equal(out(2, RESERVE_CLEAR, 0, 2, 0), RESERVE_GOOD);
    assert_int_equal(r.n, 0);
    assert_int_equal(r.type, 0);
    assert_int_equal(told_to(1), RESERVE_TELL_PREEMPTED);
    assert_int_equal(told_to(3), RESERVE_TELL_PREEMPTED);
    assert_int_equal(told_to(2), 0);
}

static void moving(void **state)
{
    struct reserve_request q = {.action = RESERVE_MOVE,
                                .key = 2,
                                .service_key = 7,
                                .from = nexus(2),
                                .nports = 1,
                                .ports = {port(9)},
                                .ntargets = 1,
                                .targets = {FIRST}};

    (void)state;
    join(3);
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_CONFLICT); /* it holds nothing */
    out(2, RESERVE_RESERVE, 7, 2, 0);
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_CONFLICT); /* all hold it */
    out(2, RESERVE_RELEASE, 7, 2, 0);
    out(2, RESERVE_RESERVE, 6, 2, 0);
    q.service_key = 0;
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_BAD_KEY);
    q.service_key = 7;
    q.ports[0] = port(2);
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_BAD_TARGET);
    q.ports[0] = port(9);
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_GOOD);
    assert_true(holds(9));
    assert_false(holds(2));
    assert_int_equal(r.n, 4);
    q = (struct reserve_request){.action = RESERVE_MOVE,
                                 .key = 7,
                                 .service_key = 8,
                                 .unregister = true,
                                 .from = nexus(9),
                                 .nports = 1,
                                 .ports = {port(1)},
                                 .ntargets = 1,
                                 .targets = {FIRST}};
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_GOOD);
    assert_true(holds(1));
    assert_int_equal(r.n, 3);
    assert_int_equal(r.registrants[0].key, 8);
    assert_int_equal(r.type, 6);
    q.key = 8;
    q.from = nexus(1);
    q.targets[0] = SECOND; /* to itself, but at the other target port */
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_GOOD);
    assert_true(holds(1 + AT_SECOND));
    assert_int_equal(find(1), RESERVE_NOBODY);
}

/* What is registered at one target port is not at the other. */
static void each_target_port_by_itself(void **state)
{
    (void)state;
    assert_int_equal(out(1, RESERVE_REGISTER, 0, 0, 5), RESERVE_GOOD);
    assert_int_equal(out(1, RESERVE_RESERVE, 5, 5, 0), RESERVE_GOOD);
    assert_false(conflicts(1, RESERVE_WRITES));
    assert_true(conflicts(1 + AT_SECOND, RESERVE_WRITES));
    assert_int_equal(out(1 + AT_SECOND, RESERVE_RELEASE, 5, 5, 0), RESERVE_CONFLICT);
    assert_int_equal(out(1 + AT_SECOND, RESERVE_REGISTER, 0, 0, 5), RESERVE_GOOD);
    assert_false(conflicts(1 + AT_SECOND, RESERVE_WRITES));
    assert_false(holds(1 + AT_SECOND));
    assert_int_equal(r.n, 2);
    assert_int_equal(out(1 + AT_SECOND, RESERVE_PREEMPT, 1, 5, 5), RESERVE_GOOD); /* its other half */
    assert_int_equal(told_to(1), RESERVE_TELL_UNREGISTERED);
    assert_true(holds(1 + AT_SECOND));
    assert_true(conflicts(1, RESERVE_WRITES));
    assert_int_equal(r.n, 1);
}

/* ALL_TG_PT: as if it had come by each target port, and nothing changes unless all of them would be good. */
static void all_target_ports(void **state)
{
    struct reserve_request q = {.action = RESERVE_REGISTER,
                                .service_key = 5,
                                .from = nexus(1),
                                .ntargets = 2,
                                .targets = {FIRST, SECOND}};

    (void)state;
    out(2, RESERVE_REGISTER, 0, 0, 7);
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_GOOD);
    assert_int_equal(r.n, 3);
    assert_int_equal(r.generation, 2);
    assert_int_equal(r.registrants[find(1 + AT_SECOND)].key, 5);
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_CONFLICT);
    assert_int_equal(out(1 + AT_SECOND, RESERVE_REGISTER, 0, 5, 6), RESERVE_GOOD); /* only there */
    assert_int_equal(r.registrants[find(1)].key, 5);
    q.key = 5;
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_CONFLICT); /* it is 6 at the second */
    q.action = RESERVE_REGISTER_IGNORE;
    q.service_key = 8;
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_GOOD);
    assert_int_equal(r.registrants[find(1)].key, 8);
    assert_int_equal(r.registrants[find(1 + AT_SECOND)].key, 8);
    out(1, RESERVE_RESERVE, 6, 8, 0);
    q.from = nexus(1 + AT_SECOND); /* leaves, and with it whom it holds by */
    q.service_key = 0;
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_GOOD);
    assert_int_equal(r.n, 1);
    assert_int_equal(r.type, 0);
    assert_int_equal(told.n, 1);
    assert_int_equal(told_to(2), RESERVE_TELL_RELEASED);
    q.action = RESERVE_REGISTER; /* named by another: each at each */
    q.key = 0;
    q.service_key = 9;
    q.nports = 2;
    q.ports[0] = port(3);
    q.ports[1] = port(2);
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_BAD_PORTS);
    q.ports[1] = port(4);
    assert_int_equal(reserve_out(&r, &q, &told), RESERVE_GOOD);
    assert_int_equal(r.n, 7);
}

static unsigned random_nexus(void)
{
    return (unsigned)random() % 3 + (random() % 2 ? (unsigned)AT_SECOND : 0);
}

/* Whatever is asked, in any order: the state stays one that can be, a refusal changes nothing, and nobody
 * but a holder, or a registrant where they may, writes. */
static void at_random(void **state)
{
    static uint8_t bytes[RESERVE_SAVED_MAX];
    static struct reserve before, back;

    (void)state;
    srandom(11);
    for (int step = 0; step < 200000; step++) {
        struct reserve_request q = {.action = (enum reserve_action)(random() % 8),
                                    .type = types[random() % 6],
                                    .key = (uint64_t)(random() % 4),
                                    .service_key = (uint64_t)(random() % 4),
                                    .unregister = random() % 2,
                                    .from = nexus(random_nexus())};
        enum reserve_result result;
        unsigned writers = 0;

        if (q.action == RESERVE_MOVE || (q.action == RESERVE_REGISTER && random() % 8 == 0))
            q.ports[q.nports++] = port((unsigned)random() % 3);
        if (q.action == RESERVE_MOVE) {
            q.targets[q.ntargets++] = random() % 2 ? FIRST : SECOND;
        } else if (random() % 4 == 0) {
            q.targets[q.ntargets++] = FIRST;
            q.targets[q.ntargets++] = SECOND;
        }
        before = r;
        result = reserve_out(&r, &q, &told);
        if (result != RESERVE_GOOD)
            assert_memory_equal(&before, &r, sizeof r);
        assert_true(r.n <= 6 && r.holder < (int)r.n);
        assert_int_equal(r.holder != RESERVE_NOBODY, r.type && !reserve_all_hold(r.type));
        assert_true(r.n || !r.type);
        for (unsigned i = 0; i < r.n; i++)
            assert_int_equal(reserve_find(&r, r.registrants[i].nexus.initiator.name,
                                          r.registrants[i].nexus.initiator.isid,
                                          r.registrants[i].nexus.target),
                             i);
        for (unsigned i = 0; i < told.n; i++)
            assert_false(same(&told.each[i].nexus, &q.from));
        for (unsigned i = 0; i < 3; i++) {
            writers += !conflicts(i, RESERVE_WRITES);
            writers += !conflicts(i + AT_SECOND, RESERVE_WRITES);
        }
        assert_int_equal(writers, !r.type ? 6 : r.type < 5 ? 1 : r.n);
        if (r.n) {
            assert_int_equal(reserve_get(&back, bytes, reserve_put(&r, bytes), 1), 0);
            assert_int_equal(back.holder, r.holder);
            assert_int_equal(back.n, r.n);
        }
    }
}

#define RULE(name) cmocka_unit_test_setup(name, start)
int main(void)
{
    const struct CMUnitTest tests[] = {
        RULE(registering),
        RULE(only_so_many_register),
        RULE(ports_named_by_another),
        RULE(what_conflicts),
        RULE(reserving_and_releasing),
        RULE(the_holder_leaves),
        RULE(preempting_the_holder),
        RULE(preempting_registrations),
        RULE(preempting_all),
        RULE(clearing),
        RULE(moving),
        RULE(each_target_port_by_itself),
        RULE(all_target_ports),
        RULE(at_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
