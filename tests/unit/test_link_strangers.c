/* links: link pki common */
/* Who may come in over the link; a raw TLS client plays the hostile and the newer peer.
 */
#include "link_fixture.h"

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
        assert_true(until(refusals, &end, 30));
        assert_int_equal(stranger.ups, 0);
        link_free(&stranger.link);
    }
    assert_int_equal(edge.ups, 1);
    call(T_ECHO, LINK_DEMAND, 1, 0);
    assert_true(until(all_done, NULL, 30));
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
    struct frame_in in;
    char bye[FRAME_BYE_MAX + 1];
};

static int raw_frame(void *arg, unsigned lane, const struct frame *f, struct buf **body, struct why *why)
{
    struct raw *r = arg;

    (void)lane, (void)why;
    r->in.greeted |= f->kind == FRAME_HELLO; /* more may come with it, at once */
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
    while (r->shook_hands && (n = SSL_read(ssl, bytes, sizeof(bytes))) > 0)
        if (frame_in_feed(&r->in, bytes, (size_t)n, raw_frame, r, &why) < 0)
            snprintf(r->bye, sizeof r->bye, "not understood: %.200s", why.text);
    frame_in_clear(&r->in);
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

static void raw_hello_of(uint16_t low, uint16_t high, uint16_t index, uint64_t instance)
{
    struct buf *h = frame_put_hello(&(struct frame_hello){low, high, 512, index, instance});

    raw_n = 0;
    raw_put(0, (struct frame){.kind = FRAME_HELLO, .len = h->len}, h->data);
    buf_unref(&h);
}

static void raw_hello(uint16_t low, uint16_t high)
{
    raw_hello_of(low, high, 0, 99);
}

/* Sends raw_bytes as that certificate's owner and expects to be hung up on with a sentence like this. */
static void expect_hung_up(const char *files, const char *sentence)
{
    struct raw r = {.files = files, .port = link_port(edge.link), .bytes = raw_bytes, .n = raw_n};

    pthread_create(&r.thread, NULL, raw_main, &r);
    assert_true(until(is_true, &r.over, 30));
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

/* ---- a peer that died without a word: its connections stay, nothing comes on them ---- */

static bool up_for_all(void *n)
{
    return peer_up(dc1()) && edge.ups == *(unsigned *)n;
}

static void comes_back_as(struct raw *r, uint8_t *bytes, uint16_t index, uint64_t instance)
{
    raw_hello_of(1, 1, index, instance);
    memcpy(bytes, raw_bytes, raw_n);
    *r = (struct raw){.files = "onprem", .port = link_port(edge.link), .bytes = bytes, .n = raw_n};
    pthread_create(&r->thread, NULL, raw_main, r);
}

static void a_peer_that_died_silently_and_is_back_was_away(void **state)
{
    uint8_t bytes[3][64];
    struct raw dead, back, more;
    unsigned once = 1, twice = 2;

    (void)state;
    must_open(&edge, "edge", true);
    comes_back_as(&dead, bytes[0], 0, 99);
    assert_true(until(up_for_all, &once, 30));
    comes_back_as(&back, bytes[1], 1, 100);
    assert_true(until(up_for_all, &twice, 5)); /* not by the keep-alive's 8 s */
    assert_int_equal(edge.downs, 1);
    assert_true(until(is_true, &dead.over, 30));
    pthread_join(dead.thread, NULL);
    assert_non_null(strstr(dead.bye, "as another run"));

    comes_back_as(&more, bytes[2], 1, 100); /* of the same run: it was never away */
    assert_true(until(is_true, &back.over, 30));
    pthread_join(back.thread, NULL);
    assert_non_null(strstr(back.bye, "takes its place"));
    assert_int_equal(edge.ups, 2);
    assert_int_equal(edge.downs, 1);

    link_free(&edge.link);
    assert_true(until(is_true, &more.over, 30));
    pthread_join(more.thread, NULL);
    stop_pair(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strangers_are_refused),
        cmocka_unit_test(violations_are_hung_up_on),
        cmocka_unit_test(a_peer_that_died_silently_and_is_back_was_away),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
