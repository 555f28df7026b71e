/* links: initiator link pki */
/* An edge's questions to the on-prem daemon over a real link, both ends on one loop. */
#include "proto.h"
#include "serve_fixture.h"

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

static int begin(void **state)
{
    if (serve_begin(state) != 0)
        return -1;
    nchanged = 0;
    closed = false;
    serve = serve_new(loop, 64 << 20, true);
    serve_link_up(on_edge_notice);
    return 0;
}

static void on_closed(void *arg)
{
    (void)arg;
    closed = true;
}

static int end(void **state)
{
    serve_link_down();
    serve_close(&serve, on_closed, NULL);
    WAIT(closed);
    return fixture_end(state);
}

static void start_read(const char *name, uint64_t offset, uint32_t bytes)
{
    struct proto_read read = {.offset = offset, .bytes = bytes};

    snprintf(read.name, sizeof read.name, "%s", name);
    start_call(PROTO_DISK_READ, LINK_DEMAND, proto_put_read(&read));
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
    serve_disk("vm1-root", url);
    start_call(PROTO_DISK_STAT, LINK_DEMAND, proto_put_stat_call("vm1-root"));
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
    serve_disk("vm1-root", url);
    start_read("other", 0, 4096);
    assert_int_equal(end_call(), -ENOENT);
    assert_non_null(strstr(call.why.text, "other"));
    start_read("vm1-root", DISK_BYTES, 4096);
    assert_int_equal(end_call(), -EINVAL);
    assert_non_null(strstr(call.why.text, "vm1-root"));
    start_call(99, LINK_DEMAND, proto_put_stat_call("vm1-root"));
    assert_int_equal(end_call(), -ENOSYS);
    start_call(PROTO_DISK_STAT, LINK_DEMAND, buf_new(0));
    assert_int_equal(end_call(), -EBADMSG);
    serve_disk("gone", "file:/nonexistent/disk.img");
    start_call(PROTO_DISK_STAT, LINK_DEMAND, proto_put_stat_call("gone"));
    assert_int_equal(end_call(), -EAGAIN);
    assert_non_null(strstr(call.why.text, "/nonexistent/disk.img"));
}

static void a_read_waits_for_its_datastore(void **state)
{
    char url[160], path[128], made[128];

    (void)state;
    snprintf(path, sizeof path, "%s/later.img", dir);
    snprintf(made, sizeof made, "%s/made.img", dir);
    snprintf(url, sizeof url, "file:%s", path);
    write_image(made, DISK_BYTES);
    serve_disk("later", url);
    start_read("later", 0, 4096);
    for (int i = 0; i < 20; i++)
        turn();
    assert_false(answered);
    assert_int_equal(rename(made, path), 0); /* whole at once: it may be opened at any time */
    assert_int_equal(end_call(), 0);
    buf_unref(&call.reply);
}

static void a_removed_disk_answers_enoent(void **state)
{
    (void)state;
    serve_disk("gone", "file:/nonexistent/disk.img");
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
