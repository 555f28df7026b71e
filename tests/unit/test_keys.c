/* links: target */
/* The table of text keys: parsing, and what each kind agrees on. */
#include "keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char answer_bytes[300];
static struct text answer;
static struct params params;

/* Negotiates one key; the answer, or NULL when that ends the login. */
static const char *negotiate(const char *key, const char *value, unsigned when)
{
    answer = (struct text){.bytes = answer_bytes, .cap = sizeof answer_bytes};
    answer_bytes[0] = 0;
    return keys_negotiate(&params, keys_find(key), value, when, &answer) ? answer_bytes : NULL;
}

static int fresh(void **state)
{
    (void)state;
    params_init(&params, 65536, 1 << 20);
    return 0;
}

static void pairs_are_found(void **state)
{
    char text[] = "A=1\0\0B==2\0C=\0D=4";
    char *p = text, *end = text + sizeof text - 1;
    const char *name, *value;
    bool bad = false;

    (void)state;
    assert_true(keys_next(&p, end, &name, &value, &bad));
    assert_string_equal(name, "A");
    assert_string_equal(value, "1");
    assert_true(keys_next(&p, end, &name, &value, &bad));
    assert_string_equal(value, "=2");
    assert_true(keys_next(&p, end, &name, &value, &bad));
    assert_string_equal(value, "");
    assert_true(keys_next(&p, end, &name, &value, &bad));
    assert_string_equal(name, "D");
    assert_string_equal(value, "4");
    assert_false(keys_next(&p, end, &name, &value, &bad));
    assert_false(bad);
}

static void what_is_no_pair_is_bad(void **state)
{
    static const char *const texts[] = {"novalue", "=1", "x"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        char text[100];
        char *p = text;
        const char *name, *value;
        bool bad = false;

        snprintf(text, sizeof text, "%s", texts[i]);
        assert_false(keys_next(&p, text + strlen(texts[i]), &name, &value, &bad));
        assert_true(bad);
    }
}

static void a_name_of_64_characters_is_too_long(void **state)
{
    char text[100];
    const char *name, *value;

    (void)state;
    for (int n = 63; n <= 64; n++) {
        char *p = text;
        bool bad = false;

        memset(text, 'k', sizeof text);
        memcpy(text + n, "=v", 3);
        assert_int_equal(keys_next(&p, text + n + 2, &name, &value, &bad), n == 63);
        assert_int_equal(bad, n == 64);
    }
}

static void numbers(void **state)
{
    uint32_t v;

    (void)state;
    assert_true(keys_number("0x200", 512, 1024, &v));
    assert_int_equal(v, 512);
    assert_true(keys_number("1024", 512, 1024, &v));
    assert_false(keys_number("1025", 512, 1024, &v));
    assert_false(keys_number("-1", 0, 1024, &v));
    assert_false(keys_number(" 1", 0, 1024, &v));
    assert_false(keys_number("+1", 0, 1024, &v));
    assert_false(keys_number("1k", 0, 1024, &v));
    assert_false(keys_number("", 0, 1024, &v));
    assert_false(keys_number("99999999999999999999999", 0, UINT32_MAX, &v));
}

static void results(void **state)
{
    (void)state;
    assert_string_equal(negotiate("MaxConnections", "8", IN_OPERATIONAL), "MaxConnections=1");
    assert_string_equal(negotiate("InitialR2T", "No", IN_OPERATIONAL), "InitialR2T=No");
    assert_string_equal(negotiate("ImmediateData", "Yes", IN_OPERATIONAL), "ImmediateData=Yes");
    assert_string_equal(negotiate("MaxBurstLength", "16776192", IN_OPERATIONAL), "MaxBurstLength=1048576");
    assert_string_equal(negotiate("FirstBurstLength", "512", IN_OPERATIONAL), "FirstBurstLength=512");
    assert_string_equal(negotiate("DefaultTime2Wait", "2", IN_OPERATIONAL), "DefaultTime2Wait=2");
    assert_string_equal(negotiate("DefaultTime2Retain", "20", IN_OPERATIONAL), "DefaultTime2Retain=0");
    assert_string_equal(negotiate("MaxOutstandingR2T", "1", IN_OPERATIONAL), "MaxOutstandingR2T=1");
    assert_string_equal(negotiate("ErrorRecoveryLevel", "2", IN_OPERATIONAL), "ErrorRecoveryLevel=0");
    assert_string_equal(negotiate("DataPDUInOrder", "No", IN_OPERATIONAL), "DataPDUInOrder=Yes");
    assert_string_equal(negotiate("IFMarker", "Yes", IN_OPERATIONAL), "IFMarker=No");
    assert_string_equal(negotiate("MaxRecvDataSegmentLength", "4096", IN_OPERATIONAL), "");
    assert_int_equal(params.value[KEY_MaxRecvDataSegmentLength], 4096);
    assert_int_equal(params.value[KEY_MaxBurstLength], 1 << 20);
}

static void digests_are_the_initiators_choice(void **state)
{
    (void)state;
    assert_string_equal(negotiate("HeaderDigest", "CRC32C,None", IN_OPERATIONAL), "HeaderDigest=CRC32C");
    assert_string_equal(negotiate("DataDigest", "None,CRC32C", IN_OPERATIONAL), "DataDigest=None");
    fresh(NULL);
    assert_string_equal(negotiate("HeaderDigest", "X,CRC32C", IN_OPERATIONAL), "HeaderDigest=CRC32C");
    assert_string_equal(negotiate("DataDigest", "CRC32", IN_OPERATIONAL), "DataDigest=Reject");
}

static void a_first_burst_is_no_longer_than_a_burst(void **state)
{
    (void)state;
    assert_string_equal(negotiate("MaxBurstLength", "4096", IN_OPERATIONAL), "MaxBurstLength=4096");
    assert_string_equal(negotiate("FirstBurstLength", "65536", IN_OPERATIONAL), "FirstBurstLength=4096");
}

static void what_cannot_be(void **state)
{
    (void)state;
    assert_string_equal(negotiate("ImmediateData", "Maybe", IN_OPERATIONAL), "ImmediateData=Reject");
    assert_string_equal(negotiate("MaxBurstLength", "1", IN_OPERATIONAL), "MaxBurstLength=Reject");
    assert_int_equal(params.value[KEY_MaxBurstLength], 262144);
    assert_null(negotiate("MaxBurstLength", "4096", IN_OPERATIONAL)); /* sent twice */
    assert_null(negotiate("MaxRecvDataSegmentLength", "0", IN_OPERATIONAL));
    assert_null(negotiate("HeaderDigest", "None", IN_SECURITY));
    assert_null(negotiate("InitialR2T", "Yes", IN_FULL_FEATURE));
    assert_int_equal(keys_find("Nonsense"), KEY_COUNT);
}

static void a_full_answer_says_so(void **state)
{
    char small[16];
    struct text t = {.bytes = small, .cap = sizeof small};

    (void)state;
    text_add(&t, "A", "%s", "12345"); /* 8 bytes with its NUL */
    assert_int_equal(t.len, 8);
    assert_false(t.full);
    text_add(&t, "B", "%s", "12345");
    assert_false(t.full);
    assert_int_equal(t.len, 16);
    text_add(&t, "C", "%s", "");
    assert_true(t.full);
    assert_int_equal(t.len, 16);
}

static void lists(void **state)
{
    (void)state;
    assert_true(keys_list_has("CHAP,None", "None"));
    assert_true(keys_list_has("None", "None"));
    assert_false(keys_list_has("NoneX,XNone", "None"));
    assert_false(keys_list_has("", "None"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_are_found),
        cmocka_unit_test(what_is_no_pair_is_bad),
        cmocka_unit_test(a_name_of_64_characters_is_too_long),
        cmocka_unit_test(numbers),
        cmocka_unit_test_setup(results, fresh),
        cmocka_unit_test_setup(digests_are_the_initiators_choice, fresh),
        cmocka_unit_test_setup(a_first_burst_is_no_longer_than_a_burst, fresh),
        cmocka_unit_test_setup(what_cannot_be, fresh),
        cmocka_unit_test(a_full_answer_says_so),
        cmocka_unit_test(lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
