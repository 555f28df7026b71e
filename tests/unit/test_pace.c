/* links: journal */
/* A VM that writes faster than the object store takes it is slowed down before it is 30 s ahead.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "pace.h"

#define MIB    (UINT64_C(1) << 20)
#define SECOND UINT64_C(1000000000)

enum { STEPS_A_SECOND = 10 };

struct outcome {
    uint64_t lag_s, paced_s; /* at most; for how long it was slowed down */
};

/* A guest that writes as fast as it may, up to `guest` bytes a second, for 5 minutes; the store takes
 * `store`. Cuts follow one another, each of all that there is. */
static struct outcome play(uint64_t guest, uint64_t store)
{
    struct pace p = {0};
    struct outcome o = {0};
    uint64_t waiting = 0, waiting_since = 0, cut = 0, cut_since = 0, paced = 0;

    for (uint64_t t = 0; t < 300 * STEPS_A_SECOND; t++) {
        uint64_t pace = pace_of(&p, waiting + cut), come = pace && pace < guest ? pace : guest;
        uint64_t taken = cut < store / STEPS_A_SECOND ? cut : store / STEPS_A_SECOND;

        paced += pace && pace < guest;
        if (waiting == 0)
            waiting_since = t;
        waiting += come / STEPS_A_SECOND;
        cut -= taken;
        if (taken)
            pace_moved(&p, taken, SECOND / STEPS_A_SECOND, cut == 0);
        if (cut == 0 && (waiting >= 64 * MIB || t - waiting_since >= 10 * STEPS_A_SECOND)) {
            cut = waiting;
            cut_since = waiting_since;
            waiting = 0;
        }
        if (cut && (t - cut_since) / STEPS_A_SECOND > o.lag_s)
            o.lag_s = (t - cut_since) / STEPS_A_SECOND;
    }
    o.paced_s = paced / STEPS_A_SECOND;
    return o;
}

static void never_30_s_ahead(void **state)
{
    static const uint64_t guests[] = {1, 5, 20, 100, 400}, stores[] = {8, 10, 20, 50, 200, 1000};

    (void)state;
    for (unsigned g = 0; g < sizeof guests / sizeof *guests; g++)
        for (unsigned s = 0; s < sizeof stores / sizeof *stores; s++) {
            struct outcome o = play(guests[g] * MIB, stores[s] * MIB);

            if (o.lag_s > 30)
                fail_msg("a guest of %d MiB/s, a store of %d: %d s behind", (int)guests[g], (int)stores[s],
                         (int)o.lag_s);
            if (guests[g] * 4 < stores[s] * 3 && o.paced_s > 1)
                fail_msg("a guest of %d MiB/s was slowed down for %d s, though the store takes %d",
                         (int)guests[g], (int)o.paced_s, (int)stores[s]);
        }
}

/* Small cuts say nothing of what a store can take. */
static void small_cuts_do_not_count(void **state)
{
    struct pace p = {0};

    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        pace_moved(&p, MIB, SECOND, true);
    assert_int_equal(p.rate, 0);
    assert_int_equal(pace_of(&p, 100 * MIB), 0);
    pace_moved(&p, 50 * MIB, SECOND, false);
    pace_moved(&p, 4 * MIB, SECOND, true);
    assert_in_range(p.rate, 49 * MIB, 51 * MIB);
    assert_int_equal(pace_of(&p, 400 * MIB), 0);
    assert_in_range(pace_of(&p, 750 * MIB), 25 * MIB, 40 * MIB);
    assert_in_range(pace_of(&p, 100000 * MIB), 24 * MIB, 26 * MIB); /* half of it at least */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_30_s_ahead),
        cmocka_unit_test(small_cuts_do_not_count),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
