/* tests/unit/rest_fixture.h - the REST API and the boot scripts over real sockets. The catalog, the pair, the
 * verbs, the link and the journal are small stand-ins, so that each answer of theirs can be had at will.
 */
#ifndef ISTHMUS_REST_FIXTURE_H
#define ISTHMUS_REST_FIXTURE_H

#include "check.h"
#include "conf.h"
#include "fake_verbs.h"
#include "fake_vms.h"
#include "on_loop.h"
#include "rest.h"

#include <jansson.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* No test needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

/* --- what is below the VMs --- */

void volume_make_naa(const uint8_t *vm_id, uint8_t disk, uint8_t naa[8])
{
    (void)vm_id;
    memset(naa, disk, 8);
}

uint64_t volume_sectors(const struct volume *v)
{
    (void)v;
    return 0;
}

const uint8_t *volume_naa(const struct volume *v)
{
    return (const uint8_t *)v;
}

uint64_t journal_bytes(const struct journal *j)
{
    (void)j;
    return 4096;
}

bool journal_throttled(const struct journal *j)
{
    (void)j;
    return true;
}

bool journal_failed(const struct journal *j)
{
    (void)j;
    return false;
}

struct peer *link_peer(struct link *l, const char *name)
{
    (void)l;
    return (struct peer *)(uintptr_t)name;
}

const char *peer_name(const struct peer *p)
{
    return (const char *)p;
}

bool peer_up(const struct peer *p)
{
    (void)p;
    return true;
}

uint64_t peer_rtt_ns(const struct peer *p)
{
    (void)p;
    return 50000000;
}

uint64_t peer_bytes_per_s(const struct peer *p)
{
    (void)p;
    return 0;
}

void target_each_session(struct target *t, void (*each)(void *, const struct target_session *), void *arg)
{
    struct target_session s = {
        .initiator = "iqn.x:i", .address = "10.0.0.9:5", .portal = "p", .vm = "busy", .connection = "c1"};

    (void)t;
    each(arg, &s);
}

uint16_t target_port(const struct target *t, unsigned i)
{
    (void)t, (void)i;
    return 3260;
}

/* --- the cast --- */

static const char token[] = "0123456789abcdef0123456789abcdef";
static char dir[] = "/tmp/isthmus-rest-XXXXXX";
static char *token_file;
static struct http *control, *open_http;
static struct rest *rest;

static char answer_text[256 * 1024];

/* Sends a request with body; returns the code. The answer's body is left in answer_text. */
static int ask(struct http *h, const char *method, const char *path, const char *with_token, const char *body)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(http_port(h)), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    CLEANUP_FREE char *auth =
        with_token ? xasprintf("Authorization: Bearer %s\r\n", with_token) : xstrdup("");
    CLEANUP_FREE char *request = xasprintf(
        "%s %s HTTP/1.1\r\nHost: edge.test:7262\r\nConnection: close\r\n%sContent-Length: %zu\r\n\r\n%s",
        method, path, auth, strlen(body), body);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), code;
    size_t have = 0;
    ssize_t n;

    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(send(fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    while ((n = recv(fd, answer_text + have, sizeof(answer_text) - 1 - have, 0)) > 0)
        have += (size_t)n;
    close(fd);
    answer_text[have] = '\0';
    assert_int_equal(sscanf(answer_text, "HTTP/1.1 %d", &code), 1);
    assert_non_null(strstr(answer_text, "X-Request-Id: r"));
    const char *start = strstr(answer_text, "\r\n\r\n") + 4;
    memmove(answer_text, start, strlen(start) + 1);
    return code;
}

static int api(const char *method, const char *path, const char *body)
{
    return ask(control, method, path, token, body);
}

#define assert_says(text)                                                                                    \
    do {                                                                                                     \
        if (!strstr(answer_text, (text)))                                                                    \
            fail_msg("expected %s in:\n%.600s", (text), answer_text);                                        \
    } while (0)

static struct tasks *tasks;

static void start(void)
{
    struct tasks_conf with = {.vms = &catalog, .main = loop};
    struct rest_conf conf = {
        .vms = &catalog, .main = loop, .iqn_prefix = "iqn.2026-11.test", .token_file = token_file};
    struct why why = {""};

    conf.target = (struct target *)&conf;
    CHECK(tasks_open(&tasks, &with, &why) == 0);
    conf.tasks = tasks;
    conf.failback = (struct failback *)&conf;
    CHECK(http_start(&control, loop, "127.0.0.1:0", &why) == 0);
    CHECK(http_start(&open_http, loop, "127.0.0.1:0", &why) == 0);
    CHECK(rest_start(&rest, control, open_http, &conf, &why) == 0);
}

static void on_tasks_closed(void *arg)
{
    sem_post(arg);
}

static sem_t tasks_closed;

static void stop(void)
{
    rest_stop(&rest);
    tasks_close(tasks, on_tasks_closed, &tasks_closed);
    http_stop(&control);
    http_stop(&open_http);
}

static int set_up(void **state)
{
    FILE *f;

    (void)state;
    if (!mkdtemp(dir))
        return -1;
    token_file = xasprintf("%s/token", dir);
    f = fopen(token_file, "w");
    fprintf(f, "%s\n", token);
    fclose(f);
    chmod(token_file, 0600);
    pool_start(1);
    loop = loop_new("test");
    loop_start(loop);
    on_loop(loop, start);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sem_init(&tasks_closed, 0, 0);
    on_loop(loop, stop);
    sem_wait(&tasks_closed);
    sem_destroy(&tasks_closed);
    pool_stop();
    fake_rows_clear();
    loop_stop(loop);
    loop_join(loop);
    loop_free(&loop);
    unlink(token_file);
    free(token_file);
    return rmdir(dir);
}

#endif
