/* links: initiator */
/* Reads of edges on one disk: coalesced, joined, padded, refused past the end, ended by closing. */
#include "datastore_fixture.h"
#include "metric.h"
#include "source.h"

static struct source_budget budget;
static struct source *source;
static bool gone;

static void on_source_opened(void *arg, struct source *s, int status, const struct why *why)
{
    (void)s;
    on_opened(arg, status, why);
}

static void on_source_resized(void *arg, struct source *s)
{
    (void)s;
    on_resized(arg, NULL);
}

static void on_gone(void *arg, struct source *s)
{
    (void)arg;
    (void)s;
    gone = true;
}

static void open_source(uint64_t budget_bytes)
{
    char url[128];
    struct source_events events = {.opened = on_source_opened, .resized = on_source_resized, .gone = on_gone};
    struct datastore_conf conf = {.name = "vm1-root", .url = url};
    struct why why = {""};

    memset(&seen, 0, sizeof seen);
    gone = false;
    snprintf(url, sizeof url, "file:%s", image);
    source_budget_init(&budget, budget_bytes);
    if (source_open(&source, loop, &budget, &conf, &events, &why) != 0)
        fail_msg("%s", why.text);
}

static void close_source(void)
{
    source_close(&source);
    WAIT(gone);
    assert_int_equal(budget.used, 0);
}

struct asked {
    struct source_read read;
    int status;
    unsigned order;
    bool wrong;
};
static struct asked asked[5000];

static void on_answer(struct source_read *r, int status, const struct why *why, const uint8_t *data)
{
    struct asked *a = container_of(r, struct asked, read);
    uint64_t have = r->offset + r->bytes > DISK_BYTES ? DISK_BYTES - r->offset : r->bytes;

    assert_true((status == 0) == (data != NULL));
    assert_true(status == 0 || why->text[0]);
    a->status = status;
    a->order = nended++;
    a->wrong = status == 0 && !pattern_ok(data, r->offset, (uint32_t)have);
    nfailed += status != 0;
    nwrong += a->wrong;
}

static void ask(unsigned i, uint64_t offset, uint32_t bytes, enum link_class class)
{
    asked[i] = (struct asked){.read = {.offset = offset, .bytes = bytes, .class = class, .done = on_answer}};
    source_read(source, &asked[i].read);
}

static void begin_asking(void)
{
    nended = nfailed = nwrong = 0;
}

static uint64_t reads_of_datastore(void)
{
    return metric_sum("isthmus_datastore_reads_total", "vm1-root");
}

static void neighbours_are_read_together(void **state)
{
    uint64_t before;

    (void)state;
    open_source(64 << 20);
    WAIT(seen.opened);
    before = reads_of_datastore();
    begin_asking();
    for (unsigned i = 0; i < 1024; i++) /* 4 MiB, in an order that is none */
        ask(i, (uint64_t)(i * 389 % 1024) * 4096, 4096, LINK_DEMAND);
    WAIT(nended == 1024);
    assert_int_equal(nfailed + nwrong, 0);
    assert_true(reads_of_datastore() - before <= 16);
    close_source();
}

static void overlapping_and_background_reads_are_all_answered(void **state)
{
    (void)state;
    open_source(2 << 20);
    begin_asking();
    for (unsigned i = 0; i < 2000; i++)
        ask(i, (uint64_t)(i * 977 % 4000) * 8192, (i % 5 + 1) * 16384 > 65536 ? 262144 : (i % 5 + 1) * 16384,
            i % 3 ? LINK_PREFETCH : LINK_DEMAND);
    WAIT(nended == 2000);
    assert_int_equal(nwrong, 0);
    for (unsigned i = 0; i < 2000; i++)
        assert_int_equal(asked[i].status,
                         asked[i].read.offset + asked[i].read.bytes > DISK_BYTES ? -EINVAL : 0);
    close_source();
}

static void demand_overtakes_background(void **state)
{
    unsigned late = 0;

    (void)state;
    open_source(64 << 20);
    WAIT(seen.opened);
    begin_asking();
    for (unsigned i = 0; i < 30; i++)
        ask(i, (uint64_t)i << 20, 4096, LINK_PREFETCH);
    ask(30, 512 << 10, 4096, LINK_DEMAND);
    WAIT(nended == 31);
    for (unsigned i = 0; i < 30; i++)
        late += asked[i].order > asked[30].order;
    assert_true(late >= 15);
    close_source();
}

static void the_line_is_bounded(void **state)
{
    (void)state;
    open_source(64 << 20);
    begin_asking();
    for (unsigned i = 0; i < 5000; i++)
        ask(i, 0, 4096, LINK_DEMAND);
    WAIT(nended == 5000);
    assert_int_equal(nwrong, 0);
    assert_int_equal(nfailed, 5000 - 4096);
    assert_int_equal(asked[4999].status, -EAGAIN);
    close_source();
}

static void the_last_block_is_padded_with_zeros(void **state)
{
    (void)state;
    assert_int_equal(truncate(image, DISK_BYTES - 1000), 0);
    open_source(64 << 20);
    begin_asking();
    ask(0, DISK_BYTES - 8192, 4096, LINK_DEMAND);
    ask(1, DISK_BYTES, 4096, LINK_DEMAND);
    WAIT(nended == 2);
    assert_int_equal(asked[0].status, 0);
    assert_int_equal(asked[1].status, -EINVAL);
    begin_asking();
    ask(0, DISK_BYTES - 4096, 4096, LINK_DEMAND);
    WAIT(nended == 1);
    assert_int_equal(asked[0].status, 0);
    assert_true(asked[0].wrong); /* the pattern gives way to zeros */
    close_source();
}

static void closing_answers_everybody(void **state)
{
    (void)state;
    open_source(64 << 20);
    WAIT(seen.opened);
    begin_asking();
    for (unsigned i = 0; i < 100; i++)
        ask(i, (uint64_t)i << 18, 65536, LINK_DEMAND);
    turn();
    for (unsigned i = 100; i < 200; i++)
        ask(i, (uint64_t)(i - 100) << 18, 65536, LINK_DEMAND);
    source_close(&source);
    WAIT(gone && nended == 200);
    assert_int_equal(nwrong, 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, fixture_begin, fixture_end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(neighbours_are_read_together),        CASE(overlapping_and_background_reads_are_all_answered),
        CASE(demand_overtakes_background),         CASE(the_line_is_bounded),
        CASE(the_last_block_is_padded_with_zeros), CASE(closing_answers_everybody),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
