/* links: link pki common */
/* Two daemons' ends of the link on one loop, with a proxy thread between them that can be slow, mute or cut.
 * A raw TLS client plays the hostile and the newer peer.
 */
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
    assert_true(until(both_up, NULL, 10));
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

/* ---- the stories ---- */

static void calls_are_answered(void **state)
{
    struct tcall *t;

    (void)state;
    start_pair(NULL, 3);
    for (unsigned i = 0; i < 2000; i++) /* far more than the windows hold */
        call(T_BYTES, i % LINK_CLASSES, i * 13 % 70000, (uint8_t)i);
    assert_int_equal(ndone, 0); /* nothing before the calls returned */
    assert_true(until(all_done, NULL, 30));
    for (unsigned i = 0; i < 2000; i++)
        expect_bytes(&calls[i], i * 13 % 70000, (uint8_t)i);
    forget_calls();
    t = call(T_FAIL, LINK_DEMAND, 0, 0);
    call(77, LINK_DEMAND, 0, 0);
    call(T_BYTES, LINK_CONTROL, 256 * 1024, 5);
    assert_true(until(all_done, NULL, 10));
    assert_int_equal(t->call.status, -EIO);
    assert_string_equal(t->call.why.text, "the disk said: medium error");
    assert_int_equal(calls[1].call.status, -ENOSYS);
    expect_bytes(&calls[2], 256 * 1024, 5);
    forget_calls();
    assert_true(peer_rtt_ns(dc1()) > 0);
    assert_int_equal(metric_sum("isthmus_link_calls_in_flight", "dc1"), 0);
    assert_int_equal(metric_sum("isthmus_link_up", "dc1"), 1);
    stop_pair(NULL);
}

static bool got_notice(void *arg)
{
    (void)arg;
    return onprem.notices == 1;
}

static void notices_arrive(void **state)
{
    (void)state;
    start_pair(NULL, 1);
    link_notice(dc1(), 9, "hi", 2);
    assert_true(until(got_notice, NULL, 5));
    stop_pair(NULL);
}

static void a_demand_overtakes_queued_background(void **state)
{
    struct proxy p;
    struct tcall *demand;
    unsigned before;

    (void)state;
    start_pair(&p, 1);
    atomic_store(&p.bytes_per_ms, 10000);
    for (unsigned i = 0; i < 100; i++)
        call(T_BYTES, LINK_MIGRATION, 200 * 1024, 'm');
    assert_true(until(one_done, &calls[1], 30));
    demand = call(T_BYTES, LINK_DEMAND, 4096, 'd');
    before = ndone;
    assert_true(until(one_done, demand, 30));
    expect_bytes(demand, 4096, 'd');
    assert_in_range(demand->order - before, 1, 12); /* what was in sockets, not the 98 that waited */
    atomic_store(&p.bytes_per_ms, 0);
    assert_true(until(all_done, NULL, 30));
    forget_calls();
    stop_pair(&p);
}

static void a_promoted_call_overtakes(void **state)
{
    struct proxy p;
    unsigned before;

    (void)state;
    start_pair(&p, 1);
    atomic_store(&p.bytes_per_ms, 10000);
    for (unsigned i = 0; i < 100; i++)
        call(T_BYTES, LINK_PREFETCH, 200 * 1024, 'p');
    assert_true(until(one_done, &calls[1], 30));
    link_call_promote(&calls[99].call, LINK_DEMAND);
    before = ndone;
    assert_true(until(one_done, &calls[99], 30));
    assert_in_range(calls[99].order - before, 1, 12);
    atomic_store(&p.bytes_per_ms, 0);
    assert_true(until(all_done, NULL, 30));
    forget_calls();
    stop_pair(&p);
}

static void cancelled_calls_end_and_free_their_slots(void **state)
{
    unsigned want = 10;

    (void)state;
    start_pair(NULL, 1);
    for (unsigned i = 0; i < 10; i++)
        call(T_HOLD, LINK_DEMAND, i, 0);
    assert_true(until(some_held, &want, 5));
    for (unsigned i = 0; i < 10; i++)
        link_call_cancel(&calls[i].call);
    link_call_cancel(&call(T_ECHO, LINK_DEMAND, 0, 0)->call); /* not even sent */
    assert_int_equal(ndone, 0);
    assert_true(until(all_done, NULL, 5));
    for (unsigned i = 0; i < 11; i++)
        assert_int_equal(calls[i].call.status, -ECANCELED);
    forget_calls();
    for (unsigned i = 0; i < 10; i++)
        link_reply(&onprem.held[i], 0, NULL, &(struct iovec){dir, 3}, 1);
    for (unsigned i = 0; i < 1500; i++) /* all slots are free again */
        call(T_ECHO, LINK_DEMAND, i, 0);
    assert_true(until(all_done, NULL, 10));
    forget_calls();
    stop_pair(NULL);
}

static void a_cut_connection_resends_its_calls(void **state)
{
    unsigned want = 20;
    struct proxy p;

    (void)state;
    start_pair(&p, 2);
    for (unsigned i = 0; i < 20; i++)
        call(T_HOLD, LINK_DEMAND, i, 0);
    assert_true(until(some_held, &want, 5));
    atomic_store(&p.cut, true);
    assert_true(until(both_down, NULL, 5));
    for (unsigned i = 0; i < 20; i++) /* answers into the void */
        link_reply(&onprem.held[i], 0, NULL, NULL, 0);
    assert_int_equal(ndone, 0);
    want = 40;
    assert_true(until(some_held, &want, 10)); /* asked again */
    for (unsigned i = 20; i < 40; i++)
        link_reply(&onprem.held[i], 0, NULL, &(struct iovec){dir, 1}, 1);
    assert_true(until(all_done, NULL, 5));
    for (unsigned i = 0; i < 20; i++)
        expect_bytes(&calls[i], 1, (uint8_t)dir[0]);
    forget_calls();
    assert_true(metric_sum("isthmus_link_resent_calls_total", "dc1") >= 20);
    assert_true(metric_sum("isthmus_link_reconnects_total", "dc1") >= 1);
    stop_pair(&p);
}

static struct tcall *brief_call(uint8_t type)
{
    struct tcall *t = &calls[next_call++];

    t->call = (struct link_call){
        .type = type, .class = LINK_PREFETCH, .brief = true, .body = buf_new(5), .done = on_done};
    t->done = t->order = 0;
    memset(t->call.body->data, 0, 5);
    link_call(dc1(), &t->call);
    return t;
}

/* With nobody to be sent to, and when they are sent: the owner has them back. */
static void brief_calls_end_with_their_connection(void **state)
{
    unsigned want = 20;
    struct proxy p;

    (void)state;
    must_open(&edge, "edge", true);
    brief_call(T_ECHO);
    assert_true(until(all_done, NULL, 5));
    assert_int_equal(calls[0].call.status, -ENOTCONN);
    forget_calls();
    link_free(&edge.link);
    start_pair(&p, 1);
    for (unsigned i = 0; i < 20; i++)
        brief_call(T_HOLD);
    assert_true(until(some_held, &want, 5));
    atomic_store(&p.cut, true);
    assert_true(until(all_done, NULL, 10));
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(calls[i].call.status, -ENOTCONN);
        link_reply(&onprem.held[i], 0, NULL, NULL, 0);
    }
    forget_calls();
    assert_true(until(both_up, NULL, 10));
    brief_call(T_ECHO);
    assert_true(until(all_done, NULL, 5));
    assert_int_equal(calls[0].call.status, 0);
    forget_calls();
    stop_pair(&p);
}

static void cuts_under_load_lose_nothing(void **state)
{
    struct proxy p;

    (void)state;
    start_pair(&p, 2);
    for (unsigned i = 0; i < 2000; i++)
        call(T_BYTES, i % LINK_CLASSES, 20000 + i, (uint8_t)i);
    for (unsigned round = 1; round <= 4; round++) {
        assert_true(until(one_done, &calls[round * 200], 20));
        atomic_store(&p.cut, true);
    }
    assert_true(until(all_done, NULL, 30));
    for (unsigned i = 0; i < 2000; i++)
        expect_bytes(&calls[i], 20000 + i, (uint8_t)i);
    forget_calls();
    stop_pair(&p);
}

static void a_mute_peer_is_noticed_within_10_s(void **state)
{
    uint64_t began;
    struct proxy p;

    (void)state;
    start_pair(&p, 1);
    atomic_store(&p.mute, true);
    began = loop_now_ns(loop);
    call(T_ECHO, LINK_DEMAND, 1, 0);
    assert_true(until(both_down, NULL, 12));
    assert_in_range((loop_now_ns(loop) - began) / 1000000, 5000, 10000);
    assert_int_equal(ndone, 0); /* it waits; it does not fail */
    atomic_store(&p.mute, false);
    assert_true(until(all_done, NULL, 20));
    assert_int_equal(calls[0].call.status, 0);
    forget_calls();
    stop_pair(&p);
}

static void calls_wait_for_the_first_connection(void **state)
{
    (void)state;
    must_open(&edge, "edge", true);
    call(T_ECHO, LINK_DEMAND, 1, 0);
    must_open(&onprem, "onprem", false);
    dial(link_port(edge.link), 1);
    assert_true(until(all_done, NULL, 10));
    assert_int_equal(calls[0].call.status, 0);
    forget_calls();
    stop_pair(NULL);
}

static void link_free_cancels_what_is_out(void **state)
{
    unsigned want = 3;

    (void)state;
    start_pair(NULL, 1);
    for (unsigned i = 0; i < 3; i++)
        call(T_HOLD, LINK_DEMAND, i, 0);
    assert_true(until(some_held, &want, 5));
    for (unsigned i = 0; i < 1200; i++)
        call(T_BYTES, LINK_PREFETCH, 4096, 0);
    link_free(&edge.link);
    assert_int_equal(ndone, 0);
    assert_true(until(all_done, NULL, 5));
    for (unsigned i = 0; i < next_call; i++)
        assert_int_equal(calls[i].call.status, -ECANCELED);
    forget_calls();
    link_free(&onprem.link);
    for (unsigned i = 0; i < 3; i++)
        link_reply(&onprem.held[i], 0, NULL, NULL, 0);
    stop_pair(NULL);
}

/* ---- who may come in ---- */

static bool refusals(void *arg)
{
    return loop_now_ns(loop) >= *(uint64_t *)arg;
}

/* A stranger with these files dials while dc1 is served: it never gets up, dc1 is unharmed. */
static void expect_stranger(const char *files, const char *ca, const char *own_error)
{
    struct why why = {""};
    struct end stranger;
    CLEANUP_FREE char *address = NULL;
    uint64_t end;
    int rc;

    start_pair(NULL, 1);
    rc = open_end(&stranger, files, ca, false, &why);
    if (own_error) { /* found at our own start-up already */
        assert_true(rc < 0);
        assert_non_null(strstr(why.text, own_error));
    } else {
        assert_int_equal(rc, 0);
        address = xasprintf("127.0.0.1:%u", link_port(edge.link));
        assert_int_equal(link_dial(stranger.link, link_peer(stranger.link, "edge-a"), address, 1, &why), 0);
        end = loop_now_ns(loop) + 400000000;
        assert_true(until(refusals, &end, 5));
        assert_int_equal(stranger.ups, 0);
        link_free(&stranger.link);
    }
    assert_int_equal(edge.ups, 1);
    call(T_ECHO, LINK_DEMAND, 1, 0);
    assert_true(until(all_done, NULL, 5));
    assert_int_equal(calls[0].call.status, 0);
    forget_calls();
    stop_pair(NULL);
}

static void strangers_are_refused(void **state)
{
    (void)state;
    expect_stranger("other", "other-ca", NULL);        /* of another CA */
    expect_stranger("edge-b", "ca", "role");           /* our files, wrong role */
    expect_stranger("expired", "ca", "expired");       /* found at our start-up */
    expect_stranger("other", "ca", "does not hold");   /* certificate and CA do not match */
    expect_stranger("absent", "ca", "cannot be read"); /* no such file */
    expect_stranger("open", "ca", "chmod 600");        /* key readable by others */
}

/* ---- the raw client ---- */

struct raw {
    pthread_t thread;
    const char *files;
    uint16_t port;
    const uint8_t *bytes;
    size_t n;
    atomic_bool over;
    bool shook_hands;
    char bye[FRAME_BYE_MAX + 1];
};

static int raw_frame(void *arg, unsigned lane, const struct frame *f, struct buf **body, struct why *why)
{
    struct raw *r = arg;

    (void)lane, (void)why;
    if (f->kind == FRAME_BYE && *body)
        memcpy(r->bye, (*body)->data, (*body)->len);
    return 0;
}

static void *raw_main(void *arg)
{
    struct raw *r = arg;
    CLEANUP_FREE char *crt = xasprintf("%s/%s.crt", dir, r->files),
                      *key = xasprintf("%s/%s.key", dir, r->files);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl;
    struct frame_in in = {0};
    uint8_t bytes[4096];
    struct why why;
    int n, fd = tcp_socket(r->port, false);

    if (*r->files) {
        SSL_CTX_use_certificate_file(ctx, crt, SSL_FILETYPE_PEM);
        SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM);
    }
    ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    r->shook_hands = SSL_connect(ssl) == 1;
    if (r->shook_hands && r->n)
        SSL_write(ssl, r->bytes, (int)r->n);
    while (r->shook_hands && (n = SSL_read(ssl, bytes, sizeof(bytes))) > 0) {
        frame_in_feed(&in, bytes, (size_t)n, raw_frame, r, &why);
        in.greeted = true;
    }
    frame_in_clear(&in);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
    atomic_store(&r->over, true);
    return NULL;
}

static uint8_t raw_bytes[LINK_FRAME_MAX];
static size_t raw_n;

static void raw_put(unsigned lane, struct frame f, const void *body)
{
    uint8_t *p = raw_bytes + raw_n;

    p[0] = (uint8_t)lane;
    p[1] = 0;
    put16(p + 2, (uint16_t)(FRAME_HEAD_BYTES + f.len));
    frame_put(p + 4, &f);
    if (body)
        memcpy(p + 4 + FRAME_HEAD_BYTES, body, f.len);
    raw_n += 4 + FRAME_HEAD_BYTES + f.len;
}

static void raw_hello(uint16_t low, uint16_t high)
{
    struct buf *h = frame_put_hello(&(struct frame_hello){low, high, 512, 0, 99});

    raw_n = 0;
    raw_put(0, (struct frame){.kind = FRAME_HELLO, .len = h->len}, h->data);
    buf_unref(&h);
}

/* Sends raw_bytes as that certificate's owner and expects to be hung up on with a sentence like this. */
static void expect_hung_up(const char *files, const char *sentence)
{
    struct raw r = {.files = files, .port = link_port(edge.link), .bytes = raw_bytes, .n = raw_n};

    pthread_create(&r.thread, NULL, raw_main, &r);
    assert_true(until(is_true, &r.over, 15));
    pthread_join(r.thread, NULL);
    if (sentence && !strstr(r.bye, sentence))
        fail_msg("\"%s\" where \"%s\" was expected", r.bye, sentence);
}

static void violations_are_hung_up_on(void **state)
{
    (void)state;
    must_open(&edge, "edge", true);
    raw_hello(2, 7);
    expect_hung_up("onprem", "speaks versions 2 to 7 of the link protocol and edge-a 1 to 1: update edge-a");
    raw_hello(3, 1);
    expect_hung_up("onprem", "makes no sense");
    raw_n = 0;
    expect_hung_up("", NULL); /* no certificate */
    expect_hung_up("other", NULL);
    raw_hello(1, 1);
    expect_hung_up("edge-b", "role");
    raw_n = 0;
    raw_put(0, (struct frame){.kind = FRAME_HELLO, .len = 9}, "GET / HTP");
    expect_hung_up("onprem", "did not greet");
    raw_n = 0;
    raw_put(1, (struct frame){.kind = FRAME_CALL, .type = 1, .id = 1}, NULL);
    expect_hung_up("onprem", "before its greeting");
    assert_int_equal(edge.ups, 0);
    raw_hello(1, 9); /* a newer one that also speaks ours is welcome; until it errs */
    raw_put(0, (struct frame){.kind = FRAME_PONG, .id = 12345}, NULL);
    expect_hung_up("onprem", "PING that was not sent");
    assert_int_equal(edge.ups, 1);
    raw_hello(1, 1);
    raw_put(1, (struct frame){.kind = FRAME_REPLY, .id = 3}, NULL);
    expect_hung_up("onprem", "call that we did not make");
    raw_hello(1, 1);
    raw_put(1, (struct frame){.kind = FRAME_CALL, .type = T_ECHO, .id = 600}, NULL);
    expect_hung_up("onprem", "more calls under way");
    raw_hello(1, 1);
    raw_put(1, (struct frame){.kind = FRAME_CALL, .type = T_HOLD, .id = 3}, NULL);
    raw_put(1, (struct frame){.kind = FRAME_CALL, .type = T_HOLD, .id = 3}, NULL);
    expect_hung_up("onprem", "more calls under way");
    assert_int_equal(edge.nheld, 1);
    link_reply(&edge.held[0], 0, NULL, NULL, 0);
    raw_hello(1, 1);
    raw_bytes[raw_n++] = 77;
    raw_n += 3;
    expect_hung_up("onprem", "chunk that cannot be");
    assert_int_equal(edge.ups, edge.downs);
    stop_pair(NULL);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_are_answered),
        cmocka_unit_test(notices_arrive),
        cmocka_unit_test(a_demand_overtakes_queued_background),
        cmocka_unit_test(a_promoted_call_overtakes),
        cmocka_unit_test(cancelled_calls_end_and_free_their_slots),
        cmocka_unit_test(a_cut_connection_resends_its_calls),
        cmocka_unit_test(brief_calls_end_with_their_connection),
        cmocka_unit_test(cuts_under_load_lose_nothing),
        cmocka_unit_test(a_mute_peer_is_noticed_within_10_s),
        cmocka_unit_test(calls_wait_for_the_first_connection),
        cmocka_unit_test(link_free_cancels_what_is_out),
        cmocka_unit_test(strangers_are_refused),
        cmocka_unit_test(violations_are_hung_up_on),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
