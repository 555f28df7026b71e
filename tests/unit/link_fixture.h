/* tests/unit/link_fixture.h - two daemons' ends of the link on one loop, with a proxy thread between them
 * that can be slow, mute or cut.
 */
#ifndef ISTHMUS_LINK_FIXTURE_H
#define ISTHMUS_LINK_FIXTURE_H

#include "frame.h"
#include "link.h"
#include "mem.h"
#include "metric.h"
#include "pki.h"
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* No test needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

enum { T_ECHO = 1, T_BYTES = 2, T_HOLD = 3, T_FAIL = 4, CALLS = 3000, HELD = 64 };

static char *dir;
static struct loop *loop;

/* ---- the loop, run until something is so ---- */

static struct {
    struct timer poll;
    bool (*so)(void *);
    void *arg;
    uint64_t end_ns;
    bool ok;
} wait;

static void on_poll(struct timer *t)
{
    wait.ok = wait.so(wait.arg);
    if (wait.ok || loop_now_ns(loop) >= wait.end_ns)
        loop_stop(loop);
    else
        timer_set_ms(t, 2);
}

static bool until(bool (*so)(void *), void *arg, unsigned seconds)
{
    wait.so = so;
    wait.arg = arg;
    wait.ok = false;
    wait.end_ns = loop_now_ns(loop) + seconds * 1000000000ull;
    timer_set_ms(&wait.poll, 0);
    loop_run(loop);
    timer_stop(&wait.poll);
    return wait.ok;
}

static bool is_true(void *flag)
{
    return atomic_load((atomic_bool *)flag);
}

/* ---- the proxy: forwards bytes between whoever connects and one port ---- */

struct proxy {
    pthread_t thread;
    int listen_fd, pairs[16][2];
    uint16_t port, to;
    unsigned npairs;
    atomic_bool stop, mute, cut;
    atomic_uint bytes_per_ms; /* 0: as fast as it goes */
    unsigned budget;
};

static int tcp_socket(uint16_t port, bool listening)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), small = 65536;

    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    if (listening ? bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 16)
                  : connect(fd, (struct sockaddr *)&at, sizeof(at))) {
        close(fd);
        return -1;
    }
    return fd;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_in at;
    socklen_t len = sizeof(at);

    getsockname(fd, (struct sockaddr *)&at, &len);
    return ntohs(at.sin_port);
}

static void proxy_drop(struct proxy *p, unsigned i)
{
    close(p->pairs[i][0]);
    close(p->pairs[i][1]);
    p->npairs--;
    memmove(p->pairs[i], p->pairs[p->npairs], sizeof(p->pairs[i]));
}

static bool proxy_forward(struct proxy *p, int from, int to)
{
    char bytes[8192];
    size_t max = p->budget < sizeof(bytes) ? p->budget : sizeof(bytes);
    ssize_t n = recv(from, bytes, max, MSG_DONTWAIT);

    if (n < 0)
        return errno == EAGAIN;
    p->budget -= (unsigned)n;
    return n > 0 && send(to, bytes, (size_t)n, MSG_NOSIGNAL) == n;
}

static void proxy_accept(struct proxy *p)
{
    int a = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC), b = tcp_socket(p->to, false);

    if (a < 0 || b < 0 || p->npairs == 16) {
        close(a);
        close(b);
        return;
    }
    p->pairs[p->npairs][0] = a;
    p->pairs[p->npairs++][1] = b;
}

static void *proxy_main(void *arg)
{
    struct proxy *p = arg;
    struct pollfd fds[33];

    while (!atomic_load(&p->stop)) {
        unsigned rate = atomic_load(&p->bytes_per_ms), n = p->npairs;

        fds[0] = (struct pollfd){p->listen_fd, POLLIN, 0};
        for (unsigned i = 0; i < 2 * n; i++)
            fds[1 + i] = (struct pollfd){atomic_load(&p->mute) ? -1 : p->pairs[i / 2][i % 2], POLLIN, 0};
        if (rate) { /* a bucket a millisecond */
            usleep(1000);
            p->budget = p->budget + rate > 4 * rate ? 4 * rate : p->budget + rate;
        } else {
            p->budget = 1u << 30;
        }
        poll(fds, 1 + 2 * n, 2);
        if (atomic_exchange(&p->cut, false))
            while (p->npairs)
                proxy_drop(p, 0), n = 0;
        for (unsigned i = n; i-- > 0;)
            for (unsigned side = 0; side < 2; side++)
                if (p->budget && fds[1 + 2 * i + side].revents &&
                    !proxy_forward(p, p->pairs[i][side], p->pairs[i][!side])) {
                    proxy_drop(p, i);
                    break;
                }
        if (fds[0].revents)
            proxy_accept(p);
    }
    while (p->npairs)
        proxy_drop(p, 0);
    close(p->listen_fd);
    return NULL;
}

static void proxy_start(struct proxy *p, uint16_t to)
{
    memset(p, 0, sizeof(*p));
    p->to = to;
    p->listen_fd = tcp_socket(0, true);
    p->port = port_of(p->listen_fd);
    pthread_create(&p->thread, NULL, proxy_main, p);
}

static void proxy_stop(struct proxy *p)
{
    atomic_store(&p->stop, true);
    pthread_join(p->thread, NULL);
}

/* ---- the cast: an edge that calls, an on-prem daemon that answers ---- */

struct end {
    struct link *link;
    unsigned ups, downs, notices, requests, nheld;
    struct link_request *held[HELD];
};

static struct end edge, onprem;

static void on_request(void *arg, struct link_request *r)
{
    static uint8_t big[256 * 1024];
    struct end *e = arg;
    struct iovec iov = {(void *)(uintptr_t)r->body, r->len};

    e->requests++;
    if (r->type == T_BYTES) {
        iov = (struct iovec){big, get32(r->body)};
        memset(big, r->body[4], iov.iov_len);
    }
    if (r->type == T_HOLD)
        e->held[e->nheld++] = r;
    else if (r->type == T_FAIL)
        link_reply(&r, -EIO, "the disk said: medium error", NULL, 0);
    else if (r->type == T_ECHO || r->type == T_BYTES)
        link_reply(&r, 0, NULL, &iov, 1);
    else
        link_reply(&r, -ENOSYS, "unknown", NULL, 0);
}

static void on_notice(void *arg, struct peer *p, uint8_t type, const uint8_t *body, uint32_t len)
{
    (void)p;
    if (type == 9 && len == 2 && body[1] == 'i')
        ((struct end *)arg)->notices++;
}

static void on_state(void *arg, struct peer *p, bool up)
{
    struct end *e = arg;

    (void)p;
    if (up)
        e->ups++;
    else
        e->downs++;
}

static int open_end(struct end *e, const char *files, const char *ca, bool listens, struct why *why)
{
    CLEANUP_FREE char *crt = xasprintf("%s/%s.crt", dir, files), *key = xasprintf("%s/%s.key", dir, files),
                      *ca_crt = xasprintf("%s/%s.crt", dir, ca);
    struct link_conf conf = {listens ? "edge" : "onprem",
                             listens ? "onprem" : "edge",
                             crt,
                             key,
                             ca_crt,
                             listens ? "127.0.0.1:0" : NULL,
                             NULL,
                             NULL};
    struct link_handlers h = {on_request, on_notice, on_state, e};

    memset(e, 0, sizeof(*e));
    return link_new(&e->link, loop, &conf, &h, why);
}

static void must_open(struct end *e, const char *files, bool listens)
{
    struct why why;

    if (open_end(e, files, "ca", listens, &why))
        fail_msg("%s", why.text);
}

static void dial(uint16_t port, unsigned nconns)
{
    CLEANUP_FREE char *address = xasprintf("127.0.0.1:%u", port);
    struct why why;

    assert_int_equal(link_dial(onprem.link, link_peer(onprem.link, "edge-a"), address, nconns, &why), 0);
}

static bool both_up(void *arg)
{
    (void)arg;
    return edge.ups > edge.downs && onprem.ups > onprem.downs;
}

static bool both_down(void *arg)
{
    (void)arg;
    return edge.downs > 0 && onprem.downs > 0;
}

static struct peer *dc1(void)
{
    return link_peer(edge.link, "dc1");
}

static void start_pair(struct proxy *p, unsigned nconns)
{
    must_open(&edge, "edge", true);
    must_open(&onprem, "onprem", false);
    if (p)
        proxy_start(p, link_port(edge.link));
    dial(p ? p->port : link_port(edge.link), nconns);
    assert_true(until(both_up, NULL, 30));
}

static bool now(void *arg)
{
    (void)arg;
    return true;
}

static void stop_pair(struct proxy *p)
{
    if (onprem.link)
        link_free(&onprem.link);
    if (edge.link)
        link_free(&edge.link);
    if (p)
        proxy_stop(p);
    until(now, NULL, 1);
}

/* ---- calls ---- */

struct tcall {
    struct link_call call;
    unsigned done, order;
};

static struct tcall calls[CALLS];
static unsigned ndone, next_call;

static void on_done(struct link_call *call)
{
    struct tcall *t = (struct tcall *)call;

    t->done++;
    t->order = ++ndone;
}

static struct tcall *call(uint8_t type, enum link_class class, uint32_t number, uint8_t fill)
{
    struct tcall *t = &calls[next_call++];

    t->call = (struct link_call){.type = type, .class = class, .body = buf_new(5), .done = on_done};
    t->done = t->order = 0;
    put32(t->call.body->data, number);
    t->call.body->data[4] = fill;
    link_call(dc1(), &t->call);
    return t;
}

static void forget_calls(void)
{
    for (unsigned i = 0; i < next_call; i++) {
        assert_int_equal(calls[i].done, 1);
        buf_unref(&calls[i].call.body);
        buf_unref(&calls[i].call.reply);
    }
    next_call = ndone = 0;
}

static bool all_done(void *arg)
{
    (void)arg;
    return ndone == next_call;
}

static bool one_done(void *arg)
{
    return ((struct tcall *)arg)->done;
}

static bool some_held(void *arg)
{
    return onprem.nheld >= *(unsigned *)arg;
}

static void expect_bytes(const struct tcall *t, uint32_t n, uint8_t fill)
{
    assert_int_equal(t->call.status, 0);
    assert_int_equal(t->call.reply->len, n);
    if (n)
        assert_true(t->call.reply->data[0] == fill && t->call.reply->data[n - 1] == fill);
}

static int set_up(void **state)
{
    CLEANUP_FREE char *open_key = NULL;

    (void)state;
    dir = pki_new();
    pki_ca(dir, "ca");
    pki_ca(dir, "other-ca");
    pki_issue(dir, "ca", "edge", "edge-a", "edge", -3600, 3600);
    pki_issue(dir, "ca", "edge-b", "edge-b", "edge", -3600, 3600);
    pki_issue(dir, "ca", "onprem", "dc1", "onprem", -3600, 3600);
    pki_issue(dir, "other-ca", "other", "dc1", "onprem", -3600, 3600);
    pki_issue(dir, "ca", "expired", "dc1", "onprem", -3600, -60);
    pki_issue(dir, "ca", "open", "dc1", "onprem", -3600, 3600);
    open_key = xasprintf("%s/open.key", dir);
    chmod(open_key, 0644);
    loop = loop_new("test");
    timer_init(&wait.poll, loop, on_poll);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    timer_free(&wait.poll);
    loop_free(&loop);
    pki_remove(&dir);
    return 0;
}

#endif
