/* links: control_http control_pki */
/* The HTTP listener over real sockets: routes, limits, malformed requests, metrics, late and lost answers. */
#include "check.h"
#include "conf.h"
#include "http.h"
#include "mem.h"
#include "metric.h"
#include "on_loop.h"
#include "pki.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct loop *loop;
static struct http *http;
static struct http_request *parked; /* the /later handler's */
static sem_t parked_ready;

static void say_hello(void *arg, struct http_request *r)
{
    const char *name = http_query(r, "name");
    CLEANUP_FREE char *text =
        xasprintf("%s %s %s host=%s\n", (char *)arg, r->tail, name ? name : "-", r->host);
    http_reply_text(r, 200, text);
}

static void echo(void *arg, struct http_request *r)
{
    (void)arg;
    http_reply(r, 200, "application/octet-stream", r->body, r->body_len);
}

static void refuse(void *arg, struct http_request *r)
{
    (void)arg;
    http_reply_error(r, 409, "no \"%s\"\n\xff", r->tail);
}

static void later(void *arg, struct http_request *r)
{
    (void)arg;
    parked = r;
    sem_post(&parked_ready);
}

static bool sick(void *arg, struct why *why)
{
    why_set(why, 0, "the journal's disk is full");
    return *(bool *)arg;
}

static bool healthy;

static int connect_to(uint16_t port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

/* Sends the bytes and returns everything until the server closes. */
static char *ask_bytes(const char *bytes, size_t n, bool half_close)
{
    static char answer[HTTP_BODY_MAX + 4096];
    size_t have = 0;
    ssize_t got;
    int fd = connect_to(http_port(http));

    send(fd, bytes, n, MSG_NOSIGNAL);
    if (half_close)
        shutdown(fd, SHUT_WR);
    while ((got = recv(fd, answer + have, sizeof(answer) - 1 - have, 0)) > 0)
        have += (size_t)got;
    close(fd);
    answer[have] = '\0';
    return answer;
}

static char *ask(const char *request)
{
    CLEANUP_FREE char *all =
        xasprintf("%s HTTP/1.1\r\nHost: edge.example:7262\r\nConnection: close\r\n\r\n", request);
    return ask_bytes(all, strlen(all), false);
}

#define assert_says(answer, text)                                                                            \
    do {                                                                                                     \
        const char *a_ = (answer);                                                                           \
        if (!strstr(a_, (text)))                                                                             \
            fail_msg("expected %s in:\n%.600s", (text), a_);                                                 \
    } while (0)

static void test_routes(void **state)
{
    (void)state;
    assert_says(ask("GET /hello?name=J%20R"), "exact /hello J R host=edge.example");
    assert_says(ask("GET /under/a%2Fb"), "prefix a/b - ");
    assert_says(ask("GET /hello"), "X-Request-Id: r");
    assert_says(ask("DELETE /hello"), "405 ");
    assert_says(ask("GET /nowhere%22"), "HTTP/1.1 404 Not Found");
    assert_says(ask("GET /nowhere%22"), "{\"error\": \"there is nothing at /nowhere\\\"\"}");
    assert_says(ask("GET /refuse/me"), "{\"error\": \"no \\\"me\\\"??\"}");
    assert_null(strstr(ask("HEAD /hello"), "exact"));
}

static void test_malformed_requests_are_refused(void **state)
{
    static const char *const bad[] = {
        "nonsense\r\n\r\n",
        "GET\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /%00 HTTP/1.1\r\nConnection: close\r\n\r\n",
        "TRACE /hello HTTP/1.1\r\nConnection: close\r\n\r\n",
        "POST /echo HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        "POST /echo HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST /echo HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n",
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFF\r\n",
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        "GET http:// HTTP/1.1\r\nConnection: close\r\n\r\n",
        "\r\n",
        "\0\0\0\0",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_null(strstr(ask_bytes(bad[i], strlen(bad[i]) + (i == 12 ? 4 : 0), true), " 200 "));
    assert_says(ask("GET /hello"), "200 OK");
}

static void test_limits(void **state)
{
    CLEANUP_FREE char *big = xmalloc(HTTP_BODY_MAX + 4096);
    int n;

    (void)state;
    n = sprintf(big, "GET /hello HTTP/1.1\r\nX: ");
    memset(big + n, 'x', HTTP_HEADER_MAX);
    strcpy(big + n + HTTP_HEADER_MAX, "\r\nConnection: close\r\n\r\n");
    assert_null(strstr(ask_bytes(big, strlen(big), false), "exact"));

    n = sprintf(big, "POST /echo HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", HTTP_BODY_MAX);
    memset(big + n, 'y', HTTP_BODY_MAX);
    const char *answer = ask_bytes(big, (size_t)n + HTTP_BODY_MAX, false);
    assert_says(answer, "200 OK");
    assert_int_equal(strlen(strstr(answer, "\r\n\r\n") + 4), HTTP_BODY_MAX);
}

/* More connections than there is room for: those beyond wait, and get in as others leave. */
static void test_connections_are_bounded(void **state)
{
    static int fds[HTTP_CONNECTIONS_MAX];
    static const char get[] = "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n";
    char answer[512];

    (void)state;
    for (int i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
        fds[i] = connect_to(http_port(http));
        assert_int_equal(send(fds[i], get, strlen(get), 0), strlen(get));
        assert_true(recv(fds[i], answer, sizeof(answer), 0) > 0);
    }
    int late = connect_to(http_port(http));
    struct timeval brief = {.tv_usec = 100000}, ample = {.tv_sec = 20};
    assert_int_equal(send(late, get, strlen(get), 0), strlen(get));
    setsockopt(late, SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof(brief));
    assert_int_equal(recv(late, answer, sizeof(answer), 0), -1);
    close(fds[0]);
    setsockopt(late, SOL_SOCKET, SO_RCVTIMEO, &ample, sizeof(ample));
    assert_true(recv(late, answer, sizeof(answer), 0) > 0);
    close(late);
    for (int i = 1; i < HTTP_CONNECTIONS_MAX; i++)
        close(fds[i]);
    assert_says(ask("GET /hello"), "200 OK");
}

static void answer_parked(void)
{
    http_reply_text(parked, 200, "finally\n");
}

static void test_an_answer_may_come_later_or_to_nobody(void **state)
{
    static const char get[] = "GET /later HTTP/1.1\r\nConnection: close\r\n\r\n";
    char answer[512] = "";
    size_t have = 0;
    ssize_t n;

    (void)state;
    int fd = connect_to(http_port(http));
    assert_int_equal(send(fd, get, strlen(get), 0), strlen(get));
    sem_wait(&parked_ready);
    on_loop(loop, answer_parked);
    while ((n = recv(fd, answer + have, sizeof(answer) - 1 - have, 0)) > 0)
        have += (size_t)n;
    assert_says(answer, "finally");
    close(fd);

    fd = connect_to(http_port(http));
    assert_int_equal(send(fd, get, strlen(get), 0), strlen(get));
    sem_wait(&parked_ready);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    close(fd); /* a reset */
    on_loop(loop, answer_parked);
    assert_says(ask("GET /hello"), "200 OK");
}

static void test_metrics_and_health(void **state)
{
    FILE *lint;

    (void)state;
    assert_says(ask("GET /metrics"), "Content-Type: text/plain; version=0.0.4");
    assert_says(ask("GET /metrics"), "isthmus_http_requests_total{code=\"2xx\"}");
    if (system("command -v promtool >/dev/null 2>&1") == 0) {
        CLEANUP_FREE char *text = metric_render();
        lint = popen("promtool check metrics", "w");
        assert_non_null(lint);
        fputs(text, lint);
        assert_int_equal(pclose(lint), 0);
    }
    healthy = true;
    assert_says(ask("GET /healthz"), "\r\n\r\nok\n");
    healthy = false;
    assert_says(ask("GET /healthz"), "503 Service Unavailable");
    assert_says(ask("GET /healthz"), "the journal's disk is full");
}

static void test_a_listener_that_cannot_be_says_why(void **state)
{
    struct http *other;
    struct why why = {""};
    char taken[32];

    (void)state;
    snprintf(taken, sizeof(taken), "127.0.0.1:%u", http_port(http));
    assert_int_equal(http_start(&other, loop, taken, &why), -EADDRINUSE);
    assert_says(why.text, "cannot listen on 127.0.0.1:");
    assert_says(why.text, "Address already in use");
    assert_null(other);
    assert_int_equal(http_start(&other, loop, "somewhere:1", &why), -EINVAL);
    assert_int_equal(http_start_control(&other, loop, "0.0.0.0:0", NULL, "", &why), -EINVAL);
    assert_says(why.text, "without TLS");
    assert_int_equal(http_start_control(&other, loop, "[::]:0", NULL, NULL, &why), -EINVAL);
    assert_int_equal(http_start_control(&other, loop, "127.0.0.1:0", "/none.pem", "/none.key", &why),
                     -ENOENT);
}

static char *tls_certificate, *tls_key;
static struct http *tls;

static void start_tls(void)
{
    struct why why = {""};

    if (http_start_control(&tls, loop, "0.0.0.0:0", tls_certificate, tls_key, &why) != 0)
        fprintf(stderr, "%s\n", why.text);
    else
        http_route(tls, HTTP_GET, "/hello", say_hello, "secretly");
}

static void stop_tls(void)
{
    http_stop(&tls);
}

/* With a certificate the control listener may be reached from elsewhere; who does not speak TLS gets nothing.
 */
static void test_tls(void **state)
{
    static const char get[] = "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    char dir[] = "/tmp/isthmus-tls-XXXXXX", answer[1024] = "";
    struct pki_issue issue = {.dir = dir, .role = "edge", .name = "edge-a", .days = 1};
    struct why why = {""};
    size_t have = 0;
    int n, fd;

    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(pki_init(dir, "Test", 1, &why), 0);
    assert_int_equal(pki_issue(&issue, &why), 0);
    tls_certificate = xasprintf("%s/edge-a.pem", dir);
    tls_key = xasprintf("%s/edge-a.key", dir);
    CLEANUP_FREE char *ca = xasprintf("%s/ca.pem", dir), *command = xasprintf("rm -r '%s'", dir);
    on_loop(loop, start_tls);
    assert_non_null(tls);

    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    assert_int_equal(SSL_CTX_load_verify_locations(ctx, ca, NULL), 1);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL *ssl = SSL_new(ctx);
    assert_int_equal(SSL_set1_host(ssl, "edge-a"), 1);
    SSL_set_fd(ssl, fd = connect_to(http_port(tls)));
    assert_int_equal(SSL_connect(ssl), 1);
    assert_int_equal(SSL_write(ssl, get, (int)strlen(get)), strlen(get));
    while ((n = SSL_read(ssl, answer + have, (int)(sizeof(answer) - 1 - have))) > 0)
        have += (size_t)n;
    assert_says(answer, "secretly /hello");
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);

    fd = connect_to(http_port(tls));
    send(fd, get, strlen(get), MSG_NOSIGNAL);
    n = (int)recv(fd, answer, sizeof(answer) - 1, 0);
    answer[n > 0 ? n : 0] = '\0';
    assert_null(strstr(answer, "secretly"));
    close(fd);
    on_loop(loop, stop_tls);
    assert_int_equal(system(command), 0);
    free(tls_certificate);
    free(tls_key);
}

static void start(void)
{
    struct why why;

    if (http_start(&http, loop, "127.0.0.1:0", &why) != 0)
        abort();
    http_route(http, HTTP_GET, "/hello", say_hello, "exact");
    http_route(http, HTTP_GET, "/under/*", say_hello, "prefix");
    http_route(http, HTTP_GET, "/refuse/*", refuse, NULL);
    http_route(http, HTTP_GET, "/later", later, NULL);
    http_route(http, HTTP_POST, "/echo", echo, NULL);
    http_metrics(http, sick, &healthy);
}

static void stop(void)
{
    http_stop(&http);
}

/* Stopping with a request unanswered and connections open: the late answer is dropped. */
static void test_stop_under_load(void **state)
{
    static const char get[] = "GET /later HTTP/1.1\r\n\r\n";
    int fd, idle;

    (void)state;
    idle = connect_to(http_port(http));
    fd = connect_to(http_port(http));
    assert_int_equal(send(fd, get, strlen(get), 0), strlen(get));
    sem_wait(&parked_ready);
    on_loop(loop, stop);
    on_loop(loop, answer_parked);
    close(fd);
    close(idle);
}

static int set_up(void **state)
{
    (void)state;
    sem_init(&parked_ready, 0, 0);
    loop = loop_new("test");
    loop_start(loop);
    on_loop(loop, start);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    loop_stop(loop);
    loop_join(loop);
    loop_free(&loop);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_malformed_requests_are_refused),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_connections_are_bounded),
        cmocka_unit_test(test_an_answer_may_come_later_or_to_nobody),
        cmocka_unit_test(test_metrics_and_health),
        cmocka_unit_test(test_a_listener_that_cannot_be_says_why),
        cmocka_unit_test(test_tls),
        cmocka_unit_test(test_stop_under_load),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
