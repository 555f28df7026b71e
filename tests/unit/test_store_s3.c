/* links: store */
/* The S3 store against a server that says what is written here: what real servers seldom say. */
#include "../lib/store_call.h"
#include "http_script.h"

#include "store_s3.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

static struct loop *loop;
static struct store *store;
static struct script server;
static struct store_conf conf;
static struct why why;
static char endpoint[60], secret_file[] = "/tmp/isthmus-secret-XXXXXX";

static int setup(void **state)
{
    int fd;

    (void)state;
    pool_start(2);
    loop = loop_new("test");
    script_start(&server);
    snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%u", server.port);
    strcpy(secret_file, "/tmp/isthmus-secret-XXXXXX");
    fd = mkstemp(secret_file);
    assert_true(fd >= 0 && write(fd, "secret\n", 7) == 7);
    close(fd);
    store_conf_default(&conf, "s3://bucket/pre/fix/");
    conf.endpoint = endpoint;
    conf.access_key = "AK";
    conf.secret_key_file = secret_file;
    conf.part_bytes = 5 << 20;
    conf.connections = 1;
    store = store_s3_new(loop, &conf, &why);
    assert_non_null(store);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_free(&store);
    loop_free(&loop);
    pool_stop();
    script_stop(&server);
    script_free(&server);
    unlink(secret_file);
    return 0;
}

static void reopen(void)
{
    store_free(&store);
    store = store_s3_new(loop, &conf, &why);
    assert_non_null(store);
}

static void say(const char *status, const char *headers, const char *body)
{
    script_answer(&server, status, headers, body);
}

static void say_error(const char *status, const char *code)
{
    char body[300];

    snprintf(body, sizeof(body),
             "<?xml version=\"1.0\"?>\n<Error><Code>%s</Code><Message>Told so.</Message></Error>", code);
    say(status, "", body);
}

static void asked(size_t i, const char *text)
{
    assert_true(script_asked(&server, i, text));
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
    static const struct {
        const char *status, *code;
        int wanted;
        const char *sentence;
    } table[] = {
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
        assert_int_equal(c.req.status, table[i].wanted);
        if (!strstr(c.req.why.text, table[i].sentence))
            fail_msg("%s: %s", table[i].code, c.req.why.text);
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

/* --- credentials --- */

static void expires(char *text, size_t max, int in_s)
{
    time_t t = time(NULL) + in_s;
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(text, max, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void say_role(const char *key, int in_s)
{
    char until[40], body[300];

    expires(until, sizeof(until), in_s);
    snprintf(body, sizeof(body),
             "{\"Code\":\"Success\",\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"s\",\"Token\":\"tok\","
             "\"Expiration\":\"%s\"}",
             key, until);
    say("200 OK", "", "session-token");
    say("200 OK", "", "my-role");
    say("200 OK", "", body);
    server.answers[server.nanswers - 1].close = true; /* the store has a connection of its own */
}

static void with_role(void)
{
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SHARED_CREDENTIALS_FILE");
    unsetenv("AWS_WEB_IDENTITY_TOKEN_FILE");
    setenv("HOME", "/nonexistent", 1);
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint, 1);
    conf.access_key = conf.secret_key_file = "";
    reopen();
}

static void the_instances_role_gives_credentials(void **state)
{
    struct call c;

    (void)state;
    with_role();
    say_role("ROLE1", 3600);
    say("200 OK", ETAG, "");
    say("200 OK", ETAG, "");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    asked(0, "PUT /latest/api/token HTTP/1.1\r\n");
    asked(0, "X-aws-ec2-metadata-token-ttl-seconds: 21600\r\n");
    asked(1, "GET /latest/meta-data/iam/security-credentials/ HTTP/1.1\r\n");
    asked(1, "X-aws-ec2-metadata-token: session-token\r\n");
    asked(2, "GET /latest/meta-data/iam/security-credentials/my-role HTTP/1.1\r\n");
    asked(3, "Credential=ROLE1/");
    asked(3, "x-amz-security-token: tok\r\n");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    assert_int_equal(server.nrequests, 5); /* the same key again */
}

static void on_later(struct timer *t)
{
    (void)t;
    loop_stop(loop);
}

/* About to expire, but asked for a moment ago: they do until they have, and then there are new ones. */
static void credentials_are_used_up_and_renewed(void **state)
{
    struct timer t;
    struct call c;

    (void)state;
    with_role();
    say_role("ROLE1", 3);
    say("200 OK", ETAG, "");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    say("200 OK", ETAG, "");
    server.answers[server.nanswers - 1].close = true;
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    asked(4, "Credential=ROLE1/");
    timer_init(&t, loop, on_later);
    timer_set_ms(&t, 3000);
    loop_run(loop);
    timer_free(&t);
    say_role("ROLE2", 3600);
    say("200 OK", ETAG, "");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    asked(8, "Credential=ROLE2/");
}

static void expired_credentials_are_replaced(void **state)
{
    struct call c;

    (void)state;
    with_role();
    say_role("ROLE1", -5);
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), -EACCES);
    assert_non_null(strstr(c.req.why.text, "have expired already"));
    say_role("ROLE2", 3600);
    say("200 OK", ETAG, "");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    asked(6, "Credential=ROLE2/");
}

static void an_instance_without_a_role_is_a_sentence(void **state)
{
    struct call c;

    (void)state;
    with_role();
    say("200 OK", "", "session-token");
    say("404 Not Found", "", "none");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), -EACCES);
    assert_string_equal(
        c.req.why.text,
        "no credentials for the object store: the name of the instance's role was answered 404");
}

static void who_waits_for_credentials_can_be_cancelled(void **state)
{
    struct call c[2];
    unsigned left = 2;

    (void)state;
    with_role();
    server.answers[server.nanswers++] = (struct answer){.silent = true};
    for (int i = 0; i < 2; i++) {
        call_put_set(&c[i], "x", "1", 1, STORE_ALWAYS, NULL);
        c[i].req.done = call_done;
        c[i].req.timeout_ms = 100 + 100 * (uint32_t)i;
        c[i].left = &left;
        store_submit(store, &c[i].req);
    }
    store_cancel(&c[0].req);
    loop_run(loop);
    assert_int_equal(c[0].req.status, -ECANCELED);
    assert_int_equal(c[1].req.status, -ETIMEDOUT);
}

static void a_web_identity_gives_credentials(void **state)
{
    char until[40], body[600], file[] = "/tmp/isthmus-token-XXXXXX";
    int fd = mkstemp(file);
    struct call c;

    (void)state;
    assert_true(fd >= 0 && write(fd, "a.b+c\n", 6) == 6);
    close(fd);
    setenv("AWS_ENDPOINT_URL_STS", endpoint, 1);
    conf.access_key = conf.secret_key_file = "";
    conf.web_identity_token_file = file;
    conf.role_arn = "arn:aws:iam::1:role/r";
    reopen();
    expires(until, sizeof(until), 3600);
    snprintf(
        body, sizeof(body),
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>WEB1"
        "</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>tok</SessionToken><Expiration>%s"
        "</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>",
        until);
    say("403 Forbidden", "",
        "<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>");
    say("200 OK", "", body);
    server.answers[server.nanswers - 1].close = true;
    say("200 OK", ETAG, "");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), -EACCES);
    assert_string_equal(c.req.why.text,
                        "no credentials for the object store: AssumeRoleWithWebIdentity was answered "
                        "403 InvalidIdentityToken");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    asked(1, "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr&WebIdentityToken=a.b%2Bc");
    asked(2, "Credential=WEB1/");
    unlink(file);
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
        cmocka_unit_test_setup_teardown(the_instances_role_gives_credentials, setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_are_used_up_and_renewed, setup, teardown),
        cmocka_unit_test_setup_teardown(expired_credentials_are_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(an_instance_without_a_role_is_a_sentence, setup, teardown),
        cmocka_unit_test_setup_teardown(who_waits_for_credentials_can_be_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(a_web_identity_gives_credentials, setup, teardown),
        cmocka_unit_test_setup_teardown(settings_that_cannot_be_are_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
