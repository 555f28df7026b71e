/* links: link; covers: link/proto_wb */
/* The messages of write-back: what is accepted is written again as the same bytes.
 */
#include "check.h"
#include "fuzz.h"
#include "mem.h"
#include "proto_wb.h"

#include <string.h>

static void same(struct buf *b, const uint8_t *p, uint32_t n)
{
    CHECK(b->len == n && !memcmp(b->data, p, n));
    buf_unref(&b);
}

static void small(const uint8_t *p, uint32_t n)
{
    static struct wb_attach attach;
    struct wb_head head;
    struct wb_begin begin;
    struct wb_end end;

    if (!wb_get_attach(p, n, &attach))
        same(wb_put_attach(&attach), p, n);
    if (!wb_get_head(p, n, &head))
        same(wb_put_head(&head), p, n);
    if (!wb_get_clear_alarm(p, n, &head))
        same(wb_put_clear_alarm(&head), p, n);
    if (!wb_get_begin(p, n, &begin)) {
        CHECK(begin.base < begin.head.target);
        same(wb_put_begin(&begin), p, n);
    }
    if (!wb_get_end(p, n, &end))
        same(wb_put_end(&end), p, n);
}

static void state(const uint8_t *p, uint32_t n)
{
    struct wb_state s, again;

    if (!wb_get_state(p, n, &s)) { /* its text may have been cleaned: compare the second trip */
        struct buf *b = wb_put_state(&s);

        CHECK(b->len == n && !wb_get_state(b->data, b->len, &again));
        same(wb_put_state(&again), b->data, b->len);
        buf_unref(&b);
    }
}

static void offer(const uint8_t *p, uint32_t n)
{
    static uint64_t blocks[WB_OFFER_MAX];
    static uint8_t hashes[WB_OFFER_MAX][WB_HASH_BYTES];
    const uint8_t *hash;
    struct wb_offer o;

    if (wb_get_offer(p, n, &o))
        return;
    for (unsigned i = 0; i < o.n; i++) {
        wb_offer_row(&o, i, &blocks[i], &hash);
        CHECK(blocks[i] < INT64_MAX / PROTO_BLOCK);
        memcpy(hashes[i], hash, WB_HASH_BYTES);
    }
    same(wb_put_offer(&o.head, o.disk, o.n, blocks, (const uint8_t(*)[WB_HASH_BYTES])hashes), p, n);
}

static void wanted(const uint8_t *p, uint32_t n)
{
    bool bits[64];

    if (n > 0 && n <= sizeof bits / 8)
        for (unsigned less = 0; less < 8; less++)
            if (!wb_get_wanted(p, n, bits, n * 8 - less))
                same(wb_put_wanted(bits, n * 8 - less), p, n);
}

static void zeros(const uint8_t *p, uint32_t n)
{
    static uint64_t lbas[WB_ZERO_MAX], sectors[WB_ZERO_MAX];
    struct wb_zero z;

    if (wb_get_zero(p, n, &z))
        return;
    for (unsigned i = 0; i < z.n; i++) {
        wb_zero_row(&z, i, &lbas[i], &sectors[i]);
        CHECK(sectors[i] > 0 && lbas[i] + sectors[i] <= INT64_MAX / 512);
    }
    same(wb_put_zero(&z.head, z.disk, z.n, lbas, sectors), p, n);
}

static void data(const uint8_t *p, uint32_t n)
{
    static uint8_t plain[WB_DATA_MAX * PROTO_BLOCK], again[WB_DATA_MAX * PROTO_BLOCK];
    uint8_t *pages[WB_DATA_MAX], nsectors[WB_DATA_MAX], *pages_again[WB_DATA_MAX];
    uint64_t lbas[WB_DATA_MAX];
    bool zero[WB_DATA_MAX];
    struct wb_data d, d2;
    struct buf *b;

    if (wb_get_data(p, n, &d))
        return;
    memset(plain, 0, sizeof plain);
    memset(again, 0, sizeof again);
    for (unsigned i = 0; i < d.n; i++) {
        wb_data_row(&d, i, &lbas[i], &nsectors[i]);
        CHECK(nsectors[i] > 0 && lbas[i] % 8 + nsectors[i] <= 8 && lbas[i] <= INT64_MAX / 512);
        pages[i] = plain + (size_t)i * PROTO_BLOCK;
        pages_again[i] = again + (size_t)i * PROTO_BLOCK;
    }
    if (runs_decode(d.runs, d.runs_len, pages, zero, d.n))
        return;
    b = wb_put_data(&d.head, d.disk, d.n, lbas, nsectors, plain, false);
    CHECK(!wb_get_data(b->data, b->len, &d2) && d2.n == d.n && !memcmp(d2.rows, d.rows, d.n * 9u));
    CHECK(!runs_decode(d2.runs, d2.runs_len, pages_again, zero, d.n) &&
          !memcmp(plain, again, (size_t)d.n * PROTO_BLOCK));
    buf_unref(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    small(p, (uint32_t)n);
    state(p, (uint32_t)n);
    offer(p, (uint32_t)n);
    wanted(p, (uint32_t)n);
    zeros(p, (uint32_t)n);
    data(p, (uint32_t)n);
    return 0;
}
