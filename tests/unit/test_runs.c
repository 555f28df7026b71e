/* links: link common */
/* Runs of blocks and the bodies of messages: what goes in comes out, and nothing hostile comes through. */
#include "mem.h"
#include "proto.h"
#include "wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { BLOCKS = PROTO_READ_MAX / PROTO_BLOCK };

static uint8_t plain[PROTO_READ_MAX], out[PROTO_READ_MAX];
static uint8_t *pages[BLOCKS];
static bool zero[BLOCKS];
static uint64_t seed = 42;

static uint8_t noise(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (uint8_t)seed;
}

static int set_up(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BLOCKS; i++)
        pages[i] = out + (size_t)i * PROTO_BLOCK;
    return 0;
}

static void fill(unsigned block, char kind)
{
    uint8_t *p = plain + (size_t)block * PROTO_BLOCK;

    memset(p, kind == 'z' ? 0 : 'x', PROTO_BLOCK);
    if (kind == 'z')
        p[0] = 0;
    if (kind == 'r')
        for (unsigned i = 0; i < PROTO_BLOCK; i++)
            p[i] = noise();
}

/* Each letter a block: z zero, t text, r random. Returns the encoded size. */
static uint32_t round_trip(const char *kinds)
{
    uint32_t n = (uint32_t)strlen(kinds), len;
    struct buf *b;

    for (uint32_t i = 0; i < n; i++)
        fill(i, kinds[i]);
    memset(out, 0xee, sizeof(out));
    b = runs_encode(plain, n * PROTO_BLOCK, n % 2 != 0);
    assert_int_equal(runs_decode(b->data, b->len, pages, zero, n), 0);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(zero[i], kinds[i] == 'z');
        if (zero[i])
            assert_int_equal(pages[i][0], 0xee); /* its page was left alone */
        else
            assert_memory_equal(pages[i], plain + (size_t)i * PROTO_BLOCK, PROTO_BLOCK);
    }
    len = b->len;
    buf_unref(&b);
    return len;
}

static void runs_round_trip(void **state)
{
    char all[BLOCKS + 1];

    (void)state;
    assert_int_equal(round_trip("z"), 4);
    assert_int_equal(round_trip("r"), 8 + PROTO_BLOCK);
    assert_true(round_trip("t") < 100);
    assert_int_equal(round_trip("zzzz"), 4);
    round_trip("zztrzrttzz");
    memset(all, 't', BLOCKS);
    all[BLOCKS] = 0;
    assert_true(round_trip(all) < 2000);
    memset(all, 'r', BLOCKS);
    assert_int_equal(round_trip(all), 8 + PROTO_READ_MAX);
    for (unsigned i = 0; i < BLOCKS; i += 2)
        all[i] = 'z';
    round_trip(all);
}

static void a_block_that_ends_in_a_bit_is_not_zero(void **state)
{
    struct buf *b;

    (void)state;
    fill(0, 'z');
    plain[PROTO_BLOCK - 1] = 1;
    b = runs_encode(plain, PROTO_BLOCK, false);
    assert_int_equal(runs_decode(b->data, b->len, pages, zero, 1), 0);
    assert_false(zero[0]);
    assert_int_equal(pages[0][PROTO_BLOCK - 1], 1);
    buf_unref(&b);
}

static void expect_bad(const uint8_t *p, uint32_t n, uint32_t nblocks)
{
    uint8_t *copy = xmalloc(n ? n : 1); /* of its own, so that ASan sees a read past its end */

    memcpy(copy, p, n);
    assert_int_equal(runs_decode(copy, n, pages, zero, nblocks), -EBADMSG);
    free(copy);
}

static void malformed_runs_are_refused(void **state)
{
    struct buf *b;

    (void)state;
    expect_bad((const uint8_t[]){0}, 0, 1);
    expect_bad((const uint8_t[]){0, 0, 0, 0}, 4, 1);                   /* a run of no blocks */
    expect_bad((const uint8_t[]){0, 0, 0, 2}, 4, 1);                   /* more blocks than asked for */
    expect_bad((const uint8_t[]){0, 0, 0, 1}, 4, 2);                   /* fewer */
    expect_bad((const uint8_t[]){0, 0, 0, 1, 0}, 5, 1);                /* something behind */
    expect_bad((const uint8_t[]){0, 0xff, 0xff, 0xff}, 4, 1);          /* far too many */
    expect_bad((const uint8_t[]){3, 0, 0, 1, 0, 0, 0, 1, 9}, 9, 1);    /* no such form */
    expect_bad((const uint8_t[]){1, 0, 0, 1, 0, 0, 0x10, 0, 9}, 9, 1); /* raw, cut short */
    expect_bad((const uint8_t[]){1, 0, 0, 1, 0, 0, 0, 1, 9}, 9, 1);    /* raw, of another size */
    expect_bad((const uint8_t[]){2, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 9}, 9, 1);
    expect_bad((const uint8_t[]){2, 0, 0, 1, 0, 0, 0, 1, 0xff}, 9, 1); /* no LZ4 */
    for (unsigned i = 0; i < 8; i++)
        fill(i, i % 3 ? 't' : 'r');
    b = runs_encode(plain, 8 * PROTO_BLOCK, false);
    for (uint32_t n = 0; n < b->len; n += n < 64 ? 1 : 97)
        expect_bad(b->data, n, 8);
    buf_unref(&b);
}

/* Any bytes may come; only crashes and reads past the end are wrong here (run under ASan). */
static void noise_does_no_harm(void **state)
{
    struct buf *good;

    (void)state;
    for (unsigned i = 0; i < 16; i++)
        fill(i, "ztr"[i % 3]);
    good = runs_encode(plain, 16 * PROTO_BLOCK, false);
    for (int round = 0; round < 5000; round++) {
        uint8_t *p = xmalloc(good->len);

        memcpy(p, good->data, good->len);
        for (int flips = 0; flips < 4; flips++)
            p[(uint32_t)(noise() << 8 | noise()) % good->len] = noise();
        runs_decode(p, good->len, pages, zero, 16);
        free(p);
    }
    buf_unref(&good);
}

static void messages_round_trip(void **state)
{
    struct proto_stat s = {"vm1-root", 10ull << 30, 512, true, "naa.6001405"}, s2;
    struct proto_read r = {"vm1-root", 1ull << 40, PROTO_READ_MAX}, r2;
    struct buf *b = proto_put_stat(&s);
    char name[PROTO_NAME_MAX + 1];

    (void)state;
    assert_int_equal(proto_get_stat(b->data, b->len, &s2), 0);
    assert_string_equal(s2.name, s.name);
    assert_string_equal(s2.identity, s.identity);
    assert_true(s2.bytes == s.bytes && s2.block_bytes == 512 && s2.read_only);
    for (uint32_t n = 0; n < b->len; n++)
        assert_int_equal(proto_get_stat(b->data, n, &s2), -EBADMSG);
    buf_unref(&b);
    b = proto_put_read(&r);
    assert_int_equal(proto_get_read(b->data, b->len, &r2), 0);
    assert_true(r2.offset == r.offset && r2.bytes == r.bytes);
    put32(b->data + b->len - 4, PROTO_READ_MAX + PROTO_BLOCK);
    assert_int_equal(proto_get_read(b->data, b->len, &r2), -EBADMSG);
    put32(b->data + b->len - 4, 512);
    assert_int_equal(proto_get_read(b->data, b->len, &r2), -EBADMSG);
    buf_unref(&b);
    b = proto_put_stat_call("a.b_c-1");
    assert_int_equal(proto_get_stat_call(b->data, b->len, name), 0);
    assert_string_equal(name, "a.b_c-1");
    b->data[1] = '/';
    assert_int_equal(proto_get_stat_call(b->data, b->len, name), -EBADMSG);
    buf_unref(&b);
}

static void names_are_plain(void **state)
{
    (void)state;
    assert_true(proto_name_ok("dc1"));
    assert_false(proto_name_ok(""));
    assert_false(proto_name_ok(".."));
    assert_false(proto_name_ok("-x"));
    assert_false(proto_name_ok("a/b"));
    assert_false(proto_name_ok("a b"));
    assert_false(proto_name_ok("0123456789012345678901234567890123456789012345678901234567890123"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_round_trip),
        cmocka_unit_test(a_block_that_ends_in_a_bit_is_not_zero),
        cmocka_unit_test(malformed_runs_are_refused),
        cmocka_unit_test(noise_does_no_harm),
        cmocka_unit_test(messages_round_trip),
        cmocka_unit_test(names_are_plain),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
