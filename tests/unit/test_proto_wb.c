/* links: link common */
/* The messages of write-back: what goes in comes out, every cut and every bound is refused. */
#include "mem.h"
#include "proto_wb.h"
#include "wire.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const struct wb_head head = {.vm = "0123456789abcde", .epoch = 7, .target = 1ull << 40};

static bool same_head(const struct wb_head *h)
{
    return !memcmp(h->vm, head.vm, WB_ID_BYTES) && h->epoch == head.epoch && h->target == head.target;
}

/* One getter for each message, into memory that nobody looks at. */
#define GETTER(name, type)                                                                                   \
    static int name(const uint8_t *p, uint32_t n)                                                            \
    {                                                                                                        \
        static struct type out;                                                                              \
        return wb_##name(p, n, &out);                                                                        \
    }
GETTER(get_attach, wb_attach)
GETTER(get_head, wb_head)
GETTER(get_begin, wb_begin)
GETTER(get_end, wb_end)
GETTER(get_clear_alarm, wb_head)
GETTER(get_state, wb_state)
GETTER(get_offer, wb_offer)
GETTER(get_zero, wb_zero)
GETTER(get_data, wb_data)

/* Exactly these bytes: no shorter (but for `loose` at the end, whose bytes are runs), no longer. */
static void expect_exact(struct buf *b, int (*get)(const uint8_t *, uint32_t), uint32_t loose)
{
    uint8_t *longer = xcalloc(1, b->len + 1);

    assert_int_equal(get(b->data, b->len), 0);
    for (uint32_t n = 0; n + loose < b->len; n++) {
        uint8_t *copy = xmalloc(n ? n : 1); /* of its own, so that ASan sees a read past its end */

        memcpy(copy, b->data, n);
        assert_int_equal(get(copy, n), -EBADMSG);
        free(copy);
    }
    memcpy(longer, b->data, b->len);
    if (!loose)
        assert_int_equal(get(longer, b->len + 1), -EBADMSG);
    free(longer);
}

/* With n bytes at `at` set to this value (big-endian) it is refused. */
static void expect_refused(const struct buf *b, int (*get)(const uint8_t *, uint32_t), uint32_t at,
                           unsigned n, uint64_t value)
{
    uint8_t *copy = xmalloc(b->len);

    memcpy(copy, b->data, b->len);
    for (unsigned i = 0; i < n; i++)
        copy[at + i] = (uint8_t)(value >> 8 * (n - 1 - i));
    assert_int_equal(get(copy, b->len), -EBADMSG);
    free(copy);
}

static void attach(void **state)
{
    static struct wb_attach a = {.epoch = 3, .policy = WB_WRITE_BACK, .name = "web-1", .base = 77}, got;
    struct buf *b;

    (void)state;
    a.ndisks = WB_DISKS_MAX;
    for (unsigned i = 0; i < a.ndisks; i++)
        snprintf(a.disks[i], sizeof a.disks[i], "%063u", i);
    b = wb_put_attach(&a);
    assert_int_equal(wb_get_attach(b->data, b->len, &got), 0);
    assert_true(got.epoch == 3 && got.policy == WB_WRITE_BACK && got.ndisks == 64 && got.base == 77);
    assert_string_equal(got.name, "web-1");
    assert_string_equal(got.disks[63], a.disks[63]);
    expect_exact(b, get_attach, 0);
    expect_refused(b, get_attach, 24, 1, 0); /* policies that there are not */
    expect_refused(b, get_attach, 24, 1, 3);
    expect_refused(b, get_attach, 26, 1, '/'); /* names are plain */
    expect_refused(b, get_attach, 31, 1, 0);
    expect_refused(b, get_attach, 31, 1, 65);
    expect_refused(b, get_attach, 31, 1, 63); /* one name too many behind it */
    buf_unref(&b);
}

static void heads(void **state)
{
    struct wb_head h;
    struct buf *b = wb_put_head(&head);

    (void)state;
    assert_int_equal(b->len, 32);
    assert_int_equal(wb_get_head(b->data, b->len, &h), 0);
    assert_true(same_head(&h));
    expect_exact(b, get_head, 0);
    buf_unref(&b);
    b = wb_put_clear_alarm(&head);
    assert_int_equal(wb_get_clear_alarm(b->data, b->len, &h), 0);
    assert_true(same_head(&h));
    expect_exact(b, get_clear_alarm, 0);
    expect_refused(b, get_clear_alarm, 32, 1, 2); /* only the cloud's history can be chosen */
    buf_unref(&b);
}

static void begin_and_end(void **state)
{
    struct wb_begin begin = {head, head.target - 1, 1700000000123}, begin2;
    struct wb_end end = {head, 1ull << 33, "digest of 32 bytes............."}, end2;
    struct buf *b = wb_put_begin(&begin);

    (void)state;
    assert_int_equal(wb_get_begin(b->data, b->len, &begin2), 0);
    assert_true(same_head(&begin2.head) && begin2.base == begin.base &&
                begin2.instant_ms == begin.instant_ms);
    expect_exact(b, get_begin, 0);
    expect_refused(b, get_begin, 32, 8, head.target); /* a target is beyond its base */
    expect_refused(b, get_begin, 24, 8, 0);
    buf_unref(&b);
    b = wb_put_end(&end);
    assert_int_equal(wb_get_end(b->data, b->len, &end2), 0);
    assert_true(same_head(&end2.head) && end2.pieces == end.pieces);
    assert_memory_equal(end2.digest, end.digest, WB_HASH_BYTES);
    expect_exact(b, get_end, 0);
    expect_refused(b, get_end, 24, 8, 0);
    buf_unref(&b);
}

static void states(void **state)
{
    static struct wb_state s = {.epoch = 9,
                                .applied = 100,
                                .applied_instant_ms = 1700000000123,
                                .target = 200,
                                .stage = WB_STAGE_APPLYING,
                                .held = true,
                                .unreachable = true,
                                .pieces = 5,
                                .bytes = 6,
                                .bytes_applied = 7},
                           got;
    struct buf *b;

    (void)state;
    memset(s.text, 'x', WB_TEXT_MAX);
    s.text[3] = '\033';
    b = wb_put_state(&s);
    assert_int_equal(wb_get_state(b->data, b->len, &got), 0);
    assert_true(got.epoch == 9 && got.applied == 100 && got.applied_instant_ms == s.applied_instant_ms);
    assert_true(got.target == 200 && got.stage == WB_STAGE_APPLYING);
    assert_true(got.held && !got.alarm && got.unreachable);
    assert_true(got.pieces == 5 && got.bytes == 6 && got.bytes_applied == 7);
    assert_int_equal(strlen(got.text), WB_TEXT_MAX);
    assert_int_equal(got.text[3], '?'); /* it is shown to people */
    expect_exact(b, get_state, 0);
    expect_refused(b, get_state, 48, 1, 4);
    expect_refused(b, get_state, 48, 1, 0); /* a target and no stage */
    expect_refused(b, get_state, 49, 1, 8);
    buf_unref(&b);
}

static void offers(void **state)
{
    static uint64_t blocks[WB_OFFER_MAX];
    static uint8_t hashes[WB_OFFER_MAX][WB_HASH_BYTES];
    struct wb_offer o;
    struct buf *b;

    (void)state;
    for (unsigned i = 0; i < WB_OFFER_MAX; i++) {
        blocks[i] = i * 3ull;
        put32(hashes[i], i);
    }
    blocks[2] = INT64_MAX / 4096 - 1;
    b = wb_put_offer(&head, 63, WB_OFFER_MAX, blocks, (const uint8_t(*)[WB_HASH_BYTES])hashes);
    assert_int_equal(wb_get_offer(b->data, b->len, &o), 0);
    assert_true(same_head(&o.head) && o.disk == 63 && o.n == WB_OFFER_MAX);
    for (unsigned i = 0; i < WB_OFFER_MAX; i++) {
        const uint8_t *hash;
        uint64_t block;

        wb_offer_row(&o, i, &block, &hash);
        assert_true(block == blocks[i]);
        assert_memory_equal(hash, hashes[i], WB_HASH_BYTES);
    }
    buf_unref(&b);
    b = wb_put_offer(&head, 0, 3, blocks, (const uint8_t(*)[WB_HASH_BYTES])hashes);
    expect_exact(b, get_offer, 0);
    expect_refused(b, get_offer, 24, 8, 0);
    expect_refused(b, get_offer, 32, 1, 64);
    expect_refused(b, get_offer, 33, 2, 0);
    expect_refused(b, get_offer, 33, 2, WB_OFFER_MAX + 1);
    expect_refused(b, get_offer, 35, 8, INT64_MAX / 4096 + 1);
    buf_unref(&b);
}

static void wanted(void **state)
{
    bool in[11] = {true, false, true, [8] = true, [10] = true}, out[11];
    struct buf *b = wb_put_wanted(in, 11);

    (void)state;
    assert_int_equal(b->len, 2);
    assert_int_equal(b->data[0], 0xa0);
    assert_int_equal(b->data[1], 0xa0);
    assert_int_equal(wb_get_wanted(b->data, b->len, out, 11), 0);
    assert_memory_equal(in, out, sizeof in);
    assert_int_equal(wb_get_wanted(b->data, 1, out, 11), -EBADMSG);
    assert_int_equal(wb_get_wanted(b->data, 2, out, 8), -EBADMSG);
    assert_int_equal(wb_get_wanted(b->data, 2, out, 10),
                     -EBADMSG); /* a bit for a block that was not offered */
    buf_unref(&b);
}

static void data(void **state)
{
    static uint8_t plain[WB_DATA_MAX * PROTO_BLOCK], page[PROTO_BLOCK];
    uint64_t lbas[WB_DATA_MAX], lba;
    uint8_t sectors[WB_DATA_MAX], n, *pages[] = {page};
    struct wb_data d;
    bool zero;
    struct buf *b;

    (void)state;
    for (unsigned i = 0; i < WB_DATA_MAX; i++) {
        lbas[i] = i * 8ull + i % 8;
        sectors[i] = (uint8_t)(8 - i % 8);
        for (unsigned j = 0; j < sectors[i] * 512u; j++)
            plain[i * PROTO_BLOCK + j] = (uint8_t)((i + 1) * 131 + j * 7 + (j >> 5) * 13);
    }
    b = wb_put_data(&head, 1, WB_DATA_MAX, lbas, sectors, plain, false);
    assert_int_equal(wb_get_data(b->data, b->len, &d), 0);
    assert_true(same_head(&d.head) && d.disk == 1 && d.n == WB_DATA_MAX);
    for (unsigned i = 0; i < WB_DATA_MAX; i++) {
        wb_data_row(&d, i, &lba, &n);
        assert_true(lba == lbas[i] && n == sectors[i]);
    }
    buf_unref(&b);
    b = wb_put_data(&head, 1, 1, lbas + 7, sectors + 7, plain + (size_t)7 * PROTO_BLOCK, true);
    assert_int_equal(wb_get_data(b->data, b->len, &d), 0);
    assert_int_equal(runs_decode(d.runs, d.runs_len, pages, &zero, 1), 0);
    assert_memory_equal(page, plain + (size_t)7 * PROTO_BLOCK, PROTO_BLOCK);
    expect_exact(b, get_data, d.runs_len - 1);
    expect_refused(b, get_data, 24, 8, 0);
    expect_refused(b, get_data, 32, 1, 64);
    expect_refused(b, get_data, 33, 1, 0);
    expect_refused(b, get_data, 33, 1, WB_DATA_MAX + 1);
    expect_refused(b, get_data, 42, 1, 0); /* a piece of nothing */
    expect_refused(b, get_data, 42, 1, 2); /* over the end of its block: it begins at sector 7 */
    expect_refused(b, get_data, 34, 8, UINT64_MAX);
    expect_refused(b, get_data, 34, 8, INT64_MAX / 512);
    buf_unref(&b);
}

static void zeros(void **state)
{
    static uint64_t lbas[WB_ZERO_MAX], sectors[WB_ZERO_MAX];
    uint64_t lba, n;
    struct wb_zero z;
    struct buf *b;

    (void)state;
    for (unsigned i = 0; i < WB_ZERO_MAX; i++) {
        lbas[i] = i * 1000ull + 1;
        sectors[i] = i + 1;
    }
    sectors[5] = INT64_MAX / 512 - lbas[5];
    b = wb_put_zero(&head, 2, WB_ZERO_MAX, lbas, sectors);
    assert_int_equal(wb_get_zero(b->data, b->len, &z), 0);
    assert_true(same_head(&z.head) && z.disk == 2 && z.n == WB_ZERO_MAX);
    for (unsigned i = 0; i < WB_ZERO_MAX; i++) {
        wb_zero_row(&z, i, &lba, &n);
        assert_true(lba == lbas[i] && n == sectors[i]);
    }
    buf_unref(&b);
    b = wb_put_zero(&head, 2, 2, lbas, sectors);
    expect_exact(b, get_zero, 0);
    expect_refused(b, get_zero, 24, 8, 0);
    expect_refused(b, get_zero, 32, 1, 64);
    expect_refused(b, get_zero, 33, 2, 0);
    expect_refused(b, get_zero, 33, 2, WB_ZERO_MAX + 1);
    expect_refused(b, get_zero, 43, 8, 0);
    expect_refused(b, get_zero, 43, 8, INT64_MAX / 512);
    expect_refused(b, get_zero, 43, 8, UINT64_MAX);
    buf_unref(&b);
}

/* The digest is what docs/writeback.md says, and nothing about a piece can change without changing it. */
static void digests(void **state)
{
    uint8_t hash[WB_HASH_BYTES], row[100] = {3, 1}, expected[WB_HASH_BYTES], got[WB_HASH_BYTES];
    struct wb_digest *d = wb_digest_new();

    (void)state;
    wb_hash("abc", 3, hash);
    assert_int_equal(get32(hash), 0xba7816bf);
    put64(row + 2, 77);
    put64(row + 10, 8);
    memcpy(row + 18, hash, sizeof hash);
    row[50] = 4;
    row[51] = 2;
    put64(row + 52, 1);
    put64(row + 60, 1ull << 40);
    wb_hash(row, 68, expected);
    wb_digest_add(d, 3, WB_PIECE_DATA, 77, 8, hash);
    wb_digest_add(d, 4, WB_PIECE_ZERO, 1, 1ull << 40, NULL);
    wb_digest_end(&d, got);
    assert_null(d);
    assert_memory_equal(got, expected, sizeof got);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attach), cmocka_unit_test(heads),  cmocka_unit_test(begin_and_end),
        cmocka_unit_test(states), cmocka_unit_test(offers), cmocka_unit_test(wanted),
        cmocka_unit_test(data),   cmocka_unit_test(zeros),  cmocka_unit_test(digests),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
