/* links: store */
/* AWS Signature Version 4 against the examples that AWS publishes for S3, and the encoding of keys. */
#include "s3_sign.h"
#include "store_web.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HOST "examplebucket.s3.amazonaws.com"

static const struct s3_key key = {.access = "AKIAIOSFODNN7EXAMPLE",
                                  .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};

static void expect(const char *method, const char *path, const char *query, const char *sum,
                   const struct s3_header *more, size_t nmore, const char *signature)
{
    struct s3_to_sign s = {.method = method,
                           .path = path,
                           .query = query,
                           .sum = sum,
                           .region = "us-east-1",
                           .date = "20130524T000000Z",
                           .headers = {{"x-amz-date", "20130524T000000Z"}, {"host", HOST}},
                           .nheaders = 2};
    char authorization[S3_AUTHORIZATION_MAX];

    s.headers[s.nheaders++] = (struct s3_header){"x-amz-content-sha256", sum};
    for (size_t i = 0; i < nmore; i++)
        s.headers[s.nheaders++] = more[i];
    s3_sign(&s, &key, authorization);
    assert_string_equal(strstr(authorization, "Signature=") + 10, signature);
    assert_non_null(strstr(
        authorization, "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders="));
}

static void the_published_examples(void **state)
{
    const struct s3_header range = {"range", "bytes=0-9"};
    const struct s3_header put[] = {{"x-amz-storage-class", "REDUCED_REDUNDANCY"},
                                    {"date", "Fri, 24 May 2013 00:00:00 GMT"}};

    (void)state;
    expect("GET", "/test.txt", "", S3_SUM_EMPTY, &range, 1,
           "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
    expect("PUT", "/test%24file.text", "", "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
           put, 2, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
    expect("GET", "/", "lifecycle=", S3_SUM_EMPTY, NULL, 0,
           "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    expect("GET", "/", "max-keys=2&prefix=J", S3_SUM_EMPTY, NULL, 0,
           "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void keys_are_encoded_as_aws_does(void **state)
{
    char *path = store_web_encode("/b/a:b@c!d(e)f*g'h~i+j=k%l&m", true),
         *value = store_web_encode("a/b c", false);

    (void)state;
    assert_string_equal(path, "/b/a%3Ab%40c%21d%28e%29f%2Ag%27h~i%2Bj%3Dk%25l%26m");
    assert_string_equal(value, "a%2Fb%20c");
    free(path);
    free(value);
}

static void sums_and_dates(void **state)
{
    char sum[S3_SUM_HEX], date[S3_DATE];

    (void)state;
    s3_sum("", 0, sum);
    assert_string_equal(sum, S3_SUM_EMPTY);
    s3_sum("Welcome to Amazon S3.", 21, sum);
    assert_string_equal(sum, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
    s3_date(1369353600, date);
    assert_string_equal(date, "20130524T000000Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_published_examples),
        cmocka_unit_test(keys_are_encoded_as_aws_does),
        cmocka_unit_test(sums_and_dates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
