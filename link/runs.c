/* link/runs.c - a read's answer as runs of blocks: zero, raw, or LZ4 over the whole run.
 *
 * Any thread; no state. A run is one byte of form, three bytes of block count, and for a form with bytes
 * four bytes of length and the bytes. Compression that saves less than an eighth is not worth the reader's
 * time: such a run goes raw. The decoder trusts nothing.
 */
#include "proto.h"

#include "check.h"
#include "runs.h"
#include "wire.h"

#include <errno.h>
#include <lz4.h>
#include <lz4hc.h>
#include <stdlib.h>

enum run_form { RUN_ZERO = 0, RUN_RAW = 1, RUN_LZ4 = 2 };
enum { RUN_ZERO_BYTES = 4, RUN_HEAD_BYTES = 8, RUN_BLOCKS_MAX = PROTO_READ_MAX / PROTO_BLOCK };

static bool block_is_zero(const uint8_t *p)
{
    return p[0] == 0 && memcmp(p, p + 1, PROTO_BLOCK - 1) == 0;
}

/* The run of blocks from i on that are all zero, or all not. */
static uint32_t run_length(const uint8_t *data, uint32_t i, uint32_t nblocks, bool zero)
{
    uint32_t n = 1;

    while (i + n < nblocks && n < RUN_BLOCKS_MAX &&
           block_is_zero(data + (size_t)(i + n) * PROTO_BLOCK) == zero)
        n++;
    return n;
}

/* One run of data: LZ4 if that saves an eighth, else raw. Returns the bytes put. */
static size_t put_data_run(uint8_t *out, const uint8_t *data, uint32_t nblocks, bool thorough)
{
    const char *from = (const char *)data;
    char *to = (char *)out + RUN_HEAD_BYTES;
    int n = (int)(nblocks * PROTO_BLOCK), most = n - n / 8;
    int packed = thorough ? LZ4_compress_HC(from, to, n, most, LZ4HC_CLEVEL_MIN)
                          : LZ4_compress_default(from, to, n, most);

    out[0] = packed > 0 ? RUN_LZ4 : RUN_RAW;
    put24(out + 1, nblocks);
    if (packed <= 0) {
        memcpy(out + RUN_HEAD_BYTES, data, (size_t)n);
        packed = n;
    }
    put32(out + 4, (uint32_t)packed);
    return RUN_HEAD_BYTES + (size_t)packed;
}

struct buf *runs_encode(const uint8_t *data, uint32_t n, bool thorough)
{
    uint32_t nblocks = n / PROTO_BLOCK, len;
    struct buf *b;
    size_t at = 0;

    CHECK(n % PROTO_BLOCK == 0);
    b = buf_new((size_t)n + (size_t)nblocks * RUN_HEAD_BYTES); /* worst case: every block a run */
    for (uint32_t i = 0; i < nblocks; i += len) {
        const uint8_t *p = data + (size_t)i * PROTO_BLOCK;
        bool zero = block_is_zero(p);

        len = run_length(data, i, nblocks, zero);
        if (zero) {
            b->data[at] = RUN_ZERO;
            put24(b->data + at + 1, len);
            at += RUN_ZERO_BYTES;
        } else {
            at += put_data_run(b->data + at, p, len, thorough);
        }
    }
    b->len = (uint32_t)at;
    return b;
}

struct buf *runs_encode_pages(uint32_t head, const uint8_t *const *pages, uint32_t nblocks)
{
    struct buf *b = buf_new(head + (size_t)nblocks * (RUN_HEAD_BYTES + PROTO_BLOCK)); /* each a run */
    uint8_t *at = b->data + head;
    uint32_t len;

    for (uint32_t i = 0; i < nblocks; i += len) {
        bool zero = !pages[i];

        for (len = 1; i + len < nblocks && len < RUN_BLOCKS_MAX && !pages[i + len] == zero;)
            len++;
        at[0] = zero ? RUN_ZERO : RUN_RAW;
        put24(at + 1, len);
        at += RUN_ZERO_BYTES;
        if (zero)
            continue;
        put32(at, len * PROTO_BLOCK);
        at += RUN_HEAD_BYTES - RUN_ZERO_BYTES;
        for (uint32_t k = 0; k < len; k++, at += PROTO_BLOCK)
            memcpy(at, pages[i + k], PROTO_BLOCK);
    }
    b->len = (uint32_t)(at - b->data);
    return b;
}

static int get_lz4(const uint8_t *p, uint32_t n, uint8_t *const *pages, uint32_t nblocks)
{
    static _Thread_local uint8_t plain[PROTO_READ_MAX];
    int want = (int)(nblocks * PROTO_BLOCK);

    if (n > PROTO_READ_MAX || LZ4_decompress_safe((const char *)p, (char *)plain, (int)n, want) != want)
        return -EBADMSG;
    for (uint32_t i = 0; i < nblocks; i++)
        memcpy(pages[i], plain + (size_t)i * PROTO_BLOCK, PROTO_BLOCK);
    return 0;
}

static int get_data_run(struct reader *r, uint8_t form, uint8_t *const *pages, bool *zero, uint32_t nblocks)
{
    uint32_t n = read32(r);
    const uint8_t *p = read_bytes(r, n);

    if (!p || n == 0)
        return -EBADMSG;
    memset(zero, 0, nblocks * sizeof(*zero));
    if (form == RUN_LZ4)
        return get_lz4(p, n, pages, nblocks);
    if (form != RUN_RAW || n != nblocks * PROTO_BLOCK)
        return -EBADMSG;
    for (uint32_t i = 0; i < nblocks; i++)
        memcpy(pages[i], p + (size_t)i * PROTO_BLOCK, PROTO_BLOCK);
    return 0;
}

int runs_decode(const uint8_t *p, uint32_t n, uint8_t *const *pages, bool *zero, uint32_t nblocks)
{
    struct reader r = reader_of(p, n);
    uint32_t at = 0;

    while (r.p < r.end) {
        uint8_t form = read8(&r);
        const uint8_t *count = read_bytes(&r, 3);
        uint32_t len = count ? get24(count) : 0;

        if (len == 0 || len > RUN_BLOCKS_MAX || len > nblocks - at)
            return -EBADMSG;
        if (form == RUN_ZERO)
            memset(zero + at, 1, len * sizeof(*zero));
        else if (get_data_run(&r, form, pages + at, zero + at, len))
            return -EBADMSG;
        at += len;
    }
    return at == nblocks ? 0 : -EBADMSG;
}
