/* links: common */
/* Generations, in a program of the third: what it speaks, reads and writes, and what is said where two have
 * none in common.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define ISTHMUS_GENERATION_RAISED 2
#include "generation.c" /* this test is a program of another number */

#include <string.h>

enum { FORMAT = 5 };

static void it_writes_as_the_one_before_until_it_may(void **state)
{
    (void)state;
    assert_int_equal(generation_newest(), 3);
    assert_int_equal(generation_written(), 2);
    assert_int_equal(generation_format(FORMAT), 6);
    generation_write(2);
    assert_int_equal(generation_format(FORMAT), 6);
    generation_write(3);
    assert_int_equal(generation_format(FORMAT), 7);
    generation_write(1); /* there is no way back */
    assert_int_equal(generation_written(), 3);
}

static void it_reads_all_that_there_were(void **state)
{
    struct why why;

    (void)state;
    for (unsigned f = FORMAT; f <= FORMAT + 2; f++)
        assert_int_equal(generation_reads(FORMAT, f, &why), 0);
    assert_int_equal(generation_reads(FORMAT, FORMAT - 1, &why), -ENOTSUP);
    assert_int_equal(generation_reads(FORMAT, 0, &why), -ENOTSUP);
    assert_int_equal(generation_reads(FORMAT, 65535, &why), -ENOTSUP);
    assert_int_equal(generation_reads(FORMAT, FORMAT + 3, &why), -ENOTSUP);
    assert_string_equal(why.text, "its format is 8 and this program, of generation 3, reads 5 to 7");
}

/* Every two ranges: the highest number that is in both; if there is none, one sentence for both sides. */
static void the_newest_that_both_speak(void **state)
{
    struct why why, other;

    (void)state;
    for (unsigned i = 0; i < 6 * 6 * 6 * 6; i++) {
        struct generation_range a = {"a", 1 + i % 6, 1 + i / 6 % 6}, b = {"b", 1 + i / 36 % 6, 1 + i / 216};
        int common = 0;

        if (a.oldest > a.newest || b.oldest > b.newest)
            continue;
        for (unsigned v = 1; v <= 6; v++)
            if (v >= a.oldest && v <= a.newest && v >= b.oldest && v <= b.newest)
                common = (int)v;
        assert_int_equal(generation_agree(&a, &b, &why), common ? common : -EPROTO);
        assert_int_equal(generation_agree(&b, &a, &other), common ? common : -EPROTO);
        if (!common)
            assert_string_equal(why.text, other.text);
    }
    assert_int_equal(generation_agree(&(struct generation_range){"edge-a", 2, 3},
                                      &(struct generation_range){"edge-b", 1, 1}, &why),
                     -EPROTO);
    assert_string_equal(
        why.text, "edge-a speaks versions 2 to 3 of the link protocol and edge-b 1 to 1: update edge-b");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_writes_as_the_one_before_until_it_may),
        cmocka_unit_test(it_reads_all_that_there_were),
        cmocka_unit_test(the_newest_that_both_speak),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
