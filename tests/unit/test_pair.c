/* links: journal */
/* Two edges' halves of a pair in every trouble there is, from seeds (pair_world.h): when it is over both are
 * members again. And one that is stopped says so.
 */
#include "pair_fixture.h"

enum { CALM_S = 60 };

/* At the end both have the newer program: what was begun with the older one may have been raised since. */
static void update_all(void)
{
    for (unsigned i = 0; i < 2; i++) {
        edges[i].generation = 2;
        if (edges[i].life && edges[i].life->generation < 2)
            end_life(&edges[i]);
        edges[i].generation = 2;
    }
}

static void trouble(void *arg)
{
    unsigned i = (unsigned)rnd(2);
    struct edge *e = &edges[i];

    if (now > TROUBLE_S * 1000 * MS) {
        cut[0] = cut[1] = slow[0] = slow[1] = edges[0].store_away = edges[1].store_away = false;
        update_all();
        return;
    }
    after(NULL, (200 + rnd(5000)) * MS, trouble, arg);
    switch (rnd(10)) {
    case 0:
        cut[i] = true;
        break;
    case 1:
        cut[0] = cut[1] = true;
        break;
    case 2:
    case 3:
        cut[0] = cut[1] = false;
        break;
    case 8:
    case 9:
        slow[i] = !slow[i];
        break;
    case 4:
        e->store_away = !e->store_away;
        break;
    case 5:
        if (e->life && runs(e->life))
            e->stopped_until = now + (100 + rnd(9000)) * MS;
        break;
    case 6:
        if (e->life)
            end_life(e);
        break;
    default:
        edges[0].store_away = edges[1].store_away = false;
    }
}

static void play(uint64_t number)
{
    begin(number);
    after(NULL, 8000 * MS, trouble, NULL);
    while (run_one((TROUBLE_S + CALM_S) * 1000 * MS))
        ;
    if (!is_whole())
        not_whole(number);
    assert_true(acknowledged > 0);
}

static void two_edges_in_trouble(void **state)
{
    const char *one = getenv("SEED");

    (void)state;
    for (uint64_t s = one ? strtoull(one, NULL, 10) : 1; s <= (one ? strtoull(one, NULL, 10) : SEEDS); s++) {
        play(s);
    }
    print_message("%u VMs taken over, %u times taken in, %u times written as a newer generation\n", overtaken,
                  joined, raised);
    assert_true(one || (overtaken > SEEDS / 4 && joined > SEEDS && raised > SEEDS));
}

static void stopped(void *arg)
{
    struct life *l = arg;

    assert_false(lease_gate_open(&l->gate, clock_now(&l->loop)));
    dies(l->edge);
}

/* The other is the only member long before a lease is over. */
static void a_member_that_is_stopped_says_so(void **state)
{
    (void)state;
    for (uint64_t s = 1; s <= SEEDS / 10; s++) {
        begin(s);
        while (run_one(8000 * MS))
            ;
        assert_true(is_whole());
        pair_stop(edges[1].life->pair, stopped, edges[1].life);
        while (run_one(8500 * MS))
            ;
        assert_null(edges[1].life);
        assert_int_equal(status_of(0).role, PAIR_SOLE);
        start(&edges[1]);
        while (run_one(30000 * MS))
            ;
        assert_true(is_whole());
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(two_edges_in_trouble),
                                       cmocka_unit_test(a_member_that_is_stopped_says_so)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
