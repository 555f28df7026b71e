/* links: store */
/* The S3 store against a server that says what is written here: what real servers seldom say. */
#include "store_script_fixture.h"

#include "store_s3.h"

static int setup(void **state)
{
    (void)state;
    store_begin(store_s3_new, "s3://bucket/pre/fix/", "secret\n");
    conf.access_key = "AK";
    conf.secret_key_file = secret_file;
    reopen();
    return 0;
}

static void say_error(const char *status, const char *code)
{
    char body[300];

    snprintf(body, sizeof(body),
             "<?xml version=\"1.0\"?>\n<Error><Code>%s</Code><Message>Told so.</Message></Error>", code);
    say(status, "", body);
}

#define ETAG "ETag: \"e1\"\r\n"

static void a_put_says_what_it_must(void **state)
{
    struct call c;

    (void)state;
    conf.sse = "aws:kms";
    conf.sse_key = "key/1";
    reopen();
    say("200 OK", ETAG, "");
    say("200 OK", ETAG, "");
    assert_int_equal(call_put(store, &c, "a:b", "hello", 5, STORE_IF_ABSENT, NULL), 0);
    assert_string_equal(c.req.etag, "e1");
    asked(0, "PUT /bucket/pre/fix/a%3Ab HTTP/1.1\r\n");
    asked(0, "if-none-match: *\r\n");
    asked(0, "x-amz-content-sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\r\n");
    asked(0,
          "x-amz-meta-isthmus-sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\r\n");
    asked(0, "x-amz-server-side-encryption: aws:kms\r\n");
    asked(0, "x-amz-server-side-encryption-aws-kms-key-id: key/1\r\n");
    asked(0, "SignedHeaders=content-type;host;if-none-match;x-amz-content-sha256;x-amz-date;x-amz-meta-"
             "isthmus-sha256;"
             "x-amz-server-side-encryption;x-amz-server-side-encryption-aws-kms-key-id,");
    assert_int_equal(call_put(store, &c, "x", "hello", 5, STORE_IF_MATCH, "e0"), 0);
    asked(1, "if-match: e0\r\n");
}

static void refusals_are_statuses_and_sentences(void **state)
{
    static const struct refusal table[] = {
        {"403 Forbidden", "SignatureDoesNotMatch", -EACCES,
         "s3://bucket/pre/fix/ does not accept our signature: the secret key does not belong to access key "
         "AK"},
        {"403 Forbidden", "InvalidAccessKeyId", -EACCES, "does not know the access key AK"},
        {"403 Forbidden", "AccessDenied", -EACCES,
         "does not allow access key AK to put x (403 AccessDenied)"},
        {"403 Forbidden", "QuotaExceeded", -ENOSPC, "is full"},
        {"400 Bad Request", "ExpiredToken", -EACCES, "the credentials of access key AK have expired"},
        {"400 Bad Request", "XAmzContentSHA256Mismatch", -EBADMSG, "x was damaged on its way there"},
        {"400 Bad Request", "Whatever", -EINVAL, "refuses to put x: 400 Whatever: Told so"},
        {"404 Not Found", "NoSuchBucket", -EINVAL, "there is no bucket bucket at 127.0.0.1"},
        {"412 Precondition Failed", "PreconditionFailed", -EEXIST, "x is there already"},
        {"409 Conflict", "ConditionalRequestConflict", -EAGAIN,
         "answered 409 ConditionalRequestConflict to a put"},
        {"501 Not Implemented", "NotImplemented", -EOPNOTSUPP, "cannot do this put under a condition"},
        {"500 Error", "InternalError", -EIO, "answered 500 InternalError to a put: Told so"},
        {"507 Full", "InsufficientStorage", -ENOSPC, "is full"},
    };
    struct call c;

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        say_error(table[i].status, table[i].code);
        call_put(store, &c, "x", "hello", 5, STORE_IF_ABSENT, NULL);
        assert_refused(&table[i], &c);
    }
}

static void a_bucket_elsewhere_is_named(void **state)
{
    struct call c;

    (void)state;
    say("301 Moved", "x-amz-bucket-region: eu-west-1\r\n", "<Error><Code>PermanentRedirect</Code></Error>");
    assert_int_equal(call_list(store, &c, "", NULL, NULL, 1), -EINVAL);
    assert_string_equal(c.req.why.text,
                        "the bucket bucket is in region eu-west-1, not us-east-1: set region and endpoint");
}

static void told_to_slow_down_says_for_how_long(void **state)
{
    struct call c;

    (void)state;
    say("503 Slow Down", "Retry-After: 4\r\n", "<Error><Code>SlowDown</Code></Error>");
    say("200 OK", "Date: Mon, 23 Nov 2026 15:20:31 GMT\r\n" ETAG, "");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), -EAGAIN);
    assert_int_equal(c.req.retry_after_ms, 4000);
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    assert_int_equal(c.req.clock_s, 1795447231);
}

/* Only our clock is wrong: the store's is signed with, once told and from then on. */
static void the_stores_clock_is_signed_with(void **state)
{
    struct call c;

    (void)state;
    say("403 Forbidden", "Date: Tue, 01 Feb 2033 03:04:05 GMT\r\n",
        "<Error><Code>RequestTimeTooSkewed</Code></Error>");
    say("200 OK", ETAG, "");
    say("200 OK", ETAG, "");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    asked(1, "x-amz-date: 20330201T0304");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    assert_int_equal(server.nrequests, 3);
    asked(2, "x-amz-date: 20330201T0304");
}

static void a_clock_that_stays_wrong_is_a_sentence(void **state)
{
    static const char error[] = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
    struct call c;

    (void)state;
    say("403 Forbidden", "Date: Tue, 01 Feb 2033 03:04:05 GMT\r\n", error);
    say("403 Forbidden", "Date: Tue, 01 Feb 2033 03:04:05 GMT\r\n", error);
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), -EACCES);
    assert_non_null(strstr(c.req.why.text, "refuses because our clock is"));
}

static void a_head_that_is_refused_asks_why(void **state)
{
    struct call c;

    (void)state;
    say("404 Not Found", "", "");
    server.answers[0].text =
        "HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n"; /* of a body that HEAD has not */
    say_error("404 Not Found", "NoSuchBucket");
    assert_int_equal(call_head(store, &c, "x"), -EINVAL);
    asked(0, "HEAD ");
    asked(1, "range: bytes=0-0\r\n");
    say("404 Not Found", "", "");
    say("206 Partial", "Content-Range: bytes 0-0/77\r\nLast-Modified: Mon, 23 Nov 2026 15:20:31 GMT\r\n" ETAG,
        "x");
    assert_int_equal(call_head(store, &c, "x"), 0);
    assert_int_equal(c.req.size, 77);
    assert_int_equal(c.req.put_s, 1795447231);
}

static void what_came_back_is_verified(void **state)
{
    struct call c;
    char buf[10];

    (void)state;
    say("200 OK",
        ETAG
        "x-amz-meta-isthmus-sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\r\n",
        "hello");
    say("200 OK",
        ETAG
        "x-amz-meta-isthmus-sha256: 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\r\n",
        "hellp");
    say("206 Partial", "Content-Range: bytes 2-4/5\r\n" ETAG, "l");
    say("200 OK", ETAG, "hello");
    say("200 OK", ETAG, "hello hello hello");
    say("206 Partial", ETAG, "l");
    assert_int_equal(call_get(store, &c, "x", buf, sizeof(buf), 0, true), 0);
    assert_int_equal(call_get(store, &c, "x", buf, sizeof(buf), 0, true), -EBADMSG);
    assert_non_null(strstr(c.req.why.text, "x is not what was put there"));
    assert_int_equal(call_get(store, &c, "x", buf, 3, 2, false), -EBADMSG);
    assert_int_equal(call_get(store, &c, "x", buf, sizeof(buf), 0, false), -EOPNOTSUPP);
    assert_int_equal(call_get(store, &c, "x", buf, 3, 0, false), -EOPNOTSUPP);
    assert_int_equal(call_get(store, &c, "x", buf, 1, 0, false), -EBADMSG);
}

static void half_an_answer_is_unclear(void **state)
{
    struct call c;
    char buf[10];

    (void)state;
    server.answers[0] =
        (struct answer){.text = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n" ETAG "\r\nhalf", .close = true};
    server.nanswers = 1;
    assert_int_equal(call_get(store, &c, "x", buf, sizeof(buf), 0, true), -EIO);
}

static void lists_that_make_no_sense_are_refused(void **state)
{
    static const char *const lists[] = {
        "",
        "<html>",
        "<Other/>",
        "<ListBucketResult><Contents><Key>else/where</Key></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>pre/fix/b</Key></Contents><Contents><Key>pre/fix/a</Key></Contents>"
        "</ListBucketResult>",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        "<ListBucketResult><Contents><Key>pre/fix/a</Key></Contents><Contents><Key>pre/fix/b</Key></"
        "Contents><Contents>"
        "<Key>pre/fix/c</Key></Contents></ListBucketResult>",
    };
    struct call c;

    (void)state;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        say("200 OK", "", lists[i]);
        assert_int_equal(call_list(store, &c, "", NULL, NULL, 2), -EBADMSG);
        assert_null(c.req.page);
    }
}

static void strangers_in_a_list_are_passed_over(void **state)
{
    struct call c;

    (void)state;
    say("200 OK", "",
        "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        "<NextContinuationToken>t/1=</NextContinuationToken>"
        "<Contents><Key>pre/fix/</Key><Size>0</Size></Contents>"
        "<Contents><Key>pre/fix/a%26b%2Bc</Key><Size>12</Size></Contents>"
        "<Contents><Key>pre/fix/d+e</Key><Size>1</Size></Contents></ListBucketResult>");
    assert_int_equal(call_list(store, &c, "", "Z", NULL, 9), 0);
    asked(0,
          "GET "
          "/bucket/?encoding-type=url&list-type=2&max-keys=9&prefix=pre%2Ffix%2F&start-after=pre%2Ffix%2FZ ");
    assert_int_equal(c.req.page->count, 1);
    assert_string_equal(c.req.page->entries[0].key, "a&b+c");
    assert_int_equal(c.req.page->entries[0].size, 12);
    assert_string_equal(c.req.page->next, "t/1=");
    store_page_free(&c.req.page);
    say("200 OK", "", "<ListBucketResult/>");
    assert_int_equal(call_list(store, &c, "", NULL, "t/1=", 9), 0);
    asked(1, "GET /bucket/?continuation-token=t%2F1%3D&encoding-type=url&");
    store_page_free(&c.req.page);
}

static void some_that_are_not_deleted_are_counted(void **state)
{
    const char *keys[] = {"a", "b&c", "d"};
    struct call c;

    (void)state;
    say("200 OK", "",
        "<DeleteResult><Error><Key>pre/fix/a</Key><Code>NoSuchKey</Code></Error>"
        "<Error><Key>pre/fix/d</Key><Code>AccessDenied</Code></Error></DeleteResult>");
    assert_int_equal(call_delete_many(store, &c, keys, 3), -EACCES);
    assert_int_equal(c.req.ndeleted, 2);
    asked(0, "POST /bucket/?delete= HTTP/1.1\r\n");
    asked(0, "<Object><Key>pre/fix/b&amp;c</Key></Object>");
    asked(0, "content-md5: ");
}

static uint8_t large[11 << 20];

static void what_fails_in_the_middle_of_parts_is_aborted(void **state)
{
    struct call c;

    (void)state;
    say("200 OK", "",
        "<InitiateMultipartUploadResult><UploadId>u/1</UploadId></InitiateMultipartUploadResult>");
    say("200 OK", ETAG, "");
    say_error("507 Full", "Full");
    for (int i = 0; i < 3; i++)
        say("204 No Content", ETAG, "");
    assert_int_equal(call_put(store, &c, "x", large, sizeof(large), STORE_ALWAYS, NULL), -ENOSPC);
    asked(0, "POST /bucket/pre/fix/x?uploads= ");
    asked(1, "uploadId=u%2F1");
    asked(server.nrequests - 1, "DELETE /bucket/pre/fix/x?uploadId=u%2F1 ");
}

static void an_error_after_the_beginning_of_success_is_one(void **state)
{
    struct call c;

    (void)state;
    say("200 OK", "",
        "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>");
    for (int i = 0; i < 3; i++)
        say("200 OK", ETAG, "");
    say("200 OK", "", "  \n<Error><Code>InternalError</Code></Error>");
    say("204 No Content", "", "");
    assert_int_equal(call_put(store, &c, "x", large, sizeof(large), STORE_ALWAYS, NULL), -EIO);
    asked(4, "<Part><PartNumber>3</PartNumber><ETag>&quot;e1&quot;</ETag></Part></CompleteMultipartUpload>");
    asked(5, "DELETE ");
}

static void a_large_put_under_a_condition_goes_in_one_piece(void **state)
{
    struct call c;

    (void)state;
    say("200 OK", ETAG, "");
    assert_int_equal(call_put(store, &c, "x", large, 6 << 20, STORE_IF_ABSENT, NULL), 0);
    assert_int_equal(server.nrequests, 1);
    asked(0, "Content-Length: 6291456\r\n");
}

static void settings_that_cannot_be_are_refused(void **state)
{
    static const struct {
        const char *url, *endpoint, *secret_key_file, *wanted;
    } table[] = {
        {"s3://", "", NULL, "names no bucket"},
        {"s3://b/x", "", NULL, "names no bucket"},
        {"s3://bucket//x", "", NULL, "the prefix in 's3://bucket//x' must be"},
        {"s3://bucket/a b", "", NULL, "the prefix in"},
        {"s3://bucket", "ftp://x", NULL, "the store's endpoint 'ftp://x' must be http://HOST"},
        {"s3://bucket", "http://h/path", NULL, "must be no more than a host and a port"},
        {"s3://bucket", "http://u:p@h", NULL, "must be no more than a host and a port"},
        {"s3://bucket", "http://h", "", "the store has an access_key but no secret_key_file"},
        {"s3://bucket", "http://h", "/no/such/file", "/no/such/file"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct store_conf c = conf;

        c.url = table[i].url;
        c.endpoint = table[i].endpoint;
        if (table[i].secret_key_file)
            c.secret_key_file = table[i].secret_key_file;
        assert_null(store_s3_new(loop, &c, &why));
        if (!strstr(why.text, table[i].wanted))
            fail_msg("%s: %s", table[i].url, why.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_put_says_what_it_must, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals_are_statuses_and_sentences, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bucket_elsewhere_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(told_to_slow_down_says_for_how_long, setup, teardown),
        cmocka_unit_test_setup_teardown(the_stores_clock_is_signed_with, setup, teardown),
        cmocka_unit_test_setup_teardown(a_clock_that_stays_wrong_is_a_sentence, setup, teardown),
        cmocka_unit_test_setup_teardown(a_head_that_is_refused_asks_why, setup, teardown),
        cmocka_unit_test_setup_teardown(what_came_back_is_verified, setup, teardown),
        cmocka_unit_test_setup_teardown(half_an_answer_is_unclear, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_that_make_no_sense_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(strangers_in_a_list_are_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(some_that_are_not_deleted_are_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(what_fails_in_the_middle_of_parts_is_aborted, setup, teardown),
        cmocka_unit_test_setup_teardown(an_error_after_the_beginning_of_success_is_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_put_under_a_condition_goes_in_one_piece, setup, teardown),
        cmocka_unit_test_setup_teardown(settings_that_cannot_be_are_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
