/* links: store */
/* Where the S3 store has its credentials from when no key is configured: a role, a web identity. */
#include "store_script_fixture.h"

#include "store_s3.h"

static int setup(void **state)
{
    (void)state;
    store_begin(store_s3_new, "s3://bucket/pre/fix/", "");
    return 0;
}

#define ETAG "ETag: \"e1\"\r\n"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_instances_role_gives_credentials, setup, teardown),
        cmocka_unit_test_setup_teardown(credentials_are_used_up_and_renewed, setup, teardown),
        cmocka_unit_test_setup_teardown(expired_credentials_are_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(an_instance_without_a_role_is_a_sentence, setup, teardown),
        cmocka_unit_test_setup_teardown(who_waits_for_credentials_can_be_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(a_web_identity_gives_credentials, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
