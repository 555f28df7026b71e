/* links: journal */
/* The pair's record: bytes, what it means for whom, and every history that two edges can make of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "arbiter.h"
#include "lease.h"

#include <errno.h>
#include <string.h>

static const struct aead_key key = {{1, 2, 3}}, other_key = {{9}};
static const uint8_t salt[AEAD_SALT_BYTES] = {5};
static const uint8_t wa[16] = {0xa}, wa2[16] = {0xaa}, wb[16] = {0xb}, wb2[16] = {0xbb};
static const struct arbiter_edge a = {"edge-a", wa, 1}, a2 = {"edge-a", wa2, 1}, b = {"edge-b", wb, 1},
                                 b2 = {"edge-b", wb2, 1}, c = {"edge-c", wa, 1};
static const uint8_t change[16] = {7};

static void same_record(void **state)
{
    uint8_t bytes[ARBITER_BYTES + 1];
    struct arbiter r, again;
    struct why why;

    (void)state;
    arbiter_first(&r, &a, change);
    arbiter_join(&r, &a, &b, change);
    arbiter_seal(&key, "p1", salt, &r, bytes);
    assert_int_equal(arbiter_open(&key, "p1", bytes, ARBITER_BYTES, &again, &why), 0);
    assert_memory_equal(&r, &again, sizeof r);
    assert_int_equal(again.epoch, 2);
}

static void altered_is_refused(void **state)
{
    uint8_t bytes[ARBITER_BYTES + 1];
    struct arbiter r, again;
    struct why why;

    (void)state;
    arbiter_first(&r, &a, change);
    arbiter_seal(&key, "p1", salt, &r, bytes);
    for (size_t i = 0; i < ARBITER_BYTES; i++) {
        bytes[i] ^= 1;
        assert_int_not_equal(arbiter_open(&key, "p1", bytes, ARBITER_BYTES, &again, &why), 0);
        bytes[i] ^= 1;
    }
    for (size_t n = 0; n < ARBITER_BYTES; n++)
        assert_int_equal(arbiter_open(&key, "p1", bytes, n, &again, &why), -EBADMSG);
    assert_int_equal(arbiter_open(&key, "p1", bytes, ARBITER_BYTES + 1, &again, &why), -EBADMSG);
    assert_int_equal(arbiter_open(&key, "p2", bytes, ARBITER_BYTES, &again, &why), -EBADMSG);
    assert_int_equal(arbiter_open(&other_key, "p1", bytes, ARBITER_BYTES, &again, &why), -EBADMSG);
    bytes[9]++;
    assert_int_equal(arbiter_open(&key, "p1", bytes, ARBITER_BYTES, &again, &why), -ENOTSUP);
}

static void what_it_means(void **state)
{
    struct arbiter r;

    (void)state;
    arbiter_first(&r, &a, change);
    assert_int_equal(arbiter_judge(&r, &a), ARBITER_SOLE);
    assert_int_equal(arbiter_judge(&r, &a2), ARBITER_STRANDED);
    assert_int_equal(arbiter_judge(&r, &b), ARBITER_NOT);
    assert_null(arbiter_other(&r, &a));
    arbiter_join(&r, &a, &b, change);
    assert_int_equal(arbiter_judge(&r, &a), ARBITER_BOTH);
    assert_int_equal(arbiter_judge(&r, &b), ARBITER_BOTH);
    assert_int_equal(arbiter_judge(&r, &b2), ARBITER_NOT);
    assert_int_equal(arbiter_judge(&r, &c), ARBITER_FOREIGN);
    arbiter_alone(&r, &b, change);
    assert_int_equal(arbiter_judge(&r, &a), ARBITER_NOT);
    assert_int_equal(arbiter_judge(&r, &b), ARBITER_SOLE);
    assert_memory_equal(arbiter_other(&r, &b)->writer, wa, 16);
    arbiter_join(&r, &b, &a2, change);
    assert_int_equal(arbiter_judge(&r, &a2), ARBITER_BOTH);
    assert_int_equal(arbiter_judge(&r, &a), ARBITER_NOT);
    assert_int_equal(r.epoch, 4);
}

/* As which generation members may write: as all of them can, and never as less than before. */
static void generation_rises_with_both(void **state)
{
    const struct arbiter_edge newer_a = {"edge-a", wa, 2}, newer_b = {"edge-b", wb, 2},
                              newest_b = {"edge-b", wb, 4};
    uint8_t bytes[ARBITER_BYTES + 1];
    struct arbiter r, again;
    struct why why;

    (void)state;
    arbiter_first(&r, &a, change);
    assert_int_equal(r.generation, 1);
    arbiter_join(&r, &a, &b, change);
    arbiter_alone(&r, &b, change); /* edge a is stopped, and comes back as a newer one */
    arbiter_join(&r, &b, &newer_a, change);
    assert_int_equal(r.generation, 1);
    arbiter_alone(&r, &newer_a, change); /* edge b is */
    assert_int_equal(r.generation, 1);
    arbiter_join(&r, &newer_a, &b, change); /* it is back as it was */
    assert_int_equal(r.generation, 1);
    arbiter_alone(&r, &newer_a, change);
    arbiter_join(&r, &newer_a, &newer_b, change);
    assert_int_equal(r.generation, 2);
    arbiter_alone(&r, &newer_a, change);
    assert_int_equal(r.generation, 2);
    arbiter_seal(&key, "p1", salt, &r, bytes);
    assert_int_equal(arbiter_open(&key, "p1", bytes, ARBITER_BYTES, &again, &why), 0);
    assert_int_equal(again.generation, 2);
    arbiter_join(&r, &newer_a, &newest_b, change);
    arbiter_alone(&r, &newest_b, change); /* which cannot write as 2 */
    assert_int_equal(r.generation, 3);
    arbiter_first(&r, &newest_b, change);
    assert_int_equal(r.generation, 4);
}

/* Who is out calls, and is answered by any change; or takes the place of whoever does not answer. */
static void by_force(void **state)
{
    const struct arbiter_edge newest_b2 = {"edge-b", wb2, 4};
    const uint8_t another[16] = {8};
    uint8_t bytes[ARBITER_BYTES];
    struct arbiter r, called, again;
    struct why why;

    (void)state;
    arbiter_first(&r, &a, change);
    arbiter_join(&r, &a, &b, change);
    arbiter_alone(&r, &a, change);
    called = r;
    arbiter_call(&called, &b2, another);
    assert_true(called.called && called.epoch == r.epoch + 1 && called.forced.epoch == 0);
    assert_memory_equal(called.change, another, sizeof another);
    assert_int_equal(arbiter_judge(&called, &a), ARBITER_SOLE);
    r = called;
    arbiter_alone(&r, &a, change);
    assert_false(r.called);
    r = called;
    arbiter_join(&r, &a, &b2, change);
    assert_false(r.called);
    r = called;
    arbiter_force(&r, &newest_b2, 1795447231, change);
    assert_false(r.called);
    assert_int_equal(r.generation, 3); /* it cannot write as anything older */
    assert_int_equal(arbiter_judge(&r, &b2), ARBITER_SOLE);
    assert_int_equal(arbiter_judge(&r, &b), ARBITER_STRANDED);
    assert_int_equal(arbiter_judge(&r, &a), ARBITER_NOT);
    assert_memory_equal(arbiter_other(&r, &b2)->writer, wa, 16);
    arbiter_alone(&r, &b2, change);
    arbiter_seal(&key, "p1", salt, &r, bytes);
    assert_int_equal(arbiter_open(&key, "p1", bytes, ARBITER_BYTES, &again, &why), 0);
    assert_memory_equal(&r, &again, sizeof r);
    assert_int_equal(again.forced.epoch, again.epoch - 1); /* it is remembered */
    assert_int_equal(again.forced.at_s, 1795447231);
    assert_string_equal(again.forced.name, "edge-b");
    arbiter_first(&r, &a, change); /* an edge that was never in it */
    arbiter_force(&r, &b, 1, change);
    assert_int_equal(arbiter_judge(&r, &b), ARBITER_SOLE);
    assert_int_equal(arbiter_judge(&r, &a), ARBITER_NOT);
}

/* Every history of ten moves of two edges that may lose their data: never two that are alone; a member never
 * vanishes but by the other's move; epochs rise by one. */
static void walk(const struct arbiter *r, const struct arbiter_edge *x, const struct arbiter_edge *y,
                 int left)
{
    const struct arbiter_edge *edges[2] = {x, y};

    assert_false(arbiter_judge(r, x) == ARBITER_SOLE && arbiter_judge(r, y) == ARBITER_SOLE);
    assert_int_equal(arbiter_judge(r, x) == ARBITER_BOTH, arbiter_judge(r, y) == ARBITER_BOTH);
    for (int i = 0; i < 2 && left; i++) {
        const struct arbiter_edge *me = edges[i], *other = edges[1 - i];
        struct arbiter next = *r;

        if (arbiter_judge(r, me) == ARBITER_BOTH)
            arbiter_alone(&next, me, change);
        else if (arbiter_judge(r, me) == ARBITER_SOLE)
            arbiter_join(&next, me, other, change);
        else
            continue;
        assert_int_equal(next.epoch, r->epoch + 1);
        assert_int_not_equal(arbiter_judge(&next, me), ARBITER_NOT);
        walk(&next, x, y, left - 1);
    }
}

static void no_history_has_two_alone(void **state)
{
    struct arbiter r;

    (void)state;
    arbiter_first(&r, &a, change);
    walk(&r, &a, &b, 12);
}

/* --- leases: every pair of clock rates at the bound, every delay of ping and answer -------------------- */

/* A clock that runs at rate percent/100 of the true one. */
static uint64_t clock_at(uint64_t true_ns, unsigned percent)
{
    return 1000000000000 + true_ns / 100 * percent;
}

static void winner_starts_after_loser_stopped(void **state)
{
    const uint64_t step = 100000000, length = 3000000000; /* 100 ms, 3 s */

    (void)state;
    for (unsigned x = 99; x <= 101; x++)
        for (unsigned y = 99; y <= 101; y++)
            for (uint64_t there = 0; there < 2 * length; there += step)
                for (uint64_t back = 0; back < length; back += step) {
                    struct lease lx = {.length_ns = length}, ly = {.length_ns = length};
                    uint64_t sent = 1000 * step, given = sent + there, t;

                    lease_give(&ly, clock_at(given, y));
                    lease_answered(&lx, clock_at(sent, x));
                    /* The first true moment at which Y may start: */
                    for (t = given + back; clock_at(t, y) <= lease_theirs_over(&ly); t += step / 4)
                        ;
                    assert_false(lease_holds(&lx, clock_at(t, x)));
                }
}

static void a_lease_counts_from_the_ping(void **state)
{
    struct lease l = {.length_ns = 100};

    (void)state;
    assert_false(lease_holds(&l, 1));
    lease_answered(&l, 1000);
    assert_true(lease_holds(&l, 1099));
    assert_false(lease_holds(&l, 1100));
    lease_answered(&l, 900); /* an older answer that comes late */
    assert_int_equal(lease_until(&l), 1100);
    lease_drop(&l);
    assert_false(lease_holds(&l, 1001));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_record),
        cmocka_unit_test(altered_is_refused),
        cmocka_unit_test(what_it_means),
        cmocka_unit_test(generation_rises_with_both),
        cmocka_unit_test(by_force),
        cmocka_unit_test(no_history_has_two_alone),
        cmocka_unit_test(winner_starts_after_loser_stopped),
        cmocka_unit_test(a_lease_counts_from_the_ping),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
