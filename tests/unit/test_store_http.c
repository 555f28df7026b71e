/* links: store */
/* The HTTP client of the object stores, against a server that says what is written here. */
#include "http_script.h"

#include "loop.h"
#include "store_http.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct loop *loop;
static struct store_http *http;
static struct script server;
static char url[100];

static int setup(void **state)
{
    struct store_http_conf conf = {.connections = 1, .connect_ms = 2000, .direct = true};

    (void)state;
    loop = loop_new("test");
    http = store_http_new(loop, &conf, NULL);
    script_start(&server);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/b/k%%21?x=", server.port);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_http_free(&http);
    loop_free(&loop);
    script_stop(&server);
    script_free(&server);
    return 0;
}

static unsigned answered;

static void on_done(struct store_http_call *c)
{
    (void)c;
    answered++;
    loop_stop(loop);
}

static void call(struct store_http_call *c, const char *method)
{
    c->method = method;
    c->url = url;
    c->done = on_done;
    answered = 0;
    store_http_start(http, c);
    assert_int_equal(answered, 0);
    loop_run(loop);
    assert_int_equal(answered, 1);
}

static void a_body_goes_to_its_buffer_and_an_error_to_text(void **state)
{
    struct store_http_call c = {0};
    char buf[5];

    (void)state;
    script_say(&server,
               "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: \"e1\"\r\nDate: Mon, 23 Nov 2026 15:20:31 "
               "GMT\r\n\r\nhello");
    script_say(&server, "HTTP/1.1 503 Slow Down\r\nContent-Length: 4\r\nRetry-After: 7\r\n\r\nwait");
    c.into = buf;
    c.into_cap = sizeof(buf);
    store_http_header(&c, "X-Test", "%d", 5);
    store_http_header(&c, "X-Empty", "%s", "");
    call(&c, "GET");
    assert_int_equal(c.status, 0);
    assert_int_equal(c.code, 200);
    assert_int_equal(c.into_len, 5);
    assert_memory_equal(buf, "hello", 5);
    assert_string_equal(store_http_answer(&c, "etag"), "\"e1\"");
    assert_null(store_http_answer(&c, "eta"));
    assert_int_equal(store_http_date_s(&c), 1795447231);
    assert_non_null(strstr(server.requests[0], "GET /b/k%21?x= HTTP/1.1\r\n"));
    assert_non_null(strstr(server.requests[0], "X-Test: 5\r\n"));
    assert_non_null(strstr(server.requests[0], "X-Empty:\r\n"));
    store_http_clear(&c);

    c = (struct store_http_call){.into = buf, .into_cap = sizeof(buf)};
    call(&c, "GET");
    assert_int_equal(c.code, 503);
    assert_string_equal(c.text, "wait");
    assert_int_equal(c.into_len, 0);
    assert_int_equal(store_http_retry_after_ms(&c), 7000);
    store_http_clear(&c);
}

static void a_part_of_several_buffers_is_sent(void **state)
{
    struct iovec iov[] = {{"abc", 3}, {"", 0}, {"defg", 4}, {"hij", 3}};
    struct store_http_call c = {.body = iov, .niov = 4, .body_offset = 2, .body_bytes = 6};

    (void)state;
    script_say(&server, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    script_say(&server, "HTTP/1.1 204 No\r\n\r\n");
    call(&c, "PUT");
    assert_int_equal(c.code, 200);
    assert_non_null(strstr(server.requests[0], "Content-Length: 6\r\n"));
    assert_null(strstr(server.requests[0], "Expect"));
    assert_string_equal(strstr(server.requests[0], "\r\n\r\n") + 4, "cdefgh");
    store_http_clear(&c);
    c = (struct store_http_call){0};
    call(&c, "PUT");
    assert_int_equal(c.code, 204);
    assert_non_null(strstr(server.requests[1], "Content-Length: 0\r\n"));
    store_http_clear(&c);
}

static void what_is_too_large_is_not_taken(void **state)
{
    struct store_http_call c = {0};
    char buf[8];

    (void)state;
    memset(buf, '#', sizeof(buf));
    script_say(&server, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    script_say(&server, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    c.into = buf;
    c.into_cap = 4;
    call(&c, "GET");
    assert_int_equal(c.status, -EFBIG);
    assert_int_equal(buf[4], '#');
    store_http_clear(&c);
    c = (struct store_http_call){.text_max = 4};
    call(&c, "GET");
    assert_int_equal(c.status, -EFBIG);
    assert_non_null(strstr(c.why.text, "larger than it can be"));
    store_http_clear(&c);
}

static void a_half_answer_is_an_error(void **state)
{
    struct store_http_call c = {0};
    char buf[8];

    (void)state;
    server.answers[server.nanswers++] =
        (struct answer){.text = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhell", .close = true};
    server.answers[server.nanswers++] = (struct answer){.text = "SSH-2.0-nonsense\r\n", .close = true};
    server.answers[server.nanswers++] = (struct answer){.text = NULL};
    c.into = buf;
    c.into_cap = sizeof(buf);
    call(&c, "GET");
    assert_int_equal(c.status, -EIO);
    assert_non_null(strstr(c.why.text, "the connection to 127.0.0.1"));
    store_http_clear(&c);
    c = (struct store_http_call){0};
    call(&c, "GET");
    assert_int_equal(c.status, -EBADMSG);
    store_http_clear(&c);
    c = (struct store_http_call){0};
    call(&c, "GET");
    assert_int_equal(c.status, -EIO);
    store_http_clear(&c);
}

static void nobody_there_is_a_sentence(void **state)
{
    struct store_http_call c = {0};
    uint16_t port = server.port;
    char wanted[100];

    (void)state;
    script_stop(&server);
    call(&c, "GET");
    assert_int_equal(c.status, -ENOTCONN);
    snprintf(wanted, sizeof(wanted), "cannot connect to 127.0.0.1:%u: Connection refused", port);
    assert_string_equal(c.why.text, wanted);
    store_http_clear(&c);
    snprintf(url, sizeof(url), "http://no-such-host.invalid/?sig=secret");
    c = (struct store_http_call){0};
    call(&c, "GET");
    assert_int_equal(c.status, -ENOTCONN);
    assert_string_equal(c.why.text, "the name of no-such-host.invalid does not resolve");
    store_http_clear(&c);
    script_start(&server);
}

static void a_call_that_has_just_begun_can_be_cancelled(void **state)
{
    struct store_http_call c = {.method = "GET", .url = url, .done = on_done};

    (void)state;
    answered = 0;
    store_http_start(http, &c);
    store_http_cancel(&c);
    store_http_cancel(&c);
    loop_run(loop);
    assert_int_equal(answered, 1);
    assert_int_equal(c.status, -ECANCELED);
    store_http_clear(&c);
}

static struct store_http_call *to_cancel;

static void on_cancel(struct timer *t)
{
    (void)t;
    store_http_cancel(to_cancel);
}

static void a_call_that_waits_for_an_answer_can_be_cancelled(void **state)
{
    struct store_http_call c = {0};
    struct timer t;

    (void)state;
    server.answers[server.nanswers++] = (struct answer){.silent = true};
    timer_init(&t, loop, on_cancel);
    to_cancel = &c;
    timer_set_ms(&t, 50);
    call(&c, "GET");
    assert_int_equal(c.status, -ECANCELED);
    timer_free(&t);
    store_http_clear(&c);
}

static void a_ca_file_that_is_not_there_is_refused(void **state)
{
    struct store_http_conf conf = {.connections = 1, .connect_ms = 1, .ca = "/no/such.pem"};
    struct why why;

    (void)state;
    assert_null(store_http_new(loop, &conf, &why));
    assert_string_equal(why.text,
                        "cannot read the trusted certificates in /no/such.pem: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_body_goes_to_its_buffer_and_an_error_to_text, setup, teardown),
        cmocka_unit_test_setup_teardown(a_part_of_several_buffers_is_sent, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_too_large_is_not_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(a_half_answer_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_there_is_a_sentence, setup, teardown),
        cmocka_unit_test_setup_teardown(a_call_that_has_just_begun_can_be_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(a_call_that_waits_for_an_answer_can_be_cancelled, setup, teardown),
        cmocka_unit_test_setup_teardown(a_ca_file_that_is_not_there_is_refused, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL) ? 1 : 0;
}
