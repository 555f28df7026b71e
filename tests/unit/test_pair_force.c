/* links: journal */
/* An edge that an operator makes the only member of its pair by force, from seeds (pair_world.h): never while
 * the other lives and sees the store; and the other, if it comes back after all, is taken in. And what needs
 * no force: the only member is lost just when it is that no more.
 */
#include "pair_fixture.h"

static unsigned refused, taken;

static void store_back(void *arg)
{
    ((struct edge *)arg)->store_away = false;
}

/* At edge b, until it has begun. Edge a may live, and not see the store for a while. */
static void operator_forces(void *arg)
{
    struct life *l = edges[1].life;
    struct why why;

    if (l && runs(l) && pair_force(l->pair, &why) == 0) {
        assert_int_equal(pair_force(l->pair, &why), -EALREADY);
        if (edges[0].life && rnd(2)) {
            edges[0].store_away = true;
            after(NULL, rnd(6000) * MS, store_back, &edges[0]);
        }
        return;
    }
    after(NULL, 500 * MS, operator_forces, arg);
}

/* Edge b is away when edge a, by then the only member, is lost, or is not; they do not hear of each other. */
static void play_force(uint64_t number, bool alive)
{
    begin(number);
    while (run_one((5000 + rnd(8000)) * MS))
        ;
    assert_true(is_whole());
    dies(&edges[1]);
    while (run_one((20000 + rnd(3000)) * MS))
        ;
    assert_int_equal(status_of(0).role, PAIR_SOLE);
    cut[0] = cut[1] = true;
    if (!alive)
        dies(&edges[0]);
    given_up = !alive;
    start(&edges[1]);
    after(NULL, rnd(5000) * MS, operator_forces, NULL);
    while (run_one(90000 * MS))
        ;
    if (alive) {
        assert_int_equal(status_of(0).role, PAIR_SOLE);
        assert_int_equal(status_of(1).role, PAIR_OUT);
        assert_false(status_of(1).forcing);
        assert_non_null(strstr(status_of(1).refused.text, "has answered"));
        refused++;
    } else {
        assert_int_equal(status_of(1).role, PAIR_SOLE);
        assert_int_equal(owner, 1);
        assert_string_equal(status_of(1).forced_edge, "edge-b");
        start(&edges[0]); /* with its disks, after all */
        taken++;
    }
    cut[0] = cut[1] = false;
    while (run_one(120000 * MS))
        ;
    if (!is_whole())
        not_whole(number);
    assert_int_equal(owner, alive ? 0 : 1);
}

static void by_force(void **state)
{
    (void)state;
    for (uint64_t s = 1; s <= SEEDS / 4; s++) {
        play_force(s, true);
        play_force(s, false);
    }
    print_message("%u times refused, %u times taken\n", refused, taken);
}

/* Edge a takes edge b in, and is lost with its disks when the record says so and edge b has not read that. A
 * new edge a is there before it does. Edge b has everything. */
static void play_lost_taking_in(uint64_t number)
{
    uint8_t before[sizeof object];

    begin(number);
    while (run_one((5000 + rnd(8000)) * MS))
        ;
    dies(&edges[1]);
    while (run_one((25000 + rnd(3000)) * MS))
        ;
    assert_int_equal(status_of(0).role, PAIR_SOLE);
    start(&edges[1]);
    memcpy(before, object, sizeof before);
    while (memcmp(before, object, sizeof before) == 0)
        assert_true(run_one(60000 * MS));
    assert_int_equal(status_of(1).role, PAIR_OUT);
    dies(&edges[0]);
    edges[0].writer[0] ^= 0x80;
    start(&edges[0]);
    while (run_one(200000 * MS))
        ;
    if (!is_whole())
        not_whole(number);
    assert_int_equal(owner, 1);
}

static void lost_when_it_has_taken_the_other_in(void **state)
{
    (void)state;
    for (uint64_t s = 1; s <= SEEDS / 10; s++)
        play_lost_taking_in(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(by_force),
                                       cmocka_unit_test(lost_when_it_has_taken_the_other_in)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
