/* links: initiator link pki */
/* An edge's questions to the on-prem daemon over a real link, both ends on one loop. */
#include "datastore_fixture.h"
#include "link.h"
#include "pki.h"
#include "proto.h"
#include "serve.h"

static struct serve *serve;
static struct link *edge, *onprem;
static struct peer *dc1;
static unsigned nchanged;
static struct proto_stat changed;
static bool closed;

static void on_edge_notice(void *arg, struct peer *p, uint8_t type, const uint8_t *body, uint32_t len)
{
    (void)arg;
    (void)p;
    assert_int_equal(type, PROTO_DISK_CHANGED);
    assert_int_equal(proto_get_stat(body, len, &changed), 0);
    nchanged++;
}

static void on_edge_request(void *arg, struct link_request *r)
{
    (void)arg;
    link_reply(&r, -ENOSYS, "the edge answers nothing", NULL, 0);
}

static void on_edge_state(void *arg, struct peer *p, bool up)
{
    (void)arg;
    (void)p;
    (void)up;
}

static void make_link(struct link **l, const char *role, const char *peer_role, const char *name,
                      const char *listen, const struct link_handlers *handlers)
{
    char certificate[128], key[128], ca[128];
    struct link_conf conf = {.role = role,
                             .peer_role = peer_role,
                             .certificate = certificate,
                             .key = key,
                             .ca = ca,
                             .listen = listen};
    struct why why = {""};

    pki_issue(dir, "ca", name, name, role, -3600, 3600);
    snprintf(certificate, sizeof certificate, "%s/%s.crt", dir, name);
    snprintf(key, sizeof key, "%s/%s.key", dir, name);
    snprintf(ca, sizeof ca, "%s/ca.crt", dir);
    if (link_new(l, loop, &conf, handlers, &why) != 0)
        fail_msg("%s", why.text);
}

static void add_disk(const char *name, const char *url)
{
    struct datastore_conf disk = {.name = name, .url = url, .sessions = 1};
    struct why why = {""};

    if (serve_add(serve, &disk, &why) != 0)
        fail_msg("%s", why.text);
}

static int begin(void **state)
{
    struct link_handlers handlers = {
        .request = on_edge_request, .notice = on_edge_notice, .peer_state = on_edge_state};
    struct why why = {""};
    char address[32];

    if (fixture_begin(state) != 0)
        return -1;
    pki_ca(dir, "ca");
    nchanged = 0;
    closed = false;
    serve = serve_new(loop, 64 << 20, true);
    make_link(&edge, "edge", "onprem", "edge-a", "127.0.0.1:0", &handlers);
    handlers = serve_handlers(serve);
    make_link(&onprem, "onprem", "edge", "dc1", NULL, &handlers);
    snprintf(address, sizeof address, "127.0.0.1:%u", link_port(edge));
    assert_int_equal(link_dial(onprem, link_peer(onprem, "edge-a"), address, 1, &why), 0);
    dc1 = link_peer(edge, "dc1");
    WAIT(peer_up(dc1));
    return 0;
}

static void on_closed(void *arg)
{
    (void)arg;
    closed = true;
}

static int end(void **state)
{
    link_free(&onprem);
    link_free(&edge);
    serve_close(&serve, on_closed, NULL);
    WAIT(closed);
    return fixture_end(state);
}

static struct link_call call;
static bool answered;

static void on_answer(struct link_call *c)
{
    (void)c;
    answered = true;
}

static void start_call(uint8_t type, struct buf *body)
{
    answered = false;
    call = (struct link_call){.type = type, .class = LINK_DEMAND, .body = body, .done = on_answer};
    link_call(dc1, &call);
}

static int end_call(void)
{
    WAIT(answered);
    buf_unref(&call.body);
    return call.status;
}

static void start_read(const char *name, uint64_t offset, uint32_t bytes)
{
    struct proto_read read = {.offset = offset, .bytes = bytes};

    snprintf(read.name, sizeof read.name, "%s", name);
    start_call(PROTO_DISK_READ, proto_put_read(&read));
}

static void a_disk_is_described_and_read(void **state)
{
    enum { BLOCKS = PROTO_READ_MAX / PROTO_BLOCK };
    static uint8_t data[PROTO_READ_MAX];
    uint8_t *pages[BLOCKS];
    bool zero[BLOCKS];
    struct proto_stat stat;
    char url[128];

    (void)state;
    snprintf(url, sizeof url, "file:%s", image);
    add_disk("vm1-root", url);
    start_call(PROTO_DISK_STAT, proto_put_stat_call("vm1-root"));
    assert_int_equal(end_call(), 0);
    assert_int_equal(proto_get_stat(call.reply->data, call.reply->len, &stat), 0);
    assert_int_equal(stat.bytes, DISK_BYTES);
    assert_string_equal(stat.name, "vm1-root");
    buf_unref(&call.reply);

    start_read("vm1-root", 1 << 20, PROTO_READ_MAX);
    assert_int_equal(end_call(), 0);
    for (unsigned i = 0; i < BLOCKS; i++)
        pages[i] = data + (size_t)i * PROTO_BLOCK;
    assert_int_equal(runs_decode(call.reply->data, call.reply->len, pages, zero, BLOCKS), 0);
    assert_true(pattern_ok(data, 1 << 20, PROTO_READ_MAX));
    buf_unref(&call.reply);
}

static void what_cannot_be_answered_gets_a_sentence(void **state)
{
    char url[128];

    (void)state;
    snprintf(url, sizeof url, "file:%s", image);
    add_disk("vm1-root", url);
    start_read("other", 0, 4096);
    assert_int_equal(end_call(), -ENOENT);
    assert_non_null(strstr(call.why.text, "other"));
    start_read("vm1-root", DISK_BYTES, 4096);
    assert_int_equal(end_call(), -EINVAL);
    assert_non_null(strstr(call.why.text, "vm1-root"));
    start_call(99, proto_put_stat_call("vm1-root"));
    assert_int_equal(end_call(), -ENOSYS);
    start_call(PROTO_DISK_STAT, buf_new(0));
    assert_int_equal(end_call(), -EBADMSG);
    add_disk("gone", "file:/nonexistent/disk.img");
    start_call(PROTO_DISK_STAT, proto_put_stat_call("gone"));
    assert_int_equal(end_call(), -EAGAIN);
    assert_non_null(strstr(call.why.text, "/nonexistent/disk.img"));
}

static void a_read_waits_for_its_datastore(void **state)
{
    char url[160], path[128];

    (void)state;
    snprintf(path, sizeof path, "%s/later.img", dir);
    snprintf(url, sizeof url, "file:%s", path);
    add_disk("later", url);
    start_read("later", 0, 4096);
    for (int i = 0; i < 20; i++)
        turn();
    assert_false(answered);
    write_image(path, DISK_BYTES);
    assert_int_equal(end_call(), 0);
    buf_unref(&call.reply);
}

static void a_removed_disk_answers_enoent(void **state)
{
    (void)state;
    add_disk("gone", "file:/nonexistent/disk.img");
    start_read("gone", 0, 4096);
    for (int i = 0; i < 5; i++)
        turn();
    assert_int_equal(serve_remove(serve, "gone"), 0);
    assert_int_equal(end_call(), -ENOENT);
    assert_false(serve_has(serve, "gone"));
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_disk_is_described_and_read),
        CASE(what_cannot_be_answered_gets_a_sentence),
        CASE(a_read_waits_for_its_datastore),
        CASE(a_removed_disk_answers_enoent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
