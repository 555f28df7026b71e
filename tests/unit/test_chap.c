/* links: target */
/* CHAP: known answers, both encodings, choice of algorithm, refusals. And CRC32C against RFC 7143's vectors.
 */
#include "chap.h"
#include "crc32c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void algorithms_in_any_order(void **state)
{
    (void)state;
    assert_int_equal(chap_choose("5"), 5);
    assert_int_equal(chap_choose("7,5"), 7);
    assert_int_equal(chap_choose("99,8,5"), 8);
    assert_int_equal(chap_choose("4,99"), 0);
    assert_int_equal(chap_choose(""), 0);
    assert_int_equal(chap_choose("5x"), 0);
    assert_int_equal(chap_choose("x,5"), 0);
    assert_int_equal(chap_digest_bytes(5), 16);
    assert_int_equal(chap_digest_bytes(6), 20);
    assert_int_equal(chap_digest_bytes(8), 32);
    assert_int_equal(chap_digest_bytes(9), 0);
}

/* MD5, SHA-1, SHA-256, SHA3-256 of (01 "secret" 00 01 02 03), computed by another tool. */
static void a_known_answer(void **state)
{
    static const struct {
        unsigned algorithm;
        size_t bytes;
        const char *hex;
    } known[] = {{5, 16, "0xe82cb2ed1efe04893c9cf73d4dd12e2d"},
                 {6, 20, "0x4ba9b914438b0a2231ce08d06e1814afdbbd02c9"},
                 {7, 32, "0x60ad105214396c736e4569759380672905396143713449e104a2be1e885b5d06"},
                 {8, 32, "0x5a8cab9a6c0245b91a7d0d2966f24cb7328b2a59616809840e7a77c9c4fb94d8"}};
    static const uint8_t challenge[4] = {0, 1, 2, 3};
    uint8_t digest[CHAP_DIGEST_MAX];
    char hex[2 * CHAP_DIGEST_MAX + 3];

    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_int_equal(chap_compute(known[i].algorithm, 1, "secret", challenge, 4, digest), known[i].bytes);
        chap_encode(digest, known[i].bytes, hex);
        assert_string_equal(hex, known[i].hex);
    }
    assert_int_equal(chap_compute(9, 1, "secret", challenge, 4, digest), 0);
}

static void both_encodings(void **state)
{
    uint8_t out[8];

    (void)state;
    assert_int_equal(chap_decode("0x0102fF", out, 8), 3);
    assert_memory_equal(out, "\x01\x02\xff", 3);
    assert_int_equal(chap_decode("0x102", out, 8), 2);
    assert_memory_equal(out, "\x01\x02", 2);
    assert_int_equal(chap_decode("0bAQL/", out, 8), 3);
    assert_memory_equal(out, "\x01\x02\xff", 3);
    assert_int_equal(chap_decode("0BAQI=", out, 8), 2);
    assert_int_equal(chap_decode("0bAQ==", out, 8), 1);
    assert_int_equal(chap_decode("0x", out, 8), -1);
    assert_int_equal(chap_decode("0b", out, 8), -1);
    assert_int_equal(chap_decode("0bAQ=", out, 8), -1);
    assert_int_equal(chap_decode("0bA===", out, 8), -1);
    assert_int_equal(chap_decode("0xg1", out, 8), -1);
    assert_int_equal(chap_decode("12", out, 8), -1);
    assert_int_equal(chap_decode("", out, 8), -1);
    assert_int_equal(chap_decode("0x010203040506070809", out, 8), -1);
    assert_int_equal(chap_decode("0bAQIDBAUGBwgJ", out, 8), -1);
}

static void every_algorithm_verifies_only_its_answer(void **state)
{
    (void)state;
    for (unsigned algorithm = 5; algorithm <= 8; algorithm++) {
        struct chap c = {.algorithm = algorithm, .id = 77, .challenge = "thirty-two bytes of challenge!!"};
        uint8_t digest[CHAP_DIGEST_MAX];
        char hex[2 * CHAP_DIGEST_MAX + 3];
        size_t n = chap_compute(algorithm, 77, "a secret 123", c.challenge, sizeof c.challenge, digest);

        chap_encode(digest, n, hex);
        assert_true(chap_verify(&c, "user", "a secret 123", "user", hex));
        assert_false(chap_verify(&c, "user", "a secret 124", "user", hex));
        assert_false(chap_verify(&c, "user", "a secret 123", "users", hex));
        assert_false(chap_verify(&c, "user", "a secret 123", "", hex));
        assert_false(chap_verify(&c, "user", "a secret 123", "user", "0x00"));
        assert_false(chap_verify(&c, "user", "a secret 123", "user", ""));
        hex[2] ^= 1;
        assert_false(chap_verify(&c, "user", "a secret 123", "user", hex));
    }
}

/* RFC 7143 appendix A.4 (as CRC32C values, least significant byte sent first). */
static void crc32c_of_the_rfc(void **state)
{
    uint8_t b[32];

    (void)state;
    memset(b, 0, sizeof b);
    assert_int_equal(crc32c(0, b, 32), 0x8a9136aa);
    memset(b, 0xff, sizeof b);
    assert_int_equal(crc32c(0, b, 32), 0x62a8ab43);
    for (int i = 0; i < 32; i++)
        b[i] = (uint8_t)i;
    assert_int_equal(crc32c(0, b, 32), 0x46dd794e);
    for (int i = 0; i < 32; i++)
        b[i] = (uint8_t)(31 - i);
    assert_int_equal(crc32c(0, b, 32), 0x113fdb5c);
}

static void crc32c_both_ways_agree(void **state)
{
    static uint8_t b[20000];

    (void)state;
    srandom(1);
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (uint8_t)random();
    for (int round = 0; round < 300; round++) {
        size_t at = (size_t)random() % 100, n = (size_t)random() % (sizeof b - 100),
               cut = n ? (size_t)random() % n : 0;

        assert_int_equal(crc32c(0, b + at, n), crc32c_table(0, b + at, n));
        assert_int_equal(crc32c(crc32c(0, b + at, cut), b + at + cut, n - cut), crc32c_table(0, b + at, n));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(algorithms_in_any_order), cmocka_unit_test(a_known_answer),
        cmocka_unit_test(both_encodings),          cmocka_unit_test(every_algorithm_verifies_only_its_answer),
        cmocka_unit_test(crc32c_of_the_rfc),       cmocka_unit_test(crc32c_both_ways_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
