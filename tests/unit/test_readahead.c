/* links: cache */
/* Read-ahead played with traces over a small model of the line: a reader that misses pays a round trip, and
 * what is fetched arrives one round trip after it was asked for. Counts the round trips paid and the blocks
 * fetched.
 */
#include "readahead.h"

#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { DISK = 1 << 20, MISS = 16, MOST = 2048 };

static struct {
    struct readahead *ra;
    uint8_t held[DISK]; /* 1 demand, 2 prefetched and not read yet, 3 read */
    unsigned paid;      /* reads that had to wait */
    unsigned fetched, used;
} line;

static void open_line(uint64_t bdp)
{
    struct readahead_limits limits = {.miss_blocks = MISS, .max_blocks = MOST};

    memset(&line, 0, sizeof(line));
    line.ra = readahead_new(&limits);
    readahead_set_bdp(line.ra, bdp);
}

static void fetch(uint64_t block, uint8_t how)
{
    if (block >= DISK || line.held[block])
        return;
    line.held[block] = how;
    line.fetched++;
}

static uint32_t play(uint64_t first, uint32_t count)
{
    int missed = 0;
    uint64_t from;
    uint32_t n;

    for (uint32_t i = 0; i < count; i++) {
        if (line.held[first + i] == 2) {
            line.held[first + i] = 3;
            line.used++;
            readahead_used(line.ra, 1);
        }
        missed |= !line.held[first + i];
        fetch(first + i, 1);
    }
    line.paid += missed != 0;
    readahead_read(line.ra, first, count, missed, &from, &n);
    for (uint32_t i = 0; i < n; i++)
        fetch(from + i, 2);
    return n;
}

static void close_line(void)
{
    readahead_free(&line.ra);
    assert_null(line.ra);
}

static void a_serial_reader_pays_one_round_trip(void **state)
{
    (void)state;
    open_line(625000); /* 100 Mbit/s, 50 ms */
    for (unsigned i = 0; i < 4000; i++)
        play(5000 + i, 1);
    assert_int_equal(line.paid, 1);
    assert_in_range(line.fetched, 4000, 4000 + 2 * 625000 / 4096 + MISS);
    close_line();
}

/* A BIOS reads 512 bytes at a time: the same block again and again. */
static void small_reads_of_one_block_are_one_stream(void **state)
{
    (void)state;
    open_line(625000);
    for (unsigned i = 0; i < 8000; i++)
        play(i / 8, 1);
    assert_int_equal(line.paid, 1);
    assert_in_range(line.fetched, 1000, 1000 + 2 * 625000 / 4096 + MISS);
    close_line();
}

static void gaps_and_overlaps_stay_in_the_stream(void **state)
{
    uint64_t at = 1000;

    (void)state;
    open_line(625000);
    for (unsigned i = 0; i < 500; i++) {
        play(at, 8);
        at += i % 3 == 0 ? 6 : i % 3 == 1 ? 12 : 8;
    }
    assert_in_range(line.paid, 1, 3);
    close_line();
}

static void interleaved_streams_are_told_apart(void **state)
{
    (void)state;
    open_line(625000);
    for (unsigned i = 0; i < 1000; i++)
        for (unsigned k = 0; k < 4; k++)
            play(100000 * (k + 1) + i * 4, 4);
    assert_int_equal(line.paid, 4);
    assert_in_range(line.fetched, 16000, 16000 + 4 * (2 * 625000 / 4096 + MISS));
    close_line();
}

static void random_reads_begin_no_stream(void **state)
{
    uint64_t seed = 12345;
    unsigned widened = 0, streams = 0;

    (void)state;
    open_line(625000);
    for (unsigned i = 0; i < 4000; i++) {
        uint32_t n;

        seed = seed * 6364136223846793005u + 1442695040888963407u;
        n = play((seed >> 33) % (DISK - 1), 1);
        widened += n > 0;
        streams += n > MISS;
    }
    assert_in_range(streams, 0, 8);    /* neighbours by chance */
    assert_in_range(widened, 30, 400); /* and given up where nobody uses it */
    close_line();
}

static void widening_goes_on_where_it_is_used(void **state)
{
    (void)state;
    open_line(625000);
    for (unsigned i = 0; i < 4000; i++) /* five blocks of every sixteen, by leaps too far for a stream */
        play((uint64_t)(i / 5 * 7919 % 60000) * 16 + i % 5 * 3, 1);
    assert_in_range(line.paid, 800, 1000);
    close_line();
}

static void backwards_is_only_widened(void **state)
{
    (void)state;
    open_line(625000);
    for (unsigned i = 0; i < 1600; i++)
        assert_true(play(20000 - i, 1) <= MISS);
    assert_in_range(line.paid, 90, 210);
    assert_in_range(line.fetched, 1600, 1600 + 2 * MISS);
    close_line();
}

static void a_short_file_is_not_overfetched(void **state)
{
    (void)state;
    open_line(625000);
    for (unsigned file = 0; file < 100; file++) /* 12 blocks each, in reads of 4 */
        for (unsigned i = 0; i < 3; i++)
            play(file * 5000 + i * 4, 4);
    assert_in_range(line.paid, 100, 120);
    assert_in_range(line.fetched, 1200, 100 * 3 * MISS);
    close_line();
}

static void the_window_is_bounded(void **state)
{
    struct readahead_limits limits = {.miss_blocks = 0, .max_blocks = 8};
    struct readahead *ra = readahead_new(&limits);
    uint64_t from;
    uint32_t n;

    (void)state;
    assert_int_equal(readahead_max_blocks(ra), 8);
    readahead_set_bdp(ra, 1u << 30);
    assert_int_equal(readahead_max_blocks(ra), 8);
    for (unsigned i = 0; i < 1000; i++) {
        readahead_read(ra, i, 1, 1, &from, &n);
        assert_true(n <= 8 && from + n <= i + 1 + 8);
    }
    readahead_read(ra, UINT64_MAX / 4096, 1, 1, &from, &n);
    assert_int_equal(n, 0); /* miss_blocks 0: never widened */
    readahead_free(&ra);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_serial_reader_pays_one_round_trip),
        cmocka_unit_test(small_reads_of_one_block_are_one_stream),
        cmocka_unit_test(gaps_and_overlaps_stay_in_the_stream),
        cmocka_unit_test(interleaved_streams_are_told_apart),
        cmocka_unit_test(random_reads_begin_no_stream),
        cmocka_unit_test(widening_goes_on_where_it_is_used),
        cmocka_unit_test(backwards_is_only_widened),
        cmocka_unit_test(a_short_file_is_not_overfetched),
        cmocka_unit_test(the_window_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
