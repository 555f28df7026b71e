/* links: store */
/* Azure's Shared Key: the string to sign as Microsoft's documentation shows it, the signature as RFC 4231
 * does, and what people and services write down as credentials. */
#include "azure_auth.h"
#include "azure_sign.h"
#include "mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(struct azure_to_sign *s, const char *wanted)
{
    char *text = azure_string_to_sign(s);

    assert_string_equal(text, wanted);
    free(text);
}

static void the_published_string(void **state)
{
    struct azure_to_sign s = {
        .method = "GET",
        .account = "myaccount",
        .path = "/mycontainer",
        .query = {{"restype", "container"}, {"timeout", "20"}, {"comp", "metadata"}},
        .nquery = 3,
        .headers = {{"x-ms-version", "2015-02-21"}, {"x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT"}},
        .nheaders = 2,
    };

    (void)state;
    expect(&s, "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
               "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20");
}

/* Content-Length, Content-MD5, Content-Type, If-Match, If-None-Match and Range have places of their own. */
static void standard_headers_have_their_places(void **state)
{
    struct azure_to_sign s = {
        .method = "PUT",
        .account = "a",
        .path = "/a/c/k%20",
        .body_bytes = 11,
        .headers = {{"if-match", "\"e\""},
                    {"content-type", "text/plain"},
                    {"content-md5", "bWQ1"},
                    {"range", "bytes=0-1"},
                    {"if-none-match", "*"},
                    {"x-ms-blob-type", "BlockBlob"}},
        .nheaders = 6,
    };

    (void)state;
    expect(&s,
           "PUT\n\n\n11\nbWQ1\ntext/plain\n\n\n\"e\"\n*\n\nbytes=0-1\nx-ms-blob-type:BlockBlob\n/a/a/c/k%20");
}

static void the_signature_is_hmac_sha256(void **state)
{
    char signature[AZURE_SIGNATURE];

    (void)state;
    /* RFC 4231, test case 2, in base64. */
    azure_sign((const uint8_t *)"Jefe", 4, "what do ya want for nothing?", signature);
    assert_string_equal(signature, "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
}

static void keys_are_base64(void **state)
{
    uint8_t key[AZURE_KEY_MAX];

    (void)state;
    assert_int_equal(azure_key_decode("SmVmZQ==", key), 4);
    assert_memory_equal(key, "Jefe", 4);
    assert_int_equal(azure_key_decode("SmVm", key), 3);
    assert_int_equal(azure_key_decode("", key), 0);
    assert_int_equal(azure_key_decode("====", key), 0);
    assert_int_equal(azure_key_decode("SmV", key), 0);
    assert_int_equal(azure_key_decode("Sm=mZQ==", key), 0);
    assert_int_equal(azure_key_decode("SmV ", key), 0);
}

static void dates_are_in_english(void **state)
{
    char date[AZURE_DATE];

    (void)state;
    azure_date(1435361952, date);
    assert_string_equal(date, "Fri, 26 Jun 2015 23:39:12 GMT");
}

static void tokens_of_the_metadata_service(void **state)
{
    static const char *const bad[] = {"",
                                      "{",
                                      "[]",
                                      "{\"access_token\": 5, \"expires_in\": 60}",
                                      "{\"access_token\": \"a b\", \"expires_in\": 60}",
                                      "{\"access_token\": \"\", \"expires_in\": 60}",
                                      "{\"access_token\": \"t\"}",
                                      "{\"error_description\": \"\"}",
                                      "{\"error_description\": \"\\n.\"}",
                                      "{\"access_token\": \"t\", \"expires_in\": \"-5\"}"};
    static const char good[] = "{\"access_token\": \"t.o.k\", \"expires_in\": \"86400\"}";
    static const char refused[] =
        "{\"error\": \"x\", \"error_description\": \"Identity not found\\nat all\"}";
    char *token = NULL;
    int64_t left_s;
    struct why why;

    (void)state;
    assert_int_equal(azure_auth_parse_token(good, strlen(good), &token, &left_s, &why), 0);
    assert_string_equal(token, "t.o.k");
    assert_int_equal(left_s, 86400);
    secret_free(&token);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        why.text[0] = '\0';
        assert_int_not_equal(azure_auth_parse_token(bad[i], strlen(bad[i]), &token, &left_s, &why), 0);
        assert_null(token);
        assert_true(why.text[0]);
    }
    assert_int_not_equal(azure_auth_parse_token(refused, strlen(refused), &token, &left_s, &why), 0);
    assert_string_equal(why.text, "Identity not found");
}

static void sas_tokens_as_people_write_them(void **state)
{
    static const char *const bad[] = {"",
                                      "?",
                                      "sv=1",
                                      "sig=1",
                                      "xsv=1&xsig=2",
                                      "sv=1&sig=a b",
                                      "sv=1&sig=2&se=soon",
                                      "https://a/?sv=1&sig=2",
                                      "sv=1&sig=2\n"};
    const int64_t now_s = 1795447231; /* 2026-11-23T15:20:31Z */
    int64_t left_s;
    struct why why;

    (void)state;
    assert_string_equal(azure_auth_parse_sas("?sv=1&sig=%2F", now_s, &left_s, &why), "sv=1&sig=%2F");
    assert_int_equal(left_s, STORE_GRANT_FOREVER);
    assert_non_null(azure_auth_parse_sas("sig=2&se=2026-11-23T15%3A20%3a41Z&sv=1", now_s, &left_s, &why));
    assert_int_equal(left_s, 10);
    assert_non_null(azure_auth_parse_sas("sig=2&sv=1&se=2026-11-24", now_s, &left_s, &why));
    assert_int_equal(left_s, 31169);
    assert_non_null(azure_auth_parse_sas("sig=2&sv=1&se=2026-11-23T15:21Z", now_s, &left_s, &why));
    assert_int_equal(left_s, 29);
    assert_null(azure_auth_parse_sas("sig=2&sv=1&se=2026-11-23T15:20:31Z", now_s, &left_s, &why));
    assert_string_equal(why.text, "the SAS token has expired at 2026-11-23T15:20:31Z");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_null(azure_auth_parse_sas(bad[i], now_s, &left_s, &why));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_string),
        cmocka_unit_test(standard_headers_have_their_places),
        cmocka_unit_test(the_signature_is_hmac_sha256),
        cmocka_unit_test(keys_are_base64),
        cmocka_unit_test(dates_are_in_english),
        cmocka_unit_test(tokens_of_the_metadata_service),
        cmocka_unit_test(sas_tokens_as_people_write_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
