/* links: store */
/* The Azure store against a server that says what is written here: what real servers seldom say. */
#include "store_script_fixture.h"

#include "azure_auth.h"
#include "store_azure.h"

static int setup(void **state)
{
    (void)state;
    store_begin(store_azure_new, "azure://account/container/pre/fix/", "c2VjcmV0\n");
    conf.account_key_file = secret_file;
    reopen();
    return 0;
}

static void say_error(const char *status, const char *code)
{
    char body[300];

    snprintf(body, sizeof(body),
             "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>%s</Code><Message>Told so.\n"
             "RequestId:5\nTime:now</Message></Error>",
             code);
    say(status, "", body);
}

#define ETAG "ETag: \"0x8D\"\r\n"

static void a_put_says_what_it_must(void **state)
{
    struct call c;

    (void)state;
    say("201 Created", ETAG, "");
    say("201 Created", ETAG, "");
    assert_int_equal(call_put(store, &c, "a:b", "hello", 5, STORE_IF_ABSENT, NULL), 0);
    assert_string_equal(c.req.etag, "0x8D");
    asked(0, "PUT /account/container/pre/fix/a%3Ab HTTP/1.1\r\n");
    asked(0, "if-none-match: *\r\n");
    asked(0, "content-md5: XUFAKrxLKna5cZ2REBfFkg==\r\n");
    asked(0, "x-ms-blob-type: BlockBlob\r\n");
    asked(0, "authorization: SharedKey account:");
    assert_int_equal(call_put(store, &c, "x", "hello", 5, STORE_IF_MATCH, "0x8C"), 0);
    asked(1, "if-match: \"0x8C\"\r\n");
}

static void an_account_of_azures_is_in_the_hosts_name(void **state)
{
    struct call c;

    (void)state;
    conf.style = "virtual";
    reopen();
    say("201 Created", ETAG, "");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    asked(0, "PUT /container/pre/fix/x HTTP/1.1\r\n");
    conf.style = "auto";
    conf.endpoint = "http://account.invalid";
    reopen();
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), -ENOTCONN);
    assert_string_equal(c.req.why.text, "the name of account.invalid does not resolve");
}

static void refusals_are_statuses_and_sentences(void **state)
{
    static const struct refusal table[] = {
        {"403 Forbidden", "AuthenticationFailed", -EACCES,
         "azure://account/container/pre/fix/ does not accept our signature: the account key in "},
        {"403 Forbidden", "AuthorizationFailure", -EACCES, "to put x (403 AuthorizationFailure)"},
        {"404 Not Found", "ContainerNotFound", -EINVAL, "there is no container container in account account"},
        {"404 Not Found", "ResourceNotFound", -EINVAL, "answers as no Azure Blob store would"},
        {"409 Conflict", "BlobAlreadyExists", -EEXIST, "x is there already"},
        {"412 Precondition Failed", "ConditionNotMet", -EEXIST, "x is there already"},
        {"412 Precondition Failed", "LeaseIdMissing", -EACCES, "somebody holds a lease on x"},
        {"409 Conflict", "BlobImmutableDueToPolicy", -EACCES, "a policy keeps x as it is"},
        {"409 Conflict", "ContainerBeingDeleted", -EIO,
         "answered 409 ContainerBeingDeleted to a put: Told so"},
        {"400 Bad Request", "Md5Mismatch", -EBADMSG, "x was damaged on its way there"},
        {"400 Bad Request", "InvalidBlockList", -EIO, "the blocks of x are gone"},
        {"400 Bad Request", "Whatever", -EINVAL, "refuses to put x: 400 Whatever: Told so"},
        {"413 Large", "RequestBodyTooLarge", -EINVAL, "refuses to put x: 413"},
        {"307 Elsewhere", "Redirect", -EINVAL, "sends us elsewhere (307 Redirect): check the endpoint"},
        {"500 Error", "InternalError", -EIO, "answered 500 InternalError to a put: Told so"},
        {"429 Slow", "TooManyRequests", -EAGAIN, "answered 429"},
    };
    struct call c;

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        reopen(); /* a key that was refused is read again */
        say_error(table[i].status, table[i].code);
        if (i == 0)
            say_error(table[i].status, table[i].code);
        call_put(store, &c, "x", "hello", 5, STORE_IF_ABSENT, NULL);
        assert_refused(&table[i], &c);
    }
}

static void told_to_slow_down_says_for_how_long(void **state)
{
    struct call c;

    (void)state;
    say("503 Server Busy", "Retry-After: 4\r\nx-ms-error-code: ServerBusy\r\n", "");
    say("201 Created", "Date: Mon, 23 Nov 2026 15:20:31 GMT\r\n" ETAG, "");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), -EAGAIN);
    assert_int_equal(c.req.retry_after_ms, 4000);
    assert_non_null(strstr(c.req.why.text, "503 ServerBusy"));
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    assert_int_equal(c.req.clock_s, 1795447231);
}

static void the_stores_clock_is_signed_with(void **state)
{
    struct call c;

    (void)state;
    say("403 Forbidden", "Date: Tue, 01 Feb 2033 03:04:05 GMT\r\n",
        "<Error><Code>AuthenticationFailed</Code></Error>");
    say("201 Created", ETAG, "");
    say("201 Created", ETAG, "");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    asked(1, "x-ms-date: Tue, 01 Feb 2033 03:04:0");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    assert_int_equal(server.nrequests, 3);
    asked(2, "x-ms-date: Tue, 01 Feb 2033 03:04:");
}

static void a_key_that_was_exchanged_is_read_again(void **state)
{
    struct call c;
    FILE *f = fopen(secret_file, "w");

    (void)state;
    assert_non_null(f);
    fputs("b3RoZXI=\n", f);
    fclose(f);
    say_error("403 Forbidden", "AuthenticationFailed");
    say("201 Created", ETAG, "");
    assert_int_equal(call_put(store, &c, "x", "1", 1, STORE_ALWAYS, NULL), 0);
    assert_int_equal(server.nrequests, 2);
}

static void on_told(struct store_grant_wait *w)
{
    (void)w;
    loop_stop(loop);
}

static void on_second(struct timer *t)
{
    (void)t;
    loop_stop(loop);
}

/* It cannot be read again from anywhere: it is used to its end, and then that is said. */
static void a_token_in_the_environment_ends(void **state)
{
    struct store_grant_wait w = {.done = on_told};
    time_t soon = time(NULL) + 2;
    char sas[100], expiry[30];
    struct azure_auth *auth;
    struct timer timer;
    struct tm tm;

    (void)state;
    gmtime_r(&soon, &tm);
    strftime(expiry, sizeof(expiry), "%Y-%m-%dT%H:%M:%SZ", &tm);
    snprintf(sas, sizeof(sas), "sv=1&sig=2&se=%s", expiry);
    setenv("AZURE_STORAGE_SAS_TOKEN", sas, 1);
    conf.account_key_file = "";
    auth = azure_auth_new(loop, &conf, &why);
    assert_non_null(auth);
    assert_string_equal(azure_auth_words(auth), "the SAS token in AZURE_STORAGE_SAS_TOKEN");
    timer_init(&timer, loop, on_second);
    timer_set_ms(&timer, 2100);
    loop_run(loop);
    timer_free(&timer);
    assert_false(store_grant_ready(azure_auth_grant(auth), &w));
    loop_run(loop);
    assert_int_equal(w.status, -EACCES);
    assert_non_null(strstr(w.why.text, "AZURE_STORAGE_SAS_TOKEN: the SAS token has expired at 20"));
    azure_auth_free(&auth);
    unsetenv("AZURE_STORAGE_SAS_TOKEN");
}

static void what_came_back_is_verified(void **state)
{
    char back[20];
    struct call c;

    (void)state;
    say("200 OK",
        ETAG "Last-Modified: Mon, 23 Nov 2026 15:20:31 GMT\r\nContent-MD5: XUFAKrxLKna5cZ2REBfFkg==\r\n",
        "hello");
    assert_int_equal(call_get(store, &c, "x", back, sizeof(back), 0, true), 0);
    assert_int_equal(c.req.len, 5);
    assert_int_equal(c.req.put_s, 1795447231);
    say("200 OK", ETAG "Content-MD5: XUFAKrxLKna5cZ2REBfFkg==\r\n", "hellO");
    assert_int_equal(call_get(store, &c, "x", back, sizeof(back), 0, true), -EBADMSG);
    assert_non_null(strstr(c.req.why.text, "x is not what was put there"));
    say("206 Partial", ETAG "Content-Range: bytes 2-6/100\r\nContent-MD5: XUFAKrxLKna5cZ2REBfFkg==\r\n",
        "hello");
    assert_int_equal(call_get(store, &c, "x", back, 5, 2, false), 0);
    assert_int_equal(c.req.size, 100);
    asked(2, "x-ms-range: bytes=2-6\r\n");
    asked(2, "x-ms-range-get-content-md5: true\r\n");
    say("206 Partial", ETAG "Content-Range: bytes 2-6/100\r\nContent-MD5: XUFAKrxLKna5cZ2REBfFkg==\r\n",
        "hellO");
    assert_int_equal(call_get(store, &c, "x", back, 5, 2, false), -EBADMSG);
    say("206 Partial", ETAG "Content-Range: bytes 2-5/100\r\n", "hell");
    assert_int_equal(call_get(store, &c, "x", back, 5, 2, false), -EBADMSG);
    say("200 OK", ETAG, "hello");
    assert_int_equal(call_get(store, &c, "x", back, 5, 2, false), -EOPNOTSUPP);
    say("200 OK", "", "hello");
    assert_int_equal(call_get(store, &c, "x", back, 5, 0, true), -EBADMSG);
}

static void past_the_end_says_how_large_it_is(void **state)
{
    char back[5];
    struct call c;

    (void)state;
    say_error("416 Range", "InvalidRange");
    server.answers[server.nanswers++].text = "HTTP/1.1 200 OK\r\nContent-Length: 77\r\n" ETAG "\r\n";
    assert_int_equal(call_get(store, &c, "x", back, 5, 1000, false), 0);
    assert_int_equal(c.req.len, 0);
    assert_int_equal(c.req.size, 77);
    asked(1, "HEAD ");
}

#define BLOB(name)                                                                                           \
    "<Blob><Name>pre/fix/" name "</Name><Properties><Content-Length>3</Content-Length></Properties></Blob>"
#define LIST(blobs, next)                                                                                    \
    "<?xml version=\"1.0\"?><EnumerationResults><Blobs>" blobs "</Blobs><NextMarker>" next                   \
    "</NextMarker></EnumerationResults>"

/* Azure has no "after": it is passed over from the beginning, across the store's pages and ours. */
static void lists_begin_behind_a_key(void **state)
{
    struct call c;

    (void)state;
    say("200 OK", "", LIST(BLOB("a") BLOB("b"), "m1"));
    assert_int_equal(call_list(store, &c, "", "b", NULL, 2), 0);
    asked(0,
          "GET /account/container?comp=list&maxresults=1000&prefix=pre%2Ffix%2F&restype=container HTTP/1.1");
    assert_int_equal(c.req.page->count, 0);
    assert_string_equal(c.req.page->next, "b m1");
    store_page_free(&c.req.page);

    say("200 OK", "", LIST(BLOB("b0") BLOB("c") BLOB("d"), ""));
    assert_int_equal(call_list(store, &c, "", NULL, "b m1", 2), 0);
    asked(1, "marker=m1");
    assert_int_equal(c.req.page->count, 2);
    assert_string_equal(c.req.page->entries[0].key, "b0");
    assert_string_equal(c.req.page->entries[1].key, "c");
    assert_string_equal(c.req.page->next, "c m1");
    store_page_free(&c.req.page);

    say("200 OK", "", LIST(BLOB("b0") BLOB("c") BLOB("d"), ""));
    assert_int_equal(call_list(store, &c, "", NULL, "c m1", 2), 0);
    assert_int_equal(c.req.page->count, 1);
    assert_string_equal(c.req.page->entries[0].key, "d");
    assert_int_equal(c.req.page->entries[0].size, 3);
    assert_null(c.req.page->next);
    store_page_free(&c.req.page);

    /* Once there, no more is asked for than is wanted. */
    say("200 OK", "", LIST(BLOB("c"), "m2"));
    say("200 OK", "", LIST(BLOB("d"), ""));
    assert_int_equal(call_list(store, &c, "", "b", NULL, 2), 0);
    assert_string_equal(c.req.page->next, " m2");
    store_page_free(&c.req.page);
    assert_int_equal(call_list(store, &c, "", NULL, " m2", 2), 0);
    asked(4, "maxresults=2&");
    asked(4, "marker=m2");
    assert_int_equal(c.req.page->count, 1);
    store_page_free(&c.req.page);
}

static void lists_that_cannot_be_trusted(void **state)
{
    struct call c;

    (void)state;
    say("200 OK", "", LIST(BLOB("a/b") BLOB("a-b"), ""));
    assert_int_equal(call_list(store, &c, "", NULL, NULL, 10), -EOPNOTSUPP);
    assert_non_null(strstr(c.req.why.text, "hierarchical namespace"));
    assert_null(c.req.page);
    say("200 OK", "", LIST(BLOB("other"), ""));
    assert_int_equal(call_list(store, &c, "vms/", NULL, NULL, 10), -EBADMSG);
    say("200 OK", "", "<EnumerationResults><Blobs>");
    assert_int_equal(call_list(store, &c, "", NULL, NULL, 10), -EBADMSG);
    say("200 OK", "", "{}");
    assert_int_equal(call_list(store, &c, "", NULL, NULL, 10), -EBADMSG);
    say("200 OK", "", LIST(BLOB("a") BLOB("b c"), ""));
    assert_int_equal(call_list(store, &c, "", NULL, NULL, 10), 0);
    assert_int_equal(c.req.page->count, 1); /* a key that is none of ours is passed over */
    store_page_free(&c.req.page);
}

static void deleting_goes_on_until_something_is_wrong(void **state)
{
    static const char *const keys[] = {"a", "b", "c"};
    struct call c;

    (void)state;
    say("202 Accepted", "", "");
    say_error("404 Not Found", "BlobNotFound");
    say("202 Accepted", "", "");
    assert_int_equal(call_delete_many(store, &c, keys, 3), 0);
    assert_int_equal(c.req.ndeleted, 3);
    asked(0, "x-ms-delete-snapshots: include\r\n");
    say_error("412 Precondition Failed", "LeaseIdMissing");
    assert_int_equal(call_delete_many(store, &c, keys, 1), -EACCES);
    assert_non_null(strstr(c.req.why.text, "somebody holds a lease on a "));
    assert_int_equal(c.req.ndeleted, 0);
    say_error("404 Not Found", "ContainerNotFound");
    assert_int_equal(call_delete_many(store, &c, keys, 1), -EINVAL);
}

/* Blocks first, then their list, which carries the condition. */
static void a_large_put_is_a_list_of_blocks(void **state)
{
    size_t n = (5 << 20) + 7;
    char *data = xcalloc(1, n);
    struct call c;

    (void)state;
    say("201 Created", "", "");
    say("201 Created", "", "");
    say("201 Created", ETAG, "");
    assert_int_equal(call_put(store, &c, "x", data, n, STORE_IF_ABSENT, NULL), 0);
    assert_string_equal(c.req.etag, "0x8D");
    asked(0, "comp=block&blockid=");
    asked(1, "comp=block&blockid=");
    asked(2, "comp=blocklist");
    asked(2, "if-none-match: *\r\n");
    asked(2, "x-ms-blob-content-md5: ");
    asked(2, "<BlockList><Uncommitted>");
    say("201 Created", "", "");
    say_error("503 Busy", "ServerBusy");
    assert_int_equal(call_put(store, &c, "x", data, n, STORE_ALWAYS, NULL), -EAGAIN);
    assert_int_equal(server.nrequests, 5);
    free(data);
}

static void settings_that_cannot_be(void **state)
{
    static const struct {
        const char *url, *endpoint, *sentence;
    } table[] = {
        {"azure://", "", "names no account and container"},
        {"azure://account", "", "names no account and container"},
        {"azure://account/co_ntainer", "", "names no account and container"},
        {"azure://account/container/a//b", "", "the prefix in"},
        {"azure://account/container", "ftp://host", "must be http://HOST"},
        {"azure://account/container", "http://host/path", "no more than a host"},
        {"azure://account/container", "http://u@host", "no more than a host"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        conf.url = table[i].url;
        conf.endpoint = table[i].endpoint;
        assert_null(store_azure_new(loop, &conf, &why));
        if (!strstr(why.text, table[i].sentence))
            fail_msg("%s", why.text);
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_put_says_what_it_must),
        T(an_account_of_azures_is_in_the_hosts_name),
        T(refusals_are_statuses_and_sentences),
        T(told_to_slow_down_says_for_how_long),
        T(the_stores_clock_is_signed_with),
        T(a_key_that_was_exchanged_is_read_again),
        T(a_token_in_the_environment_ends),
        T(what_came_back_is_verified),
        T(past_the_end_says_how_large_it_is),
        T(lists_begin_behind_a_key),
        T(lists_that_cannot_be_trusted),
        T(deleting_goes_on_until_something_is_wrong),
        T(a_large_put_is_a_list_of_blocks),
        T(settings_that_cannot_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
